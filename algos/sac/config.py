"""What can be set for RLlib's SAC and TQC."""

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from common.strict import STRICT, Choice, LogUniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoftActorCriticSettings:
    """What SAC and TQC share; names are RLlib's."""

    actor_lr: float = setting(3e-4, gt=0, search=LogUniform(3e-05, 0.003), may_change=True)
    """Adam step size of the policy."""
    critic_lr: float = setting(3e-4, gt=0, search=LogUniform(0.0001, 0.003), may_change=True)
    """Adam step size of the Q-networks."""
    alpha_lr: float = setting(3e-4, gt=0, may_change=True)
    """Adam step size of the temperature."""
    gamma: float = setting(0.99, ge=0, le=1, search=Choice((0.9, 0.97, 0.99, 0.995)), may_change=True)
    """Discount per bar."""
    train_batch_size_per_learner: int = setting(64, gt=0, may_change=True)
    """Agent steps in one gradient step."""
    training_intensity: float | None = setting(None, gt=0, may_change=True)
    """Trained steps per sampled step; None takes what batch size and fragment length give."""
    rollout_fragment_length: int = setting(16, gt=0, may_change=True)
    """Bars that each replica is stepped between two gradient steps."""
    replay_capacity: int = Field(default=50_000, gt=0)
    """Steps kept in the replay buffer."""
    learning_starts: int = setting(1_000, ge=0, may_change=True)
    """Environment steps sampled before the first gradient step."""
    n_step: int = setting(1, gt=0, search=Choice((1, 3, 5)), may_change=True)
    """Bars of reward that are summed before bootstrapping; at most the fragment length."""
    tau: float = setting(5e-3, gt=0, le=1, search=LogUniform(0.001, 0.05), may_change=True)
    """Share of the Q-networks that one target update takes over."""
    target_network_update_freq: int = setting(0, ge=0, may_change=True)
    """Environment steps between two target updates; 0 updates at every gradient step."""
    initial_alpha: float = Field(default=0.01, gt=0)
    """Temperature at the start: what one nat of entropy is worth, in rewards, which on the floor are small."""
    target_entropy: float | None = setting(None, may_change=True)
    """Entropy in nats that the temperature steers each policy to. None: minus the number of its assets."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of policy and Q-networks."""
    use_shared_networks: bool | None = None
    """One network for all agents, or one each. None: one for all where observations and actions are alike."""
    num_envs_per_env_runner: int = Field(default=4, gt=0)
    """Copies of the environment, unless the scaling settings say otherwise."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SACSettings(SoftActorCriticSettings):
    """Settings of RLlib's soft actor-critic (Haarnoja et al. 2018); names are RLlib's."""

    twin_q: bool = True
    """Learn two Q-networks and take the smaller value, against overestimation (Fujimoto et al. 2018)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TQCSettings(SoftActorCriticSettings):
    """Settings of RLlib's truncated quantile critics (Kuznetsov et al. 2020); names are RLlib's."""

    n_quantiles: int = Field(default=25, gt=0)
    """Quantiles of the return that each critic learns."""
    n_critics: int = Field(default=2, gt=0, le=1_000)
    """Critics, whose quantiles are pooled."""
    top_quantiles_to_drop_per_net: int = setting(2, ge=0, search=Choice((0, 2, 5)), may_change=True)
    """Largest quantiles left out of the targets, for each critic, against overestimation; fewer than it has."""
