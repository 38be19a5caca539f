"""Copies of Tune's own files: whole ones are kept, damaged ones replaced, nothing deleted."""

import errno
import json
import os
import pickle
import zipfile
from unittest import mock

import pytest
from ray.tune import FailureConfig, RunConfig, Tuner
from tune_plans import DRAWN, ENDED, NAMES, OLDER, SETTINGS, STATE, TRIAL, plan, write_config, write_tune_files

from common.errors import InputError
from common.files import WriteError, write_json
from experiments.recovery import tune_files
from experiments.recovery.tune_files import (
    COPIES_FILE,
    find_tune_damage,
    forget_copies,
    keep_copies,
    mend_tune_files,
    set_damaged_aside,
    settings_in_plan,
)
from experiments.remote.addresses import restorable
from experiments.tuning.loggers import RecordLogger
from experiments.tuning.monitor import RunMonitor


def write_state(folder, *, iteration):
    """What the newest checkpoint says of how far the run is."""
    (folder / "trial_0" / "checkpoint_000003").mkdir(parents=True)
    write_json(folder / "trial_0" / "checkpoint_000003" / "run_state.json", {"iteration": iteration})


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
    write_config(folder)
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


def mended(run, said, **kwargs):
    return mend_tune_files(run, said.append, **{"settings": SETTINGS} | kwargs)


@pytest.mark.parametrize("iteration", [4, 5, 6])
def test_account_that_is_older_than_the_checkpoints_is_kept_aside_once_and_said(run, iteration):
    write_state(run, iteration=iteration)
    before, said = contents(run), []
    assert mended(run, said)
    assert mended(run, said)  # killed again before Tune has written another one
    assert contents(run) == before
    asides = [path.name for path in run.glob("stale-*")]
    if iteration <= 5:
        assert (said, asides) == ([], [])
        return
    assert (
        said == [f"its {STATE} is stale (of iteration 5, where checkpoint_000003 is of 6): kept as stale-{STATE}"] * 2
    )
    assert asides == [f"stale-{STATE}"]
    assert (run / asides[0]).read_bytes() == before[STATE]
    (run / STATE).write_text(json.dumps({"trial_data": [ENDED]}))
    assert mended(run, said)
    assert said[-1].endswith(f"kept as stale-{STATE}-2")


def test_account_is_not_stale_where_the_run_goes_back_behind_its_newest_checkpoint(run):
    write_state(run, iteration=6)
    said = []
    assert mended(run, said, resume_from={"checkpoint": "trial_0/checkpoint_000001", "asked_at": "2026-01-03"})
    assert said == []


def test_copy_that_has_just_taken_the_place_of_an_account_is_not_called_stale(run):
    write_state(run, iteration=6)
    os.truncate(run / STATE, 0)
    said = []
    assert mended(run, said)
    assert len(said) == 1
    assert not list(run.glob("stale-*"))


@pytest.mark.parametrize(
    "trial",
    [
        {"relative_logdir": None},
        {"relative_logdir": "elsewhere"},
        ["no", "trial"],
        {"relative_logdir": "trial_0", "status": 3},
    ],
)
@pytest.mark.parametrize("progress", [{}, {"last_result": None}, {"last_result": {"training_iteration": None}}, [1]])
def test_odd_accounts_hold_nobody_up(run, trial, progress):
    write_state(run, iteration=6)
    (run / STATE).write_text(json.dumps({"trial_data": [[json.dumps(trial), json.dumps(progress)]]}))
    said = []
    assert mended(run, said)
    knows = isinstance(trial, dict) and trial["relative_logdir"] == "trial_0" and isinstance(progress, dict)
    assert len(said) == knows


def test_full_disk_that_cannot_keep_a_stale_account_holds_nobody_up(run, monkeypatch):
    write_state(run, iteration=6)
    monkeypatch.setattr(tune_files, "whole_file", mock.Mock(side_effect=WriteError(errno.ENOSPC, "no space left")))
    said = []
    assert mended(run, said)
    assert said[0].endswith("checkpoint_000003 is of 6), and cannot be kept aside (no space left)")
    assert not list(run.glob("stale-*"))


@pytest.mark.parametrize("with_copies", [True, False])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 8}, "seed 8, not 7"),
        ({"algo": "qmix", "max_failures": 5}, "algo qmix, not vdn, max_failures 5, not 2"),
        ({"address": "s3://old/dow"}, "address s3://old/dow, not None"),
    ],
)
def test_plan_of_other_settings_is_kept_aside_and_a_copy_takes_its_place(run, with_copies, other, words):
    if not with_copies:
        forget_copies(run)
    before, said = contents(run), []
    (run / "tuner.pkl").write_bytes(plan(**other))
    assert mended(run, said) == with_copies
    assert said == [
        f"its tuner.pkl is stale ({words}): kept as stale-tuner.pkl" + "; a copy takes its place" * with_copies
    ]
    assert (run / "stale-tuner.pkl").read_bytes() == plan(**other)
    assert (contents(run) == before) == with_copies
    if not with_copies:
        with pytest.raises(InputError, match="cannot be restored by Tune alone: carry it on with experiments/run"):
            restorable(run)


def test_address_with_other_options_is_the_same_place(run):
    (run / "tuner.pkl").write_bytes(plan(address="s3://bucket/dow?endpoint_override=host:9000&scheme=http"))
    said = []
    assert mended(run, said, settings=SETTINGS | {"address": "s3://bucket/dow?scheme=http"})
    assert said == []
    assert mended(run, said, settings=SETTINGS | {"address": "s3://bucket/dow2"}) is False


def test_plan_that_is_none_of_ours_is_stale(run):
    (run / "tuner.pkl").write_bytes(pickle.dumps({"plan": 1}))
    said = []
    assert mended(run, said)
    assert "is stale (it does not say what it was made for)" in said[0]


def test_plan_that_tune_itself_writes_says_what_it_was_made_for(tmp_path):
    callbacks = [RunMonitor(algo="vdn", seed=7, address=None), RecordLogger()]
    failures = FailureConfig(max_failures=2)
    Tuner(print, run_config=RunConfig("dow", str(tmp_path), callbacks=callbacks, failure_config=failures))
    assert settings_in_plan((tmp_path / "dow" / "tuner.pkl").read_bytes()) == SETTINGS


def test_of_a_search_only_damaged_files_are_set_aside(run):
    forget_copies(run)
    (run / DRAWN).unlink()  # a search has none
    said = []
    set_damaged_aside(run, said.append)
    assert said == []
    os.truncate(run / "tuner.pkl", 3)
    set_damaged_aside(run, said.append)
    assert len(said) == 1
    assert (run / "damaged-tuner.pkl").exists()
