"""MAPPO and IPPO as RLlib algorithms on the team path."""

from dataclasses import asdict
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.algorithm import TeamAlgorithm, map_to_team, on_team_path
from algos.mappo.config import MAPPOSettings
from algos.mappo.learner import MAPPOLearner
from algos.mappo.module import TeamActorCritic
from algos.rollout import concatenate
from algos.runner import TEAM_MODULE
from algos.step_size import step_size_schedule
from common.errors import IncompatibleError


class MAPPOConfig(AlgorithmConfig):
    """Config of MAPPO; ``settings`` holds all that is its own, the rest is RLlib's."""

    is_central = True
    """Whether the value function sees the global state, or each agent's observation."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or MAPPO)
        on_team_path(self)
        self.multi_agent(policies={TEAM_MODULE}, policy_mapping_fn=map_to_team)
        self.use_settings(MAPPOSettings())

    def use_settings(self, settings: MAPPOSettings) -> "MAPPOConfig":
        """Write the settings where RLlib looks for them.

        Raises:
            IncompatibleError: if value functions of single agents are to attend to others.
        """
        if settings.critic == "attention" and not self.is_central:
            raise IncompatibleError(
                "critic=attention values what all agents see, but ippo values each agent's own observation: use mappo, "
                "or leave it out"
            )
        self.settings = settings
        self.use_global_state = self.is_central and settings.critic == "mlp"
        self.stored_columns = ("logp", "memory") if settings.network == "gru" else ("logp",)
        self.training(
            lr=step_size_schedule(settings.lr, settings),
            gamma=settings.gamma,
            train_batch_size_per_learner=settings.train_batch_size_per_learner,
        )
        self.env_runners(num_envs_per_env_runner=settings.num_envs_per_env_runner)
        return self

    @property
    def pays_own_reward(self) -> bool:
        """Whether each agent is paid its own reward, or the mean of all."""
        return (self.settings.reward or ("team" if self.is_central else "own")) == "own"

    def validate(self) -> None:
        """Check what RLlib checks, that a minibatch is a part of the batch, and that a sequence fits into it.

        Raises:
            IncompatibleError: if the minibatch is larger, or too small for one sequence of a GRU.
        """
        super().validate()
        s = self.settings
        if s.minibatch_size > s.train_batch_size_per_learner:
            raise IncompatibleError(
                f"mappo.minibatch_size is {s.minibatch_size}, more than the batch that it is a part of: lower it, or "
                f"raise mappo.train_batch_size_per_learner above {s.train_batch_size_per_learner}"
            )

        length = self.get_rollout_fragment_length(1)
        if s.network == "gru" and s.minibatch_size < length:
            raise IncompatibleError(
                f"mappo.minibatch_size is {s.minibatch_size}, but a GRU learns from whole sequences, here of {length} "
                "steps: raise it, or sample more replicas at once (num_envs_per_env_runner)"
            )

    def get_default_learner_class(self) -> type[MAPPOLearner]:
        """Clipped surrogate and clipped value loss."""
        return MAPPOLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Policies and value function in one module."""
        model = {"settings": asdict(self.settings), "is_central": self.is_central, "is_own": self.pays_own_reward}
        return RLModuleSpec(module_class=TeamActorCritic, model_config=model)


class IPPOConfig(MAPPOConfig):
    """Config of IPPO: MAPPO with a value function of each agent's own observation."""

    is_central = False

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or IPPO)


class MAPPO(TeamAlgorithm):
    """MAPPO (Yu et al. 2022): PPO for teams with a centralised value function.

    By default every agent is paid the mean of the agents' rewards. With an environment that has no state of its own,
    the value function sees all observations in a row.
    """

    @classmethod
    def get_default_config(cls) -> MAPPOConfig:
        """Return the default config."""
        return MAPPOConfig()

    def training_step(self) -> None:
        """Sample one batch, learn from it for some epochs, send the weights back."""
        rollouts = self.sample_rollouts()
        if not rollouts:
            return
        shards = concatenate(rollouts).shards(self.num_learner_shards)
        s: MAPPOSettings = self.config.settings
        length = shards[0].num_steps if s.network == "gru" else 1  # a GRU's rows are whole replicas
        rows = min(shard.env_steps() for shard in shards) // length
        minibatch = min(max(1, s.minibatch_size // length), rows)
        self.update_learners(shards, minibatch_size=minibatch, num_minibatches=max(1, s.num_epochs * rows // minibatch))
        self.sync_runners()


class IPPO(MAPPO):
    """IPPO (de Witt et al. 2020): every agent learns by PPO from its own observation and, by default, own reward."""

    @classmethod
    def get_default_config(cls) -> IPPOConfig:
        """Return the default config."""
        return IPPOConfig()


def mappo(settings: MAPPOSettings, *, steps_per_iteration: int) -> MAPPOConfig:
    """Config of MAPPO; an iteration is one sampled fragment."""
    return MAPPOConfig().use_settings(settings)


def ippo(settings: MAPPOSettings, *, steps_per_iteration: int) -> MAPPOConfig:
    """Config of IPPO; an iteration is one sampled fragment."""
    return IPPOConfig().use_settings(settings)
