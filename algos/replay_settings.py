"""What can be set for every algorithm that learns from a replay buffer of joint steps."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from algos.step_size import StepSizeSettings
from common.strict import STRICT

REPLAY_FOLDER = "replay"
"""Folder of a checkpoint that holds the buffer."""
SHARED_ENDING = ".safetensors"
"""Ending of finished segments, which checkpoints share and a store keeps once."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReplaySettings(StepSizeSettings):
    """Settings of sampling and replay; names are RLlib's where they mean the same."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per bar."""
    num_updates: int = Field(default=8, gt=0)
    """Gradient steps after each sampled fragment."""
    rollout_fragment_length: int = Field(default=16, gt=0)
    """Bars that each replica is stepped between two rounds of gradient steps."""
    num_envs_per_env_runner: int = Field(default=16, gt=0)
    """Replicas stepped at once, unless the scaling settings say otherwise."""
    replay_capacity: int = Field(default=100_000, gt=0)
    """Joint transitions kept in the replay buffer."""
    learning_starts: int = Field(default=1_000, ge=0)
    """Joint transitions sampled before the first gradient step."""
    n_step: int = Field(default=1, gt=0)
    """Bars of reward that are summed before bootstrapping."""
    sequence_length: int = Field(default=32, gt=1)
    """Bars in a replayed sequence when the network is a GRU, or targets look further ahead by td_lambda."""
    use_reward_standardisation: bool = True
    """Divide rewards by their running standard deviation."""
