from dataclasses import replace

import numpy as np
import pytest

from envs import baselines
from envs.backtest import run_backtest
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


def test_equal_weight_is_rebalanced_every_bar():
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

    def rule(closes):
        seen.append(closes)
        return np.zeros(closes.shape[1])

    run_backtest(baselines.rule_trader(rule, 1), baselines.baseline_market(market), name="watcher")
    split = market.splits.test
    assert [len(closes) for closes in seen] == list(range(split.start + 1, split.stop))
    np.testing.assert_array_equal(seen[-1], market.bars.close[: split.stop - 1])


@pytest.mark.parametrize(("every_bars", "asked"), [(None, 1), (7, 7)])
def test_rule_is_asked_as_often_as_it_is_due(every_bars, asked):
    alone, seen = baselines.baseline_market(market_of()), []
    trader = baselines.rule_trader(lambda closes: seen.append(closes) or np.zeros(4), every_bars)
    assert alone.splits.test.num_decisions == 43
    run_backtest(trader, alone, name="watcher")
    assert len(seen) == asked


def test_momentum_is_long_what_rose_and_short_what_fell():
    close = market_of().bars.close[:200]
    weights = baselines.momentum(close)
    np.testing.assert_array_equal(weights > 0, close[-1] > close[-1 - baselines.MOMENTUM_BARS])
    assert np.abs(weights).sum() == pytest.approx(1.0)


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
