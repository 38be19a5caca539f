"""What the algorithms on the team path share: one way to sample, to hand arrays to learners, and to sync weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)

from algos.rollout import Rollout
from algos.runner import TEAM_MODULE, TeamEnvRunner
from algos.snapshots import SnapshotAlgorithm

MODULES_OF_LEARNER = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
IDLE_LIMIT_S = 300.0
"""How long training waits for lost runners to come back."""


class TeamAlgorithm(SnapshotAlgorithm):
    """A mixin before an Algorithm: the three stages of a training step on arrays."""

    previous_checkpoint: Path | None = None
    """The checkpoint last saved or loaded, where what has not changed since need not be written again."""
    on_rollout: Callable[[Rollout], None] | None = None
    """What is shown every rollout before it is learned from; None where nobody wants to see them."""
    _idle_since: float | None = None

    def sample_rollouts(self) -> list[Rollout]:
        """Let every runner sample once, in parallel; empty where no runner answered.

        Raises:
            RuntimeError: if no runner has answered for ``IDLE_LIMIT_S``. RLlib itself would go on for ever with
                iterations in which nothing is sampled.
        """
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            rollouts, results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                sample_timeout_s=self.config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
            if rollouts:
                self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        self._wait_for_runners(has_sampled=bool(rollouts))
        if self.on_rollout is not None:
            for rollout in rollouts:
                self.on_rollout(rollout)
        return list(rollouts)

    def _wait_for_runners(self, *, has_sampled: bool) -> None:
        if has_sampled:
            self._idle_since = None
            return
        now = time.monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        if now - self._idle_since > IDLE_LIMIT_S:
            raise RuntimeError(f"no env runner has answered for {IDLE_LIMIT_S:.0f} s; see the log for why they failed")
        time.sleep(1.0)

    def update_learners(self, shards: list[Any], **kwargs: Any) -> None:
        """Hand one shard of arrays to each learner and let them update together.

        Args:
            shards: One per learner.
            kwargs: Passed to ``TeamLearner.learn``.
        """
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            local = self.learner_group.is_local
            results = self.learner_group.update(
                training_data=TrainingData(batch=shards[0]) if local else TrainingData(batches=shards),
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled},
                **kwargs,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def sync_runners(self) -> None:
        """Send the learners' weights and the count of all steps to every runner, and wait until they have arrived.

        RLlib's ``sync_weights`` and ``sync_env_runner_states`` send without waiting, and drop what they would send
        while an earlier message is under way: the count never arrives, and restored weights do not either.
        """
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            states = self.learner_group.get_state(components=MODULES_OF_LEARNER, inference_only=True)
            state = {key: states[COMPONENT_LEARNER][key] for key in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)}
            state[NUM_ENV_STEPS_SAMPLED_LIFETIME] = self.num_env_steps_sampled
            group = self.env_runner_group
            if group.num_remote_workers():
                group.foreach_env_runner("set_state", kwargs={"state": ray.put(state)}, local_env_runner=False)
            if group.local_env_runner is not None:
                group.local_env_runner.set_state(state)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Take over a snapshot's folder, after which remote runners too act by the restored weights.

        Raises:
            IncompatibleError: if a part of it is missing.
        """
        super().load_checkpoint(checkpoint_dir)
        self.sync_runners()

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """RLlib's restore, after which remote runners too act by the restored weights."""
        super().restore_from_path(path, *args, **kwargs)
        self.sync_runners()

    @property
    def num_learner_shards(self) -> int:
        """Learners that share one update."""
        return max(1, int(self.config.num_learners))

    @property
    def num_env_steps_sampled(self) -> int:
        """Environment steps sampled in the whole life of the run."""
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def on_team_path(config: AlgorithmConfig) -> AlgorithmConfig:
    """Set what the team path needs of RLlib: our runner, and no per-episode machinery around it."""
    config.env_runners(env_runner_cls=TeamEnvRunner, rollout_fragment_length="auto", batch_mode="truncate_episodes")
    config.learners(add_default_connectors_to_learner_pipeline=False)
    config.env_runners(
        add_default_connectors_to_env_to_module_pipeline=False, add_default_connectors_to_module_to_env_pipeline=False
    )
    config.merge_env_runner_states = False
    return config


def map_to_team(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the one module of the team."""
    return TEAM_MODULE
