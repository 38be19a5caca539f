import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sample_runs import SMALL, ScriptedPolicy, make_run

from common.errors import InputError
from envs.market import build_market
from envs.metrics import METRIC_NAMES
from experiments.backtesting import baselines
from experiments.backtesting.compare import backtest_models, print_backtest, summarise, write_backtest
from experiments.backtesting.engine import policy_trader, run_backtest
from experiments.runs.models import find_model, find_models
from experiments.settings.run_config import config_from_json, floor_spec

NAMES = ["cash", "buy_and_hold", "equal_weight", "minimum_variance", "momentum", "random"]


def load(checkpoint):
    return ScriptedPolicy()


def market_of(**floor):
    settings = SMALL | {"floor": SMALL["floor"] | floor}
    return build_market(floor_spec(config_from_json(settings)))


def rule_result(name, market, split="test"):
    alone = baselines.baseline_market(market)
    return run_backtest(baselines.BASELINES[name], alone, name=name, split=split)


@pytest.fixture
def run_folder(tmp_path):
    make_run(tmp_path / "dow")
    return tmp_path / "dow"


@pytest.mark.parametrize("fill", ["next_open", "next_close"])
def test_trades_reproduce_the_equity_curve(fill):
    market = market_of(fill=fill, costs={"permanent_impact": 0.0, "commission_fixed_usd": 1.0})
    result = run_backtest(policy_trader(ScriptedPolicy()), market, name="strategy")
    close = pd.DataFrame(market.bars.close, index=market.bars.dates, columns=market.bars.assets)
    trades = result.trades
    paid = trades["shares"] * trades["price"] + trades["commission"] + trades["spread"]
    cash = -paid.groupby(trades["date"]).sum().reindex(result.dates[1:], fill_value=0.0).cumsum()
    cash += (result.costs["interest"] - result.costs["borrow"]).cumsum()
    held = trades.pivot_table(index="date", columns="asset", values="shares", aggfunc="sum").fillna(0.0)
    held = held.reindex(index=result.dates[1:], columns=close.columns, fill_value=0.0).fillna(0.0).cumsum()
    worth = (held * close.loc[result.dates[1:]]).sum(axis=1)
    np.testing.assert_allclose(result.equity[0] + cash + worth, result.equity[1:], rtol=1e-11)


def test_costs_of_trades_sum_to_the_costs_table_and_the_metric():
    result = run_backtest(policy_trader(ScriptedPolicy()), market_of(), name="strategy")
    for kind in ("commission", "spread", "impact"):
        assert result.trades[kind].sum() == pytest.approx(result.costs[kind].sum(), rel=1e-12)
        assert result.costs[kind].sum() > 0
    assert result.metrics["total_costs"] == pytest.approx(result.costs.drop(columns="interest").to_numpy().sum())
    assert result.metrics["num_trades"] == len(result.trades)


def test_agents_profits_sum_to_the_change_of_equity():
    result = run_backtest(policy_trader(ScriptedPolicy()), market_of(), name="strategy")
    np.testing.assert_allclose(result.agent_profit.sum(axis=1), result.equity[1:] - result.equity[0], atol=1e-6)


def test_trades_are_dated_on_the_bar_after_the_decision():
    market = market_of()
    result = run_backtest(policy_trader(ScriptedPolicy()), market, name="strategy")
    split = market.splits.test
    assert result.dates[0] == market.bars.dates[split.start]
    assert result.trades["date"].min() == market.bars.dates[split.start + 1]
    assert result.trades["date"].max() <= market.bars.dates[split.stop - 1]


def test_fills_lie_at_the_next_open_where_there_is_no_impact():
    market = market_of(costs={"temporary_impact": 0.0, "permanent_impact": 0.0})
    trades = run_backtest(policy_trader(ScriptedPolicy()), market, name="strategy").trades
    opens = pd.DataFrame(market.bars.open, index=market.bars.dates, columns=market.bars.assets)
    expected = [opens.loc[date, asset] for date, asset in zip(trades["date"], trades["asset"], strict=True)]
    np.testing.assert_allclose(trades["price"], expected, rtol=1e-14)


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
    settings = SMALL | {"desk": {"preset": "rivals", "num_agents": 3}}
    market = build_market(floor_spec(config_from_json(settings)))
    dear = build_market(
        floor_spec(config_from_json(settings | {"floor": SMALL["floor"] | {"costs": {"commission_bps": 50.0}}}))
    )
    cheap_result, dear_result = (rule_result("equal_weight", m) for m in (market, dear))
    assert cheap_result.equity[0] == 3e6
    assert dear_result.costs["commission"].sum() > 10 * cheap_result.costs["commission"].sum()


def test_ruined_account_stays_closed_to_the_end():
    market = market_of(ruin_fraction=0.97, costs={"commission_bps": 200.0})
    result = run_backtest(baselines.random_trader(0), market, name="random")
    assert result.ruined
    assert len(result.equity) == market.splits.test.num_bars
    assert result.equity[-1] <= 0.97e6
    assert result.equity[-1] == result.equity[-20]


def test_model_is_the_best_checkpoint_of_a_run_else_the_latest(run_folder, tmp_path):
    assert find_model(run_folder).checkpoint.name == "checkpoint_000002"
    assert find_model(run_folder).which == "best"
    make_run(tmp_path / "plain", best=None)
    assert find_model(tmp_path / "plain").checkpoint.name == "checkpoint_000003"
    assert find_model(tmp_path / "plain").which == "latest"
    named = find_model(run_folder / "checkpoint_000001")
    assert (named.which, named.name) == ("named", "dow/checkpoint_000001")


def test_same_model_twice_gets_two_names(run_folder):
    assert [model.name for model in find_models([run_folder, run_folder])] == ["dow", "dow (2)"]


@pytest.mark.parametrize("missing", ["nowhere", "dow/nothing"])
def test_missing_model_is_named(run_folder, missing):
    with pytest.raises(InputError, match="does not exist"):
        find_model(run_folder.parent / missing)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a run folder nor a checkpoint"):
        find_model(tmp_path)


def test_damaged_run_folder_is_refused_with_its_file(run_folder):
    (run_folder / "config.json").write_text('{"config": ')
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        find_model(run_folder)


def test_files_are_those_that_other_programs_rely_on(run_folder, tmp_path):
    backtest = backtest_models([find_model(run_folder)], load=load, capital=2e6)
    out = tmp_path / "out"
    write_backtest(backtest, out)
    summary = json.loads((out / "backtest.json").read_text())
    assert {"period", "costs", "capital", "strategy", "baselines"} <= set(summary)
    assert summary["capital"] == 2e6
    assert list(summary["baselines"]) == NAMES
    for block in (summary["strategy"], *summary["baselines"].values()):
        assert set(block) == set(METRIC_NAMES)
    equity = pd.read_parquet(out / "equity.parquet")
    assert list(equity.columns) == ["date", "series", "equity"]
    assert sorted(equity["series"].unique()) == sorted(["strategy", *NAMES])
    assert equity.groupby("series")["equity"].last()["strategy"] == summary["strategy"]["final_equity"]
    trades = pd.read_parquet(out / "trades.parquet")
    assert list(trades.columns) == ["date", "agent", "asset", "shares", "price", "commission", "spread", "impact"]
    weights = pd.read_parquet(out / "weights.parquet")
    assert list(weights.columns) == ["date", "asset", "weight"]
    assert (out / "backtest_results.png").stat().st_size > 20_000


def test_backtest_is_deterministic(run_folder):
    one, two = (summarise(backtest_models([find_model(run_folder)], load=load)) for _ in range(2))
    assert one == two


def test_models_side_by_side_share_their_bars(tmp_path):
    make_run(tmp_path / "one")
    settings = {**SMALL, "floor": SMALL["floor"] | {"window": 3}}
    make_run(tmp_path / "two", settings)
    backtest = backtest_models(find_models([tmp_path / "one", tmp_path / "two"]), load=load)
    one, two = backtest.strategies
    assert (one.name, two.name) == ("one", "two")
    np.testing.assert_array_equal(one.dates, two.dates)
    np.testing.assert_array_equal(one.dates, backtest.baselines[0].dates)
    np.testing.assert_array_equal(one.equity, two.equity)  # the same script, whatever it sees
    summary = write_backtest(backtest, tmp_path / "out")
    assert set(summary["strategies"]) == {"one", "two"}
    assert "series" in pd.read_parquet(tmp_path / "out" / "trades.parquet")


def test_scaler_of_the_training_run_is_used(run_folder):
    seen = []

    class Watcher(ScriptedPolicy):
        def act(self, obs, action_mask=None):
            seen.append(obs.clone())
            return super().act(obs, action_mask)

    def first_observation():
        seen.clear()
        backtest_models([find_model(run_folder)], load=lambda _: Watcher())
        return seen[0]

    before = first_observation()
    content = json.loads((run_folder / "config.json").read_text())
    content["scaler"]["mean"] = [value + 1.0 for value in content["scaler"]["mean"]]
    (run_folder / "config.json").write_text(json.dumps(content))
    assert not torch.equal(before, first_observation())


def test_prices_that_make_another_desk_are_refused(run_folder, tmp_path):
    market = market_of()
    frame = pd.DataFrame(market.bars.close[:, :3], index=market.bars.dates, columns=list(market.bars.assets[:3]))
    path = tmp_path / "three.csv"
    frame.rename_axis("date").to_csv(path)
    with pytest.raises(InputError, match=r"trained with 4 agents .* desk of 3"):
        backtest_models([find_model(run_folder)], load=load, data={"path": str(path)})


def test_prices_without_volume_are_refused_for_a_model_that_saw_volume(run_folder, tmp_path):
    market = market_of()
    frame = pd.DataFrame(market.bars.close, index=market.bars.dates, columns=list(market.bars.assets))
    path = tmp_path / "closes.csv"
    frame.rename_axis("date").to_csv(path)
    with pytest.raises(InputError, match=r"feature_groups of agent 'trader_0' was .*volume"):
        backtest_models([find_model(run_folder)], load=load, data={"path": str(path)})


def printed(backtest, capsys):
    print_backtest(backtest, "out")
    return " ".join(capsys.readouterr().out.replace("\u2502", " ").split())


def test_test_split_of_its_own_run_is_new_to_a_model(run_folder, capsys):
    backtest = backtest_models([find_model(run_folder)], load=load)
    assert summarise(backtest)["overlaps_training"] is False
    assert "OUT OF SAMPLE" not in printed(backtest, capsys)


@pytest.mark.parametrize(
    ("data", "split"),
    [
        ({"train": 0.4, "validation": 0.1, "test": 0.5}, "test"),
        ({"synthetic": {"num_assets": 4, "num_bars": 400, "seed": 9}}, "validation"),
        ({}, "validation"),
        ({}, "train"),
    ],
)
def test_period_that_begins_before_the_model_was_chosen_is_reported_with_its_dates(run_folder, data, split, capsys):
    backtest = backtest_models([find_model(run_folder)], load=load, data=data, split=split)
    own = market_of()
    last = str(own.bars.dates[own.splits.validation.stop - 1])
    summary = summarise(backtest)
    assert summary["overlaps_training"] is True
    assert summary["models"][0]["last_date_seen"] == last
    text = printed(backtest, capsys)
    assert f"NOT OUT OF SAMPLE: dow was trained and selected on dates up to {last[:10]}" in text
    assert f"begins on {str(backtest.strategies[0].dates[0])[:10]}" in text


def test_other_prices_that_begin_a_bar_after_the_last_one_seen_are_new(run_folder, tmp_path):
    own = market_of()
    last = own.bars.dates[own.splits.validation.stop - 1]

    def test_on(bars_after):
        shift = last + np.timedelta64(bars_after, "D") - own.bars.dates[own.splits.test.start]
        rows = [
            {"date": date + shift, "asset": asset, **{n: getattr(own.bars, n)[t, a] for n in columns}}
            for t, date in enumerate(own.bars.dates)
            for a, asset in enumerate(own.bars.assets)
        ]
        path = tmp_path / f"{bars_after}.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        backtest = backtest_models([find_model(run_folder)], load=load, data={"path": str(path)})
        return summarise(backtest)["overlaps_training"]

    columns = ("open", "high", "low", "close", "volume")
    assert [test_on(0), test_on(1)] == [True, False]


def test_second_model_that_was_trained_on_the_tested_dates_is_reported(tmp_path, capsys):
    early = {"train": 0.4, "validation": 0.1, "test": 0.5}
    make_run(tmp_path / "one", SMALL | {"data": SMALL["data"] | early})
    make_run(tmp_path / "two")
    backtest = backtest_models(find_models([tmp_path / "one", tmp_path / "two"]), load=load)
    summary = summarise(backtest)
    assert summary["overlaps_training"] is True
    assert [model["overlaps_training"] for model in summary["models"]] == [False, True]
    assert "NOT OUT OF SAMPLE: two was" in printed(backtest, capsys)


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_model_whose_own_prices_cannot_be_read_may_have_seen_the_period(tmp_path, what, capsys):
    market = market_of()
    frame = pd.DataFrame(market.bars.close, index=market.bars.dates, columns=list(market.bars.assets))
    path, other = tmp_path / "own.csv", tmp_path / "other.csv"
    for file in (path, other):
        frame.rename_axis("date").to_csv(file)
    costs = {"temporary_impact": 0.0, "permanent_impact": 0.0}
    make_run(tmp_path / "dow", {"data": {"path": str(path)}, "floor": SMALL["floor"] | {"costs": costs}})
    path.unlink()
    if what == "changed":
        (frame * 2).rename_axis("date").to_csv(path)
    backtest = backtest_models([find_model(tmp_path / "dow")], load=load, data={"path": str(other)})
    summary = summarise(backtest)
    assert summary["overlaps_training"] is None
    assert summary["models"][0]["last_date_seen"] is None
    assert "unknown whether it has seen the tested period" in printed(backtest, capsys)


def test_models_that_begin_with_different_capital_are_not_put_side_by_side(tmp_path):
    make_run(tmp_path / "desk")
    make_run(tmp_path / "rivals", SMALL | {"desk": {"preset": "rivals", "num_agents": 3}})
    models = find_models([tmp_path / "desk", tmp_path / "rivals"])
    with pytest.raises(InputError, match=r"desk and rivals cannot be compared: .* 1 and 3 accounts of \$1M"):
        backtest_models(models, load=load)
