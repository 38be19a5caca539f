"""What can be set for MAPPO and IPPO."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import CriticSettings
from algos.step_size import StepSizeSettings
from common.strict import STRICT, Choice, LogUniform, Uniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAPPOSettings(StepSizeSettings, CriticSettings):
    """Settings of MAPPO (Yu et al. 2022) and IPPO (de Witt et al. 2020); names are RLlib's where they mean the same."""

    lr: float = setting(5e-4, gt=0, search=LogUniform(5e-05, 0.003), may_change=True)
    """Adam step size of the policies."""
    critic_lr: float | None = setting(None, gt=0, may_change=True)
    """Adam step size of the value function; None takes lr."""
    gamma: float = setting(0.99, ge=0, le=1, search=Choice((0.9, 0.97, 0.99, 0.995)), may_change=True)
    """Discount per bar."""
    lambda_: float = setting(0.95, ge=0, le=1, search=Uniform(0.85, 1.0), may_change=True)
    """Decay of generalised advantage estimation (Schulman et al. 2016)."""
    train_batch_size_per_learner: int = setting(4_096, gt=0, may_change=True)
    """Environment steps sampled for one round of learning."""
    minibatch_size: int = setting(1_024, gt=0, may_change=True)
    """Environment steps, each with all its agents, in one gradient step. A gru takes the whole fragments of so many
    replicas as come nearest below."""
    num_epochs: int = setting(5, gt=0, search=Choice((5, 10, 15)), may_change=True)
    """Passes over the batch."""
    clip_param: float = setting(0.2, gt=0, search=Choice((0.05, 0.1, 0.2)), may_change=True)
    """Largest change of the policy ratio that is rewarded (epsilon)."""
    vf_clip_param: float | None = setting(0.2, gt=0, may_change=True)
    """Largest change of the normalised value that lowers the loss; None clips nothing."""
    huber_delta: float | None = setting(10.0, gt=0, may_change=True)
    """Error of the normalised value beyond which its loss grows in a straight line; None squares all errors."""
    entropy_coeff: float = setting(0.003, ge=0, search=LogUniform(0.0001, 0.03), may_change=True)
    """Weight of the entropy bonus, at the start where it falls."""
    entropy_decay_steps: int | None = setting(None, gt=0, may_change=True)
    """Environment steps over which that weight falls in a straight line to nothing; None keeps it. Policies that are
    used without chance learn to do without it only where little of it is left."""
    reward: Literal["team", "own"] | None = None
    """What each agent is paid: the mean of all agents' rewards, or its own. None: team for mappo, own for ippo."""
    use_advantage_normalisation: bool = setting(True, may_change=True)
    """Standardise advantages over each batch; with own rewards, those of each agent by themselves."""
    use_value_normalisation: bool = True
    """Let the value function learn returns standardised by their running mean and deviation."""
    grad_clip: float | None = setting(10.0, gt=0, may_change=True)
    """Largest norm of the gradient of all policies together, and of that of the value function; None does not clip."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of an mlp or a gru, whose state has the last width, and of a value function of the state."""
    initial_std: float = Field(default=0.5, gt=0)
    """Standard deviation of continuous actions at the start, in units of half the width of the action space."""
    num_envs_per_env_runner: int = Field(default=64, gt=0)
    """Replicas stepped at once, unless the scaling settings say otherwise."""
