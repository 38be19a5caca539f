"""What can be set for MADDPG."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import CriticSettings
from algos.replay_settings import ReplaySettings
from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MADDPGSettings(ReplaySettings, CriticSettings):
    """Settings of MADDPG (Lowe et al. 2017), with what TD3 added to it (Fujimoto et al. 2018) to be switched on."""

    actor_lr: float = Field(default=5e-4, gt=0)
    """Adam step size of the policies."""
    critic_lr: float = Field(default=1e-3, gt=0)
    """Adam step size of the critics."""
    train_batch_size: int = Field(default=256, gt=0)
    """Joint transitions (or sequences, for a GRU) in one gradient step."""
    tau: float = Field(default=0.01, gt=0, le=1)
    """Share of the online weights taken by the targets at an update."""
    target_network_update_freq: int = Field(default=1, gt=0)
    """Gradient steps between two target updates."""
    reward: Literal["team", "own"] = "team"
    """What each agent is paid: the mean of all agents' rewards, or its own."""
    use_centralised_gradient: bool | None = None
    """Judge each policy's action beside what the others' policies would do now (the centralised policy gradient of
    Peng et al. 2021), and not beside what they did, noise and all (Lowe et al. 2017, eq. 5).
    With one agent both are the same. None: False."""
    twin_critics: bool = False
    """Learn two critics, and bootstrap from the smaller value (TD3)."""
    target_noise: float = Field(default=0.0, ge=0)
    """Deviation of the noise on numbers that the target policies set, in units of half the action space (TD3 takes
    0.2); agents that choose have none."""
    target_noise_clip: float = Field(default=0.5, gt=0)
    """Largest such noise."""
    policy_delay: int = Field(default=1, gt=0)
    """Gradient steps of the critics for each one of the policies (TD3 takes 2, and as many between target updates)."""
    noise: Literal["gaussian", "ou"] = "gaussian"
    """Exploration of agents that set numbers: independent noise, or an Ornstein-Uhlenbeck process (Lillicrap et al.
    2016). Agents that choose draw from the softmax of their logits."""
    noise_start: float = Field(default=0.4, ge=0)
    """Deviation of the noise at the start, in units of half the action space."""
    noise_end: float = Field(default=0.05, ge=0)
    """Deviation of the noise after the decay."""
    noise_decay_steps: int = Field(default=50_000, gt=0)
    """Environment steps over which the noise falls in a straight line."""
    ou_theta: float = Field(default=0.15, gt=0, le=1)
    """Share of the Ornstein-Uhlenbeck process that is lost in each bar; its deviation is that of the noise."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the straight-through Gumbel-softmax, by which gradients reach choices (Jang et al. 2017)."""
    logit_penalty: float = Field(default=1e-3, ge=0)
    """Weight of the mean square of what the policies give out, before it is squashed."""
    grad_clip: float | None = Field(default=0.5, gt=0)
    """Largest norm of the gradient of all policies together, and of that of all critics; None does not clip."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of critics, and of policies that are an mlp or a gru, whose state has the last width."""
