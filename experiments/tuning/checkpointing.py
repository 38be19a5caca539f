"""What a checkpoint of a run carries, and how a run goes on from one."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray import tune
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_EPISODES_LIFETIME

from algos import exact
from algos.hooks import HookContext, Hooks
from algos.learner import NonFiniteLossError
from algos.policy import (
    LAYOUT_FILE,
    by_full_name,
    team_layout,
    weights_sha256,
)
from algos.ray_internals import num_updates, use_scheduled_lr
from algos.rollout import Rollout
from algos.schedules import epsilon_at
from algos.snapshots import Snapshot, SnapshotAlgorithm
from common.errors import IncompatibleError
from common.files import json_text
from common.manifests import MANIFEST_FILE, MARKER_FILE
from common.provenance import utc_now
from common.store import first_line
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import BRANCH_FOLDER, META_FILE, SAVE_ERROR_FILE, STATE_FILE, UNSAVED
from experiments.recovery.progress import Progress, read_progress
from experiments.recovery.writer import CheckpointWriter, Step
from experiments.remote.addresses import mirror_of
from experiments.remote.mirror import Mirror
from experiments.runs.folders import lost_checkpoints
from experiments.runs.repair import score_to_beat
from experiments.settings.groups import settings_of_algo
from experiments.settings.metric_names import CLOCK
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning.hooks import hooks_of, set_up_collecting
from experiments.tuning.ray_internals import training_result
from experiments.tuning.weights import load_weights, non_finite_weights, require_fit, require_whole

_FAILING = {
    "sync": "the checkpoint's name may not last",
    "store": "the checkpoint is not in the store yet",
    "prune": "could not delete old checkpoints",
}
"""What is said where a checkpoint is there, but a step after it has failed."""


class CheckpointedRun(SnapshotAlgorithm):
    """A mixin before an RLlib algorithm: checkpoints that are whole, explain themselves, and are carried on from.

    Args:
        algo: The config of the algorithm.
        run: The run's settings.
        record: The run folder's ``config.json``; empty outside Tune.
        kwargs: Tune's; ``storage`` says where the run and trial folders are, None outside Tune.
    """

    previous_checkpoint: Path | None = None
    save_error: str | None = None
    """Why the checkpoint last tried could not be saved; None where it could."""
    _mirror: Mirror | None = None
    _writer: CheckpointWriter | None = None
    _saved_at = -math.inf
    """When the last checkpoint was taken, by this process's clock."""
    _team_text: tuple[bytes, int] | None = None
    """What every checkpoint says of the team, and how many agents it has."""
    _overrides: Mapping[str, Any] = MappingProxyType({})
    """What a search has drawn for this trial, by dotted name."""
    on_rollout: Callable[[Rollout], None] | None = None
    _hooks = Hooks({})
    _ends = False
    """Whether the iteration that has just been done is the last one of this process."""

    def __init__(self, algo: Any, *, run: RunConfig, record: Mapping[str, Any], **kwargs: Any) -> None:
        self.run = run
        self._settings = config_to_json(run)
        self._resume_from: dict[str, str] | None = record.get("resume_from")
        self._is_branch = bool(record.get("branch_of"))
        self._progress = Progress()
        self._steps_before = 0
        self._best_before: float | None = None
        self._is_best = self._has_loaded = False
        storage = kwargs.get("storage")
        self._run_folder = Path(storage.experiment_fs_path) if storage is not None else None
        self._checkpoints = TrialCheckpoints(Path(storage.trial_fs_path)) if storage is not None else None
        self._mirror = mirror_of(run.storage, str(run.name)) if storage is not None else None
        self._hooks = hooks_of(run)
        set_up_collecting(algo, self._hooks, run)
        if self._hooks.wanting("on_step"):
            self.on_rollout = partial(self._call_hooks, "on_step")
        super().__init__(algo, **kwargs)
        if self.local_replay_buffer is not None:
            exact.seed_replay(self.local_replay_buffer, self.run.seed)

    # -- how far -------------------------------------------------------------------------------------------------------

    @property
    def num_episodes(self) -> int:
        """Episodes finished in the whole life of the run, over all replicas."""
        return int(self._peek(NUM_EPISODES_LIFETIME))

    @property
    def num_env_steps(self) -> int:
        """Environment steps sampled in the whole life of the run."""
        return int(self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME))

    @property
    def clock(self) -> int:
        """How far the run is, in what its clock counts."""
        if self.run.clock == "episodes":
            return self.num_episodes
        if self.run.clock == "steps":
            return self.num_env_steps
        counts = self.learner_group.foreach_learner(num_updates)
        return max(int(count.get()) for count in counts)

    def epsilon(self) -> float | None:
        """Chance of a random action now; None for policies that draw from a distribution."""
        settings = settings_of_algo(self.run)
        return epsilon_at(settings, self.num_env_steps) if hasattr(settings, "epsilon_start") else None

    def _peek(self, name: str, default: float = 0) -> float:
        return float(self.metrics.peek((ENV_RUNNER_RESULTS, name), default=default))

    def _call_hooks(self, method: str, value: Any, *, is_done: bool = False) -> None:
        """Call a method of the hooks, in an iteration or once it ``is_done``."""
        if not self._hooks.wanting(method):
            return
        context = HookContext(
            run_folder=self._run_folder,
            trial_folder=None if self._checkpoints is None else self._checkpoints.folder,
            settings=self._settings,
            iteration=self.training_iteration + (not is_done),
            env_steps=self.num_env_steps,
            episodes=self.num_episodes,
        )
        self._hooks.call(method, context, value)

    # -- saving and going on ------------------------------------------------------------------------------------------

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Take a checkpoint, and publish it whole while training goes on; Tune's own way copies it file by file.

        It is there before the next iteration is reported (see ``finish_saving``); the last one, and those of a search,
        whose trials go on from one another, before this returns. A disk that is full or a folder that cannot be
        written to does not end the training: the failure is shown, what was published before is intact, and the next
        due save tries again.
        """
        if self._checkpoints is None or checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        self.finish_saving()
        self.save_error = None
        self._saved_at = time.monotonic()
        path = self._checkpoints.next_path()
        self._writer = self._writer or CheckpointWriter()
        self._call_hooks("on_checkpoint", path, is_done=True)
        try:
            taken = self.snapshot()
        except OSError as error:  # of a learner on another machine
            self._could_not_save(error)
        else:
            then = self._after_saving(path)
            self._writer.begin(self._checkpoints, taken, path=path, previous=self.previous_checkpoint, then=then)
        if self._ends or self.run.search.num_trials:
            self.finish_saving()
        is_there = self._writer.is_saving or path.is_dir()
        return training_result(
            checkpoint=tune.Checkpoint.from_directory(str(path)) if is_there else None,
            metrics={"training_iteration": self.training_iteration, "episodes": self.num_episodes},
        )

    def finish_saving(self) -> None:
        """Wait until the checkpoint that is being published is there, or take in that it could not be."""
        try:
            saved = self._writer.finish() if self._writer is not None else None
        except OSError as error:
            self._could_not_save(error)
            return
        if saved is not None:
            self.previous_checkpoint = saved.path
            self.save_error = f"{saved.failed[0]} ({first_line(saved.failed[1])})" if saved.failed else None

    def _could_not_save(self, error: OSError) -> None:
        self.save_error = f"{UNSAVED} ({error})"
        self._saved_at = -math.inf  # the next due one is not passed over
        with suppress(OSError):  # what is printed here goes into a file
            print(f"{self.save_error}; training goes on", file=sys.stderr, flush=True)
        if self._is_best:  # the best one is to be had, not to have been seen
            self._progress.best, self._is_best = self._best_before, False
        assert self._checkpoints is not None
        with suppress(OSError):  # this process may have no screen; the one that has reads it there
            (self._checkpoints.folder / SAVE_ERROR_FILE).write_text(str(error), encoding="utf-8")

    def _after_saving(self, path: Path) -> list[Step]:
        """What is done beside the training once a checkpoint is there: bring it into the run's store, and make room.

        After a step that fails nothing more is done: the next save, or the end, tries again.
        """
        assert self._checkpoints is not None
        retention: dict[str, Any] = {"keep": self.run.keep, "keep_every": self.run.keep_every}
        then: list[Step] = [(_FAILING["sync"], self._checkpoints.sync), (_FAILING["sync"], self._forget_save_error)]
        if self._mirror is not None:
            then += [
                (_FAILING["store"], self._mirror.push_files),  # the records that belong to the checkpoint, before it
                (_FAILING["store"], partial(self._mirror.push_checkpoint, path)),
            ]
        then.append((_FAILING["prune"], partial(self._checkpoints.prune, **retention)))
        if self._mirror is not None:
            trial = self._checkpoints.folder.name
            then.append((_FAILING["prune"], partial(self._mirror.prune, trial, **retention)))
        return then

    def _forget_save_error(self) -> None:
        assert self._checkpoints is not None
        with suppress(OSError):  # it is only of use where there is no checkpoint
            (self._checkpoints.folder / SAVE_ERROR_FILE).unlink(missing_ok=True)

    def cleanup(self) -> None:
        """End: after the checkpoint that is being published."""
        with ExitStack() as last_first:
            last_first.callback(super().cleanup)
            if self._writer is not None:
                last_first.callback(self._writer.close)
            self.finish_saving()

    def restore(self, checkpoint_path: Any) -> None:
        """Carry on from the newest checkpoint that is whole, whichever one Tune remembers.

        A checkpoint from elsewhere, such as another trial's, is verified and loaded; one without a manifest, as
        ``save_to_path`` writes it, is loaded as it is.

        Raises:
            IncompatibleError: if it is damaged.
        """
        checkpoint = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        source = Path(getattr(checkpoint, "path", checkpoint))
        if self._checkpoints is None or source.parent != self._checkpoints.folder:
            if any((source / name).exists() for name in (MANIFEST_FILE, MARKER_FILE)):
                require_whole(source, remedy="name another one")
            super().restore(checkpoint_path)
            self.previous_checkpoint = None  # another trial's, which may be gone when this one saves
        else:
            self._carry_on()

    def _carry_on(self) -> None:
        """Load what the run goes on from: its newest whole checkpoint, one that the user named, or given weights.

        Raises:
            IncompatibleError: if there are checkpoints, but none of them is whole, or there were some, and all of them
                are gone.
        """
        self.finish_saving()
        newest = self._checkpoints.newest_whole() if self._checkpoints is not None else None
        if newest is not None:
            self.load_checkpoint(str(newest))
        elif self._resume_from is not None:
            self._continue_from(self._named_checkpoint())
        elif self._checkpoints is not None and self._checkpoints.damaged():
            raise IncompatibleError(
                f"none of the checkpoints in {self._checkpoints.folder} is whole; see those set aside"
            )
        elif self._checkpoints is not None and (lost := lost_checkpoints(self._checkpoints.folder)) is not None:
            raise IncompatibleError(lost)
        elif self._is_branch:
            self._branch_off()
        elif self.run.load_model is not None:
            load_weights(self, self.run.load_model)
        self._has_loaded = True

    def _branch_off(self) -> None:
        """Go on from the checkpoint of another run, with this run's step sizes; the best one is sought anew.

        Raises:
            IncompatibleError: if it has been damaged since it was taken over.
        """
        assert self._run_folder is not None
        self._continue_from(require_whole(self._run_folder / BRANCH_FOLDER, remedy="branch off anew"))
        self._progress.best = None

    def snapshot(self) -> Snapshot:
        """What the algorithm's holds, what RLlib leaves out, who the team is, what it is worth, and the plan's state.

        Raises:
            NonFiniteLossError: if a weight is NaN or infinite; the checkpoints before this one stay the newest.
        """
        taken = super().snapshot()
        weights = by_full_name(taken.weights)
        if bad := non_finite_weights(weights):
            raise NonFiniteLossError(bad)
        if self._team_text is None:  # who the team is, and the shapes of its networks, stay the same
            layout = team_layout(self, weights)
            self._team_text = json_text(layout).encode(), len(layout["agent_ids"])
        taken.files[LAYOUT_FILE], num_agents = self._team_text
        taken.files[META_FILE] = json_text(self._meta(num_agents, weights_sha256(weights))).encode()
        now = replace(
            self._progress,
            checkpointed_at=self.clock,
            floor=self._settings["floor"],
            resume_from=self._resume_from,
            hooks=self._hooks.get_state(),
            iteration=self.training_iteration,
            time_total_s=self._time_total,
        )
        taken.files[STATE_FILE] = json.dumps(now.to_json(), allow_nan=False).encode()  # no person reads it
        return taken

    def _meta(self, num_agents: int, sha256: str) -> dict[str, Any]:
        """What people and other programs read of a checkpoint."""
        progress = self._progress
        return {
            "episode": self.num_episodes,
            CLOCK: self.clock,
            "total_steps": self.num_env_steps,
            "timestamp": utc_now(),
            **{name: progress.last_metrics.get(name) for name in ("profit", "sharpe", "max_drawdown", "num_trades")},
            "epsilon": self.epsilon(),
            "is_best": self._is_best,
            "metric_name": self.run.checkpoint_metric,
            "metric_value": progress.last_value,
            "metric_mode": self.run.checkpoint_mode,
            "weights_sha256": sha256,
            "algo": self.run.algo,
            "seed": self.run.seed,
            "overrides": dict(self._overrides),
            "environment": self.config.env,
            "num_agents": num_agents,
            "recent_mean_reward": progress.recent_return,
        }

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a checkpoint, or from the one that the user has named and that nothing has followed yet.

        Raises:
            IncompatibleError: if the named one is damaged, or agents, features or networks are not those of this run.
        """
        latest = Path(checkpoint_dir)
        found = read_progress(latest)
        if self._resume_from in (None, found.resume_from):
            self._continue_from(latest)
            return
        self._continue_from(self._named_checkpoint())
        if found.best is not None and (self._progress.best is None or found.best > self._progress.best):
            self._progress.best = found.best  # best_checkpoint may be of the steps that are now left behind, and stays

    def _named_checkpoint(self) -> Path:
        """The checkpoint that the user has named.

        Raises:
            IncompatibleError: if it has been damaged since it was named.
        """
        assert self._resume_from is not None
        assert self._run_folder is not None
        return require_whole(
            self._run_folder / self._resume_from["checkpoint"], remedy="name another one with --resume"
        )

    def _continue_from(self, folder: Path) -> None:
        require_fit(self, folder)
        self._progress = progress = read_progress(folder)
        super().load_checkpoint(str(folder))
        # Optimizers come with the step sizes of the trial that saved them, which may be another.
        self.learner_group.foreach_learner(partial(use_scheduled_lr, timestep=self.num_env_steps))
        self._hooks = hooks_of(self.run)  # none of what the old ones have seen has happened
        self._hooks.set_state(progress.hooks)
        self._iteration, self._time_total = progress.iteration, progress.time_total_s
        self._steps_before = self.num_env_steps
        if self._checkpoints is not None:
            progress.best = score_to_beat(self._checkpoints.folder, progress.best)
        self._is_best = False
        self._has_loaded = True
        if progress.floor != self._settings["floor"]:
            self.env_runner_group.foreach_env_runner(_begin_new_episodes, local_env_runner=True)


def _begin_new_episodes(runner: Any) -> None:
    """Let a runner start its episodes anew, with the capital that is now set."""
    runner.begin_new_episodes()
