"""What can be set for every algorithm that learns from a replay buffer of joint steps."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from algos.step_size import StepSizeSettings
from common.strict import STRICT, Choice, setting

REPLAY_FOLDER = "replay"
"""Folder of a checkpoint that holds the buffer."""
SHARED_ENDING = ".safetensors"
"""Ending of finished segments, which checkpoints share and a store keeps once."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReplaySettings(StepSizeSettings):
    """Settings of sampling and replay; names are RLlib's where they mean the same."""

    gamma: float = setting(0.99, ge=0, le=1, search=Choice((0.9, 0.97, 0.99, 0.995)), may_change=True)
    """Discount per bar."""
    num_updates: int = setting(8, gt=0, may_change=True)
    """Gradient steps after each sampled fragment."""
    rollout_fragment_length: int = setting(16, gt=0, may_change=True)
    """Bars that each replica is stepped between two rounds of gradient steps."""
    num_envs_per_env_runner: int = Field(default=16, gt=0)
    """Replicas stepped at once, unless the scaling settings say otherwise."""
    replay_capacity: int = Field(default=100_000, gt=0)
    """Joint transitions kept in the replay buffer."""
    learning_starts: int = setting(1_000, ge=0, may_change=True)
    """Joint transitions sampled before the first gradient step."""
    n_step: int = setting(1, gt=0, search=Choice((1, 3, 5)), may_change=True)
    """Bars of reward that are summed before bootstrapping."""
    sequence_length: int = setting(32, gt=1, may_change=True)
    """Bars in a replayed sequence when the network is a GRU, or targets look further ahead by td_lambda."""
    use_reward_standardisation: bool = setting(True, may_change=True)
    """Divide rewards by their running standard deviation."""
