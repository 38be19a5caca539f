"""What can be set for PPO."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import NetworkSettings
from algos.step_size import StepSizeSettings
from common.strict import STRICT, Choice, LogUniform, Uniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOSettings(StepSizeSettings, NetworkSettings):
    """Settings of RLlib's PPO; names are RLlib's."""

    lr: float = setting(3e-4, gt=0, search=LogUniform(5e-05, 0.003), may_change=True)
    """Adam step size."""
    gamma: float = setting(0.99, ge=0, le=1, search=Choice((0.9, 0.97, 0.99, 0.995)), may_change=True)
    """Discount per bar."""
    lambda_: float = setting(0.95, ge=0, le=1, search=Uniform(0.85, 1.0), may_change=True)
    """Decay of generalised advantage estimation (Schulman et al. 2016)."""
    train_batch_size_per_learner: int = setting(4_096, gt=0, may_change=True)
    """Environment steps sampled for one round of learning."""
    minibatch_size: int = setting(1_024, gt=0, may_change=True)
    """Agent steps in one gradient step."""
    num_epochs: int = setting(4, gt=0, may_change=True)
    """Passes over the batch."""
    clip_param: float = setting(0.2, gt=0, search=Choice((0.1, 0.2, 0.3)), may_change=True)
    """Largest change of the policy ratio that is rewarded."""
    vf_clip_param: float = setting(10.0, gt=0, may_change=True)
    """Largest squared value error that is punished."""
    vf_loss_coeff: float = setting(0.5, ge=0, may_change=True)
    """Weight of the value loss."""
    entropy_coeff: float = setting(0.003, ge=0, search=LogUniform(0.0001, 0.03), may_change=True)
    """Weight of the entropy bonus."""
    use_kl_loss: bool = False
    """Add RLlib's adaptive KL penalty."""
    kl_coeff: float = Field(default=0.2, ge=0)
    """First weight of the KL penalty."""
    kl_target: float = setting(0.01, gt=0, may_change=True)
    """KL divergence per round that the penalty aims at."""
    grad_clip: float | None = setting(0.5, gt=0, may_change=True)
    """Largest global norm of the gradient; None does not clip."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of policy and value networks that are an mlp."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation between layers; tanh is the slower one."""
    use_shared_networks: bool | None = None
    """One network for all agents, or one each. None: one for all where their observations are equally wide."""
    num_envs_per_env_runner: int = Field(default=64, gt=0)
    """Replicas stepped at once, unless the scaling settings say otherwise."""
