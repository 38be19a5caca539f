"""What can be set for RLlib's IMPALA and APPO."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IMPALASettings:
    """Settings of RLlib's IMPALA (Espeholt et al. 2018); names are RLlib's."""

    lr: float = Field(default=5e-4, gt=0)
    """Adam step size."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per bar."""
    train_batch_size_per_learner: int = Field(default=512, gt=0)
    """Environment steps in one batch, which is learned from as soon as runners have sampled it."""
    rollout_fragment_length: int = Field(default=32, gt=0)
    """Bars that each replica is stepped at a time; off-policy corrections (V-trace) reach no further."""
    vtrace_clip_rho_threshold: float = Field(default=1.0, gt=0)
    """Largest importance weight in the value targets."""
    vtrace_clip_pg_rho_threshold: float = Field(default=1.0, gt=0)
    """Largest importance weight in the policy gradient."""
    vf_loss_coeff: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    entropy_coeff: float = Field(default=0.003, ge=0)
    """Weight of the entropy bonus."""
    grad_clip: float = Field(default=40.0, gt=0)
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

    clip_param: float = Field(default=0.4, gt=0)
    """Largest change of the policy ratio that is rewarded."""
    use_kl_loss: bool = False
    """Add RLlib's adaptive penalty on the KL divergence from the target policy."""
    kl_coeff: float = Field(default=1.0, ge=0)
    """First weight of the KL penalty."""
    kl_target: float = Field(default=0.01, gt=0)
    """KL divergence that the penalty aims at."""
    tau: float = Field(default=1.0, gt=0, le=1)
    """Share of the policy that one update of the target policy takes over."""
    target_network_update_freq: float = Field(default=2, gt=0)
    """Updates of the target policy are so many fills of the circular buffer apart, each batch in it counted as often as
    it is learned from."""
    circular_buffer_num_batches: int = Field(default=8, gt=1)
    """Batches that learners in processes of their own choose from; a learner in the main process takes the newest."""
    circular_buffer_iterations_per_batch: int = Field(default=2, gt=0)
    """Times that a batch is learned from."""
