"""What the best checkpoint of a trial is, after accidents."""

import json

import pytest

from experiments.recovery.manifests import find_damage
from experiments.recovery.shelf import CheckpointShelf
from experiments.tuning.best import restore_best, score_to_beat
from experiments.tuning.monitor import copy_folder

VALUES = (1.0, 3.0, -1.0, 2.0)


def with_meta(text):
    def write(folder):
        (folder / "checkpoint_meta.json").write_text(text)

    return write


@pytest.fixture
def trial(tmp_path):
    """Four checkpoints, the second of them the best."""
    shelf = CheckpointShelf(tmp_path / "trial_0")
    for value in VALUES:
        meta = json.dumps({"metric_name": "sharpe", "metric_value": value})
        shelf.publish(with_meta(meta))
    copy_folder(shelf.published()[1], shelf.folder / "best_checkpoint")
    return shelf.folder


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
    shelf, reports = CheckpointShelf(tmp_path / "trial_0"), []
    for number in (999_999, 1_000_000):
        meta = json.dumps({"metric_name": "sharpe", "metric_value": 1.0})
        shelf.publish(with_meta(meta), path=shelf.folder / f"checkpoint_{number}")
    restore_best(shelf.folder, reports.append)
    assert "checkpoint_1000000 is the best that is left" in reports[0]


def test_what_another_trial_has_reached_is_never_its_best(tmp_path):
    shelf = CheckpointShelf(tmp_path / "trial_0")
    for meta in ({"metric_value": 1.0}, {"metric_value": 2.0, "copied_from": "trial_1/checkpoint_000007"}):
        shelf.publish(with_meta(json.dumps(meta)))
    restore_best(shelf.folder, lambda line: None)
    assert value_of(shelf.folder / "best_checkpoint") == 1.0


def test_trial_without_a_score_has_no_best(tmp_path):
    shelf = CheckpointShelf(tmp_path / "trial_0")
    shelf.publish(with_meta('{"metric_value": null}'))
    restore_best(shelf.folder, print)
    assert not (shelf.folder / "best_checkpoint").exists()
    assert score_to_beat(shelf.folder, None) is None
    assert score_to_beat(shelf.folder, 5.0) is None


def test_score_of_a_checkpoint_that_is_gone_does_not_hide_later_ones(trial):
    assert score_to_beat(trial, 3.0) == 3.0
    CheckpointShelf(trial).set_aside(trial / "best_checkpoint")
    assert score_to_beat(trial, 3.0) == 3.0, "its original is still there"
    CheckpointShelf(trial).set_aside(trial / "checkpoint_000001")
    assert score_to_beat(trial, 3.0) == 2.0
    for path in CheckpointShelf(trial).published():
        CheckpointShelf(trial).set_aside(path)
    assert score_to_beat(trial, 3.0) is None


def test_score_zero_counts(tmp_path):
    shelf = CheckpointShelf(tmp_path / "trial_0")
    shelf.publish(with_meta('{"metric_value": 0.0}'))
    assert score_to_beat(shelf.folder, 1.0) == 0.0
