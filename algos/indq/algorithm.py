"""Independent Q-learning as an RLlib algorithm on the team path."""

from typing import Any, Self

from algos.indq.config import INDQSettings
from algos.indq.learner import INDQLearner
from algos.off_policy import OffPolicyTeam
from algos.qmix.algorithm import TeamQConfig
from common.errors import IncompatibleError


class INDQConfig(TeamQConfig):
    """Config of independent Q-learning: no mixer, each agent with a value and a TD error of its own."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or INDQ)
        self.use_settings(INDQSettings())

    def use_settings(self, settings: INDQSettings) -> Self:  # type: ignore[override]
        """Write the settings where RLlib looks for them.

        Raises:
            IncompatibleError: as ``TeamQConfig`` does, or if quantiles are to be learned by what is made for means.
        """
        if settings.num_quantiles and settings.td_lambda > 0:
            raise IncompatibleError("num_quantiles needs td_lambda=0; returns of several steps are summed by n_step")
        if settings.num_quantiles and settings.overestimation_weight < 1:
            raise IncompatibleError("num_quantiles needs overestimation_weight=1, which weighs errors of the mean")
        return super().use_settings(settings)

    @property
    def pays_own_reward(self) -> bool:  # type: ignore[override]
        """Whether each agent is paid its own reward, or the mean of all."""
        return bool(self.settings.reward == "own")

    def get_default_learner_class(self) -> type[INDQLearner]:
        """Each agent's own squared TD error, or the loss of its quantiles."""
        return INDQLearner


class INDQ(OffPolicyTeam):
    """Independent Q-learning (Tan 1993): every agent is a DQN (Mnih et al. 2015) of its own, on the team path.

    By default every agent is paid its own reward, as if the others were part of the market.
    """

    @classmethod
    def get_default_config(cls) -> INDQConfig:
        """Return the default config."""
        return INDQConfig()


def indq(settings: INDQSettings, *, steps_per_iteration: int) -> INDQConfig:
    """Config of independent Q-learning; an iteration is one sampled fragment."""
    return INDQConfig().use_settings(settings)
