"""What can be set for QMIX, VDN and IQL."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import TeamNetworkSettings
from algos.replay_settings import ReplaySettings
from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QMIXSettings(ReplaySettings, TeamNetworkSettings):
    """Settings of QMIX, VDN and IQL; names are RLlib's where they mean the same."""

    lr: float = Field(default=5e-4, gt=0)
    """Adam step size."""
    train_batch_size: int = Field(default=128, gt=0)
    """Joint transitions (or sequences, for a GRU or td_lambda above 0) in one gradient step."""
    reward: Literal["team", "own"] | None = None
    """What each agent of iql is paid: the mean of all agents' rewards, or its own. None: own for iql; qmix and vdn
    know the team's alone."""
    td_lambda: float = Field(default=0.0, ge=0, le=1)
    """Weight of longer returns in the targets, which mix those of all numbers of steps in a replayed sequence; 0
    bootstraps after n_step. What was done at random counts in them as if it were meant: let epsilon fall."""
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
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of an mlp or a gru, whose state has the last width."""
    overestimation_weight: float = Field(default=1.0, gt=0, le=1)
    """Weight of TD errors of values above their targets. Below 1 agents are optimistic about their partners, which
    finds the best joint action where others' exploration hides it (Matignon et al. 2007; Rashid et al. 2020)."""
    dueling: bool = False
    """Split the value into a part of the state and parts of the actions (Wang et al. 2016)."""
    num_quantiles: int = Field(default=0, ge=0)
    """Quantiles of its return that each agent learns (QR-DQN, Dabney et al. 2018; iql); 0 learns the mean alone."""
    huber_kappa: float = Field(default=1.0, gt=0)
    """Error, in units of reward (standardised, where it is), beyond which the loss of quantiles grows straight."""
    prioritised_replay: bool = False
    """Draw what was predicted badly more often, and let it count less each time (Schaul et al. 2016)."""
    priority_alpha: float = Field(default=0.6, ge=0, le=1)
    """Power of the priorities: 0 draws all alike (alpha)."""
    priority_beta: float = Field(default=0.4, ge=0, le=1)
    """How much of the bias of prioritised draws is taken back at the start: 1 is all of it (beta)."""
    priority_beta_steps: int = Field(default=100_000, gt=0)
    """Environment steps over which beta rises to 1 in a straight line."""
    mixing_embed_dim: int = Field(default=32, gt=0)
    """Width of the mixing network's hidden layer (QMIX)."""
    hypernet_hidden: int = Field(default=64, gt=0)
    """Width of the hypernetworks' hidden layer (QMIX)."""
    grad_clip: float = Field(default=10.0, gt=0)
    """Largest norm of the gradient, of all networks together."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimiser; the papers use RMSprop, Adam is faster (PyMARL2)."""
