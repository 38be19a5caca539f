"""The walk-forward verb: what it asks its runs for, what it refuses, and a real one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from sample_runs import ScriptedPolicy, make_run

from common import pace
from common.files import read_json
from envs.folds import Fold
from envs.settings import SyntheticConfig
from envs.synthetic import generate_bars
from experiments import evaluate
from experiments.command_line import exit_code
from experiments.evaluation import runs, walking
from experiments.evaluation.runs import Job, jobs, run_jobs
from experiments.recovery.signals import AGAIN_S
from experiments.runs.record import read_run_record
from experiments.runs.run import find_run
from experiments.settings.run_config import config_to_json

SMALL = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "900", "--floor.horizon-bars", "20"]


def test_each_run_has_its_dates_and_its_seed():
    data = {"validation_start": "2016-01-04", "test_start": "2017-01-03", "end": "2018-01-02"}
    fold = Fold(number=2, tests=(("2017-01-03", "2017-12-29"),), data=data)
    words = Job(fold, 7, Path("/x/walk/fold-2-seed-7")).words(["--algo", "ppo"])
    place = ["--storage", "/x/walk", "--name", "fold-2-seed-7", "--seed", "7"]
    dates = ["--data.validation-start", "2016-01-04", "--data.test-start", "2017-01-03", "--data.end", "2018-01-02"]
    assert words == ["--algo", "ppo", *place, *dates]
    assert "--data.end" not in Job(replace(fold, data=data | {"end": None}), 7, Path("/x")).words([])
    groups = replace(fold, data={"groups": 6, "test_groups": (1, 4), "validation": 0.25})
    words = Job(groups, 7, Path("/x/cpcv/fold-2-seed-7")).words([])
    assert words[6:] == ["--data.groups", "6", "--data.test-groups", "1", "4", "--data.validation", "0.25"]


def test_runs_go_fold_by_fold():
    folds = [Fold(number=n, tests=(), data={}) for n in (1, 2)]
    assert [job.folder.name for job in jobs(Path("w"), folds, range(3, 5))] == [
        "fold-1-seed-3",
        "fold-1-seed-4",
        "fold-2-seed-3",
        "fold-2-seed-4",
    ]


def test_words_of_the_walk_and_of_its_runs_are_told_apart():
    words = ["--folds", "3", "--algo", "ppo", "--first-test=0.4", "--seed", "2", "--seeds", "9"]
    own, rest = evaluate.split_words(words, ["--folds", "--first-test", "--seeds"])
    assert own == ["--folds", "3", "--first-test=0.4", "--seeds", "9"]
    assert rest == ["--algo", "ppo", "--seed", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "never"], "--resume is set by each fold"),
        (["--data.end", "2018-01-01"], "--data.end is set by each fold"),
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


WAITS_FOR_ANOTHER = """
import pathlib, sys, time
name = pathlib.Path(__file__).with_name(sys.argv[sys.argv.index("--name") + 1])
name.with_suffix(".on").touch()
deadline = time.monotonic() + 60
while len(list(name.parent.glob("*.on"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
sys.exit(len(list(name.parent.glob("*.on"))) < 2)
"""


def test_runs_are_under_way_beside_each_other_and_no_more_than_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "VERB", tmp_path / "run.py")
    runs.VERB.write_text(WAITS_FOR_ANOTHER)
    fold = Fold(number=1, tests=(), data={})
    todo = jobs(tmp_path, [fold], range(8))
    under_way = run_jobs(todo, [], at_once=2)
    job, seconds = next(under_way)
    assert job in todo[:2]
    assert seconds > 0
    under_way.close()
    assert 2 <= len(list(tmp_path.glob("*.on"))) <= 4, "none is begun after the caller has had enough"
    assert [job for job, _ in run_jobs(todo[:2], [], at_once=1)] == todo[:2]


WALK = """
import pathlib, sys
from experiments import evaluate
from experiments.command_line import main
from experiments.evaluation import runs
runs.VERB = pathlib.Path(sys.argv[1])
main(evaluate.run, sys.argv[2:])
"""
HEARS = """
import pathlib, signal, sys, time
notes = pathlib.Path(__file__).with_name("notes.txt")
name = sys.argv[sys.argv.index("--name") + 1]
def note(what):
    with notes.open("a") as file:
        file.write(f"{name} {what}\\n")
def hear(number, frame):
    note(signal.Signals(number).name)
    global heard
    heard += 1
heard = 0
signal.signal(signal.SIGINT, hear)
signal.signal(signal.SIGTERM, hear)
note("begins")
deadline = time.monotonic() + 60
while heard < ENDS_AT and time.monotonic() < deadline:
    time.sleep(0.02)
note("ends")
sys.exit(130)
"""


def noted(folder, wanted):
    """What two runs have noted, as soon as it is what is wanted, or after a minute."""
    path, deadline = folder / "notes.txt", time.monotonic() + 60
    while True:
        found = Counter(path.read_text().splitlines()) if path.is_file() else Counter()
        if found >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.fixture
def walk(tmp_path, request):
    """A walk-forward of six runs, two at once, that end at so many signals."""
    (tmp_path / "run.py").write_text(HEARS.replace("ENDS_AT", str(request.param)))
    place = ["--storage", str(tmp_path), "--name", "walk"]
    words = [str(tmp_path / "run.py"), *SMALL, *place, "--folds", "2", "--seeds", "3", "--jobs", "2"]
    command = [sys.executable, "-c", WALK, *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def of_both(what):
    return Counter({f"fold-1-seed-{seed} {what}": 1 for seed in (0, 1)})


@pytest.mark.parametrize("walk", [1], indirect=True)
def test_a_signal_reaches_every_run_once_and_no_further_one_begins(walk, tmp_path):
    assert noted(tmp_path, of_both("begins")) == of_both("begins")
    for _ in range(3):  # at once: one request
        walk.send_signal(signal.SIGTERM)
    out, err = walk.communicate(timeout=60)
    assert walk.returncode == 130
    assert f"interrupted; the same command carries on: {tmp_path / 'walk'}" in out
    assert err.strip() == "stopping: checkpoints are being written first; once more stops at once"
    assert noted(tmp_path, of_both("ends")) == of_both("begins") + of_both("SIGTERM") + of_both("ends")


@pytest.mark.parametrize("walk", [9], indirect=True)
def test_a_second_signal_reaches_every_run_too_and_a_third_one_kills_it(walk, tmp_path):
    noted(tmp_path, of_both("begins"))
    wanted = of_both("begins")
    for _ in range(2):
        os.killpg(walk.pid, signal.SIGINT)  # as a terminal does
        wanted += of_both("SIGINT")
        assert noted(tmp_path, wanted) == wanted
        time.sleep(2 * AGAIN_S)
        assert walk.poll() is None, "a run that writes its checkpoint is waited for"
    os.killpg(walk.pid, signal.SIGINT)
    _, err = walk.communicate(timeout=60)
    assert walk.returncode == 130
    assert err.split("\n\n")[-1].strip() == "killing what does not stop"
    assert noted(tmp_path, wanted) == wanted, "they were killed"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has died")
@pytest.mark.parametrize("walk", [1], indirect=True)
def test_runs_of_a_walk_that_is_killed_are_asked_to_stop(walk, tmp_path):
    noted(tmp_path, of_both("begins"))
    walk.kill()
    told = of_both("begins") + of_both("SIGTERM") + of_both("ends")
    found = noted(tmp_path, told)
    assert set(found) == set(told), "it may be told more than once, which is one request to a real one"


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


def test_handlers_are_put_back_however_the_walk_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "VERB", tmp_path / "run.py")
    runs.VERB.write_text("")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    todo = jobs(tmp_path, [Fold(number=1, tests=(), data={})], range(2))
    under_way = run_jobs(todo, [], at_once=1)
    next(under_way)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    under_way.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


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
    tests = [pd.read_parquet(folder / f"fold-{k}-seed-5" / "backtest" / "equity.parquet") for k in (1, 2)]
    assert tests[0]["date"].max() < tests[1]["date"].min()
    walked = pd.read_parquet(folder / "equity.parquet").groupby("series")["date"]
    assert {"5", "6", "random", "buy_and_hold"} < set(walked.groups)
    assert set(walked.nunique()) == {len(tests[0]) // 7 + len(tests[1]) // 7 - 1}, (
        "seven series; the first bar is bought on"
    )
    trained = [read_run_record(folder / f"fold-{k}-seed-6") for k in (1, 2)]
    assert [record.config["seed"] for record in trained] == [6, 6]
    assert "equal weight" in capsys.readouterr().out
    before = (folder / "fold-2-seed-6" / "summary.json").read_bytes()
    assert evaluate.run([*words, "--name", "walk"]) == 0, "the same command repeats what is done"
    assert (folder / "fold-2-seed-6" / "summary.json").read_bytes() == before
