"""What can be set for independent Q-learning."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from algos.q_settings import TeamQSettings
from common.strict import STRICT, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class INDQSettings(TeamQSettings):
    """Settings of independent Q-learning (Tan 1993): QMIX's without its mixer, and what a mixer would not allow."""

    reward: Literal["team", "own"] = "own"
    """What each agent is paid: the mean of all agents' rewards, or its own."""
    num_quantiles: int = Field(default=0, ge=0)
    """Quantiles of its return that each agent learns (QR-DQN, Dabney et al. 2018); 0 learns the mean alone."""
    huber_kappa: float = setting(1.0, gt=0, may_change=True)
    """Error, in units of reward (standardised, where it is), beyond which the loss of quantiles grows straight."""
