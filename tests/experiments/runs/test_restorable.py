"""What makes a run's folder ready for Tune alone, and holds it while Tune may be writing to it."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tune_plans import CONFIG, ENDED, NAMES, STATE, TRIAL, write_config

from common.errors import InputError
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.signals import STOP_FILE
from experiments.recovery.tune_files import COPIES_FILE, keep_copies, planned_for
from experiments.runs.restorable import let_go, restorable

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import atexit, sys
atexit.register(lambda: print(places._held))  # the last thing of all
from experiments.runs import restorable as places
places.restorable(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(path):
    """A second process that has made a run ready for Tune, and lives on."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()
        assert process.stdout.read() == b"{}\n", "it lets go when it ends"
    assert process.returncode == 0


def test_all_files_emptied_at_once_come_back(run):
    before = {name: (run / name).read_bytes() for name in NAMES}
    for name in NAMES:
        os.truncate(run / name, 0)
    assert restorable(run, [].append) == run
    assert {name: (run / name).read_bytes() for name in NAMES} == before


def test_plan_for_another_number_of_env_runners_is_refused(run):
    write_config(run, num_env_runners=3)
    with pytest.raises(InputError, match=r"planned for scaling .*2}, not .*3}\): carry it on with experiments/run"):
        restorable(run)


def test_run_that_was_interrupted_is_opened_again(run):
    (run / STATE).write_text(json.dumps({"trial_data": [ENDED]}))  # as Tune takes it
    restorable(run)
    assert json.loads((run / STATE).read_text())["trial_data"] == [TRIAL]


def test_run_without_copies_is_refused_and_left_as_it_is(run):
    (run / COPIES_FILE).unlink()
    with pytest.raises(InputError, match=r"cannot be restored by Tune alone .*: carry it on with experiments/run.py"):
        restorable(run)
    assert {*NAMES} < {path.name for path in run.iterdir()}


def test_search_is_refused_and_left_as_it_is(run):
    (run / "search.json").write_text("{}")
    os.truncate(run / "tuner.pkl", 0)
    with pytest.raises(InputError, match="is a search: carry it on with its own command"):
        restorable(run)
    assert not list(run.glob("damaged-*"))


@pytest.fixture
def address(run, tmp_path, monkeypatch):
    """The run in a store that is a folder."""
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    (tmp_path / "store").mkdir()
    address = f"file://{tmp_path}/store/dow"
    assert keep_copies(run, run, planned_for(CONFIG, address))
    run.rename(tmp_path / "store" / "dow")
    return address


def test_run_in_a_store_that_somebody_writes_to_is_not_brought_back(address, tmp_path, monkeypatch):
    folder = restorable(address)
    assert {*NAMES, "config.json", COPIES_FILE} < {path.name for path in folder.iterdir()}
    let_go()
    with another_process(address) as process:
        (tmp_path / "store" / "dow" / "summary.json").write_text("{}")
        monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "elsewhere"))
        with pytest.raises(InputError, match=f"dow is being written by process {process.pid} on"):
            restorable(address)
    assert not list((tmp_path / "elsewhere").rglob("dow"))
    assert not (tmp_path / "store" / "dow" / "lease.json").exists(), "it ends with its process"


def test_run_is_held_while_plain_tune_may_be_writing_to_it(run):
    with another_process(run) as process:
        os.truncate(run / "tuner.pkl", 0)
        with pytest.raises(InputError, match=f"is being written by process {process.pid} on"):
            restorable(run)
        assert not list(run.glob("damaged-*"))
    restorable(run)
    restorable(run)  # again in the same process, as in a notebook
    held = subprocess.run(
        [sys.executable, "-c", HOLDER, str(run)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"is being written by process {os.getpid()} on" in held.stderr
    let_go()
    with another_process(run):
        pass


def test_run_that_is_refused_is_not_held(run):
    copies = (run / COPIES_FILE).read_bytes()
    (run / COPIES_FILE).unlink()
    with pytest.raises(InputError, match="cannot be restored by Tune alone"):
        restorable(run)
    (run / COPIES_FILE).write_bytes(copies)
    with another_process(run):
        pass


def test_request_to_stop_that_a_kill_has_left_does_not_stop_the_next_session(run):
    (run / STOP_FILE).write_text("SIGTERM")
    restorable(run)
    assert not (run / STOP_FILE).exists()


@pytest.mark.parametrize("accident", ["gone", "damaged"])
def test_tune_starts_over_nothing(run, accident):
    checkpoints = TrialCheckpoints(run / "trial_0")
    path = checkpoints.publish(lambda folder: (folder / "checkpoint_meta.json").write_text("{}") and None)
    path.rename(run / "trial_0" / "best_checkpoint") if accident == "gone" else (path / "COMPLETE").unlink()
    wanted = "has lost its checkpoints" if accident == "gone" else "none of the 1 checkpoints in .* is whole"
    with pytest.raises(InputError, match=wanted):
        restorable(run)


def test_damaged_checkpoint_is_set_aside_before_tune_looks(run):
    checkpoints, said = TrialCheckpoints(run / "trial_0"), []
    for _ in range(2):
        newest = checkpoints.publish(lambda folder: (folder / "checkpoint_meta.json").write_text("{}") and None)
    (newest / "COMPLETE").unlink()
    restorable(run, said.append)
    assert "checkpoint_000001 is damaged" in said[0]


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder: it has no config\.json"):
        restorable(tmp_path)
