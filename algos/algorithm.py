"""What the algorithms on the team path share: one way to sample, to hand arrays to learners, and to sync weights."""

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
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
)

from algos.rollout import Rollout
from algos.runner import TeamEnvRunner


class TeamAlgorithm(Algorithm):
    """A mixin before an Algorithm: the three stages of a training step on arrays."""

    def sample_rollouts(self) -> list[Rollout]:
        """Let every runner sample once, in parallel; empty where no runner answered."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            rollouts, results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                sample_timeout_s=self.config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
            if rollouts:
                self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        return list(rollouts)

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
        """Send the learners' weights to every runner."""
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

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
