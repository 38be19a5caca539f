"""Funding of perpetual futures: read, settled at each close, and in the books of accounts and agents."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from floors import FREE, flat_bars, spec_of
from price_samples import long_table, write

from common.errors import InputError
from envs.audit_books import audit_books, audit_round_trips
from envs.audit_lookahead import audit_lookahead
from envs.backtest import run_backtest
from envs.bars import load_bars
from envs.baseline_traders import random_trader
from envs.floor import build_floor
from envs.market import build_market


def perpetual(rates, *, prices=None, num_rivals=1, desk=None, **floor):
    """One perpetual future at 100, whose test split begins with these rates; row 0 is that of the first decision."""
    rates = np.asarray(rates, dtype=float)
    bars = flat_bars(np.full(160, 100.0) if prices is None else prices)
    costs = dataclasses.replace(FREE, **floor.pop("costs", {}))
    desk = {"preset": "rivals", "num_agents": num_rivals, "action": "continuous", **(desk or {})}
    spec = spec_of(desk=desk, floor={"horizon_bars": 4, "costs": costs, **floor})
    start = build_market(spec, bars=bars).splits.test.start
    funding = np.zeros((bars.num_bars, 1))
    funding[start : start + len(rates), 0] = rates
    market = build_market(spec, bars=dataclasses.replace(bars, costs={"funding": funding}))
    return build_floor(market, split="test", start="first", record=True)


def weights(*values):
    return np.array(values, dtype=float).reshape(1, -1, 1)


def test_longs_pay_and_shorts_receive_the_rate_of_the_bar_that_they_close() -> None:
    floor = perpetual([0.9, 0.01, -0.02], num_rivals=2)
    floor.step(weights(0.5, -0.5))
    first = floor.detail
    assert first.attributed.funding[:, 0].tolist() == pytest.approx([-5_000.0, 5_000.0])
    assert first.attributed.profit[:, 0].tolist() == pytest.approx([-5_000.0, 5_000.0])
    assert first.after.equity[:, 0].tolist() == pytest.approx([995_000.0, 1_005_000.0])
    floor.step(weights(0.5, -0.5))
    value = (floor.detail.positions * 100.0)[:, 0].numpy()
    assert floor.detail.attributed.funding[:, 0].numpy() == pytest.approx(0.02 * value)


def test_what_rivals_of_one_size_on_both_sides_pay_each_other_sums_to_nothing() -> None:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal(160)))
    floor = perpetual(rng.uniform(-0.01, 0.01, 30), prices=prices, num_rivals=2, costs={"permanent_impact": 0.3})
    floor.step(weights(0.5, -0.5))
    held = floor.detail.positions
    for _ in range(10):
        funding = floor.detail.attributed.funding
        assert float(funding.sum()) == pytest.approx(0.0, abs=1e-9 * float(funding.abs().sum()))
        equity, mark = floor.detail.after.equity, floor.detail.mark_after[0, 0]
        floor.step((held * mark / equity).numpy().T[..., None])  # keeps what it holds


@pytest.mark.parametrize("fill", ["next_open", "next_close", "next_vwap"])
def test_who_is_out_at_the_close_pays_nothing_and_who_is_in_pays_all_whatever_the_fill(fill) -> None:
    floor = perpetual([0, 0, 0.1, 0], fill=fill)
    paid = []
    for weight in (0.5, 0.0, 0.5, 0.0):
        floor.step(weights(weight))
        paid.append(float(floor.detail.attributed.funding.sum()))
    assert paid == [0.0, 0.0, 0.0, 0.0]  # the holder left in the bar that had the rate
    floor = perpetual([0, 0, 0.1, 0], fill=fill)
    paid = []
    for weight in (0.0, 0.5, 0.0):
        floor.step(weights(weight))
        paid.append(float(floor.detail.attributed.funding.sum()))
    assert paid == pytest.approx([0.0, -50_000.0, 0.0])  # it came in that bar


def test_agents_of_one_account_who_cross_pay_each_other_and_the_account_nothing() -> None:
    floor = perpetual([0, 0.01, 0.01], desk={"preset": "roles", "num_agents": 2})
    floor.step(weights(1.0, -1.0))
    detail = floor.detail
    assert detail.attributed.funding[0].item() == -detail.attributed.funding[1].item() != 0
    assert detail.after.cash.item() == floor.config.capital


def test_nobody_is_paid_more_funding_for_having_moved_the_price() -> None:
    prices = np.append(np.tile([100.0, 102.0], 85), np.full(70, 100.0))  # volatile, so that orders move them
    floor = perpetual([0, 0.01, 0.01], prices=prices, num_rivals=2, capital=1e8, costs={"permanent_impact": 2.0})
    floor.step(weights(-0.2, 0.9))
    detail = floor.detail
    assert detail.mark_after.item() > 101.0
    paid = detail.attributed.funding[:, 0].numpy()
    assert paid == pytest.approx(-0.01 * 100.0 * detail.positions[:, 0].numpy(), rel=1e-12)


def test_funding_that_cash_cannot_pay_is_a_loan_at_its_rate() -> None:
    floor = perpetual([0, 0.1, 0], costs={"loan_rate_annual": 0.252})
    floor.step(weights(1.0))
    assert floor.detail.after.cash.item() == pytest.approx(-100_000.0, rel=1e-6)
    floor.step(weights(1.0))
    assert floor.detail.after.cash.item() >= -1e-6  # leverage 1: what is owed is sold for
    halted = perpetual([0, 0.1, 0], costs={"loan_rate_annual": 0.252}, min_order=0.5)
    halted.step(weights(1.0))
    halted.step(weights(0.9))
    assert halted.detail.attributed.interest.item() == pytest.approx(-100.0, rel=1e-6)


def test_audits_pass_with_funding(tmp_path) -> None:
    rng = np.random.default_rng(1)
    table = long_table(num_bars=200)
    bars = load_bars(write(tmp_path, table.assign(funding=rng.normal(0, 0.002, len(table)))))
    market = build_market(spec_of(desk={"preset": "rivals", "num_agents": 2}), bars=bars)
    result = audit_books(market, num_settings=3, num_steps=24)
    assert result.passed
    assert "funding of what is held at the close, and of nothing else" in [row.check for row in result.rows]
    assert audit_lookahead(market, num_bars_checked=1).passed
    assert audit_round_trips(market, num_paths=4, num_steps=16).passed


def test_a_blank_and_a_missing_bar_are_no_funding(tmp_path) -> None:
    table = long_table(num_bars=20)
    rates = np.where(np.arange(len(table)) % 3 == 0, 0.001, np.nan)
    gone = table.assign(funding=rates).drop(index=6)
    bars = load_bars(write(tmp_path, gone), calendar="union")
    expected = np.nan_to_num(rates).reshape(20, 2)
    expected[3, 0] = 0.0
    assert bars.costs["funding"].tolist() == expected.tolist()


def test_funding_that_is_no_fraction_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"line 2, column 'funding', asset AAA, .*: funding must lie between -1 and 1"):
        load_bars(write(tmp_path, long_table().assign(funding=-1.0)))


@pytest.mark.parametrize("cell", ["abc", "0.01%"])
def test_funding_that_is_no_number_is_told_once(tmp_path, cell) -> None:
    table = long_table().assign(funding="0.0001")
    table.loc[2, "funding"] = cell
    with pytest.raises(InputError) as caught:
        load_bars(write(tmp_path, table))
    assert str(caught.value).endswith(
        f"line 4, column 'funding', asset AAA, 2020-01-07: {cell!r} is not a number: write a fraction of the position, "
        "such as 0.0001"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fundingRate", "funding_rate", "Funding Rate"])
def test_rates_of_funding_are_funding_by_their_usual_names(tmp_path, name) -> None:
    table = long_table().assign(**{name: 0.0001})
    assert load_bars(write(tmp_path, table)).costs["funding"].tolist() == [[0.0001, 0.0001]] * 6


def ledger(market, trades, dates):
    """Equity at each date, from the bars, the settings and the trades alone, one number at a time."""
    bars, costs = market.bars, market.spec.floor.costs
    cash, held, equity = market.spec.floor.capital, dict.fromkeys(bars.assets, 0.0), [market.spec.floor.capital]
    for date in dates[1:]:
        t = int(np.searchsorted(bars.dates, date))
        today = trades[trades["date"] == date]
        ends = {a for j, a in enumerate(bars.assets) if bars.lives[1][j] == t}
        is_closing = today["asset"].isin(ends)
        for trade in today[~is_closing].itertuples():
            cash -= trade.shares * trade.price + trade.commission + trade.spread
            held[trade.asset] += trade.shares
        for j, asset in enumerate(bars.assets):
            cash -= max(-held[asset], 0.0) * bars.open[t, j] * costs.borrow_rate_annual / bars.periods_per_year
        cash += max(cash, 0.0) * costs.cash_rate_annual / bars.periods_per_year
        for j, asset in enumerate(bars.assets):
            cash -= held[asset] * bars.close[t, j] * bars.costs["funding"][t, j]
        for trade in today[is_closing].itertuples():
            cash -= trade.shares * trade.price
            held[trade.asset] += trade.shares
        equity.append(cash + sum(held[a] * bars.close[t, j] for j, a in enumerate(bars.assets)))
    return equity


def test_an_independent_ledger_finds_the_equity_with_halts_participation_a_delisting_and_funding() -> None:
    rng = np.random.default_rng(5)
    T, A = 260, 4
    prices = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((T, A)), axis=0))
    bars = flat_bars(prices, opens=prices * np.exp(0.003 * rng.standard_normal((T, A))))
    volume = rng.uniform(2e4, 2e5, bars.close.shape) * (rng.random(bars.close.shape) > 0.15)
    volume[-30:, 1] = 0.0
    funding = rng.normal(0, 0.002, bars.close.shape)
    bars = dataclasses.replace(
        bars, volume=volume, tradable=None, lives=None, without_volume=None, costs={"funding": funding}
    )
    costs = {"commission_bps": 3.0, "commission_fixed_usd": 1.0, "half_spread_bps": 4.0, "max_participation": 0.05}
    costs |= {"borrow_rate_annual": 0.1, "cash_rate_annual": 0.03, "delisting_haircut": 0.2, "loan_rate_annual": 0.0}
    spec = spec_of(desk={"preset": "roles"}, floor={"costs": dataclasses.replace(FREE, **costs), "capital": 2e6})
    market = build_market(spec, bars=bars)
    result = run_backtest(random_trader(), market, name="strategy")
    assert result.trades["unfilled_notional"].sum() > 0
    assert (result.trades["impact"] > 0).any()  # the haircut
    assert (result.costs["funding"] != 0).sum() > 20
    assert set(market.bars.lives[1]) == {bars.num_bars - 30, bars.num_bars}
    np.testing.assert_allclose(ledger(market, result.trades, result.dates), result.equity, rtol=1e-12)
    assert result.metrics["total_costs"] == pytest.approx(
        result.costs[["commission", "spread", "impact", "borrow"]].to_numpy().sum()
    )


def test_funding_in_a_row_without_prices_is_refused_and_not_lost(tmp_path) -> None:
    table = long_table(assets=("AAA",), num_bars=30).assign(funding=0.0)
    table.loc[20, ["open", "high", "low", "close", "volume"]] = np.nan
    path = write(tmp_path, table)
    load_bars(path)
    table.loc[20, "funding"] = 0.02
    with pytest.raises(InputError, match=r"line 22, column 'funding'.*in a row without prices: move it to the next"):
        load_bars(write(tmp_path, table))
