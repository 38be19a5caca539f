"""What can be set for RLlib's IMPALA and APPO."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from common.strict import STRICT, Choice, LogUniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IMPALASettings:
    """Settings of RLlib's IMPALA (Espeholt et al. 2018); names are RLlib's."""

    lr: float = setting(5e-4, gt=0, search=LogUniform(5e-05, 0.003), may_change=True)
    """Adam step size."""
    gamma: float = setting(0.99, ge=0, le=1, search=Choice((0.9, 0.97, 0.99, 0.995)), may_change=True)
    """Discount per bar."""
    train_batch_size_per_learner: int = setting(512, gt=0, may_change=True)
    """Environment steps in one batch, which is learned from as soon as runners have sampled it."""
    rollout_fragment_length: int = setting(32, gt=0, may_change=True)
    """Bars that each replica is stepped at a time; off-policy corrections (V-trace) reach no further."""
    vtrace_clip_rho_threshold: float = setting(1.0, gt=0, may_change=True)
    """Largest importance weight in the value targets."""
    vtrace_clip_pg_rho_threshold: float = setting(1.0, gt=0, may_change=True)
    """Largest importance weight in the policy gradient."""
    vf_loss_coeff: float = setting(0.5, ge=0, search=Choice((0.25, 0.5, 1.0)), may_change=True)
    """Weight of the value loss."""
    entropy_coeff: float = setting(0.003, ge=0, search=LogUniform(0.0001, 0.03), may_change=True)
    """Weight of the entropy bonus."""
    grad_clip: float = setting(40.0, gt=0, may_change=True)
    """Largest norm of the gradient."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the networks' layers."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation between layers; tanh is the slower one."""
    vf_share_layers: bool = False
    """Let policy and value function share their hidden layers."""
    use_shared_networks: bool | None = None
    """One network for all agents, or one each. None: one for all where observations and actions are alike."""
    num_envs_per_env_runner: int = Field(default=4, gt=0)
    """Copies of the environment, unless the scaling settings say otherwise."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class APPOSettings(IMPALASettings):
    """Settings of RLlib's APPO, which is IMPACT (Luo et al. 2020); names are RLlib's."""

    clip_param: float = setting(0.4, gt=0, search=Choice((0.1, 0.2, 0.4)), may_change=True)
    """Largest change of the policy ratio that is rewarded."""
    use_kl_loss: bool = False
    """Add RLlib's adaptive penalty on the KL divergence from the target policy."""
    kl_coeff: float = Field(default=1.0, ge=0)
    """First weight of the KL penalty."""
    kl_target: float = setting(0.01, gt=0, may_change=True)
    """KL divergence that the penalty aims at."""
    tau: float = setting(1.0, gt=0, le=1, may_change=True)
    """Share of the policy that one update of the target policy takes over."""
    target_network_update_freq: float = setting(2, gt=0, may_change=True)
    """Updates of the target policy are so many fills of the circular buffer apart, each batch in it counted as often as
    it is learned from."""
    circular_buffer_num_batches: int = setting(8, gt=1, may_change=True)
    """Batches that learners in processes of their own choose from; a learner in the main process takes the newest."""
    circular_buffer_iterations_per_batch: int = setting(2, gt=0, may_change=True)
    """Times that a batch is learned from."""
