import json
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from sample_runs import SMALL, ScriptedPolicy, make_run

from common import pace
from common.errors import InputError
from envs.bars import group_edges
from envs.market import build_market
from envs.metrics import METRIC_NAMES, simple_returns
from envs.paired_tests import paired_tests
from experiments.backtesting.compare import backtest_models, print_backtest, summarise, write_backtest
from experiments.backtesting.overlap import overlaps
from experiments.runs.models import find_model, find_models
from experiments.settings.run_config import config_from_json, floor_spec

NAMES = ["cash", "buy_and_hold", "equal_weight", "minimum_variance", "momentum", "random"]


def load(checkpoint):
    return ScriptedPolicy()


def market_of(**floor):
    settings = SMALL | {"floor": SMALL["floor"] | floor}
    return build_market(floor_spec(config_from_json(settings)))


@pytest.fixture
def run_folder(tmp_path):
    make_run(tmp_path / "dow")
    return tmp_path / "dow"


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
    columns = ["date", "agent", "asset", "shares", "price", "commission", "spread", "impact", "unfilled_notional"]
    assert list(trades.columns) == columns
    weights = pd.read_parquet(out / "weights.parquet")
    assert list(weights.columns) == ["date", "asset", "weight"]
    assert (out / "backtest_results.png").stat().st_size > 20_000


def test_a_backtest_says_how_sure_it_is_that_a_strategy_is_better(run_folder, tmp_path, capsys):
    costs = {"floor": SMALL["floor"] | {"costs": {"cash_rate_annual": 0.03}}}
    make_run(tmp_path / "costly", SMALL | costs)
    backtest = backtest_models([find_model(tmp_path / "costly")], load=load)
    rivals = {result.name: simple_returns(result.equity) for result in backtest.baselines}
    own = simple_returns(backtest.strategies[0].equity)
    expected = paired_tests(own, rivals, periods_per_year=252, risk_free=0.03)
    assert summarise(backtest)["paired_tests"] == {"strategy": asdict(expected)}
    best = max(backtest.baselines[1:], key=lambda result: result.metrics["sharpe"]).name
    said = f"{expected.against[best].mean_confidence:.2f} sure of a larger mean return"
    assert f"strategy against {best.replace('_', ' ')}" in printed(backtest, capsys)
    assert said in printed(backtest, capsys)


def test_nobody_is_tested_against_hindsight(run_folder, capsys):
    model = [find_model(run_folder)]
    backtest = backtest_models(model, load=load, baselines=["momentum", "best_asset_in_hindsight"])
    assert list(backtest.paired_tests["strategy"].against) == ["momentum"]
    assert "strategy against momentum, the best baseline" in printed(backtest, capsys)
    alone = backtest_models(model, load=load, baselines=["bcrp_in_hindsight"])
    assert summarise(alone)["paired_tests"] == {}
    assert "the best baseline" not in printed(alone, capsys)


def test_backtest_is_deterministic(run_folder):
    one, two = (summarise(backtest_models([find_model(run_folder)], load=load)) for _ in range(2))
    assert one == two


def test_long_backtests_tell_how_far_they_are(run_folder, capsys, monkeypatch):
    monkeypatch.setattr(pace, "TELL_EVERY_S", 0.0)
    backtest_models([find_model(run_folder)], load=load)
    said = capsys.readouterr().err
    for name in ("strategy (1 of 7)", "buy_and_hold (3 of 7)", "random (7 of 7)"):
        assert re.search(rf"^backtest of {re.escape(name)}: \d+ of \d+ bars, about \d+ s left$", said, re.MULTILINE)


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


def test_models_are_tested_under_their_own_rules_or_those_that_are_asked_for(tmp_path, capsys):
    """Side by side as alone; a model that was trained at leverage 2 was cut to half of it, without a word."""
    doubled = SMALL | {"floor": SMALL["floor"] | {"max_leverage": 2.0, "costs": {"commission_bps": 9.0}}}
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", doubled)
    models = find_models([tmp_path / "one", tmp_path / "two"])
    alone = [backtest_models([model], load=load).strategies[0] for model in models]
    both = backtest_models(models, load=load)
    for mine, side_by_side in zip(alone, both.strategies, strict=True):
        np.testing.assert_array_equal(mine.equity, side_by_side.equity)
    gross = [float(result.weights.abs().sum(axis=1).max()) for result in alone]
    assert gross[1] > 1.5 > 1.05 > gross[0]
    for result in alone:
        held = result.weights.to_numpy()
        assert result.metrics["gross_exposure"] == pytest.approx(np.abs(held).sum(1).mean())
        assert result.metrics["net_exposure"] == pytest.approx(held.sum(1).mean())
    said = printed(both, capsys)
    assert (
        "two is tested under its own rules, which are not those of one and the baselines: max_leverage 2.0 and" in said
    )
    assert "costs.commission_bps 9.0 and not 1.0; --rules one tests all under one" in said
    assert "two may hold 2 times its equity, baselines no more than theirs" in said
    assert "one may hold" not in said
    assert [model["costs"]["max_leverage"] for model in summarise(both)["models"]] == [1.0, 2.0]
    as_two = backtest_models(models, load=load, rules="two")
    np.testing.assert_array_equal(as_two.strategies[1].equity, alone[1].equity)
    assert as_two.strategies[0].weights.abs().sum(axis=1).max() > 1.5
    said = printed(as_two, capsys)
    assert "one is tested under rules that are not those of its training: max_leverage 2.0 and not 1.0" in said
    assert "two is tested" not in said
    with pytest.raises(InputError, match=r"--rules tow is none of the models \(did you mean 'two'\?\)"):
        backtest_models(models, load=load, rules="tow")


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
    (run_folder / "config.json").write_text(json.dumps({**content, "format": 1}))  # without a checksum
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


def test_tests_between_the_blocks_of_training_are_out_of_sample_and_no_other_dates_before_its_last(tmp_path, capsys):
    """A model of cross-validation has trained on both sides of its tests, an embargo away."""
    groups = {"synthetic": SMALL["data"]["synthetic"] | {"num_bars": 800}, "groups": 5, "test_groups": (2, 4)}
    make_run(tmp_path / "fold", SMALL | {"data": groups})
    backtest = backtest_models([find_model(tmp_path / "fold")], load=load)
    summary, market = summarise(backtest), backtest.market
    assert summary["overlaps_training"] is False
    blocks = [*market.splits.train.blocks, market.splits.validation]
    assert summary["models"][0]["last_date_seen"] == str(market.bars.dates[max(block.stop for block in blocks) - 1])
    assert "cross-validation: fold was trained or selected on later dates, and not on these" in printed(
        backtest, capsys
    )
    [seen], dates = backtest.seen, market.bars.dates
    edges = group_edges(800, 5, lookback_bars=market.splits.embargo_bars)
    assert [overlaps(dates[edges[g - 1] : edges[g]], seen) for g in (2, 4)] == [False, False]
    assert overlaps(dates[edges[1] : edges[4]], seen), "what lies between them was trained on"
    assert [overlaps(dates[block.start : block.stop], seen) for block in blocks] == [True] * len(blocks)


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
