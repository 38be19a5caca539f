"""What can be set for every team whose agents have Q-values: QMIX, VDN and independent Q-learning."""

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from algos.network_settings import TeamNetworkSettings
from algos.replay_settings import ReplaySettings
from common.strict import STRICT, Choice, LogUniform, setting

SEARCHED = ("lr", "gamma", "target_network_update_freq", "n_step", "epsilon_decay_steps")
"""What searches draw for all of them, in this order."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TeamQSettings(ReplaySettings, TeamNetworkSettings):
    """Settings of agents' Q-networks and of what they learn; names are RLlib's where they mean the same."""

    lr: float = setting(5e-4, gt=0, search=LogUniform(0.0001, 0.003), may_change=True)
    """Adam step size."""
    train_batch_size: int = setting(128, gt=0, may_change=True)
    """Joint transitions (or sequences, for a GRU or td_lambda above 0) in one gradient step."""
    td_lambda: float = setting(0.0, ge=0, le=1, may_change=True)
    """Weight of longer returns in the targets, which mix those of all numbers of steps in a replayed sequence; 0
    bootstraps after n_step. What was done at random counts in them as if it were meant: let epsilon fall."""
    double_q: bool = setting(True, may_change=True)
    """Choose the next action by the online networks, value it by the target networks (van Hasselt et al. 2016)."""
    tau: float = setting(1.0, gt=0, le=1, may_change=True)
    """Share of the online weights taken by the targets at an update: 1 is a hard copy, below 1 a soft one."""
    target_network_update_freq: int = setting(200, gt=0, search=Choice((50, 200, 500)), may_change=True)
    """Gradient steps between two target updates."""
    epsilon_start: float = setting(1.0, ge=0, le=1, may_change=True)
    """Chance of a random action at the start."""
    epsilon_end: float = setting(0.05, ge=0, le=1, may_change=True)
    """Chance of a random action after the decay."""
    epsilon_decay_steps: int = setting(50_000, gt=0, search=Choice((10000, 30000, 100000)), may_change=True)
    """Environment steps over which epsilon falls in a straight line."""
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    """Widths of the layers of an mlp or a gru, whose state has the last width."""
    overestimation_weight: float = Field(default=1.0, gt=0, le=1)
    """Weight of TD errors of values above their targets. Below 1 agents are optimistic about their partners, which
    finds the best joint action where others' exploration hides it (Matignon et al. 2007; Rashid et al. 2020)."""
    dueling: bool = setting(False, search=Choice((False, True)))
    """Split the value into a part of the state and parts of the actions (Wang et al. 2016)."""
    prioritised_replay: bool = setting(False, may_change=True)
    """Draw what was predicted badly more often, and let it count less each time (Schaul et al. 2016)."""
    priority_alpha: float = setting(0.6, ge=0, le=1, may_change=True)
    """Power of the priorities: 0 draws all alike (alpha)."""
    priority_beta: float = setting(0.4, ge=0, le=1, may_change=True)
    """How much of the bias of prioritised draws is taken back at the start: 1 is all of it (beta)."""
    priority_beta_steps: int = setting(100_000, gt=0, may_change=True)
    """Environment steps over which beta rises to 1 in a straight line."""
    grad_clip: float = setting(10.0, gt=0, may_change=True)
    """Largest norm of the gradient, of all networks together."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimiser; the papers use RMSprop, Adam is faster (PyMARL2)."""
