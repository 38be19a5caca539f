"""A run's trainable without an algorithm: its clock, and how it saves."""

import json
from types import SimpleNamespace

from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from algos.snapshots import Snapshot
from experiments.recovery.progress import Progress
from experiments.tuning.run_trainable import RunTrainable


class Slow(Snapshot):
    """A snapshot that is written once the event is set, or at once where there is none."""

    def __init__(self, files, may_be_written):
        super().__init__(files)
        self.may_be_written = may_be_written

    def write(self, folder):
        assert self.may_be_written is None or self.may_be_written.wait(60)
        return super().write(folder)


class Clocked(RunTrainable):
    """The trainable's clock alone: each step ends four episodes, each evaluation takes the next score."""

    def __init__(self, run, scores):
        self.run, self.scores, self.ended = run, list(scores), 0
        self._progress, self._iteration, self._steps_before = Progress(), 0, 0
        self._is_best, self._has_loaded, self._run_folder = False, True, None
        self._settings = self._resume_from = self._best_before = self.slow = None

    environment = SimpleNamespace(prefers_later=False)
    env_runner_group = SimpleNamespace(num_healthy_remote_workers=lambda: 0)
    num_episodes = property(lambda self: self.ended)

    def _evaluate_now(self):
        self._progress.last_metrics, self._last_evaluation = {"sharpe": self.scores.pop(0)}, {}
        self._progress.evaluated_at = self.ended

    def _peek(self, name, default=0):
        return 20 * self.ended if name == NUM_ENV_STEPS_SAMPLED_LIFETIME else default

    def _agent_steps(self):
        return 0

    def snapshot(self):
        meta = json.dumps({"episode": self.ended}).encode()
        return Slow({"weights": str(self.ended).encode(), "checkpoint_meta.json": meta}, self.slow)
