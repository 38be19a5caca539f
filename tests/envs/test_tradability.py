"""What cannot be traded is not traded: closed bars, thin bars, assets that are gone, accounts that are ruined."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from floors import FREE, floor_of, market_of, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from price_samples import write

from envs.accounts import Layout
from envs.audit_draws import random_actions
from envs.audit_lookahead import audit_lookahead
from envs.backtest import run_backtest
from envs.bars import build_bars
from envs.baseline_traders import rule_trader
from envs.baselines import BASELINES
from envs.floor import build_floor
from envs.market import build_market
from envs.observations import observation_names, private_names
from envs.settings import CostConfig, DataConfig, DeskConfig, FloorConfig, FloorSpec
from envs.tape import Tape

WEIGHTS = DeskConfig(preset="rivals", num_agents=1, action="continuous", feature_groups=("momentum",))


def long_rows(name: str, dates, close, volume, open_=None) -> pd.DataFrame:
    close = np.asarray(close, dtype=float)
    open_ = close if open_ is None else open_
    prices = {"open": open_, "high": np.maximum(open_, close), "low": np.minimum(open_, close), "close": close}
    return pd.DataFrame({"date": dates, "tic": name, **prices, "volume": volume})


def floor_on(tmp_path, rows, *, costs=None, **kwargs):
    path = write(tmp_path, pd.concat(rows).sort_values(["date", "tic"]))
    spec = FloorSpec(
        data=DataConfig(path=path, **kwargs),
        desk=WEIGHTS,
        floor=FloorConfig(horizon_bars=16, costs=costs or CostConfig()),
    )
    return build_market(spec)


def test_stock_beside_a_coin_is_never_filled_on_a_weekend(tmp_path) -> None:
    """The weekend's news of the coin moves the stock on Monday: who is filled at Friday's close has it for nothing."""
    rng = np.random.default_rng(0)
    days = pd.date_range("2018-01-01", periods=1_000)
    news = rng.standard_normal(len(days)) * 0.01
    coin = 100 * np.exp(news.cumsum())
    weekdays = days.day_of_week < 5
    stock = coin * np.exp(rng.standard_normal(len(days)) * 0.001)
    rows = [
        long_rows("COIN", days.strftime("%Y-%m-%d"), coin, 1e8),
        long_rows("STOCK", days[weekdays].strftime("%Y-%m-%d"), stock[weekdays], 1e8),
    ]
    market = floor_on(tmp_path, rows, calendar="fill", costs=FREE)
    a = market.bars.assets.index("STOCK")
    closed = ~market.bars.tradable[:, a]
    assert 0.25 < closed.mean() < 0.32
    floor = build_floor(market, split="test", start="first", record=True)
    step, filled = floor.reset(), []
    while not bool(step.truncated[0]):
        bar = int(floor.detail.bar[0]) + 1 if floor.detail is not None else floor.split.start
        seen = market.bars.close[bar, 1 - a] / market.bars.close[bar - 1, 1 - a] - 1
        weights = np.zeros((1, 1, 2))
        weights[0, 0, a] = np.sign(seen)
        step = floor.step(weights)
        filled.append((int(floor.detail.bar[0]) + 1, float(floor.detail.fills[a, 0])))
    on_closed = [shares for bar, shares in filled if closed[bar]]
    assert len(on_closed) > 40
    assert not any(on_closed)
    assert sum(shares != 0 for bar, shares in filled if not closed[bar]) > 100


def test_a_ticker_that_ends_early_is_paid_out_and_not_sunk(tmp_path) -> None:
    days = pd.bdate_range("2015-01-01", periods=700).strftime("%Y-%m-%d")
    rng = np.random.default_rng(1)
    alive = 50 * np.exp((rng.standard_normal(700) * 0.01).cumsum())
    dead = 20 * np.exp((rng.standard_normal(620) * 0.01).cumsum())
    rows = [long_rows("LIVE", days, alive, 1e6), long_rows("DEAD", days[:620], dead, 1e6)]
    for haircut in (0.0, 0.3):
        market = floor_on(tmp_path, rows, costs=dataclasses.replace(FREE, delisting_haircut=haircut))
        assert market.bars.num_bars == 700  # union, without being asked for
        assert market.bars.lives[1].tolist() == [620, 700]
        floor = build_floor(market, split="test", start="first", record=True)
        step = floor.reset()
        while not bool(step.truncated[0]):
            step = floor.step(np.full((1, 1, 2), 0.5))
            bar, detail = int(floor.detail.bar[0]) + 1, floor.detail
            if bar == 620:  # the first on which it is gone
                paid = float(detail.closed[0, 0]) * dead[-1]
                assert paid == pytest.approx(0.5 * float(detail.before.equity[0, 0]), rel=0.02)
                lost = float(detail.before.equity[0, 0] - detail.after.equity[0, 0])
                held = float(detail.before.holdings[1, 0])
                moved = held * (market.bars.close[620, 1] - market.bars.close[619, 1])
                assert lost + moved == pytest.approx(haircut * paid, abs=1e-3 * paid)
            if bar > 620:
                assert detail.after.holdings[0, 0] == detail.fills[0, 0] == 0


def test_bars_of_a_ticker_that_is_gone_are_no_money_pit(tmp_path) -> None:
    """Filled bars without volume made the average volume 1e-9 shares, and every order met the caps of impact."""
    days = pd.bdate_range("2015-01-01", periods=700).strftime("%Y-%m-%d")
    rng = np.random.default_rng(1)
    rows = [
        long_rows("LIVE", days, 50 * np.exp((rng.standard_normal(700) * 0.01).cumsum()), 1e6),
        long_rows("DEAD", days[:575], 20 * np.exp((rng.standard_normal(575) * 0.01).cumsum()), 1e6),
    ]
    market = floor_on(tmp_path, rows, calendar="fill")
    result = run_backtest(rule_trader(BASELINES["equal_weight"]), market, name="equal_weight")
    live = market.bars.close[market.splits.test.start :, market.bars.assets.index("LIVE")]
    worst = 1 + min(0.0, (live / live[0] - 1).min())
    assert result.equity.min() > 0.98 * 1e6 * worst
    later = result.trades[result.trades["date"] > market.bars.dates[575]]
    assert (later["asset"] == "LIVE").any()
    assert (later[later["asset"] == "DEAD"]["shares"] == 0).all()


@pytest.mark.parametrize("calendar", ["fill", None])
def test_half_in_a_ticker_that_ends_loses_half_of_what_the_other_loses(tmp_path, calendar) -> None:
    """One falls by 4 % in the test, the other is gone at its last price: $980,000, where $113,202 was told."""
    days = pd.bdate_range("2018-01-01", periods=560).strftime("%Y-%m-%d")
    rng = np.random.default_rng(3)
    lead = 50 * np.exp((rng.standard_normal(462) * 0.01).cumsum())
    live = np.r_[lead, lead[-1] * np.linspace(1.0, 0.96, 99)[1:]]
    dead = np.r_[30 * np.exp((rng.standard_normal(450) * 0.01).cumsum()), np.full(20, 33.295)]
    rows = [long_rows("AAA", days, live, 1e6), long_rows("DEAD", days[:470], dead, 1e6)]
    market = floor_on(tmp_path, rows, calendar=calendar)
    assert (market.splits.test.start, market.splits.test.num_decisions) == (460, 99)
    half = rule_trader(lambda history: np.full(len(history.assets), 0.5))
    assert run_backtest(half, market, name="half").equity[-1] == pytest.approx(980_000, rel=2e-3)


def test_a_large_book_buys_a_tenth_of_what_is_traded_and_the_rest_is_counted(tmp_path) -> None:
    days = pd.bdate_range("2015-01-01", periods=400).strftime("%Y-%m-%d")
    market = floor_on(tmp_path, [long_rows("THIN", days, np.full(400, 100.0), 10_000)])
    market = dataclasses.replace(
        market, spec=dataclasses.replace(market.spec, floor=dataclasses.replace(market.spec.floor, capital=1e9))
    )
    result = run_backtest(rule_trader(BASELINES["buy_and_hold"]), market, name="buy_and_hold")
    shares = result.trades["shares"]
    assert len(shares) == market.splits.test.num_decisions  # what is unfilled is ordered again
    np.testing.assert_allclose(shares, 1_000, rtol=1e-9)
    assert result.trades["unfilled_notional"].iloc[0] == pytest.approx(1e9 - 1e5, rel=1e-2)
    assert result.trades["unfilled_notional"].sum() == pytest.approx(result.metrics["unfilled_notional"])


def test_an_order_waits_with_its_shares_or_is_made_anew_of_its_target(tmp_path) -> None:
    """Ten thousand shares are ordered, a thousand are taken a bar, and after five of these the price is lower."""
    days = pd.bdate_range("2015-01-01", periods=400).strftime("%Y-%m-%d")
    price = np.r_[np.full(337, 100.0), np.full(63, 70.0)]
    for carries in (False, True):
        costs = dataclasses.replace(FREE, max_participation=0.1, carry_orders=carries)
        market = floor_on(tmp_path, [long_rows("THIN", days, price, 10_000)], costs=costs)
        floor = build_floor(market, split="test", start="first", record=True)
        floor.reset()
        for held in range(0, 9_000, 1_000):
            floor.step(np.full((1, 1, 1), 1.0))
            equity = 1e6 if held < 5_000 else 1e6 - 4_000 * 30  # the fifth is filled at the lower price
            anew = equity / (100 if held < 5_000 else 70) - held
            assert float(floor.detail.orders) == pytest.approx(10_000 - held if carries else anew)
            assert float(floor.detail.fills) == pytest.approx(1_000)
        floor.step(np.full((1, 1, 1), 0.9))  # another target replaces what waits
        assert float(floor.detail.orders) == pytest.approx(0.9 * 880_000 / 70 - 9_000)


def test_an_order_that_waits_for_a_day_of_trade_fills_in_its_size_or_is_replaced(tmp_path) -> None:
    """Closed days lie between an order and its fill; what its target needs less by then is not bought."""
    days = pd.date_range("2015-01-01", periods=400)
    is_open = np.ones(400, dtype=bool)
    is_open[352:355] = False
    coin = np.r_[np.full(353, 100.0), np.full(47, 130.0)]
    rows = [
        long_rows("COIN", days.strftime("%Y-%m-%d"), coin, 1e8),
        long_rows("STOCK", days[is_open].strftime("%Y-%m-%d"), np.full(is_open.sum(), 50.0), 1e8),
    ]
    market = floor_on(tmp_path, rows, calendar="fill", costs=dataclasses.replace(FREE, carry_orders=True))
    floor = build_floor(market, split="test", start="first", record=True)

    def ordered(*chosen: tuple[float, float]) -> list[float]:
        """Orders of the stock, for weights of coin and stock, the first decided before the first closed day."""
        floor.reset()
        while floor.detail is None or int(floor.detail.bar) < 350:
            floor.step(np.array([[[0.5, 0.0]]]))
        return [float((floor.step(np.array([[w]])), floor.detail)[1].orders[1]) for w in chosen]

    first = 0.5 * 1e6 / 50
    assert ordered(*[(0.5, 0.5)] * 4) == pytest.approx([first] * 4)  # by then half of all would be 11,500 shares
    anew = ordered((0.5, 0.5), (0.5, 0.5), (0.5, 0.4))
    assert anew == pytest.approx([first, first, 0.4 * 1_150_000 / 50])


def test_ruin_of_one_rival_leaves_the_others_trading_to_the_end() -> None:
    desk = {"preset": "rivals", "num_agents": 2, "action": "continuous"}
    market = market_of(num_assets=2, desk=desk, floor={"costs": FREE, "ruin_fraction": 0.97})
    floor = build_floor(market, split="test", start="first", record=True)
    step, ruined_at = floor.reset(), None
    while not bool(step.truncated[0]) and not bool(step.terminated[0]):
        step = floor.step(np.array([[[1.0, 0.0], [0.0, 0.0]]]))  # the second holds cash
        equity = floor.detail.after.equity[:, 0]
        if ruined_at is None and float(equity[0]) <= 0.97e6:
            ruined_at = int(floor.detail.bar[0]), float(equity[0])
        if ruined_at is not None:
            assert float(equity[0]) == ruined_at[1]
            assert not floor.detail.after.holdings[:2].any()
    assert ruined_at is not None
    assert int(floor.detail.bar[0]) == floor.split.stop - 2 > ruined_at[0]
    assert bool(step.truncated[0])
    assert not bool(step.terminated[0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    capital=st.sampled_from((1e6, 1e8, 1e10)),
    volumes=st.sampled_from(("steady", "thick and thin", "gapped")),
    num_rivals=st.integers(1, 3),
)
def test_no_path_of_sizes_is_paid_at_prices_that_stand_still(seed, capital, volumes, num_rivals) -> None:
    """Bought in thin and sold in thick weeks: with an impact by trailing volume it ended at millions of its capital."""
    desk = {"preset": "rivals", "num_agents": num_rivals, "action": "continuous"}
    market = market_of(
        num_bars=400, num_assets=2, desk=desk, floor={"capital": capital, "horizon_bars": 60}, seed=seed % 5
    )
    rng, bars = np.random.default_rng(seed), market.bars
    volume = np.full(bars.close.shape, 1e6)
    if volumes != "steady":
        thin = (np.arange(bars.num_bars) // 5 % 2 == 0)[:, None]
        volume = np.where(thin, 0.0 if volumes == "gapped" else 1e3, volume)
    still = np.broadcast_to(bars.close[0], bars.close.shape)
    still = dataclasses.replace(bars, volume=volume, tradable=None, open=still, high=still, low=still, close=still)
    floor = build_floor(dataclasses.replace(market, bars=still), num_replicas=4, seed=seed, record=True)
    floor.reset()
    for number in range(60):
        floor.step(random_actions(floor, rng) * (number < 40))  # and closed in the end
        detail = floor.detail
        if num_rivals == 1:
            assert float(detail.liquidation.max()) <= capital * (1 + 1e-9)
    flat = (detail.positions == 0).all(0)
    assert float(detail.after.equity.sum(0)[flat].max() if flat.any() else 0.0) <= capital * num_rivals * (1 + 1e-9)


def test_an_episode_that_ends_at_liquidation_pays_for_leaving() -> None:
    for mark in ("close", "liquidation"):
        spec = spec_of(desk={"num_agents": 2}, floor={"reward": {"mark": mark}})
        floor = build_floor(build_market(spec), record=True)
        floor.reset()
        paid, step = 0.0, None
        for _ in range(floor.episode_bars):
            step = floor.step(np.array([[4, 4]]))
            paid += float(step.reward[0, 0])
        detail = floor.detail
        value = float((detail.positions * detail.mark_after[list(floor.layout.line_asset)]).sum())
        marked, left = float(detail.after.cash) + value, float(detail.liquidation)
        assert marked - 3e-3 * value < left < marked - 3e-4 * value  # half spread, commission, and impact
        assert paid * 1e6 == pytest.approx((left if mark == "liquidation" else marked) - 1e6, abs=1e-6)


@pytest.mark.parametrize("desk", [{"num_agents": 1}, {"preset": "rivals", "num_agents": 2}, {"preset": "roles"}])
def test_the_last_observation_of_an_episode_that_ends_at_liquidation_shows_all_as_sold(desk) -> None:
    """Exposures are 0 and cash is all of the equity that was paid for, as is what was earned since the beginning."""
    desk = {"action": "continuous", **desk}
    for mark in ("close", "liquidation"):
        rules = {"horizon_bars": 3, "reward": {"mark": mark}, "capital": 1e8, "observe_episode": True}
        floor = floor_of(desk=desk, floor=rules, with_state=True, record=True)
        step = floor.reset()
        while not bool(step.truncated):
            assert step.final_obs is None
            step = floor.step(torch.ones(1, floor.num_agents, max(map(len, (m.assets for m in floor.mandates)))))
        assert step.final_obs is not None
        obs = dict(zip(private_names(True), step.final_obs[0].T, strict=False))
        assert floor.detail is not None
        equity = floor.detail.after.equity[list(floor.layout.agent_account), 0]
        np.testing.assert_allclose(obs["return"], equity / 1e8 - 1.0, rtol=1e-5)
        if mark == "close":
            assert float(obs["own_exposure"].abs().min()) > 0.01
            continue
        for name in ("own_exposure", "own_gross", "net_exposure", "gross_exposure"):
            np.testing.assert_allclose(obs[name], 0.0, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(obs["cash_fraction"], 1.0, rtol=1e-6)
        assert step.final_state is not None
        np.testing.assert_array_equal(step.final_state[0, : floor.layout.num_lines], 0.0)


def test_bars_of_a_file_that_lacks_rows_know_which_trade(tmp_path) -> None:
    days = pd.bdate_range("2020-01-01", periods=6).strftime("%Y-%m-%d")
    rows = [long_rows("AAA", days, np.arange(1.0, 7.0), [1, 0, 1, 1, 1, 1]), long_rows("BBB", days[1:5], np.ones(4), 1)]
    path = write(tmp_path, pd.concat(rows).sort_values(["date", "tic"]))
    bars = build_bars(DataConfig(path=path, calendar="union"))
    assert bars.tradable[:, 0].tolist() == [True, False, True, True, True, True]
    assert bars.tradable[:, 1].tolist() == [False, True, True, True, True, False]
    assert bars.select(["BBB"]).tradable[:, 0].tolist() == bars.tradable[:, 1].tolist()
    assert bars.between(1, 3).tradable.tolist() == bars.tradable[1:3].tolist()


def test_agents_see_whether_their_assets_trade() -> None:
    spec = spec_of(desk={"preset": "roles"})
    market = build_market(spec)
    assert not any("tradable" in mandate.feature_groups for mandate in market.mandates)
    volume = market.bars.volume.copy()
    volume[200::7, 1] = 0.0  # in the test split alone, of which training knows nothing
    later = build_market(spec, bars=dataclasses.replace(market.bars, volume=volume, tradable=None))
    assert later.features.names == market.features.names
    volume[100::7, 1] = 0.0
    market = build_market(spec, bars=dataclasses.replace(market.bars, volume=volume, tradable=None))
    names = [observation_names(mandate, market.features, 1) for mandate in market.mandates]
    assert all({"tradable", "log_bars_since_trade"} <= set(own) for own in names)


def test_nobody_is_paid_for_lifting_the_last_price_of_an_asset_that_is_delisted() -> None:
    costs = dataclasses.replace(FREE, permanent_impact=5.0)
    desk = {"preset": "rivals", "num_agents": 2, "action": "continuous"}
    market = market_of(num_assets=2, desk=desk, floor={"costs": costs, "capital": 5e7})
    still = np.broadcast_to(market.bars.close[0], market.bars.close.shape)
    volume = market.bars.volume.copy()
    volume[200:, 0] = 0.0
    prices = dict.fromkeys(("open", "high", "low", "close"), still)
    bars = dataclasses.replace(market.bars, volume=volume, tradable=None, lives=None, **prices)
    unit = market.impact_unit
    market = dataclasses.replace(build_market(market.spec, bars=bars), impact_unit=unit)
    split = dataclasses.replace(market.splits.test, start=180, stop=240)
    market = dataclasses.replace(market, splits=dataclasses.replace(market.splits, test=split))
    floor = build_floor(market, split="test", start="first", record=True)
    floor.reset()
    for _ in range(180, 210):
        floor.step(np.array([[[1.0, 0.0], [1.0, 0.0]]]))
        assert float(floor.detail.after.cash.sum()) <= 1e8 * (1 + 1e-9)
    assert float(floor.detail.closed.abs().sum()) == 0  # long gone
    assert float(floor.detail.after.cash.sum()) == pytest.approx(1e8, rel=1e-3)
    assert not floor.detail.after.holdings[[0, 2]].any()


def test_a_first_order_of_an_asset_that_is_listed_late_clears_near_its_price() -> None:
    market = market_of(num_assets=3, desk={"preset": "rivals", "num_agents": 1, "action": "continuous"})
    volume = market.bars.volume.copy()
    volume[:200, 0] = 0.0
    bars = dataclasses.replace(market.bars, volume=volume, tradable=None, lives=None)
    market = build_market(market.spec, bars=bars)
    split = dataclasses.replace(market.splits.test, start=190, stop=240)
    market = dataclasses.replace(market, splits=dataclasses.replace(market.splits, test=split))
    floor = build_floor(market, split="test", start="first", record=True)
    floor.reset()
    moved = []
    for _ in range(20):
        floor.step(np.array([[[0.5, 0.0, 0.0]]]))
        moved.append(float(floor.detail.price[0, 0] / floor.detail.mid[0, 0]) - 1)
    assert floor.detail.after.holdings[0, 0] > 0
    assert 1e-6 < max(moved) < 0.02
    assert audit_lookahead(market).passed


def test_a_book_by_volatility_holds_nothing_of_what_is_not_listed() -> None:
    market = market_of(num_assets=3, desk={"preset": "roles", "book_rule": "inverse_volatility"})
    volume = market.bars.volume.copy()
    volume[:200, 0] = 0.0
    bars = dataclasses.replace(market.bars, volume=volume, tradable=None, lives=None)
    market = build_market(market.spec, bars=bars)
    tape = Tape(market, Layout(market.mandates, market.bars.assets))
    _, weights = tape.read(torch.tensor([150, 202]))
    assert weights[0].tolist()[0] == 0.0
    assert weights[:3].sum(0).tolist() == pytest.approx([1.0, 1.0])
    assert weights[0].tolist()[1] < 0.5


def test_a_ruined_rival_earns_and_owes_nothing_more() -> None:
    costs = dataclasses.replace(FREE, cash_rate_annual=0.05)
    desk = {"preset": "rivals", "num_agents": 2, "action": "continuous"}
    market = market_of(num_assets=2, desk=desk, floor={"costs": costs, "ruin_fraction": 0.97})
    floor = build_floor(market, split="test", start="first", record=True)
    step, equity = floor.reset(), None
    while not bool(step.truncated[0]):
        step = floor.step(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
        if equity is not None:
            assert float(floor.detail.after.equity[0, 0]) == equity
            assert float(step.reward[0, 0]) == 0.0
            assert float(step.reward[0, 1]) > 0.0
        elif float(floor.detail.after.equity[0, 0]) <= 0.97e6:
            equity = float(floor.detail.after.equity[0, 0])
    assert equity is not None
