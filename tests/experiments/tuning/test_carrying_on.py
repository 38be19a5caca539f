"""What a trainable goes on from, and what it refuses to start over; without an algorithm."""

import json
import shutil

import pytest
from clocked import Clocked
from ray.tune.trainable import Trainable
from sample_runs import config_of
from trials import lines_of, trial_in

from common.errors import IncompatibleError, InputError
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.progress import Progress
from experiments.runs.repair import check_checkpoints
from experiments.runs.summary import write_summary
from experiments.tuning.monitor import RunMonitor


@pytest.fixture
def trainable(tmp_path, monkeypatch):
    """A new process of a run in ``dow``; ``gone_on_from`` says which checkpoints it has loaded."""
    made = Clocked(config_of("qmix"), [])
    made._run_folder, made._checkpoints = tmp_path / "dow", TrialCheckpoints(tmp_path / "dow" / "trial_0")
    made._resume_from, made._is_branch, made._has_loaded = None, False, False
    made.gone_on_from = []
    monkeypatch.setattr(made, "_continue_from", made.gone_on_from.append)
    return made


def publish(trainable, name="checkpoint_000000", **state):
    def write(folder):
        (folder / "run_state.json").write_text(json.dumps(Progress(iteration=2, **state).to_json()))
        (folder / "checkpoint_meta.json").write_text('{"is_best": false}')

    return trainable._checkpoints.publish(write, path=trainable._checkpoints.folder / name)


def write_records(trainable, *, count):
    trainable._checkpoints.folder.mkdir(parents=True, exist_ok=True)
    lines = [{"training_iteration": i, "should_checkpoint": i % 2 == 0} for i in range(1, count + 1)]
    (trainable._checkpoints.folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def begin_step(trainable):
    """The monitor's part and the trainable's, as at the start of a session."""
    trial = trial_in(trainable._run_folder)
    RunMonitor(algo="qmix", seed=4).on_step_begin(0, [trial])
    trainable._carry_on()


def test_trial_that_a_kill_met_before_its_first_checkpoint_begins_anew(trainable):
    write_records(trainable, count=2)  # the second was followed by a checkpoint that is not there
    begin_step(trainable)
    assert trainable._has_loaded
    assert lines_of(trainable._run_folder) == trainable.gone_on_from == []


@pytest.mark.parametrize("left", ["best_checkpoint", "records"])
def test_nothing_is_started_over_a_trial_that_has_lost_its_checkpoints(trainable, left):
    write_records(trainable, count=3)
    if left == "best_checkpoint":
        write_records(trainable, count=1)
        publish(trainable, left)
    before = lines_of(trainable._run_folder)
    with pytest.raises(IncompatibleError, match=r"has lost its checkpoints .*, nothing is started over it"):
        begin_step(trainable)
    assert lines_of(trainable._run_folder) == before != []


def test_checkpoint_that_is_named_is_gone_on_from_where_all_others_are_lost(trainable):
    write_records(trainable, count=3)
    best = publish(trainable, "best_checkpoint")
    trainable._resume_from = {"checkpoint": "trial_0/best_checkpoint"}
    begin_step(trainable)
    assert trainable.gone_on_from == [best]
    assert len(lines_of(trainable._run_folder)) == 3, "the next result cuts what is after it"


def test_trainable_itself_passes_over_damaged_checkpoints_and_refuses_where_none_is_whole(trainable):
    older, newer = publish(trainable), publish(trainable, "checkpoint_000001")
    (newer / "run_state.json").write_text("{}")
    trainable._carry_on()
    assert trainable.gone_on_from == [older]
    (older / "run_state.json").unlink()
    with pytest.raises(IncompatibleError, match=r"none of the checkpoints in .*trial_0 is whole; see those set aside"):
        trainable._carry_on()


@pytest.mark.parametrize("has_newer", [False, True])
def test_checkpoint_that_is_named_is_verified(trainable, has_newer):
    named = publish(trainable, "checkpoint_000000" if has_newer else "best_checkpoint")
    if has_newer:
        publish(trainable, "checkpoint_000001")
    trainable._resume_from = {"checkpoint": f"trial_0/{named.name}"}
    trainable._carry_on()
    assert trainable.gone_on_from == [named]
    (named / "run_state.json").write_text("{}")
    with pytest.raises(IncompatibleError, match=r"is damaged, run_state.json: .* name another one with --resume"):
        trainable._carry_on()


def test_checkpoint_that_is_named_does_not_matter_once_one_has_followed_it(trainable):
    named, asked = publish(trainable), {"checkpoint": "trial_0/checkpoint_000000", "asked_at": "2026-01-01"}
    trainable._resume_from = asked
    followed = publish(trainable, "checkpoint_000001", resume_from=asked)
    (named / "run_state.json").write_text("{}")
    trainable._carry_on()
    assert trainable.gone_on_from == [followed]


@pytest.mark.parametrize("damaged", ["run_state.json", "manifest.json", None])
def test_checkpoint_of_another_folder_is_verified(trainable, tmp_path, monkeypatch, damaged):
    loaded = []
    monkeypatch.setattr(Trainable, "restore", lambda self, path: loaded.append(path))
    here, trainable._checkpoints = trainable._checkpoints, TrialCheckpoints(tmp_path / "elsewhere")
    other = publish(trainable)
    trainable._checkpoints = here
    if damaged is None:
        trainable.restore(str(other))
        assert loaded == [str(other)]
        return
    (other / damaged).write_text("{}")
    with pytest.raises(IncompatibleError, match=r"is damaged, .*: name another one"):
        trainable.restore(str(other))
    assert loaded == []


@pytest.mark.parametrize("becomes", ["gone", "damaged", "whole"])
def test_newest_checkpoint_that_is_gone_is_told(trainable, capsys, becomes):
    publish(trainable)
    newest = publish(trainable, "checkpoint_000001")
    write_summary(trainable._run_folder, {"latest_checkpoint": "trial_0/checkpoint_000001"})
    if becomes == "gone":
        shutil.rmtree(newest)
    elif becomes == "damaged":
        (newest / "run_state.json").unlink()
    told = check_checkpoints(trainable._run_folder)
    assert check_checkpoints(trainable._run_folder) == (told if becomes == "gone" else []), "set aside, once"
    if becomes == "gone":
        assert told == ["checkpoint_000001 is gone: the newest that is left is checkpoint_000000"]
    else:
        assert len(told) == (becomes == "damaged")


def test_trial_that_is_gone_is_told_whatever_else_is_called_like_one(trainable):
    (trainable._run_folder / "trial_of_mine").mkdir(parents=True)
    write_summary(trainable._run_folder, {"latest_checkpoint": "trial_0/checkpoint_000001"})
    with pytest.raises(InputError, match=r"trial_0 has lost its checkpoints"):
        check_checkpoints(trainable._run_folder)
    publish(trainable)
    write_summary(trainable._run_folder, {"latest_checkpoint": "trial_q/checkpoint_000001"})
    assert check_checkpoints(trainable._run_folder) == [], "a summary in which a letter has changed hides no checkpoint"
