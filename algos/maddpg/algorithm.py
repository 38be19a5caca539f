"""MADDPG as an RLlib algorithm on the team path."""

from dataclasses import asdict
from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.maddpg.config import MADDPGSettings
from algos.maddpg.learner import MADDPGLearner
from algos.maddpg.module import TeamDDPGModule
from algos.off_policy import OffPolicyTeam, OffPolicyTeamConfig
from algos.step_size import step_size_schedule
from common.errors import IncompatibleError


class MADDPGConfig(OffPolicyTeamConfig):
    """Config of MADDPG; ``settings`` holds all that is its own, the rest is RLlib's."""

    learns_from_masks = True

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or MADDPG)
        self.use_settings(MADDPGSettings())

    def use_settings(self, settings: MADDPGSettings) -> "MADDPGConfig":
        """Write the settings where RLlib looks for them.

        Raises:
            IncompatibleError: if critics that attend are to judge policies with a memory.
        """
        if settings.critic == "attention" and settings.network == "gru":
            raise IncompatibleError(
                "critic=attention has no memory, without which maddpg cannot judge what a GRU remembers: use "
                "critic=mlp, or network=mlp or transformer"
            )
        super().use_settings(settings)
        self.lr = step_size_schedule(settings.critic_lr, settings)
        return self

    @property
    def pays_own_reward(self) -> bool:  # type: ignore[override]
        """Whether each agent is paid its own reward, or the mean of all."""
        return bool(self.settings.reward == "own")

    def get_default_learner_class(self) -> type[MADDPGLearner]:
        """Critics' TD errors and the value of the policies' actions."""
        return MADDPGLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Policies, critics and targets in one module."""
        return RLModuleSpec(module_class=TeamDDPGModule, model_config={"settings": asdict(self.settings)})


class MADDPG(OffPolicyTeam):
    """MADDPG (Lowe et al. 2017): actors that see their own observation, critics that see all observations and actions.

    Agents may choose (by straight-through Gumbel-softmax) or set numbers. By default every agent is paid the mean of
    the agents' rewards.
    """

    @classmethod
    def get_default_config(cls) -> MADDPGConfig:
        """Return the default config."""
        return MADDPGConfig()


def maddpg(settings: MADDPGSettings, *, steps_per_iteration: int) -> MADDPGConfig:
    """Config of MADDPG; an iteration is one sampled fragment."""
    return MADDPGConfig().use_settings(settings)
