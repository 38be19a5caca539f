"""What can be set for MADDPG."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import CriticSettings
from algos.replay_settings import ReplaySettings
from common.strict import STRICT, Choice, LogUniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MADDPGSettings(ReplaySettings, CriticSettings):
    """Settings of MADDPG (Lowe et al. 2017), with what TD3 added to it (Fujimoto et al. 2018) to be switched on."""

    actor_lr: float = setting(5e-4, gt=0, search=LogUniform(5e-05, 0.002), may_change=True)
    """Adam step size of the policies."""
    critic_lr: float = setting(1e-3, gt=0, search=LogUniform(0.0001, 0.005), may_change=True)
    """Adam step size of the critics."""
    train_batch_size: int = setting(256, gt=0, may_change=True)
    """Joint transitions (or sequences, for a GRU) in one gradient step."""
    tau: float = setting(0.01, gt=0, le=1, search=Choice((0.005, 0.01, 0.05)), may_change=True)
    """Share of the online weights taken by the targets at an update."""
    target_network_update_freq: int = setting(1, gt=0, may_change=True)
    """Gradient steps between two target updates."""
    reward: Literal["team", "own"] = "team"
    """What each agent is paid: the mean of all agents' rewards, or its own."""
    use_centralised_gradient: bool | None = setting(None, may_change=True)
    """Judge each policy's action beside what the others' policies would do now (the centralised policy gradient of
    Peng et al. 2021), and not beside what they did, noise and all (Lowe et al. 2017, eq. 5).
    With one agent both are the same. None: False."""
    twin_critics: bool = False
    """Learn two critics, and bootstrap from the smaller value (TD3)."""
    target_noise: float = setting(0.0, ge=0, may_change=True)
    """Deviation of the noise on numbers that the target policies set, in units of half the action space (TD3 takes
    0.2); agents that choose have none."""
    target_noise_clip: float = setting(0.5, gt=0, may_change=True)
    """Largest such noise."""
    policy_delay: int = setting(1, gt=0, search=Choice((1, 2)), may_change=True)
    """Gradient steps of the critics for each one of the policies (TD3 takes 2, and as many between target updates)."""
    noise: Literal["gaussian", "ou"] = "gaussian"
    """Exploration of agents that set numbers: independent noise, or an Ornstein-Uhlenbeck process (Lillicrap et al.
    2016). Agents that choose draw from the softmax of their logits."""
    noise_start: float = setting(0.4, ge=0, may_change=True)
    """Deviation of the noise at the start, in units of half the action space."""
    noise_end: float = setting(0.05, ge=0, may_change=True)
    """Deviation of the noise after the decay."""
    noise_decay_steps: int = setting(50_000, gt=0, may_change=True)
    """Environment steps over which the noise falls in a straight line."""
    ou_theta: float = setting(0.15, gt=0, le=1, may_change=True)
    """Share of the Ornstein-Uhlenbeck process that is lost in each bar; its deviation is that of the noise."""
    temperature: float = setting(1.0, gt=0, may_change=True)
    """Of the straight-through Gumbel-softmax, by which gradients reach choices (Jang et al. 2017)."""
    logit_penalty: float = setting(1e-3, ge=0, may_change=True)
    """Weight of the mean square of what the policies give out, before it is squashed."""
    grad_clip: float | None = setting(0.5, gt=0, may_change=True)
    """Largest norm of the gradient of all policies together, and of that of all critics; None does not clip."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of critics, and of policies that are an mlp or a gru, whose state has the last width."""
