from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from envs import baselines
from envs.backtest import run_backtest
from envs.bars import build_bars
from envs.market import build_market
from envs.settings import DataConfig, DeskConfig, FloorConfig, FloorSpec, SyntheticConfig


def market_of(*, desk=None, **floor):
    data = DataConfig(synthetic=SyntheticConfig(num_assets=4, num_bars=400))
    rules = FloorConfig(**{"capital": 1e6, "horizon_bars": 20, **floor})
    return build_market(FloorSpec(data=data, desk=desk or DeskConfig(), floor=rules))


def rule_result(name, market, split="test"):
    alone = baselines.baseline_market(market)
    return run_backtest(baselines.BASELINES[name], alone, name=name, split=split)


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


def test_minimum_variance_weights_are_the_best_long_only_ones():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 5))
    covariance = mix @ mix.T + 0.1 * np.eye(5)
    weights = baselines.least_variance_weights(covariance)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    best = weights @ covariance @ weights
    others = rng.dirichlet(np.ones(5), size=20_000)
    assert best <= np.einsum("ki,ij,kj->k", others, covariance, others).min() + 1e-12
    gradient = covariance @ weights  # Karush-Kuhn-Tucker: equal where held, larger where not
    np.testing.assert_allclose(gradient[weights > 1e-9], best, rtol=1e-6)
    assert (gradient >= best - 1e-9).all()


def test_shrunk_covariance_lies_between_sample_and_identity():
    rng = np.random.default_rng(1)
    returns = rng.normal(size=(30, 20)) * 0.01
    sample = np.cov(returns.T, bias=True)
    shrunk = baselines.shrunk_covariance(returns)
    assert np.linalg.cond(shrunk) < np.linalg.cond(sample) / 10
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))


def test_rule_is_shown_closes_up_to_the_decision_bar_only():
    market, seen = market_of(), []

    def rule(closes, days):
        seen.append((closes, days))
        return np.zeros(closes.shape[1])

    run_backtest(baselines.rule_trader(rule, "day"), baselines.baseline_market(market), name="watcher")
    split = market.splits.test
    assert [len(closes) for closes, _ in seen] == list(range(split.start + 1, split.stop))
    np.testing.assert_array_equal(seen[-1][0], market.bars.close[: split.stop - 1])
    assert (seen[-1][1] == market.bars.dates[: split.stop - 1]).all()


@pytest.mark.parametrize("every", [None, "day", "month"])
def test_rule_is_asked_at_the_start_and_at_the_ends_of_days_or_months(every):
    alone, seen = baselines.baseline_market(market_of()), []
    trader = baselines.rule_trader(lambda closes, days: seen.append(days[-1]) or np.zeros(4), every)
    run_backtest(trader, alone, name="watcher")
    split = alone.splits.test
    days = pd.DatetimeIndex(alone.bars.dates[split.start : split.stop])
    months = days[:-1][days.month[:-1] != days.month[1:]]
    assert len(months) == 2
    due = {None: [], "day": days[1:-1], "month": months}[every]
    assert seen == [days[0], *due]


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


@pytest.mark.parametrize(
    ("last", "first"), [("2015-10-30", "2015-04-30"), ("2015-08-31", "2015-02-27"), ("2015-03-02", "2015-01-01")]
)
def test_momentum_is_long_what_rose_and_short_what_fell_in_six_months(last, first):
    days = pd.bdate_range("2015-01-01", last)
    closes = np.full((len(days), 2), [2.0, 1.0])
    closes[days == first] = [1.0, 2.0]
    closes[-1] = 1.5
    weights = baselines.momentum(closes, days.to_numpy(dtype="datetime64[D]"))
    np.testing.assert_array_equal(weights, [0.5, -0.5])


@pytest.mark.parametrize("allow_short", [True, False])
def test_momentum_is_short_only_where_that_is_allowed(allow_short):
    market = market_of()
    mandates = tuple(replace(mandate, allow_short=allow_short) for mandate in market.mandates)
    result = rule_result("momentum", replace(market, mandates=mandates))
    assert (result.weights.to_numpy().min() < -0.01) == allow_short


def test_random_repeats_with_its_seed_and_differs_with_another():
    market = market_of()
    one, two, other = (run_backtest(baselines.random_trader(seed), market, name="random").equity for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_baselines_pay_the_strategys_costs_and_have_all_its_capital():
    rivals = DeskConfig(preset="rivals", num_agents=3)
    market, dear = market_of(desk=rivals), market_of(desk=rivals, costs={"commission_bps": 50.0})
    cheap_result, dear_result = (rule_result("equal_weight", m) for m in (market, dear))
    assert cheap_result.equity[0] == 3e6
    assert dear_result.costs["commission"].sum() > 10 * cheap_result.costs["commission"].sum()
