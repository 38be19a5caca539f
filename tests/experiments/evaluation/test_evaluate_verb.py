"""The walk-forward verb: what it asks its runs for, what it refuses, and a real one."""

import json
import signal
import subprocess
import sys
import time
from functools import partial

import pandas as pd
import pytest
from sample_runs import ScriptedPolicy, make_run

from common import pace
from common.files import read_json
from envs.market import build_market
from envs.settings import SyntheticConfig
from envs.synthetic import generate_bars
from experiments import evaluate
from experiments.command_line import exit_code
from experiments.evaluation import runs, walking
from experiments.runs.record import read_run_record
from experiments.runs.run import find_run, read_run_config
from experiments.settings.run_config import config_to_json, floor_spec

SMALL = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "900", "--floor.horizon-bars", "20"]


def test_words_of_the_walk_and_of_its_runs_are_told_apart():
    words = ["--folds", "3", "--algo", "ppo", "--first-test=0.4", "--seed", "2", "--seeds", "9"]
    own, rest = evaluate.split_words(words, ["--folds", "--first-test", "--seeds"])
    assert own == ["--folds", "3", "--first-test=0.4", "--seeds", "9"]
    assert rest == ["--algo", "ppo", "--seed", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "never"], "--resume is set by each fold"),
        (["--data.test-start", "2018-01-01"], "--data.test-start is set by each fold"),
        (["--data.groups", "4"], "--data.groups is set by each fold"),
        (["--storage", "s3://bucket/x"], "cross-validation is kept in a folder of this machine"),
        (["--groups", "5"], "--groups is for --kind cpcv: leave one of them out"),
        (["--kind", "cpcv", "--first-test", ".4"], "--first-test is for --kind walk_forward"),
        (["--kind", "cpcv", "--groups", "3", "--test-groups", "3"], "--test-groups 3 of --groups 3 leave none"),
        (["--kind", "cpcv", "--groups", "12", "--test-groups", "6"], "history too short"),
        (["--kind", "cpcv", "--floor.horizon-bars", "None"], "--floor.horizon-bars is None, but"),
        (["--folds", "0"], "--folds is '0'"),
        (["--first-test", "1"], "--first-test is '1'"),
        (["--folds", "400"], "history too short"),
        (["--algo", "ppo", "--search.num-trials", "2", "--search.objective", "return"], "must be sharpe"),
        (["--fold", "3"], "unknown flag --fold"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert exit_code(evaluate.run, [*SMALL, *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_flat_flags_of_an_algorithm_reach_its_runs(tmp_path):
    asked = [*SMALL, "--algo", "maddpg", "--network", "transformer", "--storage", str(tmp_path), "--name", "walk"]
    config, folder = evaluate._check(evaluate.WalkConfig(), asked)
    assert (config.maddpg.network, folder) == ("transformer", tmp_path / "walk")
    _, kept = evaluate.split_words(asked, evaluate.OF_EACH_RUN)
    assert kept == [*SMALL, "--algo", "maddpg", "--network", "transformer"]


def test_a_run_is_not_written_over(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert exit_code(evaluate.run, [*SMALL, "--storage", str(tmp_path), "--name", "mine"]) == 2
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("code", "said", "ends", "line"),
    [
        (1, "no workers left", 1, "fold 1, seed 0 failed: no workers left (traceback in {folder}/train.log)"),
        (2, "--ppo.lr is below 0", 2, "error: fold 1: --ppo.lr is below 0"),
    ],
)
def test_a_run_that_ends_badly_is_told_in_one_line(tmp_path, monkeypatch, capsys, code, said, ends, line):
    verb = tmp_path / "run.py"
    verb.write_text(f"import sys; print('progress'); sys.exit(print('error: {said}', file=sys.stderr) or {code})")
    monkeypatch.setattr(runs, "VERB", verb)
    assert exit_code(evaluate.run, [*SMALL, "--storage", str(tmp_path), "--name", "walk", "--seeds", "1"]) == ends
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    assert line.format(folder=tmp_path / "walk" / "fold-1-seed-0") in told


def test_a_run_that_is_interrupted_ends_the_walk_until_the_same_command_is_given_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "VERB", tmp_path / "run.py")
    runs.VERB.write_text("import sys; sys.exit(130)")
    assert exit_code(evaluate.run, [*SMALL, "--storage", str(tmp_path), "--name", "walk", "--seeds", "1"]) == 130
    assert f"interrupted; the same command carries on: {tmp_path / 'walk'}" in capsys.readouterr().out


def test_what_is_wrong_with_a_run_is_said_after_a_signal_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "VERB", tmp_path / "run.py")
    words = [*SMALL, "--storage", str(tmp_path), "--name", "walk", "--seeds", "1"]
    runs.VERB.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('error: the disk is full'))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    assert exit_code(evaluate.run, words) == 1
    assert "fold 1, seed 0 failed: the disk is full" in capsys.readouterr().err


def make_runs(todo, asked, *, at_once):
    """In place of training."""
    for job in todo:
        run = find_run(job.words(asked))
        make_run(run.folder, config_to_json(run.config))
        yield job, 1.0


def test_cross_validation_tests_each_group_by_models_that_were_not_trained_on_it(tmp_path, monkeypatch, capsys):
    """Real folds, runs with policies in place of training, and real passes through all groups."""
    models = []

    def load(checkpoint):
        models.append(checkpoint.parent.name)
        return ScriptedPolicy(seed=len(models))

    monkeypatch.setattr(pace, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(runs, "run_jobs", make_runs)
    monkeypatch.setattr(walking, "walk_path", partial(walking.walk_path, load=load))
    beside = ["--seeds", "2", "--storage", str(tmp_path)]
    words = [*SMALL, "--kind", "cpcv", "--groups", "4", "--test-groups", "2", *beside]
    assert evaluate.run(words) == 0
    folder = tmp_path / "cpcv-qmix"
    found = json.loads((folder / "evaluation.json").read_text())
    groups = {fold["number"]: fold["test_groups"] for fold in found["folds"]}
    assert list(groups.values()) == [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]
    assert list(found["seeds"]) == [f"{seed}, path {path}" for seed in (0, 1) for path in (1, 2, 3)]
    assert models == [f"fold-{number}-seed-{seed}" for seed in (0, 1) for path in found["paths"] for number in path]
    assert all(g + 1 in groups[number] for path in found["paths"] for g, number in enumerate(path))
    series = pd.read_parquet(folder / "equity.parquet").groupby("series")["date"]
    assert set(series.nunique()) == {900 - 60 - 1}, "all bars but those that the first decision looks back on"
    said, told = capsys.readouterr()
    assert "\nbacktest of seed 1, path 2 (5 of 12): 839 of 839 bars, about 0 s left\n" in told
    assert "\nbacktest of random (12 of 12): 1 of 839 bars, about " in told
    assert "run 1 of 12: fold 1, test 2015-03-27 to 2016-01-14 and 2016-01-15 to 2016-11-03, seed 0" in said
    assert "6 folds joined to 3 paths" in said
    assert "Sharpe ratio of 6 paths: median" in said
    config = read_run_record(folder / "fold-2-seed-1").config["data"]
    assert (config["groups"], config["test_groups"], config["validation"]) == (4, [1, 3], 0.25)


@pytest.mark.parametrize(("halted", "sees"), [(slice(480, 500), True), (slice(700, 720), False)])
def test_models_of_all_folds_see_the_same_where_only_some_have_seen_an_asset_halted(
    tmp_path, monkeypatch, halted, sees
):
    """Each would decide by its own share of history whether to look at halts, and no one market has room for both."""
    bars = generate_bars(SyntheticConfig(num_assets=2, num_bars=900))
    volume = bars.volume.copy()
    volume[halted, 0] = 0.0
    frames = [
        pd.DataFrame({"date": bars.dates, "asset": asset, "close": bars.close[:, a], "volume": volume[:, a]})
        for a, asset in enumerate(bars.assets)
    ]
    pd.concat(frames).to_csv(tmp_path / "prices.csv", index=False)
    monkeypatch.setattr(runs, "run_jobs", make_runs)
    monkeypatch.setattr(walking, "walk_path", partial(walking.walk_path, load=lambda checkpoint: ScriptedPolicy()))
    words = ["--data.path", str(tmp_path / "prices.csv"), "--floor.horizon-bars", "20", "--folds", "2", "--seeds", "1"]
    assert evaluate.run([*words, "--storage", str(tmp_path)]) == 0
    records = [read_run_record(tmp_path / "walk-qmix" / f"fold-{k}-seed-0") for k in (1, 2)]
    assert [record.config["desk"]["observe_tradable"] for record in records] == [sees, sees]


def test_models_of_all_folds_trade_an_asset_that_lists_after_their_tests(tmp_path, monkeypatch):
    """A fold that is shown its own part of history alone would know of two assets, and its model would fit no path."""
    bars = generate_bars(SyntheticConfig(num_assets=3, num_bars=900))
    frames = [
        pd.DataFrame({"date": bars.dates, "asset": asset, "close": bars.close[:, a], "volume": 1e9})[700 * (a == 2) :]
        for a, asset in enumerate(bars.assets)
    ]
    pd.concat(frames).to_csv(tmp_path / "prices.csv", index=False)
    markets = []

    def load(checkpoint):
        markets.append(build_market(floor_spec(read_run_config(checkpoint.parent))))
        return ScriptedPolicy()

    monkeypatch.setattr(runs, "run_jobs", make_runs)
    monkeypatch.setattr(walking, "walk_path", partial(walking.walk_path, load=load))
    words = ["--data.path", str(tmp_path / "prices.csv"), "--floor.horizon-bars", "20", "--folds", "2", "--seeds", "1"]
    assert evaluate.run([*words, "--storage", str(tmp_path)]) == 0
    assert [market.bars.assets for market in markets] == [bars.assets] * 2
    assert [market.splits.test.start for market in markets] == [450, 675]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_walk_that_is_stopped_or_killed_ends_as_one_that_never_was(tmp_path, number):
    words = [
        *SMALL,
        "--episodes",
        "1200",
        "--checkpoint-interval",
        "400",
        "--checkpoint-interval-s",
        "0",
        "--folds",
        "1",
        "--seeds",
        "2",
        "--jobs",
        "2",
    ]
    command = [sys.executable, evaluate.__file__, *words, "--storage", str(tmp_path), "--name"]
    subprocess.run([*command, "whole"], check=True)
    whole, stopped = ([tmp_path / walk / f"fold-1-seed-{seed}" for seed in (0, 1)] for walk in ("whole", "stopped"))
    with subprocess.Popen([*command, "stopped"]) as process:
        lines = [run / "trial_0" / "result.json" for run in stopped]
        while not all(path.is_file() and path.stat().st_size for path in lines):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    assert process.returncode == (130 if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 60
    while any(read_json(run / "summary.json")["status"] == "running" for run in stopped):
        assert time.monotonic() < deadline, "a run goes on"
        time.sleep(0.1)
    assert "interrupted" in {read_json(run / "summary.json")["status"] for run in stopped}
    while subprocess.run([*command, "stopped"], check=False).returncode == 2:
        assert time.monotonic() < deadline, "a run is held for ever"
    for mine, other in zip(stopped, whole, strict=True):
        found, wanted = (read_json(run / "summary.json") for run in (mine, other))
        assert found["status"] == "complete"
        assert found["weights_sha256"] == wanted["weights_sha256"]


@pytest.mark.slow
def test_a_walk_tests_every_bar_once_and_says_how_sure_it_is(tmp_path, capsys):
    words = [*SMALL, "--episodes", "16", "--folds", "2", "--seeds", "2", "--seed", "5", "--storage", str(tmp_path)]
    beside = ["--name", "walk", "--jobs", "2", "--json", str(tmp_path / "walk.json")]
    assert evaluate.run([*words, *beside]) == 0
    found = json.loads((tmp_path / "walk.json").read_text())
    folder = tmp_path / "walk"
    assert found == json.loads((folder / "evaluation.json").read_text())
    assert (folder / "evaluation.png").stat().st_size > 10_000
    assert list(found["seeds"]) == ["5", "6"]
    page = (folder / "evaluation.md").read_text()
    assert f"`python experiments/evaluate.py {' '.join(words)}" in page
    assert [line.split("|")[1].strip() for line in page.splitlines() if "seed" in line and line[0] == "|"] == [
        "qmix, seed 5",
        "qmix, seed 6",
    ]
    walked = pd.read_parquet(folder / "equity.parquet").groupby("series")["date"]
    assert {"5", "6", "random", "buy_and_hold"} < set(walked.groups)
    assert set(walked.nunique()) == {450 - 1}, "half of history is tested; the first bar is bought on"
    trained = [read_run_record(folder / f"fold-{k}-seed-6") for k in (1, 2)]
    assert [record.config["seed"] for record in trained] == [6, 6]
    assert "equal weight" in capsys.readouterr().out
    before = (folder / "fold-2-seed-6" / "summary.json").read_bytes()
    assert evaluate.run([*words, "--name", "walk"]) == 0, "the same command repeats what is done"
    assert (folder / "fold-2-seed-6" / "summary.json").read_bytes() == before
