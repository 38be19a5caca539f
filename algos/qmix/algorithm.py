"""VDN and QMIX as RLlib algorithms on the team path."""

from dataclasses import asdict
from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.off_policy import OffPolicyTeam, OffPolicyTeamConfig
from algos.qmix.config import QMIXSettings
from algos.qmix.learner import QMIXLearner
from algos.qmix.module import TeamQModule
from algos.step_size import step_size_schedule


class QMIXConfig(OffPolicyTeamConfig):
    """Config of QMIX; ``settings`` holds all that is its own, the rest is RLlib's."""

    mixer = "qmix"

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or QMIX)
        self.use_global_state = True
        self.use_settings(QMIXSettings())

    def use_settings(self, settings: QMIXSettings) -> "QMIXConfig":
        """Write the settings where RLlib looks for them."""
        super().use_settings(settings)
        self.lr, self.grad_clip = step_size_schedule(settings.lr, settings), settings.grad_clip
        return self

    def get_default_learner_class(self) -> type[QMIXLearner]:
        """The squared TD error of the team value."""
        return QMIXLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Agents, mixer and targets in one module."""
        return RLModuleSpec(
            module_class=TeamQModule, model_config={"settings": asdict(self.settings), "mixer": self.mixer}
        )


class VDNConfig(QMIXConfig):
    """Config of VDN: QMIX with a plain sum for a mixer."""

    mixer = "vdn"

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or VDN)
        self.use_global_state = False


class QMIX(OffPolicyTeam):
    """QMIX (Rashid et al. 2018): off-policy value factorisation for a team with one reward.

    The team's reward is the mean of the agents' rewards. With an environment that has no state of its own, the mixer
    sees all observations in a row.
    """

    @classmethod
    def get_default_config(cls) -> QMIXConfig:
        """Return the default config."""
        return QMIXConfig()


class VDN(QMIX):
    """VDN (Sunehag et al. 2018): the team value is the sum of the agents' values."""

    @classmethod
    def get_default_config(cls) -> VDNConfig:
        """Return the default config."""
        return VDNConfig()
