from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from floors import FREE, SlowFloor, flat_bars, floor_of, market_of, slot_targets, spec_of, with_own_costs
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.audit_draws import random_actions, random_costs
from envs.floor import build_floor
from envs.identities import TOLERANCE, check_step
from envs.market import build_market
from envs.settings import CostConfig, RewardConfig

PRESETS = (
    {"preset": "desk", "num_agents": 3},
    {"preset": "roles"},
    {"preset": "rivals", "num_agents": 2},
    {"preset": "roles", "action": "continuous", "own_share": 0.7, "team_share": 0.3},
    {"preset": "rivals", "num_agents": 2, "action": "continuous", "allow_short": False, "own_share": 1.0},
    {"preset": "desk", "num_agents": 2, "book_rule": "inverse_volatility", "own_share": 0.5},
)


def compare_with_slow_loop(market, *, seed: int, steps: int = 6, num_replicas: int = 3, tolerance: float) -> None:
    """Step both; ``tolerance`` is a fraction of capital, and of each fill."""
    floor = build_floor(market, num_replicas=num_replicas, seed=seed, record=True)
    floor.reset()
    rng = np.random.default_rng(seed)
    first = floor.get_state()["clock.bar"]
    slow = [SlowFloor(market, int(bar)) for bar in first]
    capital = market.spec.floor.capital

    def near(expected, scale: float = capital):
        return pytest.approx(list(expected), abs=tolerance * scale, rel=tolerance)

    actions = random_actions(floor, rng)
    for _ in range(steps):
        if rng.random() < 0.5:  # else the same again, so that orders may wait
            actions = random_actions(floor, rng)
        step = floor.step(actions)
        detail = floor.detail
        for b, one in enumerate(slow):
            expected = one.step(slot_targets(floor, detail, b))
            assert detail.after.equity[:, b].tolist() == near(one.equity.values())
            assert detail.after.cash[:, b].tolist() == near(one.cash.values())
            assert detail.fills[:, b].tolist() == near(expected["fills"].values())
            assert step.reward[b].tolist() == near(expected["reward"].values(), 1.0)
            for name in ("commission", "spread", "borrow"):
                assert [float(getattr(detail.attributed, name)[:, b].sum())] == near([expected[name]])
        if step.final_obs is not None:
            return


@pytest.mark.parametrize("desk", PRESETS)
def test_step_equals_a_slow_loop_under_default_costs(desk) -> None:
    compare_with_slow_loop(market_of(desk=desk), seed=3, tolerance=1e-11)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    desk=st.sampled_from(PRESETS),
    fill=st.sampled_from(("next_open", "next_vwap", "next_close", "same_close_unsafe")),
    leverage=st.sampled_from((1.0, 1.0, 2.5)),
    capital=st.sampled_from((2e4, 1e6, 1e9)),
    has_gaps=st.booleans(),
    own=st.sampled_from((None, "assets", "bars")),
)
def test_step_equals_a_slow_loop_under_any_costs(seed, desk, fill, leverage, capital, has_gaps, own) -> None:
    rng = np.random.default_rng(seed)
    floor = {"fill": fill, "max_leverage": leverage, "capital": capital, "costs": random_costs(rng)}
    market = market_of(desk=desk, floor=floor, seed=seed % 3)
    if has_gaps:
        volume = np.where(rng.random(market.bars.close.shape) < 0.3, 0.0, market.bars.volume)
        market = build_market(market.spec, bars=dataclasses.replace(market.bars, volume=volume))
    if own is not None:
        scale = rng.uniform(0.5, 2.0, (market.bars.num_bars, 1)) if own == "bars" else None
        market = build_market(market.spec, bars=with_own_costs(market.bars, lambda: random_costs(rng), scale))
    # orders of rivals that nearly cancel leave a flow of rounding errors, and the square root law makes more of them
    compare_with_slow_loop(market, seed=seed, steps=4, num_replicas=2, tolerance=1e-8)


def one_asset(prices, *, opens=None, costs=FREE, daily_volatility=None, **floor):
    """One asset and one agent; the test split ends with these prices, and 1,000,000 shares are traded a day."""
    bars = flat_bars(prices, opens=opens)
    spec = spec_of(desk={"preset": "rivals", "num_agents": 1}, floor={"horizon_bars": 1, "costs": costs, **floor})
    last = bars.num_bars - len(prices)
    data = dataclasses.replace(
        spec.data, validation_start=str(bars.dates[55])[:10], test_start=str(bars.dates[last])[:10], embargo_bars=20
    )
    market = build_market(dataclasses.replace(spec, data=data), bars=bars)
    if daily_volatility is not None:  # of the flat history before
        market = dataclasses.replace(market, impact_unit=np.array([daily_volatility / 1e6]))
    return build_floor(market, split="test", start="first", record=True)


def rung(value: int):
    return np.array([[value]], dtype=np.int64)


def test_order_fills_at_next_open() -> None:
    floor = one_asset([100.0, 120.0, 120.0], opens=[100.0, 110.0, 120.0])
    step = floor.step(rung(4))
    assert floor.detail.price.item() == pytest.approx(110.0)
    # 10,000 shares wanted at the close of 100; a budget of 1,000,000 buys 9,090.9 at the open of 110, marked at 120
    assert floor.detail.fills.item() == pytest.approx(1e6 / 110)
    assert step.reward.item() == pytest.approx(120 / 110 - 1)


@pytest.mark.parametrize(
    ("fill", "price"),
    [("next_open", 110.0), ("next_close", 120.0), ("next_vwap", (120 + 110 + 120) / 3), ("same_close_unsafe", 100.0)],
)
def test_each_fill_rule_fills_at_its_price(fill, price) -> None:
    floor = one_asset([100.0, 120.0, 120.0], opens=[100.0, 110.0, 120.0], fill=fill)
    floor.step(rung(4))
    assert floor.detail.price.item() == pytest.approx(price)


def test_flat_price_costs_are_charged_once_on_each_side() -> None:
    costs = dataclasses.replace(FREE, commission_bps=10.0, half_spread_bps=5.0)
    floor = one_asset([100.0] * 4, costs=costs)
    floor.step(rung(3))  # buys 500,000
    assert floor.detail.after.cash.item() == pytest.approx(1e6 - 5e5 * 1.0015)
    floor.step(rung(2))  # sells all of it
    assert floor.detail.after.cash.item() == pytest.approx(1e6 - 2 * 5e5 * 0.0015)
    assert floor.detail.after.holdings.item() == 0.0


def test_short_pays_the_borrow_rate_and_cash_earns_interest() -> None:
    costs = dataclasses.replace(FREE, borrow_rate_annual=0.252, cash_rate_annual=0.0252)
    floor = one_asset([100.0] * 4, costs=costs)
    step = floor.step(rung(0))
    # short 1,000,000: cash 2,000,000, a fee of 0.1 % of the short and interest of 0.01 % of the cash
    assert step.reward.item() == pytest.approx((-1_000.0 + (2e6 - 1_000.0) * 1e-4) / 1e6)


def test_borrowed_cash_pays_the_loan_rate_and_borrowed_shares_their_own() -> None:
    costs = dataclasses.replace(FREE, loan_rate_annual=0.252)
    floor = one_asset([100.0] * 4, costs=costs, max_leverage=2.0)
    step = floor.step(rung(4))  # holds 2,000,000, of which 1,000,000 is borrowed, at 0.1 % a bar
    assert step.reward.item() == pytest.approx(-1e-3)
    assert floor.detail.attributed.interest.item() == pytest.approx(-1_000.0)
    assert floor.detail.attributed.borrow.item() == 0.0
    floor.reset()
    assert floor.step(rung(0)).reward.item() == 0.0  # short 2,000,000 of shares that cost nothing to borrow


def test_permanent_impact_moves_the_mark_and_the_order_pays_half_of_it() -> None:
    costs = dataclasses.replace(FREE, permanent_impact=0.1)
    floor = one_asset([100.0] * 5, costs=costs, daily_volatility=0.01)
    floor.step(rung(3))  # 5,000 shares of 1,000,000 a day: by .005 of a tenth of a daily volatility up
    detail = floor.detail
    move = 0.005 * 0.1 * 0.01 * detail.fills.item() / 5_000
    assert detail.price.item() == pytest.approx(100 * np.expm1(move) / move, rel=1e-12)
    assert detail.mark_after.item() == pytest.approx(100 * np.exp(move), rel=1e-12)


def test_round_trips_under_permanent_impact_never_pay() -> None:
    costs = dataclasses.replace(FREE, permanent_impact=500.0)
    floor = one_asset([100.0] * 12, costs=costs, daily_volatility=0.01)
    for rungs in ((4, 2), (3, 4, 2), (0, 2), (4, 0, 2), (3, 4, 3, 2)):
        floor.reset()
        for action in rungs:
            floor.step(rung(action))
        left = floor.detail.after
        # what is left after rounding is worth less than the tolerance; nothing was earned
        assert left.equity.item() <= 1e6 * (1 + 1e-9), rungs


def test_square_root_impact_is_paid_by_the_whole_order() -> None:
    prices = 100.0 * np.exp(np.cumsum(np.tile([0.01, -0.01], 15)))
    costs = dataclasses.replace(FREE, temporary_impact=0.5)
    floor = one_asset(prices.tolist(), costs=costs)
    for _ in range(21):  # the last 20 returns are 1 % each
        floor.step(rung(2))
    floor.step(rung(3))
    detail = floor.detail
    shares = 5e5 / detail.mark_before.item()
    assert detail.price.item() == pytest.approx(detail.mid.item() * (1 + 0.5 * 0.01 * np.sqrt(shares / 1e6)), rel=1e-6)


def test_agents_of_an_account_cross_inside_without_cost() -> None:
    desk = {"preset": "roles", "num_agents": 2, "action": "continuous"}
    floor = floor_of(desk=desk, market={"num_assets": 1}, record=True)
    floor.step(np.array([[[1.0], [-1.0]]]))
    detail = floor.detail
    assert detail.line_fills.abs().max() == 0
    assert detail.fills[0].item() == -detail.fills[1].item() != 0
    paid = detail.attributed
    assert float(paid.commission.sum() + paid.spread.sum() + paid.impact.sum()) == 0
    assert detail.after.cash.item() == floor.config.capital


def test_rounding_errors_of_orders_that_cross_are_no_order() -> None:
    costs = CostConfig(commission_min_usd=5.0, commission_fixed_usd=1.0, lot_size=1.0)
    desk = {"preset": "roles", "num_agents": 3, "action": "continuous", "limit": 1.0}
    floor = floor_of(
        desk=desk, floor={"costs": costs, "max_leverage": 3.0}, market={"num_assets": 1}, num_replicas=50, record=True
    )
    floor.step(np.tile(np.array([[0.1], [0.2], [-0.3]]), (50, 1, 1)))
    detail = floor.detail
    assert (detail.orders.sum(0) != 0).any()  # the sum of three orders is not quite nothing
    assert not detail.line_fills.any()
    assert not detail.attributed.line_commission.any()
    assert torch.equal(detail.fills, detail.orders)


def test_rivals_meet_in_one_price() -> None:
    def paid(others: int) -> float:
        costs = dataclasses.replace(FREE, temporary_impact=1.0)
        floor = floor_of(
            desk={"preset": "rivals", "num_agents": 3},
            floor={"costs": costs, "capital": 1e8},
            market={"num_assets": 1},
            record=True,
        )
        floor.step(np.array([[3] + [4] * others + [2] * (2 - others)]))
        return float(floor.detail.price[0, 0] / floor.detail.mid[0, 0])

    assert 1 < paid(0) < paid(1) < paid(2)


def test_orders_are_cut_to_cash_and_not_below() -> None:
    costs = CostConfig(commission_bps=30, commission_min_usd=50, commission_fixed_usd=10, half_spread_bps=20)
    floor = floor_of(floor={"costs": costs, "capital": 5e4}, num_replicas=64, record=True)
    for _ in range(12):
        floor.step(np.full((64, 4), 4))
        assert float(floor.detail.after.cash.min()) >= 0
    assert float(floor.detail.after.cash.max()) < 0.05 * 5e4  # and not much more than needed


def test_leverage_lets_cash_go_negative_to_its_limit() -> None:
    floor = floor_of(floor={"costs": FREE, "max_leverage": 2.0}, num_replicas=8, record=True)
    floor.step(np.full((8, 4), 4))
    low = floor.detail.after.cash / floor.detail.before.equity
    assert float(low.max()) < -0.9
    assert float(low.min()) >= -1.0


def test_lots_are_whole() -> None:
    costs = CostConfig(lot_size=100.0)
    floor = floor_of(desk={"preset": "roles"}, floor={"costs": costs}, num_replicas=4, record=True)
    rng = np.random.default_rng(0)
    for _ in range(8):
        floor.step(random_actions(floor, rng))
        lots = floor.detail.positions.numpy() / 100
        assert np.allclose(lots, np.round(lots), atol=1e-6)


def test_penalties_lower_the_reward_by_what_they_say() -> None:
    reward = RewardConfig(lambda_cvar=2.0, cvar_level=0.9, cvar_threshold=0.01, lambda_turn=0.1, scale=3.0)
    floor = one_asset([100.0, 90.0, 90.0], opens=[100.0, 100.0, 90.0], reward=reward)
    step = floor.step(rung(4))
    assert step.reward.item() == pytest.approx(3 * (-0.1 - 2 * (0.1 - 0.01) / 0.1 - 0.1 * 1.0))


def halting(*, num_rivals: int, closed, capital: float = 1e7, num_assets: int = 2, **costs):
    """Rivals who name weights, at prices that never move; ``closed[bar]`` lists assets that do not trade at a fill."""
    bars = flat_bars(np.full((160, num_assets), 100.0))
    spec = spec_of(
        desk={"preset": "rivals", "num_agents": num_rivals, "action": "continuous"},
        floor={"horizon_bars": len(closed), "capital": capital, "costs": dataclasses.replace(FREE, **costs)},
    )
    start = build_floor(build_market(spec, bars=bars), split="test", start="first").get_state()["clock.bar"].item()
    volume = bars.volume.copy()
    for bar, names in enumerate(closed):
        volume[start + bar + 1, names] = 0.0
    bars = dataclasses.replace(bars, volume=volume, tradable=None, lives=None, without_volume=None)
    market = dataclasses.replace(build_market(spec, bars=bars), impact_unit=np.full(num_assets, 0.02 / 1e6))
    return build_floor(market, split="test", start="first", record=True)


def test_what_a_halt_leaves_unfilled_is_ordered_anew_while_the_target_stays_and_dropped_with_it() -> None:
    floor = halting(num_rivals=2, closed=[[0], [0], []])
    stays, leaves = (1.0, 0.0), (0.0, 0.0)
    for weights in ((stays, stays), (stays, leaves)):
        floor.step(np.array([weights]))
        assert not floor.detail.fills.any()
    assert floor.detail.unfilled[:, 0].tolist() == [1e5, 0.0, 0.0, 0.0]
    floor.step(np.array([(stays, leaves)]))
    assert floor.detail.fills[:, 0].tolist() == pytest.approx([1e5, 0.0, 0.0, 0.0])


def test_orders_that_cannot_be_paid_move_no_price_for_a_friend() -> None:
    """One has all its money in an asset that is closed, and orders more of another to lift what its friend sells."""
    closed = [[], *[[0]] * 20]
    floor = halting(num_rivals=2, closed=closed, permanent_impact=0.3, temporary_impact=0.5)
    floor.step(np.array([[[1.0, 0.0], [0.0, 0.0]]]))  # what is left in cash buys some of the other asset, no more
    start = float(floor.detail.liquidation[1, 0])
    for bar in range(len(closed) - 1):
        pretends, sells = (1.0, -1.0) if bar % 2 == 0 else (0.0, 0.0)
        floor.step(np.array([[[0.0, pretends], [0.0, sells]]]))
        assert float(floor.detail.fills[1, 0]) < 1.0  # of the 100,000 shares that it orders
    assert float(floor.detail.after.equity[1, 0]) <= start


def test_orders_that_cannot_be_paid_take_no_volume_from_others() -> None:
    floor = halting(num_rivals=2, closed=[[], [0]], max_participation=0.1)
    floor.step(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    floor.step(np.array([[[0.0, 1.0], [0.0, 1.0]]]))
    assert float(floor.detail.unfilled[3, 0]) == pytest.approx(0.0, abs=1.0)  # 100,000 shares are all that is taken


def test_positions_that_cannot_be_closed_leave_no_room_for_new_ones() -> None:
    """Short one, see it halted, short the next: gross exposures of 1, 2, 3 and 4 with a leverage of 1."""
    closed = [[], [0], [0, 1], [0, 1, 2], [0, 1, 2]]
    floor = halting(num_rivals=1, closed=closed, num_assets=4)
    for bar, side in enumerate((-1.0, -1.0, 1.0, -1.0)):
        weights = np.zeros((1, 1, 4))
        weights[0, 0, bar] = side
        floor.step(weights)
        gross = float((floor.detail.positions.abs() * 100.0).sum())
        assert gross <= floor.config.capital * (1 + 1e-9)
    assert gross > 0.99 * floor.config.capital


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), num_rivals=st.integers(1, 3))
def test_what_the_market_does_not_take_raises_no_gross_exposure(seed, num_rivals) -> None:
    rng = np.random.default_rng(seed)
    closed = [list(np.flatnonzero(rng.random(3) < 0.4)) for _ in range(8)]
    floor = halting(num_rivals=num_rivals, closed=closed, num_assets=3, max_participation=float(rng.choice([1, 0.02])))
    for _ in range(8):
        weights = rng.dirichlet(np.ones(3), (1, num_rivals)) * rng.choice([-1, 1], (1, num_rivals, 3))
        floor.step(weights)
        detail = floor.detail
        gross = floor.layout.lines_to_accounts(detail.positions.abs() * 100.0)
        assert (gross <= detail.after.equity * (1 + 1e-9)).all()


def test_a_short_that_is_paid_out_for_more_than_the_cash_leaves_a_loan_that_costs_its_rate() -> None:
    """Long and short of half the capital each; the short trades no more after its price has risen to 240."""
    bars = flat_bars(np.full((160, 2), 100.0))
    costs = dataclasses.replace(FREE, loan_rate_annual=0.252)
    desk = {"preset": "rivals", "num_agents": 1, "action": "continuous"}
    spec = spec_of(desk=desk, floor={"horizon_bars": 8, "costs": costs, "min_order": 0.45})
    start = build_market(spec, bars=bars).splits.test.start
    close, tradable = bars.close.copy(), np.ones(bars.close.shape, dtype=bool)
    close[start + 2 :, 1] = 240.0
    tradable[start + 3 :, 1] = tradable[start + 3 : start + 7, 0] = False
    bars = dataclasses.replace(
        bars, open=close, high=close, low=close, close=close, volume=tradable * 1e6, tradable=tradable, lives=None
    )
    market = build_market(spec, bars=bars)
    floor = build_floor(market, split="test", start="first", record=True)

    def check(name, error, tolerance=TOLERANCE * floor.config.capital) -> None:
        assert np.abs(np.asarray(error)).max() <= tolerance, name

    for target in [(0.5, -0.5)] * 2 + [(1.0, 0.0)] * 3:
        floor.step(np.array([[target]]))
        check_step(check, floor, market, floor.detail)
    assert float(floor.detail.before.cash) < -100_000
    owed = floor.detail.after.cash.item() / floor.detail.before.cash.item()
    assert owed == pytest.approx(1 + 0.252 / market.bars.periods_per_year)
