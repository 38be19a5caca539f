"""What can be set for RLlib's DQN."""

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DQNSettings:
    """Settings of RLlib's DQN; names are RLlib's."""

    lr: float = Field(default=5e-4, gt=0)
    """Adam step size."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per bar."""
    train_batch_size_per_learner: int = Field(default=64, gt=0)
    """Agent steps in one gradient step."""
    training_intensity: float | None = Field(default=None, gt=0)
    """Trained steps per sampled step; None takes what batch size and fragment length give."""
    rollout_fragment_length: int = Field(default=16, gt=0)
    """Bars that each replica is stepped between two gradient steps."""
    replay_capacity: int = Field(default=50_000, gt=0)
    """Steps kept in the replay buffer."""
    learning_starts: int = Field(default=1_000, ge=0)
    """Environment steps sampled before the first gradient step."""
    n_step: int = Field(default=1, gt=0)
    """Bars of reward that are summed before bootstrapping."""
    double_q: bool = True
    """Choose the next action by the online network, value it by the target network."""
    dueling: bool = True
    """Split the value into a state part and an advantage part (Wang et al. 2016)."""
    target_network_update_freq: int = Field(default=500, gt=0)
    """Environment steps between two target updates."""
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    """Chance of a random action at the start."""
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    """Chance of a random action after the decay."""
    epsilon_decay_steps: int = Field(default=20_000, gt=0)
    """Environment steps over which epsilon falls in a straight line."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the network's layers."""
    use_shared_networks: bool | None = None
    """One network for all agents, or one each. None: one for all where their observations are equally wide."""
    num_envs_per_env_runner: int = Field(default=4, gt=0)
    """Copies of the environment, unless the scaling settings say otherwise."""
