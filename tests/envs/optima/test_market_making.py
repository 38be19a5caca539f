import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly, loss_of
from scipy.integrate import solve_ivp

from common.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.evaluation import score, value
from envs.optima.market_making import (
    MarketMakingConfig,
    best_quotes,
    constant_quotes,
    continuous_constant_value,
    continuous_quotes,
    continuous_value,
)

SMALL = MarketMakingConfig(max_inventory=3, num_steps=6, arrival_rate=8.0, running_penalty=1.0, final_penalty=0.3)


def test_known_number():
    assert continuous_value(MarketMakingConfig())[20] == pytest.approx(66.282, abs=5e-4)


def test_closed_form_solves_the_differential_equation():
    config = MarketMakingConfig(max_inventory=5)
    q, k, rate = np.arange(-5, 6.0), config.fill_decay, config.arrival_rate / np.e

    def slope(_, h):
        up, down = np.exp(-k * (h[:-1] - h[1:])), np.exp(-k * (h[1:] - h[:-1]))
        gain = np.append(rate / k * up, 0.0) + np.append(0.0, rate / k * down)
        return gain - config.running_penalty * q**2

    found = solve_ivp(slope, (0, 1), -config.final_penalty * q**2, rtol=1e-9, atol=1e-9, method="LSODA").y[:, -1]
    assert continuous_value(config) == pytest.approx(found, abs=1e-5)


def test_dynamic_programme_tends_to_the_closed_form():
    wide = {"max_inventory": 8, "min_depth": -2.0, "max_depth": 8.0}
    gaps, quote_gaps, plain_gaps = [], [], []
    for num_steps in (500, 1000):
        config = MarketMakingConfig(num_steps=num_steps, **wide)
        best = best_quotes(config)
        gaps.append(float(continuous_value(config)[8] - best.value[0, 8]))
        quote_gaps.append(float(best.depths[0, 8, 0] - continuous_quotes(config)[0][8]))
        plain = float(constant_quotes(config).value[0, 8])
        plain_gaps.append(float(continuous_constant_value(config)[8] - plain))
    for gap in (gaps, quote_gaps, plain_gaps):
        assert gap[0] / gap[1] == pytest.approx(2.0, abs=0.15)  # the error of a step is of first order
    assert 0 < gaps[1] < 2.0


def test_dynamic_programme_is_what_brute_force_finds():
    best = best_quotes(SMALL)
    depths = np.linspace(SMALL.min_depth, SMALL.max_depth, 801)
    chance = 1 - np.exp(-SMALL.arrival_rate / 6 * np.exp(-SMALL.fill_decay * depths))
    after = -SMALL.final_penalty * np.arange(-3, 4.0) ** 2
    for t in reversed(range(6)):
        now = np.empty(7)
        for i, q in enumerate(range(-3, 4)):
            sold = chance if q > -3 else np.zeros(1)
            bought = chance if q < 3 else np.zeros(1)
            d_ask, d_bid = depths[: len(sold)], depths[: len(bought)]
            s, b = sold[:, None], bought[None]
            up, down = after[min(i + 1, 6)], after[max(i - 1, 0)]
            total = s * d_ask[:, None] + b * d_bid[None] - SMALL.running_penalty * q**2 / 6
            total = total + s * (1 - b) * down + b * (1 - s) * up + (s * b + (1 - s) * (1 - b)) * after[i]
            now[i] = total.max()
            row, column = np.unravel_index(total.argmax(), total.shape)
            if q > -3:
                assert float(best.depths[t, i, 0]) == pytest.approx(depths[row], abs=3e-3)
            if q < 3:
                assert float(best.depths[t, i, 1]) == pytest.approx(depths[column], abs=3e-3)
        assert best.value[t].numpy() == pytest.approx(now, abs=1e-5)
        after = now


@pytest.mark.parametrize("config", [MarketMakingConfig(), MarketMakingConfig(noisy=True), SMALL])
def test_optimum_is_earned_and_state_resumes(config):
    problem = config.build()
    got = check_optimum_is_earned(problem, num_episodes=6_000)
    base = value(problem, problem.baseline, num_episodes=6_000)
    assert abs(float(base.mean - problem.baseline_value)) < 4 * float(base.standard_error)
    gap = float(problem.optimal_value - problem.baseline_value)
    assert float(got.standard_error) < 0.04 * gap
    assert score(got.team_mean, float(problem.optimal_value), float(problem.baseline_value)) == pytest.approx(
        1, abs=0.1
    )
    check_state_resumes_exactly(problem, num_steps=8 if config.num_steps > 8 else None)


@pytest.mark.parametrize(("depths", "edge"), [((2.0, 0.0), 3), ((0.0, 2.0), -3)])
def test_a_quote_beyond_the_largest_inventory_is_not_shown(depths, edge):
    problem = MarketMakingConfig(max_inventory=3, num_steps=60, arrival_rate=200.0, noisy=True, volatility=0.0).build()
    env = OptimaEnv(problem, num_replicas=200, seed=2)
    env.reset()
    reached = 0.0
    for _ in range(59):
        step = env.step(torch.tensor(depths).expand(200, 1, 2))
        held = step.obs[:, 0, 1] * 3 / 4
        assert held.abs().max() <= 3.0
        reached = max(reached, float((held == edge).double().mean()))
    assert reached > 0.5


@settings(max_examples=10, deadline=None, derandomize=True)
@given(shift=st.floats(-1, 1), skew=st.floats(-1, 1), lean=st.floats(-1, 1), late=st.floats(-1, 1))
def test_other_quotes_earn_less(shift, skew, lean, late):
    problem = SMALL.build()
    size = (shift**2 + skew**2 + lean**2 + late**2) ** 0.5
    if size < 0.3:
        return

    def policy(obs):
        left, held = obs[..., :1].double(), obs[..., 1:].double()
        push = (shift + late * left) + (skew + lean * held) * torch.tensor([1.0, -1.0])
        return problem.optimal(obs) + 0.3 * push / size

    loss, error = loss_of(problem, policy, num_episodes=4_000)
    assert loss > -3 * error
    assert loss > 0.0 or error > 0.01


def test_an_empty_box_is_refused():
    with pytest.raises(InputError, match="min_depth"):
        MarketMakingConfig(min_depth=2.0).build()
