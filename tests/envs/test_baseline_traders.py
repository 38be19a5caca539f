from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from floors import FREE
from price_samples import write
from real_prices import days_of, real_prices

from envs import baseline_traders as traders
from envs import portfolio_rules as rules
from envs.backtest import run_backtest
from envs.bars import Split, build_bars
from envs.baselines import BASELINES, HINDSIGHT
from envs.features import Scaler, compute_features
from envs.market import build_market
from envs.portfolio_rules import monthly, once
from envs.settings import DataConfig, DeskConfig, FloorConfig, FloorSpec, SyntheticConfig


def market_of(*, desk=None, **floor):
    data = DataConfig(synthetic=SyntheticConfig(num_assets=4, num_bars=400))
    rules = FloorConfig(**{"capital": 1e6, "horizon_bars": 20, **floor})
    return build_market(FloorSpec(data=data, desk=desk or DeskConfig(), floor=rules))


def alone_of(market):
    return traders.baseline_market(market)


def rule_result(name, market, split="test"):
    return run_backtest(traders.rule_trader(BASELINES[name]), alone_of(market), name=name, split=split)


def test_cash_stays_what_it_was():
    result = rule_result("cash", market_of())
    assert (result.equity == result.equity[0]).all()
    assert len(result.trades) == 0


def test_buy_and_hold_trades_once_and_follows_the_prices():
    market = market_of(costs={"commission_fixed_usd": 5.0, "permanent_impact": 0.0})
    result = rule_result("buy_and_hold", market)
    assert len(result.trades) == market.bars.num_assets
    assert set(result.trades["date"]) == {result.dates[1]}
    shares = result.trades.set_index("asset")["shares"].reindex(market.bars.assets).to_numpy()
    split = market.splits.test
    growth = (market.bars.close[split.start + 1 : split.stop] * shares).sum(axis=1)
    np.testing.assert_allclose(np.diff(result.equity[1:]), np.diff(growth), atol=1e-6)


def test_equal_weight_is_rebalanced_every_day():
    result = rule_result("equal_weight", market_of())
    assert result.trades["date"].nunique() == len(result.dates) - 1
    np.testing.assert_allclose(result.weights.to_numpy(), 0.25, atol=0.05)


def test_rule_is_shown_closes_up_to_the_decision_bar_only_and_none_is_copied():
    market, seen = market_of(), []
    run_backtest(traders.rule_trader(lambda history: seen.append(history)), alone_of(market), name="watcher")
    split = market.splits.test
    assert [len(history.closes) for history in seen] == list(range(split.start + 1, split.stop))
    np.testing.assert_array_equal(seen[-1].closes, market.bars.close[: split.stop - 1])
    assert (seen[-1].days == market.bars.dates[: split.stop - 1]).all()
    assert seen[0].assets == market.bars.assets
    assert seen[0].days_per_year == 252
    assert np.shares_memory(seen[0].closes, seen[-1].closes)
    with pytest.raises(ValueError, match="read-only"):
        seen[-1].closes[0] = 1.0


def listed(market, *, first, stop):
    """The market with its first asset traded from one bar of the test on, and its second up to another."""
    split, bars = market.splits.test, market.bars
    tradable = np.ones(bars.close.shape, dtype=bool)
    tradable[: split.start + first, 0] = tradable[split.start + stop :, 1] = False
    alone = alone_of(market)
    return replace(alone, bars=replace(bars, tradable=tradable, lives=None))


def test_rule_is_shown_what_lives_and_told_from_when_on_all_did():
    market, seen = listed(market_of(), first=20, stop=30), []

    def rule(history):
        seen.append(history)
        return np.arange(1.0, 1 + len(history.assets)) / 10

    run_backtest(traders.rule_trader(rule), market, name="watcher")
    start, names = market.splits.test.start, market.bars.assets
    assert [seen[i].assets for i in (0, 19, 20, 29, 30)] == [names[1:], names[1:], names, names, (names[0], *names[2:])]
    assert [seen[i].shared for i in (0, 20, 30)] == [0, start + 20, start + 20]
    assert [list(seen[i].chosen) for i in (19, 20, 30)] == [[0.1, 0.2, 0.3], [0, 0.1, 0.2, 0.3], [0.1, 0.3, 0.4]]
    np.testing.assert_array_equal(seen[25].closes, market.bars.close[: start + 26])
    assert len(seen[25].last(months=3)) == 6
    assert len(seen[0].last(months=3)) > 60


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_trades_where_assets_come_and_go(name):
    market = listed(market_of(), first=5, stop=30)
    trader = traders.rule_trader(BASELINES[name], sees_split=name in HINDSIGHT)
    result = run_backtest(trader, market, name=name)
    new, gone = market.bars.assets[:2]
    orders = result.trades[result.trades["shares"] != 0]
    assert np.isfinite(result.equity).all()
    assert (orders.loc[orders["asset"] == new, "date"] > result.dates[5]).all()
    assert (orders.loc[orders["asset"] == gone, "date"] <= result.dates[30]).all()
    if name == "equal_weight":
        held = result.weights.to_numpy()[[3, 20, 40]]
        np.testing.assert_allclose(held, [[0, 1 / 3, 1 / 3, 1 / 3], [0.25] * 4, [1 / 3, 0, 1 / 3, 1 / 3]], atol=0.03)


def test_rule_that_begins_within_a_day_sees_its_own_bar_and_no_later_one():
    market, seen = market_of(), []
    bars = hourly(market.bars)
    start = 300 * 5 + 2
    cut = replace(alone_of(market), bars=bars, features=compute_features(bars, ("momentum",)))
    splits = replace(cut.splits, test=Split("test", start, start + 10))
    scaler = Scaler.fit(cut.features, Split("train", 100, 900))
    cut = replace(cut, splits=splits, scaler=scaler, mandates=(replace(cut.mandates[0], feature_groups=("momentum",)),))
    run_backtest(traders.rule_trader(lambda history: seen.append(history)), cut, name="watcher")
    assert [len(history.closes) for history in seen] == [301, 301, 302]
    np.testing.assert_array_equal([history.closes[-1] for history in seen], bars.close[[start, start + 2, start + 7]])
    np.testing.assert_array_equal(seen[0].closes[:-1], bars.close[4 : 300 * 5 : 5])
    assert seen[0].days_per_year == 252


def test_rule_is_told_what_it_chose_last_and_none_leaves_the_positions_alone():
    market, told = market_of(), []
    answers = iter([None, [0.5, 0.0, 0.0, 0.0], None, [0.0, 0.5, 0.0, 0.0]])

    def rule(history):
        told.append(history.chosen)
        answer = next(answers, None)
        return None if answer is None else np.array(answer)

    result = run_backtest(traders.rule_trader(rule), alone_of(market), name="some")
    days = sorted(set(result.trades["date"]))
    assert days == [result.dates[2], result.dates[4]]
    assert told[:2] == [None, None]
    assert [list(chosen) for chosen in told[2:5]] == [[0.5, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0]]


@pytest.mark.parametrize("every", ["once", "day", "month"])
def test_rule_answers_at_the_start_and_at_the_ends_of_days_or_months(every):
    alone, seen = alone_of(market_of()), []

    def rule(history):
        seen.append(history.days[-1])
        return np.zeros(4)

    limited = {"once": once, "day": lambda same: same, "month": monthly}[every](rule)
    run_backtest(traders.rule_trader(limited), alone, name="watcher")
    split = alone.splits.test
    days = pd.DatetimeIndex(alone.bars.dates[split.start : split.stop])
    months = days[:-1][days.month[:-1] != days.month[1:]]
    assert len(months) == 2
    due = {"once": [], "day": days[1:-1], "month": months}[every]
    assert seen == [days[0], *due]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_trades_without_leverage(name):
    result = rule_result(name, market_of())
    assert np.isfinite(result.equity).all()
    assert result.weights.abs().sum(axis=1).max() < 1.05  # between rebalances shorts grow
    assert (len(result.trades) > 0) == (name not in ("cash", "max_sharpe"))  # on this market nothing is hoped for


def test_sixty_forty_earns_the_rate_of_cash_on_what_it_does_not_invest():
    without, at_five = (rule_result("sixty_forty", market_of(costs={"cash_rate_annual": rate})) for rate in (0.0, 0.05))
    assert np.median(without.weights.sum(axis=1)) == pytest.approx(0.6, abs=0.03)
    years = (len(without.equity) - 1) / 252
    assert at_five.equity[-1] / without.equity[-1] - 1 == pytest.approx(0.4 * 0.05 * years, rel=0.1)


def test_rule_in_hindsight_sees_the_split_and_no_bar_outside():
    alone, seen = alone_of(market_of()), []
    watcher = traders.rule_trader(lambda history: seen.append(history), sees_split=True)
    run_backtest(watcher, alone, name="watcher")
    split = alone.splits.test
    for history in (seen[0], seen[-1]):
        np.testing.assert_array_equal(history.closes, alone.bars.close[split.start : split.stop])
        assert (history.days == alone.bars.dates[split.start : split.stop]).all()
    assert sum(history.ends_month for history in seen) == 2


def test_best_asset_in_hindsight_beats_every_single_asset():
    market = market_of(costs=FREE)
    best = traders.run_baselines(market, split="test", names=["best_asset_in_hindsight"])[0]
    singles = {f"only {a}": lambda history, a=a: np.eye(4)[a] for a in range(4)}
    others = traders.run_baselines(
        market, split="test", names=list(singles), own={name: once(rule) for name, rule in singles.items()}
    )
    assert best.equity[-1] == max(other.equity[-1] for other in others)
    assert len(set(best.trades["asset"])) == 1


def test_baselines_are_run_in_the_order_asked_for_with_rules_of_ones_own():
    names = ("random", "mine", "cash")
    found = traders.run_baselines(market_of(), split="test", names=names, own={"mine": rules.equal})
    assert [result.name for result in found] == list(names)
    np.testing.assert_array_equal(found[1].equity, rule_result("equal_weight", market_of()).equity)


def hourly(bars, num=5):
    """The same market in bars of an hour, which open and close where the bars of a day do."""
    part = np.arange(num + 1)[:, None] / num
    path = bars.open[:, None] + (bars.close - bars.open)[:, None] * part  # [T, num + 1, A]
    wide = (bars.num_bars * num, bars.num_assets)
    begin, end = path[:, :-1].reshape(wide), path[:, 1:].reshape(wide)
    return replace(
        bars,
        dates=np.add.outer(bars.dates, (10 + np.arange(num)) * np.timedelta64(1, "h")).ravel(),
        open=begin,
        high=np.maximum(begin, end),
        low=np.minimum(begin, end),
        close=end,
        volume=np.repeat(bars.volume / num, num, axis=0),
        tradable=None,
        lives=None,
        periods_per_year=252.0 * num,
        frequency="1h",
        regimes=None,
        signal=None,
    )


@pytest.mark.parametrize(
    ("name", "atol"),
    [("momentum", 5e-3), ("minimum_variance", 2e-4), ("equal_weight", 2e-4)],  # shorts past leverage are cut every bar
)
def test_rule_holds_on_hourly_bars_what_it_holds_on_daily_ones(name, atol):
    data = DataConfig(
        synthetic=SyntheticConfig(num_assets=4, num_bars=700), validation_start="2016-09-01", test_start="2017-03-15"
    )
    rules = FloorConfig(horizon_bars=20, costs={"temporary_impact": 0.0, "permanent_impact": 0.0})
    spec = FloorSpec(data=data, floor=rules)
    daily, by_hour = (build_market(spec, bars=bars) for bars in (build_bars(data), hourly(build_bars(data))))
    held = rule_result(name, daily).weights
    held_by_hour = rule_result(name, by_hour).weights
    at_ends = held_by_hour.groupby(pd.DatetimeIndex(held_by_hour.index).normalize()).last()
    after_a_month = held.index >= pd.Timestamp("2017-04-04")
    assert after_a_month.sum() > 60
    np.testing.assert_allclose(at_ends.loc[held.index[after_a_month]], held[after_a_month], atol=atol)


def test_momentum_on_hourly_bitcoin_is_that_of_daily_bars(tmp_path):
    """Where -56 % was told on hours, by a rule that looked back 126 bars and traded every 21."""
    path = real_prices("btcusd_1h_2018_2022.csv")
    found = []
    for file, horizon_bars in ((path, 128), (write(tmp_path, days_of(path)), 32)):
        data = DataConfig(path=file, validation_start="2020-06-01", test_start="2021-05-29")
        market = build_market(FloorSpec(data=data, floor=FloorConfig(horizon_bars=horizon_bars)))
        found.append(rule_result("momentum", traders.baseline_market(market)).metrics["total_return"])
    assert found == pytest.approx([-0.53, -0.53], abs=0.01)


@pytest.mark.parametrize("allow_short", [True, False])
def test_momentum_is_short_only_where_that_is_allowed(allow_short):
    market = market_of()
    mandates = tuple(replace(mandate, allow_short=allow_short) for mandate in market.mandates)
    result = rule_result("momentum", replace(market, mandates=mandates))
    assert (result.weights.to_numpy().min() < -0.01) == allow_short


def test_random_repeats_with_its_seed_and_differs_with_another():
    market = market_of()
    one, two, other = (run_backtest(traders.random_trader(seed), market, name="random").equity for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_baselines_pay_the_strategys_costs_and_have_all_its_capital():
    rivals = DeskConfig(preset="rivals", num_agents=3)
    market, dear = market_of(desk=rivals), market_of(desk=rivals, costs={"commission_bps": 50.0})
    cheap_result, dear_result = (rule_result("equal_weight", m) for m in (market, dear))
    assert cheap_result.equity[0] == 3e6
    assert dear_result.costs["commission"].sum() > 10 * cheap_result.costs["commission"].sum()
