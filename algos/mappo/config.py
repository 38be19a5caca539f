"""What can be set for MAPPO and IPPO."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import CriticSettings
from algos.step_size import StepSizeSettings
from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAPPOSettings(StepSizeSettings, CriticSettings):
    """Settings of MAPPO (Yu et al. 2022) and IPPO (de Witt et al. 2020); names are RLlib's where they mean the same."""

    lr: float = Field(default=5e-4, gt=0)
    """Adam step size of the policies."""
    critic_lr: float | None = Field(default=None, gt=0)
    """Adam step size of the value function; None takes lr."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per bar."""
    lambda_: float = Field(default=0.95, ge=0, le=1)
    """Decay of generalised advantage estimation (Schulman et al. 2016)."""
    train_batch_size_per_learner: int = Field(default=4_096, gt=0)
    """Environment steps sampled for one round of learning."""
    minibatch_size: int = Field(default=1_024, gt=0)
    """Environment steps, each with all its agents, in one gradient step. A gru takes the whole fragments of so many
    replicas as come nearest below."""
    num_epochs: int = Field(default=5, gt=0)
    """Passes over the batch."""
    clip_param: float = Field(default=0.2, gt=0)
    """Largest change of the policy ratio that is rewarded (epsilon)."""
    vf_clip_param: float | None = Field(default=0.2, gt=0)
    """Largest change of the normalised value that lowers the loss; None clips nothing."""
    huber_delta: float | None = Field(default=10.0, gt=0)
    """Error of the normalised value beyond which its loss grows in a straight line; None squares all errors."""
    entropy_coeff: float = Field(default=0.003, ge=0)
    """Weight of the entropy bonus, at the start where it falls."""
    entropy_decay_steps: int | None = Field(default=None, gt=0)
    """Environment steps over which that weight falls in a straight line to nothing; None keeps it. Policies that are
    used without chance learn to do without it only where little of it is left."""
    reward: Literal["team", "own"] | None = None
    """What each agent is paid: the mean of all agents' rewards, or its own. None: team for mappo, own for ippo."""
    use_advantage_normalisation: bool = True
    """Standardise advantages over each batch; with own rewards, those of each agent by themselves."""
    use_value_normalisation: bool = True
    """Let the value function learn returns standardised by their running mean and deviation."""
    grad_clip: float | None = Field(default=10.0, gt=0)
    """Largest norm of the gradient of all policies together, and of that of the value function; None does not clip."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of an mlp or a gru, whose state has the last width, and of a value function of the state."""
    initial_std: float = Field(default=0.5, gt=0)
    """Standard deviation of continuous actions at the start, in units of half the width of the action space."""
    num_envs_per_env_runner: int = Field(default=64, gt=0)
    """Replicas stepped at once, unless the scaling settings say otherwise."""
