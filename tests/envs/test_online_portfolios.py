import numpy as np
import pytest
from floors import FREE
from real_prices import real_prices
from scipy.optimize import minimize
from test_portfolio_rules import history, walk

from envs import online_portfolios as online
from envs.backtest import run_backtest
from envs.bar_data import Bars
from envs.baseline_traders import baseline_market, rule_trader
from envs.market import build_market
from envs.portfolio_rules import equal
from envs.settings import DeskConfig, FloorConfig, FloorSpec

RULES = {"eg": online.exponentiated_gradient, "pamr": online.pamr, "olmar": online.olmar, "crp": equal}


def wealth(rule, relatives, *, sees_all=False):
    """What a dollar becomes by relatives [T, A], from bar 0 on and without costs."""
    closes = np.cumprod(np.vstack([np.ones(relatives.shape[1]), relatives]), axis=0)
    shown, worth, chosen = history(closes), 1.0, None
    for t, row in enumerate(relatives):
        seen = shown if sees_all else shown._replace(closes=closes[: t + 1], days=shown.days[: t + 1])
        chosen = rule(seen._replace(chosen=chosen))
        worth *= chosen @ row
    return worth


@pytest.mark.parametrize(
    ("name", "rule", "sees_all", "expected"),
    [
        ("nyse_o", equal, False, "27.08"),
        ("nyse_o", online.exponentiated_gradient, False, "27.09"),
        ("nyse_o", online.best_constant_weights, True, "250.597"),  # where 250.59 is told, the rest was cut off
        ("msci", online.exponentiated_gradient, False, "0.9260"),
        ("msci", online.pamr, False, "15.2320"),
    ],
)
def test_published_figures_are_met_to_their_last_digit(name, rule, sees_all, expected):
    found = wealth(rule, np.load(real_prices(f"olps_{name}.npz"), allow_pickle=False)["x"], sees_all=sees_all)
    assert f"{found:.{len(expected.partition('.')[2])}f}" == expected


def market_of_relatives(relatives):
    """A floor without costs on which orders fill at the close that was seen: the next bar opens where one closes."""
    close = np.cumprod(np.vstack([np.ones(relatives.shape[1]), relatives]), axis=0)
    opens = np.vstack([close[:1], close[:-1]])
    bars = Bars(
        dates=(np.datetime64("2020-01-01") + np.arange(len(close))).astype("datetime64[us]"),
        assets=tuple(f"A{i}" for i in range(close.shape[1])),
        open=opens,
        high=np.maximum(opens, close),
        low=np.minimum(opens, close),
        close=close,
    )
    spec = FloorSpec(
        desk=DeskConfig(feature_groups=("momentum",)), floor=FloorConfig(horizon_bars=1, costs=FREE, min_order=0)
    )
    return baseline_market(build_market(spec, bars=bars))


@pytest.mark.parametrize("name", RULES)
def test_floor_without_costs_gives_the_product_of_portfolio_and_relatives(name):
    rng = np.random.default_rng(3)
    relatives = np.exp(rng.normal(size=(400, 3)) * 0.03)
    market, given = market_of_relatives(relatives), []

    def watched(seen):
        given.append(RULES[name](seen))
        return given[-1]

    result = run_backtest(rule_trader(watched), market, name=name)
    start = market.splits.test.start
    growth = [weights @ relatives[start + i] for i, weights in enumerate(given)]
    assert len(growth) == len(result.equity) - 1 > 50
    np.testing.assert_allclose(result.equity / result.equity[0], np.cumprod([1.0, *growth]), rtol=1e-12)
    np.testing.assert_allclose(given[0] if name != "olmar" else 1 / 3, 1 / 3)


def test_best_constant_weights_beat_all_others_and_every_asset():
    relatives = np.random.default_rng(5).uniform(0.8, 1.25, size=(60, 3))
    closes = np.cumprod(np.vstack([np.ones(3), relatives]), axis=0)
    best = wealth(online.best_constant_weights, relatives, sees_all=True)
    others = np.random.default_rng(6).dirichlet(np.ones(3), size=5_000)
    by_others = np.exp(np.log(relatives @ others.T).sum(axis=0))
    assert by_others.max() * (1 + 1e-3) > best >= max(by_others.max(), closes[-1].max()) * (1 - 1e-9)
    weights = online.best_constant_weights(history(closes))
    gains = (relatives / (relatives @ weights)[:, None]).mean(axis=0)  # Karush-Kuhn-Tucker (Cover 1984)
    assert gains.max() <= 1 + 1e-6
    np.testing.assert_allclose(gains[weights > 1e-6], 1.0, atol=1e-6)


def test_exponentiated_gradient_tilts_by_what_each_asset_gained_on_the_portfolio():
    chosen = np.array([0.2, 0.8])
    weights = online.exponentiated_gradient(history([[1.0, 1.0], [1.3, 0.9]], chosen=chosen), eta=0.5)
    assert weights.sum() == pytest.approx(1.0)
    portfolio = 0.2 * 1.3 + 0.8 * 0.9
    assert np.log(weights[0] / weights[1]) == pytest.approx(np.log(0.25) + 0.5 * (1.3 - 0.9) / portfolio)


def nearest_with(chosen, direction, *, least=None, most=None):
    """Weights that sum to 1, nearest to these, whose value along a direction is at least or at most so much."""
    sign, bound = (1, least) if most is None else (-1, most)
    whole = {"type": "eq", "fun": lambda w: w.sum() - 1}
    limit = {"type": "ineq", "fun": lambda w: sign * (w @ direction - bound)}
    return minimize(lambda w: ((w - chosen) ** 2).sum(), chosen, constraints=[whole, limit], tol=1e-14).x


def test_pamr_is_the_least_change_after_which_the_day_would_have_brought_no_more():
    closes, chosen = np.array([[1.0, 1.0, 1.0], [1.02, 1.0, 0.97]]), np.array([0.4, 0.3, 0.3])
    weights = online.pamr(history(closes, chosen=chosen), epsilon=0.995)
    np.testing.assert_allclose(weights, nearest_with(chosen, closes[1], most=0.995), atol=1e-6)
    assert weights @ closes[1] == pytest.approx(0.995)
    np.testing.assert_array_equal(online.pamr(history(closes, chosen=chosen), epsilon=2.0), chosen)


def test_olmar_is_the_least_change_after_which_enough_is_expected_of_the_moving_average():
    closes = walk(12, [0.02, 0.03, 0.02], seed=7)
    chosen, expected = np.array([0.4, 0.3, 0.3]), closes[-5:].mean(axis=0) / closes[-1]
    target = chosen @ expected + 0.3 * (expected.max() - chosen @ expected)
    weights = online.olmar(history(closes, chosen=chosen), epsilon=target)
    np.testing.assert_allclose(weights, nearest_with(chosen, expected, least=target), atol=1e-6)
    np.testing.assert_array_equal(online.olmar(history(closes, chosen=chosen), epsilon=0.1), chosen)


def test_projection_gives_the_nearest_weights():
    rng = np.random.default_rng(1)
    for point in rng.normal(size=(20, 4)):
        whole, bounds = {"type": "eq", "fun": lambda w: w.sum() - 1}, [(0, 1)] * 4
        found = minimize(
            lambda w, p=point: ((w - p) ** 2).sum(), np.full(4, 0.25), bounds=bounds, constraints=whole, tol=1e-14
        )
        np.testing.assert_allclose(online.project_to_simplex(point), found.x, atol=1e-5)


@pytest.mark.parametrize("rule", RULES.values())
def test_assets_that_move_alike_leave_equal_parts(rule):
    assert wealth(rule, np.full((30, 4), 1.01)) == pytest.approx(1.01**30)


def test_best_constant_weights_are_worked_out_once():
    chosen = np.array([0.1, 0.9])
    assert online.best_constant_weights(history(np.ones((9, 2)), chosen=chosen)) is chosen


def test_exponentiated_gradient_begins_anew_where_all_that_it_held_is_gone():
    np.testing.assert_array_equal(online.exponentiated_gradient(history(np.ones((9, 2)), chosen=np.zeros(2))), 0.5)
