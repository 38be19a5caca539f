"""Whether a trial without checkpoints has lost them, or has not come to one."""

import json
import shutil

import pytest

from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.runs.folders import has_begun, lost_checkpoints


@pytest.fixture
def trial(tmp_path):
    """A trial that was killed after its third iteration, before its first checkpoint."""
    folder = tmp_path / "dow" / "trial_0"
    folder.mkdir(parents=True)
    (folder.parent / "config.json").write_text("{}")
    (folder.parent / "summary.json").write_text('{"status": "running", "latest_checkpoint": null}')
    write_records(folder, due=[3])
    return folder


def write_records(trial, *, due, count=3):
    lines = [{"training_iteration": i} | ({"should_checkpoint": True} if i in due else {}) for i in range(1, count + 1)]
    (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"training')


def published(trial, name="checkpoint_000000"):
    return TrialCheckpoints(trial).publish(lambda folder: (folder / "a").touch(), path=trial / name)


def test_trial_that_has_not_come_to_a_checkpoint_has_lost_none(trial):
    assert lost_checkpoints(trial) is None
    assert not has_begun(trial.parent)
    shutil.rmtree(trial.parent)
    assert lost_checkpoints(trial) is None


def test_trial_whose_first_checkpoint_could_not_be_saved_begins_anew(trial):
    write_records(trial, due=[1, 3])
    (trial / "save_error.txt").write_text("No space left on device")
    assert lost_checkpoints(trial) is None
    assert not has_begun(trial.parent)


@pytest.mark.parametrize("name", ["checkpoint_000000", "damaged-checkpoint_000000"])
def test_trial_that_has_a_checkpoint_has_not_lost_them(trial, name):
    published(trial, "best_checkpoint")
    published(trial, name)
    is_damaged = name.startswith("damaged")
    assert (lost_checkpoints(trial) or "").startswith("none of the 1 checkpoints") == is_damaged
    assert (lost_checkpoints(trial) is None) != is_damaged


@pytest.mark.parametrize(
    ("accident", "told"),
    [
        (lambda trial: published(trial, "best_checkpoint"), "(best_checkpoint is left)"),
        (lambda trial: published(trial, "damaged-best_checkpoint-2"), "(damaged-best_checkpoint-2 is left)"),
        (lambda trial: published(trial, "overtaken-checkpoint_000001"), "(overtaken-checkpoint_000001 is left)"),
        (
            lambda trial: (trial.parent / "summary.json").write_text(
                '{"latest_checkpoint": "trial_0/checkpoint_000002"}'
            ),
            "(the newest was trial_0/checkpoint_000002)",
        ),
        (lambda trial: write_records(trial, due=[2, 3]), "(result.json tells of one after iteration 2)"),
    ],
    ids=["best", "damaged best", "overtaken", "summary", "records"],
)
def test_what_is_left_of_a_trial_tells_that_it_has_lost_its_checkpoints(trial, accident, told):
    accident(trial)
    line = lost_checkpoints(trial)
    assert told in line
    assert ("--resume never" in line, f"--resume {trial}/best_checkpoint" in line) == (True, "(best" in told)


def test_records_alone_tell_that_a_run_has_begun(trial):
    write_records(trial, due=[2])
    assert has_begun(trial.parent)


def test_trial_of_a_search_may_be_moved_out_of_it_to_be_trained_anew(trial):
    (trial.parent / "search.json").write_text("{}")
    (trial.parent / "summary.json").write_text('{"latest_checkpoint": "trial_0/checkpoint_000002"}')
    assert lost_checkpoints(trial) is None
    published(trial, "best_checkpoint")
    assert "move trial_0 out of the search to train it anew" in lost_checkpoints(trial)
