import errno
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

import pytest
from clocked import Clocked
from ray.rllib.algorithms.algorithm import Algorithm
from sample_runs import config_of

from algos.learner import NonFiniteLossError
from common import disk
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.signals import STOP_FILE
from experiments.runs.summary import why_unsaved
from experiments.tuning import checkpointing


@pytest.fixture
def full_disk(monkeypatch):
    """While it is entered, nothing can be brought to disk."""

    @contextmanager
    def full():
        with monkeypatch.context() as patch:
            error = OSError(errno.ENOSPC, "No space left")
            patch.setattr(disk, "_write", lambda *_: (_ for _ in ()).throw(error))
            yield

    return full


@pytest.fixture
def busy(monkeypatch):
    """While it is entered, a step after a checkpoint is there fails."""

    @contextmanager
    def busy(step):
        with monkeypatch.context() as patch:
            patch.setattr(TrialCheckpoints, step, lambda *_, **__: (_ for _ in ()).throw(OSError("busy")))
            yield

    return busy


def saved(trainable):
    """Save, and wait for it."""
    taken = trainable.save()
    trainable.finish_saving()
    return taken


def test_full_disk_during_a_save_does_not_end_the_training(tmp_path, full_disk, capsys):
    trainable = Clocked(config_of("qmix", keep=1), [])
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    first = saved(trainable).checkpoint
    with full_disk():
        saved(trainable)
    assert "training goes on" in capsys.readouterr().err
    assert [str(path) for path in trainable._checkpoints.published()] == [first.path]
    saved(trainable)
    assert [path.name for path in trainable._checkpoints.published()] == ["checkpoint_000001"], "keep=1 keeps one"


def test_best_checkpoint_that_could_not_be_saved_does_not_count(clocked, tmp_path, full_disk):
    trainable = Clocked(config_of("qmix", episodes=16, checkpoint_interval=4), [1.0, 9.0, 5.0, 2.0])
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    kept = []
    for due in range(4):
        with full_disk() if due == 1 else nullcontext():
            is_best = trainable.step()["is_best"]
            kept.append(is_best)
            trainable.save()
            trainable.finish_saving()
    assert kept == [True, True, True, False], "9 was never to be had, so 5 is the best"


def test_reason_of_a_failed_save_is_left_for_the_process_that_has_a_screen(clocked, tmp_path, full_disk):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0, 2.0, 3.0])
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    with full_disk():
        saved(trainable)
    assert "No space left" in (tmp_path / "save_error.txt").read_text()
    assert "No space left" in trainable.step()["save_error"], "and told with the next result, once"
    assert "save_error" not in trainable.step()
    saved(trainable)
    assert not (tmp_path / "save_error.txt").exists()


def test_training_goes_on_while_a_checkpoint_is_published_and_reports_nothing_before_it_is_there(clocked, tmp_path):
    trainable, may_end = Clocked(config_of("qmix", episodes=400), [1.0] * 9), Event()
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    trainable.slow = may_end
    taken = trainable.save()
    assert taken.checkpoint.path.endswith("checkpoint_000000")
    assert trainable._checkpoints.published() == []
    before, reported = trainable.ended, []
    training = Thread(target=lambda: reported.append(trainable.step()))
    training.start()
    while trainable.ended == before:  # the iteration is done meanwhile
        training.join(0.01)
    training.join(0.2)
    assert reported == []
    may_end.set()
    training.join()
    assert [path.name for path in trainable._checkpoints.published()] == ["checkpoint_000000"]
    assert reported[0]["episodes"] == 4


@pytest.mark.parametrize("settings", [{"episodes": 4}, {"search": {"num_trials": 2}}], ids=["last", "search"])
def test_last_checkpoint_and_those_of_a_search_are_there_when_save_returns(clocked, tmp_path, settings):
    trainable = Clocked(config_of("qmix", **settings), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    trainable.step()
    assert Path(trainable.save().checkpoint.path).is_dir()


def test_snapshot_is_of_the_instant_it_was_taken_at(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    trainable.slow = Event()
    trainable.step()
    trainable.save()
    trainable.ended += 100
    trainable.slow.set()
    trainable.finish_saving()
    assert (tmp_path / "checkpoint_000000" / "weights").read_text() == "4"


class SilentStore:
    """A mirror whose store does not answer."""

    def push_files(self):
        raise OSError("no answer")

    def push_checkpoint(self, checkpoint):
        raise AssertionError("no checkpoint goes there before its records")

    def prune(self, trial, keep, *, keep_every):
        raise AssertionError("nothing is deleted meanwhile")


def test_checkpoint_that_the_store_does_not_take_is_saved_all_the_same(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4, keep=1), [9.0, 7.0, 5.0])
    trainable._checkpoints, trainable._mirror = TrialCheckpoints(tmp_path), SilentStore()
    for _ in range(2):
        trainable.step()
        saved(trainable)
    assert [path.name for path in trainable._checkpoints.published()] == ["checkpoint_000000", "checkpoint_000001"]
    assert why_unsaved(tmp_path, 8) is None
    assert trainable._progress.best == 9.0
    assert trainable.step()["save_error"] == "the checkpoint is not in the store yet (no answer)"


@pytest.mark.parametrize(
    ("step", "said"),
    [("sync", "the checkpoint's name may not last (busy)"), ("prune", "could not delete old checkpoints (busy)")],
)
def test_what_fails_after_a_checkpoint_is_there_is_told_and_nothing_is_deleted(clocked, tmp_path, busy, step, said):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4, keep=1), [5.0, 9.0, 7.0, 7.0])
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    with busy(step):
        for _ in range(2):
            trainable.step()
            saved(trainable)
    assert [path.name for path in trainable._checkpoints.published()] == ["checkpoint_000000", "checkpoint_000001"]
    assert trainable.step()["save_error"] == said
    assert why_unsaved(tmp_path, 8) is None


def test_reason_of_a_failed_save_is_taken_back_although_old_checkpoints_cannot_be_deleted(
    clocked, tmp_path, full_disk, busy
):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    with full_disk():
        saved(trainable)
    with busy("prune"):
        saved(trainable)
    assert not (tmp_path / "save_error.txt").exists()


def test_what_the_disk_refuses_is_told_and_training_goes_on(clocked, tmp_path, capsys):
    (tmp_path / "file").write_text("where the trial's folder should be")
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path / "file")
    saved(trainable)
    assert f"could not save a checkpoint ([Errno 17] File exists: '{tmp_path}/file')" in capsys.readouterr().err
    assert "File exists" in trainable.step()["save_error"]


def test_thread_that_writes_ends_with_the_trainable_that_can_be_stopped_twice(clocked, tmp_path, monkeypatch):
    stopped, before = [], set(threading.enumerate())
    monkeypatch.setattr(Algorithm, "cleanup", lambda self: stopped.append(self))
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    trainable.save()
    assert len(set(threading.enumerate()) - before) == 1
    for _ in range(2):
        trainable.cleanup()
    assert not set(threading.enumerate()) - before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000"]
    assert len(stopped) == 2


def test_old_checkpoint_that_cannot_be_deleted_does_not_undo_the_newest(clocked, tmp_path, busy):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4), [5.0, 9.0, 7.0, 7.0])
    trainable._checkpoints, kept = TrialCheckpoints(tmp_path), []
    for due in range(3):
        with busy("prune") if due == 1 else nullcontext():
            kept.append(trainable.step()["is_best"])
            saved(trainable)
    assert kept == [True, True, False], "9 is there, so 7 is not the best"
    assert trainable.previous_checkpoint == trainable._checkpoints.published()[-1]


def test_loss_that_is_not_finite_says_so_whatever_became_of_the_save_before(clocked, tmp_path, full_disk, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints, trainable.slow = TrialCheckpoints(tmp_path), Event()
    trainable.step()
    with full_disk():
        trainable.save()
        monkeypatch.setattr(Algorithm, "step", lambda self: (_ for _ in ()).throw(NonFiniteLossError("loss is NaN")))
        trainable.slow.set()
        result = trainable.step()
    assert "loss is NaN" in result["fatal"]
    assert "No space left" in result["save_error"]


def test_error_in_training_is_not_hidden_by_one_in_saving(clocked, tmp_path, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._checkpoints = TrialCheckpoints(tmp_path)
    trainable.step()
    monkeypatch.setattr(TrialCheckpoints, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyError("saving")))
    trainable.save()
    monkeypatch.setattr(Algorithm, "step", lambda self: (_ for _ in ()).throw(ZeroDivisionError("training")))
    with pytest.raises(ZeroDivisionError, match="training"):
        trainable.step()


def passing(monkeypatch, seconds):
    """The clock of saves goes on by so much at each reading."""
    now = iter(range(0, 10**6, seconds))
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: float(next(now)))


@pytest.mark.parametrize(("every_s", "taken"), [(0, [4, 8, 12, 16, 20, 24]), (25, [4, 16, 24])])
def test_checkpoint_that_is_due_too_soon_is_passed_over_but_for_the_last(clocked, monkeypatch, every_s, taken):
    settings = {"episodes": 24, "checkpoint_interval": 4, "checkpoint_interval_s": every_s}
    trainable = Clocked(config_of("qmix", **settings), [9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    passing(monkeypatch, 10)
    results = stepped(trainable)
    assert [r["episodes"] for r in results if r.get("should_checkpoint")] == taken
    assert [r["episodes"] for r in results if r["is_evaluated"]] == [4, 8, 12, 16, 20, 24]


def stepped(trainable):
    """All results of a run whose checkpoints are begun and not written."""
    results = []
    while not results or not results[-1]["done"]:
        results.append(trainable.step())
        if results[-1].get("should_checkpoint"):
            trainable._saved_at = checkpointing.time.monotonic()
    return results


def test_whether_a_checkpoint_is_passed_over_changes_nothing_that_is_reported(clocked):
    """Above all not which one is the best: that one is always taken."""
    reported = []
    for every_s in (0, 10**6):
        settings = {"episodes": 32, "checkpoint_interval": 4, "checkpoint_interval_s": every_s}
        results = stepped(Clocked(config_of("qmix", **settings), [3.0, 1.0, 5.0, 2.0, 4.0, 7.0, 6.0, 1.0]))
        best = [r["episodes"] for r in results if r["is_best"]]
        assert set(best) <= {r["episodes"] for r in results if r.get("should_checkpoint")}
        reported.append(
            [{k: v for k, v in r.items() if k not in ("should_checkpoint", "time_waited_s")} for r in results]
        )
    assert reported[0] == reported[1]
    assert best == [4, 12, 24]
    assert [r["episodes"] for r in results if r.get("should_checkpoint")] == [4, 12, 24, 32]


@pytest.mark.parametrize("why", ["search", "signal", "failed"])
def test_checkpoint_that_is_needed_is_never_passed_over(clocked, tmp_path, full_disk, why):
    settings = {"episodes": 400, "checkpoint_interval": 4, "checkpoint_interval_s": 10**6}
    settings |= {"search": {"num_trials": 2}} if why == "search" else {}
    trainable = Clocked(config_of("qmix", **settings), [9.0] * 9)
    trainable._checkpoints, trainable._run_folder = TrialCheckpoints(tmp_path / "trial_0"), tmp_path
    trainable.step()
    with full_disk() if why == "failed" else nullcontext():
        saved(trainable)
    if why == "signal":
        (tmp_path / STOP_FILE).touch()
    trainable.scores.insert(0, 1.0)
    assert trainable.step()["should_checkpoint"]
    if why == "signal":
        (tmp_path / STOP_FILE).unlink()
        saved(trainable)
        assert "should_checkpoint" not in trainable.step(), "once it is there, there is no hurry"
