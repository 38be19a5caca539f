"""What the best checkpoint of a trial is, after accidents."""

import json

import pytest

from common.manifests import find_damage
from experiments.recovery.checkpoints import TrialCheckpoints, rename_aside
from experiments.recovery.copies import copy_folder
from experiments.runs.repair import check_checkpoints, restore_best, score_to_beat

VALUES = (1.0, 3.0, -1.0, 2.0)


def with_meta(text):
    def write(folder):
        (folder / "checkpoint_meta.json").write_text(text)

    return write


@pytest.fixture
def trial(tmp_path):
    """Four checkpoints, the second of them the best."""
    checkpoints = TrialCheckpoints(tmp_path / "trial_0")
    for value in VALUES:
        meta = json.dumps({"metric_name": "sharpe", "metric_value": value})
        checkpoints.publish(with_meta(meta))
    copy_folder(checkpoints.published()[1], checkpoints.folder / "best_checkpoint")
    return checkpoints.folder


def value_of(checkpoint):
    return json.loads((checkpoint / "checkpoint_meta.json").read_text())["metric_value"]


def damage(checkpoint):
    (checkpoint / "checkpoint_meta.json").write_text("{}")


def test_whole_best_stays_as_it_is(trial):
    reports = []
    restore_best(trial, reports.append)
    assert reports == []
    assert value_of(trial / "best_checkpoint") == 3.0


def test_damaged_best_is_set_aside_and_the_best_that_is_left_takes_its_place(trial):
    reports = []
    damage(trial / "best_checkpoint")
    damage(trial / "checkpoint_000001")
    restore_best(trial, reports.append)
    assert "best_checkpoint is damaged, checkpoint_meta.json" in reports[0]
    assert "checkpoint_000003 is the best that is left (2)" in reports[1]
    assert (trial / "damaged-best_checkpoint").is_dir()
    assert value_of(trial / "best_checkpoint") == 2.0
    assert find_damage(trial / "best_checkpoint") == []


def test_newest_of_equals_takes_the_place_of_the_best_beyond_six_digits_too(tmp_path):
    checkpoints, reports = TrialCheckpoints(tmp_path / "trial_0"), []
    for number in (999_999, 1_000_000):
        meta = json.dumps({"metric_name": "sharpe", "metric_value": 1.0})
        checkpoints.publish(with_meta(meta), path=checkpoints.folder / f"checkpoint_{number}")
    restore_best(checkpoints.folder, reports.append)
    assert "checkpoint_1000000 is the best that is left" in reports[0]


def test_what_another_trial_has_reached_is_never_its_best(tmp_path):
    checkpoints = TrialCheckpoints(tmp_path / "trial_0")
    for meta in ({"metric_value": 1.0}, {"metric_value": 2.0, "copied_from": "trial_1/checkpoint_000007"}):
        checkpoints.publish(with_meta(json.dumps(meta)))
    restore_best(checkpoints.folder, lambda line: None)
    assert value_of(checkpoints.folder / "best_checkpoint") == 1.0


def test_trial_without_a_score_has_no_best(tmp_path):
    checkpoints = TrialCheckpoints(tmp_path / "trial_0")
    checkpoints.publish(with_meta('{"metric_value": null}'))
    restore_best(checkpoints.folder, print)
    assert not (checkpoints.folder / "best_checkpoint").exists()
    assert score_to_beat(checkpoints.folder, None) is None
    assert score_to_beat(checkpoints.folder, 5.0) is None


def test_score_of_a_checkpoint_that_is_gone_does_not_hide_later_ones(trial):
    assert score_to_beat(trial, 3.0) == 3.0
    rename_aside(trial / "best_checkpoint")
    assert score_to_beat(trial, 3.0) == 3.0, "its original is still there"
    rename_aside(trial / "checkpoint_000001")
    assert score_to_beat(trial, 3.0) == 2.0
    for path in TrialCheckpoints(trial).published():
        rename_aside(path)
    assert score_to_beat(trial, 3.0) is None


def test_score_zero_counts(tmp_path):
    checkpoints = TrialCheckpoints(tmp_path / "trial_0")
    checkpoints.publish(with_meta('{"metric_value": 0.0}'))
    assert score_to_beat(checkpoints.folder, 1.0) == 0.0


def test_run_that_is_carried_on_sweeps_what_a_kill_has_left(trial):
    (trial / ".publishing-deleting-checkpoint_000000").mkdir()
    assert check_checkpoints(trial.parent) == []
    assert not list(trial.glob(".publishing-*"))
