"""What can be set for RLlib's DQN."""

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from common.strict import STRICT, Choice, LogUniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DQNSettings:
    """Settings of RLlib's DQN; names are RLlib's."""

    lr: float = setting(5e-4, gt=0, search=LogUniform(0.0001, 0.003), may_change=True)
    """Adam step size."""
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
    """Bars of reward that are summed before bootstrapping."""
    double_q: bool = setting(True, may_change=True)
    """Choose the next action by the online network, value it by the target network."""
    dueling: bool = True
    """Split the value into a state part and an advantage part (Wang et al. 2016)."""
    target_network_update_freq: int = setting(500, gt=0, search=Choice((50, 200, 500)), may_change=True)
    """Environment steps between two target updates."""
    epsilon_start: float = setting(1.0, ge=0, le=1, may_change=True)
    """Chance of a random action at the start."""
    epsilon_end: float = setting(0.05, ge=0, le=1, may_change=True)
    """Chance of a random action after the decay."""
    epsilon_decay_steps: int = setting(20_000, gt=0, search=Choice((10000, 30000, 100000)), may_change=True)
    """Environment steps over which epsilon falls in a straight line."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the network's layers."""
    use_shared_networks: bool | None = None
    """One network for all agents, or one each. None: one for all where their observations are equally wide."""
    num_envs_per_env_runner: int = Field(default=4, gt=0)
    """Copies of the environment, unless the scaling settings say otherwise."""
