import numpy as np
import pandas as pd
import pytest
import torch

from envs.backtest import Turn, policy_trader, run_backtest, run_turns
from envs.baseline_names import DEFAULT_BASELINES
from envs.baseline_traders import random_trader, run_baselines
from envs.market import build_market
from envs.settings import DataConfig, FloorConfig, FloorSpec, SyntheticConfig


def market_of(**floor):
    data = DataConfig(synthetic=SyntheticConfig(num_assets=4, num_bars=400))
    return build_market(FloorSpec(data=data, floor=FloorConfig(**{"capital": 1e6, "horizon_bars": 20, **floor})))


@pytest.mark.parametrize("fill", ["next_open", "next_close"])
def test_trades_reproduce_the_equity_curve(fill):
    market = market_of(fill=fill, costs={"permanent_impact": 0.0, "commission_fixed_usd": 1.0})
    result = run_backtest(random_trader(), market, name="strategy")
    close = pd.DataFrame(market.bars.close, index=market.bars.dates, columns=market.bars.assets)
    trades = result.trades
    paid = trades["shares"] * trades["price"] + trades["commission"] + trades["spread"]
    cash = -paid.groupby(trades["date"]).sum().reindex(result.dates[1:], fill_value=0.0).cumsum()
    cash += (result.costs["interest"] - result.costs["borrow"]).cumsum()
    held = trades.pivot_table(index="date", columns="asset", values="shares", aggfunc="sum").fillna(0.0)
    held = held.reindex(index=result.dates[1:], columns=close.columns, fill_value=0.0).fillna(0.0).cumsum()
    worth = (held * close.loc[result.dates[1:]]).sum(axis=1)
    np.testing.assert_allclose(result.equity[0] + cash + worth, result.equity[1:], rtol=1e-11)


def test_each_bar_of_a_pass_is_told_and_what_is_raised_there_ends_it():
    market, told = market_of(), []

    def on_bar(name, done, total):
        told.append((name, done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_baselines(market, split="test", on_bar=on_bar)
    total = market.splits.test.num_decisions
    assert told == [(DEFAULT_BASELINES[0], done, total) for done in (1, 2, 3)]


def test_costs_of_trades_sum_to_the_costs_table_and_the_metric():
    result = run_backtest(random_trader(), market_of(), name="strategy")
    for kind in ("commission", "spread", "impact"):
        assert result.trades[kind].sum() == pytest.approx(result.costs[kind].sum(), rel=1e-12)
        assert result.costs[kind].sum() > 0
    assert result.metrics["total_costs"] == pytest.approx(result.costs.drop(columns="interest").to_numpy().sum())
    assert result.metrics["num_trades"] == len(result.trades)


def test_agents_profits_sum_to_the_change_of_equity():
    result = run_backtest(random_trader(), market_of(), name="strategy")
    np.testing.assert_allclose(result.agent_profit.sum(axis=1), result.equity[1:] - result.equity[0], atol=1e-6)


def test_trades_are_dated_on_the_bar_after_the_decision():
    market = market_of()
    result = run_backtest(random_trader(), market, name="strategy")
    split = market.splits.test
    assert result.dates[0] == market.bars.dates[split.start]
    assert result.trades["date"].min() == market.bars.dates[split.start + 1]
    assert result.trades["date"].max() <= market.bars.dates[split.stop - 1]


def test_fills_lie_at_the_next_open_where_there_is_no_impact():
    market = market_of(costs={"temporary_impact": 0.0, "permanent_impact": 0.0})
    trades = run_backtest(random_trader(), market, name="strategy").trades
    opens = pd.DataFrame(market.bars.open, index=market.bars.dates, columns=market.bars.assets)
    expected = [opens.loc[date, asset] for date, asset in zip(trades["date"], trades["asset"], strict=True)]
    np.testing.assert_allclose(trades["price"], expected, rtol=1e-14)


def test_ruined_account_stays_closed_to_the_end():
    market = market_of(ruin_fraction=0.97, costs={"commission_bps": 200.0})
    result = run_backtest(random_trader(), market, name="random")
    assert result.ruined
    assert len(result.equity) == market.splits.test.num_bars
    assert result.equity[-1] <= 0.97e6
    assert result.equity[-1] == result.equity[-20]


def test_policy_is_told_that_an_episode_begins_and_sees_every_bar():
    class Still:
        resets, seen = 0, []

        def reset(self):
            self.resets += 1

        def act(self, obs, action_mask=None):
            self.seen.append(obs)
            return torch.full(obs.shape[:2], 2)

    policy, market = Still(), market_of()
    for passes in (1, 2):
        run_backtest(policy_trader(policy), market, name="strategy")
        assert policy.resets == passes
    assert len(policy.seen) == 2 * market.splits.test.num_decisions
    assert not torch.equal(policy.seen[0], policy.seen[1])
    assert torch.equal(policy.seen[0], policy.seen[market.splits.test.num_decisions])


def sees_and_rebalances(floor, market):
    """Weights by what is seen, so that a pass depends on observations, books and masks alone."""
    return lambda step: (step.obs[:, :, :5].abs().sum(dim=-1) * 1e3).long() % 5


@pytest.mark.parametrize("floor", [{}, {"costs": {"permanent_impact": 0.2}}])
def test_a_turn_takes_over_the_books_as_they_stand(floor):
    market = market_of(**floor)
    start, stop = market.splits.test.start, market.splits.test.stop
    whole = run_backtest(sees_and_rebalances, market, name="one")
    turns = [Turn(bar, sees_and_rebalances) for bar in (start, start + 1, start + 30, stop - 2)]
    found = run_turns(turns, market, name="one")
    assert whole.metrics["num_trades"] > 50
    np.testing.assert_array_equal(found.equity, whole.equity)
    pd.testing.assert_frame_equal(found.trades, whole.trades)
    assert found.metrics == whole.metrics


def test_nobody_trades_after_a_ruin():
    market = market_of(ruin_fraction=0.97, costs={"commission_bps": 200.0})
    turns = [Turn(market.splits.test.start, random_trader()), Turn(market.splits.test.stop - 5, random_trader())]
    result, alone = run_turns(turns, market, name="random"), run_backtest(random_trader(), market, name="random")
    assert result.ruined
    np.testing.assert_array_equal(result.equity, alone.equity)


@pytest.mark.parametrize("starts", [[], [1], [0, 0], [0, 30, 20], [0, 10_000]])
def test_turns_that_do_not_fill_the_split_are_refused(starts):
    market = market_of()
    with pytest.raises(ValueError, match="turns begin at bars"):
        run_turns([Turn(market.splits.test.start + bar, random_trader()) for bar in starts], market, name="x")
