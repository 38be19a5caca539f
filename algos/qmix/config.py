"""What can be set for VDN and QMIX."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QMIXSettings:
    """Settings of VDN and QMIX; names are RLlib's where they mean the same."""

    lr: float = Field(default=5e-4, gt=0)
    """Adam step size."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per bar."""
    train_batch_size: int = Field(default=128, gt=0)
    """Joint transitions (or sequences, for a GRU) in one gradient step."""
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
    double_q: bool = True
    """Choose the next action by the online networks, value it by the target networks (van Hasselt et al. 2016)."""
    tau: float = Field(default=1.0, gt=0, le=1)
    """Share of the online weights taken by the targets at an update: 1 is a hard copy, below 1 a soft one."""
    target_network_update_freq: int = Field(default=200, gt=0)
    """Gradient steps between two target updates."""
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    """Chance of a random action at the start."""
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    """Chance of a random action after the decay."""
    epsilon_decay_steps: int = Field(default=50_000, gt=0)
    """Environment steps over which epsilon falls in a straight line."""
    network: Literal["mlp", "gru"] = "mlp"
    """Encoder of each agent's observation; a GRU carries memory from bar to bar (Hausknecht and Stone 2015)."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the agent network's layers; a GRU's state has the last width."""
    sequence_length: int = Field(default=32, gt=1)
    """Bars in a replayed sequence when the network is a GRU."""
    use_shared_networks: bool = True
    """One network for all agents, told apart by a one-hot id; False gives each agent its own."""
    mixing_embed_dim: int = Field(default=32, gt=0)
    """Width of the mixing network's hidden layer (QMIX)."""
    hypernet_hidden: int = Field(default=64, gt=0)
    """Width of the hypernetworks' hidden layer (QMIX)."""
    use_reward_standardisation: bool = True
    """Divide team rewards by their running standard deviation."""
    grad_clip: float = Field(default=10.0, gt=0)
    """Largest global norm of the gradient."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimiser; the papers use RMSprop, Adam is faster (PyMARL2)."""
