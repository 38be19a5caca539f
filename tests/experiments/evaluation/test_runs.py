"""Runs of a walk: their command lines, how many are under way at once, and the signals that reach them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from envs.folds import Fold
from experiments.evaluation import runs
from experiments.evaluation.runs import Job, jobs, run_jobs
from experiments.recovery.signals import AGAIN_S

SMALL = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "900", "--floor.horizon-bars", "20"]


def test_each_run_has_its_dates_and_its_seed():
    data = {"validation_start": "2016-01-04", "test_start": "2017-01-03"}
    fold = Fold(number=2, tests=(("2017-01-03", "2017-12-29"),), data=data)
    words = Job(fold, 7, Path("/x/walk/fold-2-seed-7")).words(["--algo", "ppo"])
    place = ["--storage", "/x/walk", "--name", "fold-2-seed-7", "--seed", "7"]
    dates = ["--data.validation-start", "2016-01-04", "--data.test-start", "2017-01-03"]
    assert words == ["--algo", "ppo", *place, *dates]
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
