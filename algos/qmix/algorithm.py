"""QMIX and VDN as RLlib algorithms on the team path."""

from dataclasses import asdict
from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.off_policy import OffPolicyTeam, OffPolicyTeamConfig
from algos.q_settings import TeamQSettings
from algos.qmix.config import QMIXSettings
from algos.qmix.learner import QMIXLearner
from algos.qmix.module import TeamQModule
from algos.step_size import step_size_schedule
from common.errors import IncompatibleError


class TeamQConfig(OffPolicyTeamConfig):
    """What the configs of QMIX, VDN and independent Q-learning share.

    Attributes:
        mixer: What makes one team value of the agents': ``"qmix"``, ``"vdn"``, or ``"none"`` where nothing does.
    """

    mixer = "none"

    def use_settings(self, settings: TeamQSettings) -> Self:
        """Write the settings where RLlib looks for them.

        Raises:
            IncompatibleError: if returns of several numbers of steps are to be of one number, or a GRU is to jump.
        """
        if settings.td_lambda > 0 and settings.n_step > 1:
            raise IncompatibleError("n_step above 1 needs td_lambda=0, which mixes the returns of all numbers of steps")
        super().use_settings(settings)
        self.lr, self.grad_clip = step_size_schedule(settings.lr, settings), settings.grad_clip
        return self

    @property
    def sequence_length(self) -> int:  # type: ignore[override]
        """Joint steps in a sample: one, or as many as a GRU learns from or returns are mixed over."""
        is_sequence = self.settings.network == "gru" or self.settings.td_lambda > 0
        return self.settings.sequence_length if is_sequence else 1

    @property
    def replays_by_priority(self) -> bool:  # type: ignore[override]
        """Whether what was predicted badly is drawn more often."""
        return bool(self.settings.prioritised_replay)

    def get_default_learner_class(self) -> type[QMIXLearner]:
        """The squared TD error of the team value."""
        return QMIXLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Agents, mixer and targets in one module."""
        return RLModuleSpec(
            module_class=TeamQModule, model_config={"settings": asdict(self.settings), "mixer": self.mixer}
        )


class QMIXConfig(TeamQConfig):
    """Config of QMIX; ``settings`` holds all that is its own, the rest is RLlib's."""

    mixer = "qmix"

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or QMIX)
        self.use_global_state = True
        self.use_settings(QMIXSettings())


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


def qmix(settings: QMIXSettings, *, steps_per_iteration: int) -> QMIXConfig:
    """Config of QMIX; an iteration is one sampled fragment."""
    return QMIXConfig().use_settings(settings)


def vdn(settings: QMIXSettings, *, steps_per_iteration: int) -> QMIXConfig:
    """Config of VDN; an iteration is one sampled fragment."""
    return VDNConfig().use_settings(settings)
