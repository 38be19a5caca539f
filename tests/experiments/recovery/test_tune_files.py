"""Copies of Tune's own files, put back before a user's plain ``Tuner.restore`` looks at them."""

import errno
import json
import os
import zipfile
from unittest import mock

import pytest
from tune_plans import DRAWN, ENDED, NAMES, OLDER, PLAN, STATE, write_tune_files

from common.files import WriteError
from experiments.recovery import tune_files
from experiments.recovery.tune_files import COPIES_FILE, keep_copies, planned_for, put_back


def contents(folder, names=NAMES):
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [0, 5, None], ids=["empty", "cut", "gone"])
def test_copy_takes_the_place_of_a_damaged_file(run, name, length):
    before = contents(run)
    if length is None:
        (run / name).unlink()
    else:
        os.truncate(run / name, length)
    assert put_back(run, PLAN) is None
    assert contents(run) == before


def test_accounts_of_other_sessions_do_not_count(run):
    before = contents(run)
    newer = STATE.replace("2026", "2027")
    for name in (OLDER, newer):  # the newest is what Tune reads
        (run / name).write_text(json.dumps({"trial_data": [ENDED]}))
    assert put_back(run, PLAN) is None
    assert [path.name for path in run.glob("experiment_state-*.json")] == [STATE]
    assert contents(run) == before


@pytest.mark.parametrize("trials", [(), (ENDED,)], ids=["no trial yet", "trial has ended"])
def test_nothing_is_copied_that_tune_would_not_go_on_with(tmp_path, trials):
    staging, folder = tmp_path / "staging", tmp_path / "run"
    write_tune_files(staging, trials=trials)
    assert not keep_copies(staging, folder, PLAN)
    assert not folder.exists()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_copied_before_all_is_there(tmp_path, name):
    staging, folder = tmp_path / "staging", tmp_path / "run"
    write_tune_files(staging)
    (staging / name).unlink()
    assert not keep_copies(staging, folder, PLAN)


def test_copies_are_of_one_session_and_files_of_earlier_ones_go(run, tmp_path):
    staging = tmp_path / "next"
    newer = "experiment_state-2026-02-01_00-00-00.json"
    write_tune_files(staging, state=newer)
    assert keep_copies(staging, run, PLAN)
    with zipfile.ZipFile(run / COPIES_FILE) as copies:
        assert {"tuner.pkl", newer, DRAWN} < set(copies.namelist())
        assert STATE not in copies.namelist()
    assert not (run / STATE).exists()


def test_disk_that_does_not_take_the_copies_leaves_those_of_before(run, tmp_path, monkeypatch):
    before = (run / COPIES_FILE).read_bytes()
    monkeypatch.setattr(tune_files, "whole_file", mock.Mock(side_effect=WriteError(errno.ENOSPC, "no space left")))
    with pytest.raises(WriteError):
        keep_copies(run, run, PLAN)
    assert (run / COPIES_FILE).read_bytes() == before


@pytest.mark.parametrize("accident", ["gone", "cut", "of before"])
def test_without_whole_copies_nothing_is_touched(run, accident):
    before = contents(run)
    if accident == "gone":
        (run / COPIES_FILE).unlink()
    elif accident == "cut":
        os.truncate(run / COPIES_FILE, 40)
    else:  # as earlier versions wrote them: they do not say what they were planned for
        with zipfile.ZipFile(run / COPIES_FILE, "w") as copies:
            copies.writestr(STATE, "{}")
    assert put_back(run, PLAN) == "there are no whole copies of Tune's own files"
    assert contents(run) == before


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 8}, "it was planned for seed 7, not 8"),
        ({"algo": "qmix", "max_failures": 5}, "planned for algo vdn, not qmix; it was planned for max_failures 2, not"),
        ({"address": "s3://new/dow"}, "it was planned for address None, not s3://new/dow"),
        ({"scaling": {"num_env_runners": 3}}, "it was planned for scaling {'num_env_runners': 2}, not {'num_env_"),
    ],
)
def test_plan_of_other_settings_is_not_put_back(run, other, words):
    before = contents(run)
    assert words in put_back(run, PLAN | other)
    assert contents(run) == before


def test_address_with_other_options_is_the_same_place():
    one, other = (planned_for(PLAN, f"s3://bucket/dow?{options}") for options in ("scheme=http", "scheme=https"))
    assert one == other != planned_for(PLAN, "s3://bucket/dow2")
