"""Copies of Tune's own files: whole ones are kept, damaged ones replaced, nothing deleted."""

import json
import os
import pickle
import zipfile

import pytest

from envs.errors import InputError
from experiments.recovery.lock import run_lock
from experiments.recovery.places import restorable
from experiments.recovery.tune_files import (
    COPIES_FILE,
    find_tune_damage,
    forget_copies,
    keep_copies,
    mend_tune_files,
)

STATE = "experiment_state-2026-01-02_00-00-00.json"
OLDER = "experiment_state-2026-01-01_00-00-00.json"
DRAWN = "basic-variant-state-2026-01-02_00-00-00.json"
NAMES = ("tuner.pkl", STATE, DRAWN)


TRIAL = [json.dumps({"config": {"run": {"scaling": {"num_env_runners": 2}}}}), "{}"]
ENDED = [json.dumps(json.loads(TRIAL[0]) | {"status": "TERMINATED"}), "{}"]


def write_tune_files(folder, *, trials=(TRIAL,), state=STATE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuner.pkl").write_bytes(pickle.dumps({"plan": 1}))
    (folder / state).write_text(json.dumps({"trial_data": list(trials)}))
    (folder / DRAWN).write_bytes(pickle.dumps({"drawn": 1}))


@pytest.fixture
def run(tmp_path):
    """A run folder with Tune's files and copies of them, of a first session: its staging folder holds no plan."""
    staging, folder = tmp_path / "staging", tmp_path / "run"
    write_tune_files(staging)
    (staging / "tuner.pkl").unlink()
    write_tune_files(folder)
    (folder / "config.json").write_text(json.dumps({"config": {"episodes": 40, "scaling": {"num_env_runners": 2}}}))
    assert keep_copies(staging, folder)
    return folder


def contents(folder, names=NAMES):
    return {name: (folder / name).read_bytes() for name in names}


def test_sound_files_stay_as_they_are(run):
    before, said = contents(run), []
    assert mend_tune_files(run, said.append)
    assert (contents(run), said) == (before, [])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [0, 5, None], ids=["empty", "cut", "gone"])
def test_copy_takes_the_place_of_a_damaged_file(run, name, length):
    before, said = contents(run), []
    if length is None:
        (run / name).unlink()
    else:
        os.truncate(run / name, length)
    assert len(find_tune_damage(run)) == 1
    assert mend_tune_files(run, said.append)
    assert contents(run) == before
    assert len(said) == 1
    assert name.split("-")[0] in said[0]
    asides = [path.name for path in run.glob("damaged-*")]
    assert asides == ([] if length is None else [f"damaged-{name}"])


def test_all_files_emptied_at_once_come_back(run):
    before = contents(run)
    for name in NAMES:
        os.truncate(run / name, 0)
    assert restorable(run, [].append) == run
    assert contents(run) == before


def test_account_of_an_older_session_that_says_all_is_done_does_not_count(run):
    (run / OLDER).write_text(json.dumps({"trial_data": ["TERMINATED"]}))
    os.truncate(run / STATE, 0)
    assert mend_tune_files(run, [].append)
    assert json.loads(max(run.glob("experiment_state-*.json")).read_text())["trial_data"] == [TRIAL]
    assert (run / OLDER).exists()


def test_without_copies_damage_is_set_aside_and_said(run, tmp_path):
    folder, said = tmp_path / "bare", []
    write_tune_files(folder)
    (folder / "config.json").write_text("{}")
    os.truncate(folder / "tuner.pkl", 0)
    assert not mend_tune_files(folder, said.append)
    assert said == ["its tuner.pkl is damaged (EOFError): set aside as damaged-tuner.pkl; there is no copy of it"]
    with pytest.raises(InputError, match=r"carry it on with experiments/run.py"):
        restorable(folder, said.append)


@pytest.mark.parametrize("accident", ["no trial yet", "trial has ended", "cut"])
def test_nothing_is_copied_that_could_not_be_restored(tmp_path, accident):
    staging, folder = tmp_path / "staging", tmp_path / "run"
    trials = {"no trial yet": (), "trial has ended": (ENDED,), "cut": (TRIAL,)}
    write_tune_files(staging, trials=trials[accident])
    if accident == "cut":
        os.truncate(staging / DRAWN, 3)
    assert not keep_copies(staging, folder)
    assert not folder.exists()


def test_copies_are_of_one_session(run, tmp_path):
    staging = tmp_path / "next"
    newer = "experiment_state-2026-02-01_00-00-00.json"
    write_tune_files(staging, state=newer)
    assert keep_copies(staging, run)
    with zipfile.ZipFile(run / COPIES_FILE) as copies:
        assert sorted(copies.namelist()) == sorted(["tuner.pkl", newer, DRAWN])


def test_damaged_copies_are_no_copies(run):
    os.truncate(run / COPIES_FILE, 40)
    os.truncate(run / "tuner.pkl", 0)
    said = []
    assert not mend_tune_files(run, said.append)
    assert said == ["its tuner.pkl is damaged (EOFError): set aside as damaged-tuner.pkl; there is no copy of it"]


def test_copies_of_a_plan_are_forgotten_when_another_takes_its_place(run):
    forget_copies(run)
    forget_copies(run)
    os.truncate(run / "tuner.pkl", 0)
    assert not mend_tune_files(run, [].append)


def test_plan_for_another_number_of_env_runners_is_refused(run):
    (run / "config.json").write_text(json.dumps({"config": {"episodes": 40, "scaling": {"num_env_runners": 3}}}))
    with pytest.raises(InputError, match=r"planned for 2 env runners and now has 3: carry it on with"):
        restorable(run)


@pytest.mark.parametrize("episodes", [16, 40])
def test_run_that_was_interrupted_is_opened_again_and_a_complete_one_is_not(run, episodes):
    (run / STATE).write_text(json.dumps({"trial_data": [ENDED]}))
    (run / "summary.json").write_text(json.dumps({"episodes": episodes}))
    said = []
    restorable(run, said.append)
    trials = json.loads((run / STATE).read_text())["trial_data"]
    assert trials == ([TRIAL] if episodes < 40 else [ENDED])
    assert len(said) == len(list(run.glob(f"ended-{STATE}"))) == (episodes < 40)


def test_interrupted_run_without_copies_is_refused_and_left_as_it_is(run):
    forget_copies(run)
    (run / STATE).write_text(json.dumps({"trial_data": [ENDED]}))
    with pytest.raises(InputError, match="was interrupted, and Tune alone takes it for ended: carry it on with"):
        restorable(run)
    assert json.loads((run / STATE).read_text())["trial_data"] == [ENDED]
    assert not list(run.glob("ended-*"))


def test_search_is_refused_and_left_as_it_is(run):
    (run / "search.json").write_text("{}")
    os.truncate(run / "tuner.pkl", 0)
    with pytest.raises(InputError, match="is a search: carry it on with its own command"):
        restorable(run)
    assert not list(run.glob("damaged-*"))


def test_run_in_a_store_that_somebody_writes_to_is_not_brought_back(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    (tmp_path / "store").mkdir()
    run.rename(tmp_path / "store" / "dow")
    address = f"file://{tmp_path}/store/dow"
    folder = restorable(address)
    assert {*NAMES, "config.json", COPIES_FILE} < {path.name for path in folder.iterdir()}
    (tmp_path / "store" / "dow" / "summary.json").write_text("{}")
    with run_lock(folder), pytest.raises(InputError, match="is being written by process"):
        restorable(address)
    assert not (folder / "summary.json").exists()


def test_folder_that_somebody_writes_to_is_left_alone(run):
    os.truncate(run / "tuner.pkl", 0)
    with run_lock(run), pytest.raises(InputError, match="is being written by process"):
        restorable(run)
    assert not list(run.glob("damaged-*"))


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder: it has no config\.json"):
        restorable(tmp_path)
