"""Merton's problem on the trading floor: its optimum against the closed form, and against the floor itself."""

import numpy as np
import pytest
import torch

from common.errors import InputError
from envs.floor import build_floor
from envs.market import build_market
from envs.optima import floor_merton as module
from envs.optima.floor_merton import FloorMertonConfig, floor_merton

NUM_BARS = 9_000
DRIFT, VOLATILITY = FloorMertonConfig().annual_drift, FloorMertonConfig().annual_volatility
EXCESS = np.log1p(DRIFT) - 0.02
PARTS = (1.0, 0.4, 0.6, 1.4)


@pytest.fixture(scope="module", params=[(1, 0.0), (3, 0.2)], ids=["one asset", "three assets"])
def made(request):
    num_assets, correlation = request.param
    problem = floor_merton({"num_assets": num_assets, "correlation": correlation, "num_bars": NUM_BARS})
    market = build_market(problem.spec)
    return problem, market, *play(problem, build_floor(market, num_replicas=len(PARTS), split="train", start="first"))


def play(problem, floor):
    """One pass over the split by those who hold PARTS of the best weights: its first bar and rewards, [T, B]."""
    actions = torch.cat([problem.actions(part * problem.best_weights, 1) for part in PARTS])
    floor.reset()
    return floor.split.start, np.array([floor.step(actions).reward[:, 0].tolist() for _ in range(floor.episode_bars)])


def test_best_weights_are_mertons_but_for_what_monthly_trading_makes_of_it(made):
    problem = made[0]
    num_assets, correlation = problem.config.num_assets, problem.config.correlation
    merton = EXCESS / (VOLATILITY**2 * (1 + (num_assets - 1) * correlation))
    np.testing.assert_allclose(problem.best_weights, merton, rtol=0.01)
    continuous = 100 * (0.02 + num_assets * merton * EXCESS / 2)
    assert problem.optimal_value == pytest.approx(continuous, rel=0.01)
    assert problem.baseline_value == pytest.approx(1200 * np.log1p(0.02 / 12), rel=1e-12)


def test_expected_growth_is_the_mean_over_returns_that_are_drawn():
    problem = floor_merton({"num_assets": 2, "correlation": 0.5})
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 400_000)
    returns = np.expm1((np.log1p(DRIFT) - VOLATILITY**2 / 2) / 12 + VOLATILITY / np.sqrt(12) * normal)
    for weights in ([0.0, 0.0], [1.0, 0.3], [0.9, 0.9], [1.0, 1.0]):
        logs = 1200 * np.log1p((returns - 0.02 / 12) @ weights + 0.02 / 12)
        error = logs.std() / np.sqrt(len(logs))
        assert abs(float(problem.growth(torch.tensor(weights))) - logs.mean()) <= 4 * error + 1e-9


def test_floor_pays_the_log_growth_of_the_weights_at_every_bar(made):
    problem, market, start, rewards = made
    close = market.bars.close[start : start + 1 + len(rewards)]
    returns = close[1:] / close[:-1] - 1
    for part, paid in zip(PARTS, rewards.T, strict=True):
        weights = part * problem.best_weights
        np.testing.assert_allclose(paid, np.log1p((returns - 0.02 / 12) @ weights + 0.02 / 12), rtol=1e-9, atol=1e-12)


def test_best_weights_earn_the_optimum_on_the_floor_and_others_less_by_what_is_expected(made):
    problem, _, _, rewards = made
    best, _, *others = 1200 * rewards.T
    assert abs(best.mean() - problem.optimal_value) < 3 * best.std() / np.sqrt(len(best))
    for part, other in zip(PARTS[2:], others, strict=True):
        less = best - other
        expected = problem.optimal_value - float(problem.growth(torch.tensor(part * problem.best_weights)))
        assert expected > 0.1
        assert abs(less.mean() - expected) < 3 * less.std() / np.sqrt(len(less))


@pytest.mark.parametrize("asset", [0, 1, 2])
def test_growth_is_highest_at_the_best_weights(asset):
    problem = floor_merton({"num_assets": 3, "correlation": 0.2})
    for change in (-0.02, 0.02):
        other = problem.best_weights.copy()
        other[asset] += change
        assert float(problem.growth(torch.tensor(other))) < problem.optimal_value


@pytest.mark.parametrize("num_assets", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_best_weights_are_found_for_any_number_of_assets(num_assets, correlation):
    problem = floor_merton({"num_assets": num_assets, "correlation": correlation})
    merton = EXCESS / (VOLATILITY**2 * (1 + (num_assets - 1) * correlation))
    # Trading once a month holds less the more assets there are: 1.7 % less with five that are hardly correlated.
    np.testing.assert_allclose(problem.best_weights, merton, rtol=0.02)
    for factor in (0.999, 1.001):
        assert float(problem.growth(torch.tensor(factor * problem.best_weights))) < problem.optimal_value


@pytest.mark.parametrize("num_assets", [1, 2, 3])
@pytest.mark.parametrize("weight", ["best", 0.5, 1.0])
def test_growth_is_that_of_a_finer_rule_where_policies_are(num_assets, weight, monkeypatch):
    """At the best weights, and from where policies begin down to them."""

    def growth():
        problem = floor_merton({"num_assets": num_assets, "correlation": 0.2})
        return float(problem.growth(torch.from_numpy(best if weight == "best" else np.full(num_assets, weight))))

    best = floor_merton({"num_assets": num_assets, "correlation": 0.2}).best_weights
    found = growth()
    monkeypatch.setattr(module, "_NODES", (65, 33, 21))
    assert growth() == pytest.approx(found, rel=1e-3)


def test_five_assets_are_valued_row_by_row():
    problem = floor_merton({"num_assets": 5, "correlation": 0.3})
    rows = torch.rand(7, 300, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = problem.growth(rows)
    assert found.shape == (7, 300)
    np.testing.assert_allclose(found[3, 200], problem.growth(rows[3, 200]), rtol=1e-12)
    np.testing.assert_allclose(found[6, 299], problem.growth(rows[6, 299:300])[0], rtol=1e-12)


def test_ruin_is_as_dear_as_the_floor_makes_it():
    """Whoever has lost everything is paid the log of what is left to no one."""
    problem = floor_merton({"max_weight": 50.0})
    assert float(problem.growth(torch.tensor([50.0]))) < -1000
    assert torch.isfinite(problem.growth(torch.tensor([50.0])))


@pytest.mark.parametrize("max_weight", [1.5, 20.0, 1_000.0])
def test_best_weights_do_not_depend_on_the_largest_that_is_allowed(max_weight):
    best = floor_merton({"max_weight": max_weight}).best_weights
    np.testing.assert_allclose(best, floor_merton({}).best_weights, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_asset": 2}, r"setting 'num_asset': "),
        ({"num_assets": 6}, r"setting 'num_assets': .*less than or equal to 5"),
        ({"annual_drift": 0.01}, r"the best weights are near \[-0\.063\].*between 0 and max_weight, 2"),
        ({"annual_volatility": 0.1}, r"the best weights are near \[9\.333\]"),
        ({"correlation": 1.0}, r"setting 'correlation'"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        floor_merton(settings)


def test_settings_know_their_defaults():
    assert floor_merton({}).config == FloorMertonConfig()
