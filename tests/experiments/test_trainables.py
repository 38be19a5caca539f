import errno
import json
import subprocess
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from runs import config_of

from algos.learner import NonFiniteLossError, require_finite
from algos.snapshots import Snapshot
from experiments.recovery.scribe import Scribe
from experiments.recovery.shelf import CheckpointShelf
from experiments.recovery.stopping import STOP_FILE
from experiments.tuning import trainables
from experiments.tuning.monitor import why_unsaved
from experiments.tuning.trainables import RunTrainable, StalledError

# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_is_refused_by_module(value):
    with pytest.raises(NonFiniteLossError, match="module 'team'"):
        require_finite(torch.tensor(value), "team")
    require_finite(torch.tensor(1.0), "team")


# --- the clock of a run -----------------------------------------------------------------------------------------------


class Clocked(RunTrainable):
    """The trainable's clock alone: each step ends four episodes, each evaluation takes the next score."""

    def __init__(self, run, scores):
        self.run, self.scores, self.ended = run, list(scores), 0
        self._evaluated_at = self._checkpointed_at = self._iteration = 0
        self._last_metrics, self._best, self._is_best, self._has_loaded = {}, None, False, True
        self._run_folder, self._steps_before, self._recent_return = None, 0, None
        self._last_value = self._best_before = self.slow = None

    num_episodes = property(lambda self: self.ended)

    def _evaluate_now(self):
        self._last_metrics, self._last_evaluation = {"sharpe": self.scores.pop(0)}, {}
        self._evaluated_at = self.ended

    def _peek(self, name, default=0):
        return 20 * self.ended if name == NUM_ENV_STEPS_SAMPLED_LIFETIME else default

    def _agent_steps(self):
        return 0

    def snapshot(self):
        meta = json.dumps({"episode": self.ended}).encode()
        return Snapshot({"weights": str(self.ended).encode(), "checkpoint_meta.json": meta})

    def _publish(self, draft):
        if self.slow is not None:
            assert self.slow.wait(60)
        return super()._publish(draft)


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """End the processes that write the checkpoints of a test."""
    scribes, real = [], Scribe.__init__
    monkeypatch.setattr(Scribe, "__init__", lambda self: (real(self), scribes.append(self))[0])
    yield
    for scribe in scribes:
        scribe.close()


@pytest.fixture
def clocked(monkeypatch):
    def step(self):
        self.ended += 4
        return {}

    monkeypatch.setattr(Algorithm, "step", step)
    monkeypatch.setattr(trainables, "flat_weights", lambda algorithm: {})

    def steps(scores, **settings):
        trainable, results = Clocked(config_of("qmix", **settings), scores), []
        while not results or not results[-1]["done"]:
            results.append(trainable.step())
        return results

    return steps


def test_checkpoints_and_evaluations_are_due_by_episodes(clocked):
    results = clocked(range(9), episodes=30, checkpoint_interval=12, evaluation_interval=8)
    saved = [result["episodes"] for result in results if result.get("should_checkpoint")]
    assert saved == [12, 24, 32], "the last one when the target is reached"
    assert [result["score"] for result in results] == [0, 0, 1, 1, 2, 3, 3, 4]


def test_best_is_by_any_metric_of_a_result_and_by_its_smallest_value_where_asked(clocked, monkeypatch):
    losses = [None, 3.0, 2.0, 5.0, 1.0]

    def step(self):
        self.ended += 4
        loss = losses.pop(0)
        return {"learners": {} if loss is None else {"team": {"total_loss": loss, "is_new": True}}}

    monkeypatch.setattr(Algorithm, "step", step)
    settings = {"checkpoint_metric": "learners/team/total_loss", "checkpoint_mode": "min"}
    trainable = Clocked(config_of("qmix", episodes=20, checkpoint_interval=4, **settings), [1.0] * 9)
    results = [trainable.step() for _ in range(5)]
    assert [r["is_best"] for r in results] == [False, True, True, False, True]
    assert [r["score"] for r in results[1:]] == [-3.0, -2.0, -5.0, -1.0]
    assert trainable._last_value == 1.0, "as it is, for people"


def test_metric_that_no_result_has_ends_the_run_with_the_nearest_names(clocked, monkeypatch):
    def step(self):
        self.ended += 4
        return {"learners": {"team": {"total_loss": 1.0, "vf_loss": 1.0}}, "env_runners": {"episode_len_mean": 9.0}}

    monkeypatch.setattr(Algorithm, "step", step)
    trainable = Clocked(config_of("qmix", checkpoint_metric="learners/team/totalloss"), [1.0] * 9)
    result = trainable.step()
    assert result["done"]
    assert result["is_input_error"]
    assert "learners/team/totalloss is in none of the" in result["fatal"]
    assert "the nearest are learners/team/total_loss" in result["fatal"]


def test_recent_return_is_that_of_the_last_episodes_that_ended(clocked, monkeypatch):
    trainable, returns = Clocked(config_of("qmix", episodes=40), [1.0] * 9), [None, 0.5, None, float("nan"), 0.25]

    def step(self):
        self.ended += 4
        found = returns.pop(0)
        return {"env_runners": {} if found is None else {"episode_return_mean": found}}

    monkeypatch.setattr(Algorithm, "step", step)
    assert [repr(trainable.step()["episode_return"]) for _ in range(5)] == ["nan", "0.5", "0.5", "0.5", "0.25"]


def test_best_is_judged_among_checkpoints_only(clocked):
    results = clocked([9.0, 5.0, 8.0, 4.0, 6.0], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [(r["episodes"], r["score"]) for r in results if r["is_best"]] == [(16, 8.0)]
    results = clocked([9.0, 5.0, 8.0, 4.0, float("nan")], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [r["episodes"] for r in results if r["is_best"]] == [16]


def test_population_is_compared_by_fresh_checkpoints(clocked):
    search = {"num_trials": 2, "scheduler": "pbt", "perturbation_interval": 10}
    intervals = {"episodes": 40, "checkpoint_interval": 100, "evaluation_interval": 100}
    results = clocked(range(9), **intervals, search=search)
    assert [r["episodes"] for r in results if r.get("should_checkpoint")] == [12, 20, 32, 40]
    assert [r["score"] for r in results if r.get("should_checkpoint")] == [1, 2, 3, 4]
    alone = clocked(range(9), **intervals, search={**search, "scheduler": "none"})
    assert [r["episodes"] for r in alone if r.get("should_checkpoint")] == [40]


def test_run_that_was_killed_after_its_last_checkpoint_trains_no_more(clocked, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=8), [])
    trainable.ended, trainable._last_metrics = 8, {"score": 1.0}
    trainable._evaluated_at = trainable._checkpointed_at = 8
    result = trainable.step()
    assert (result["done"], result["episodes"], result["is_repeated"]) == (True, 8, True)
    assert "should_checkpoint" not in result


def test_iteration_that_sampled_nothing_is_a_failure(clocked, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=40), [1.0, 2.0])
    trainable.step()
    monkeypatch.setattr(Algorithm, "step", lambda self: {})
    with pytest.raises(StalledError, match="environment steps stand at 80"):
        trainable.step()


def test_request_to_stop_makes_the_iteration_a_checkpoint_and_the_last(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=100), [1.0, 2.0])
    trainable._run_folder = tmp_path
    assert not trainable.step()["done"]
    (tmp_path / STOP_FILE).write_text("SIGTERM")
    result = trainable.step()
    assert (result["done"], result["is_stopped"], result["should_checkpoint"]) == (True, True, True)


@pytest.fixture
def full_disk(monkeypatch):
    """While it is entered, nothing can be brought to disk."""

    @contextmanager
    def full():
        with monkeypatch.context() as patch:
            error = OSError(errno.ENOSPC, "No space left")
            patch.setattr(Scribe, "publish", lambda *_: (_ for _ in ()).throw(error))
            yield

    return full


@pytest.fixture
def busy(monkeypatch):
    """While it is entered, a step after a checkpoint is there fails, where it is done."""

    @contextmanager
    def busy(step):
        real = Scribe.publish

        def publish(self, draft, then=()):
            fails = ("set_aside", {"path": Path("/nowhere")})
            path, failed = real(self, draft, [fails if asked[0] == step else asked for asked in then])
            assert failed[0] == "set_aside"
            return path, (step, OSError("busy"))

        with monkeypatch.context() as patch:
            patch.setattr(Scribe, "publish", publish)
            yield

    return busy


def saved(trainable):
    """Save, and wait for it."""
    taken = trainable.save()
    trainable.finish_saving()
    return taken


def test_full_disk_during_a_save_does_not_end_the_training(tmp_path, full_disk, capsys):
    trainable = Clocked(config_of("qmix", keep=1), [])
    trainable._shelf = CheckpointShelf(tmp_path)
    first = saved(trainable).checkpoint
    with full_disk():
        saved(trainable)
    assert "training goes on" in capsys.readouterr().err
    assert [str(path) for path in trainable._shelf.published()] == [first.path]
    saved(trainable)
    assert [path.name for path in trainable._shelf.published()] == ["checkpoint_000001"], "keep=1 keeps one"


def test_best_checkpoint_that_could_not_be_saved_does_not_count(clocked, tmp_path, full_disk):
    trainable = Clocked(config_of("qmix", episodes=16, checkpoint_interval=4), [1.0, 9.0, 5.0, 2.0])
    trainable._shelf = CheckpointShelf(tmp_path)
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
    trainable._shelf = CheckpointShelf(tmp_path)
    with full_disk():
        saved(trainable)
    assert "No space left" in (tmp_path / "save_error.txt").read_text()
    assert "No space left" in trainable.step()["save_error"], "and told with the next result, once"
    assert "save_error" not in trainable.step()
    saved(trainable)
    assert not (tmp_path / "save_error.txt").exists()


def test_training_goes_on_while_a_checkpoint_is_published_and_reports_nothing_before_it_is_there(clocked, tmp_path):
    trainable, may_end = Clocked(config_of("qmix", episodes=400), [1.0] * 9), Event()
    trainable._shelf = CheckpointShelf(tmp_path)
    trainable.slow = may_end
    taken = trainable.save()
    assert taken.checkpoint.path.endswith("checkpoint_000000")
    assert trainable._shelf.published() == []
    before, reported = trainable.ended, []
    training = Thread(target=lambda: reported.append(trainable.step()))
    training.start()
    while trainable.ended == before:  # the iteration is done meanwhile
        training.join(0.01)
    training.join(0.2)
    assert reported == []
    may_end.set()
    training.join()
    assert [path.name for path in trainable._shelf.published()] == ["checkpoint_000000"]
    assert reported[0]["episodes"] == 4


@pytest.mark.parametrize("settings", [{"episodes": 4}, {"search": {"num_trials": 2}}], ids=["last", "search"])
def test_last_checkpoint_and_those_of_a_search_are_there_when_save_returns(clocked, tmp_path, settings):
    trainable = Clocked(config_of("qmix", **settings), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path)
    trainable.step()
    assert Path(trainable.save().checkpoint.path).is_dir()


def test_snapshot_is_of_the_instant_it_was_taken_at(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path)
    trainable.slow = Event()
    trainable.step()
    trainable.save()
    trainable.ended += 100
    trainable.slow.set()
    trainable.finish_saving()
    assert (tmp_path / "checkpoint_000000" / "weights").read_text() == "4"


class SilentStore:
    """A vault whose store does not answer."""

    def push_files(self):
        raise OSError("no answer")

    def push_checkpoint(self, checkpoint):
        raise AssertionError("no checkpoint goes there before its records")

    def prune(self, trial):
        raise AssertionError("nothing is deleted meanwhile")


def test_checkpoint_that_the_store_does_not_take_is_saved_all_the_same(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4, keep=1), [9.0, 7.0, 5.0])
    trainable._shelf, trainable._vault = CheckpointShelf(tmp_path), SilentStore()
    for _ in range(2):
        trainable.step()
        saved(trainable)
    assert [path.name for path in trainable._shelf.published()] == ["checkpoint_000000", "checkpoint_000001"]
    assert why_unsaved(tmp_path, 8) is None
    assert trainable._best == 9.0
    assert trainable.step()["save_error"] == "the checkpoint is not in the store yet (no answer)"


@pytest.mark.parametrize(
    ("step", "said"),
    [("settle", "the checkpoint's name may not last (busy)"), ("prune", "could not delete old checkpoints (busy)")],
)
def test_what_fails_after_a_checkpoint_is_there_is_told_and_nothing_is_deleted(clocked, tmp_path, busy, step, said):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4, keep=1), [5.0, 9.0, 7.0, 7.0])
    trainable._shelf = CheckpointShelf(tmp_path)
    with busy(step):
        for _ in range(2):
            trainable.step()
            saved(trainable)
    assert [path.name for path in trainable._shelf.published()] == ["checkpoint_000000", "checkpoint_000001"]
    assert trainable.step()["save_error"] == said
    assert why_unsaved(tmp_path, 8) is None


def test_reason_of_a_failed_save_is_taken_back_although_old_checkpoints_cannot_be_deleted(
    clocked, tmp_path, full_disk, busy
):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path)
    with full_disk():
        saved(trainable)
    with busy("prune"):
        saved(trainable)
    assert not (tmp_path / "save_error.txt").exists()


def test_what_the_disk_refuses_the_process_that_writes_is_told_and_training_goes_on(clocked, tmp_path, capsys):
    (tmp_path / "file").write_text("where the trial's folder should be")
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path / "file")
    saved(trainable)
    assert f"could not save a checkpoint ([Errno 17] File exists: '{tmp_path}/file')" in capsys.readouterr().err
    assert "File exists" in trainable.step()["save_error"]


def test_process_that_cannot_be_started_is_a_save_that_failed(clocked, tmp_path, monkeypatch, capsys):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(BlockingIOError(11, "no process")))
        assert trainable.save().checkpoint is None
    assert "no process" in capsys.readouterr().err
    assert saved(trainable).checkpoint.path == str(tmp_path / "checkpoint_000000")


def test_process_that_writes_ends_with_the_trainable_that_can_be_stopped_twice(clocked, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(Algorithm, "cleanup", lambda self: stopped.append(self))
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf = CheckpointShelf(tmp_path)
    trainable.save()
    process = trainable._scribe._process
    for _ in range(2):
        trainable.cleanup()
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000"]
    assert len(stopped) == 2


def test_old_checkpoint_that_cannot_be_deleted_does_not_undo_the_newest(clocked, tmp_path, busy):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=4), [5.0, 9.0, 7.0, 7.0])
    trainable._shelf, kept = CheckpointShelf(tmp_path), []
    for due in range(3):
        with busy("prune") if due == 1 else nullcontext():
            kept.append(trainable.step()["is_best"])
            saved(trainable)
    assert kept == [True, True, False], "9 is there, so 7 is not the best"
    assert trainable.previous_checkpoint == trainable._shelf.published()[-1]


def test_loss_that_is_not_finite_says_so_whatever_became_of_the_save_before(clocked, tmp_path, full_disk, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=400), [1.0] * 9)
    trainable._shelf, trainable.slow = CheckpointShelf(tmp_path), Event()
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
    trainable._shelf = CheckpointShelf(tmp_path)
    trainable.step()
    monkeypatch.setattr(Scribe, "publish", lambda *_: (_ for _ in ()).throw(KeyError("saving")))
    trainable.save()
    monkeypatch.setattr(Algorithm, "step", lambda self: (_ for _ in ()).throw(ZeroDivisionError("training")))
    with pytest.raises(ZeroDivisionError, match="training"):
        trainable.step()
