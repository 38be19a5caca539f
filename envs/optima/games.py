"""Cooperative games that every method of value factorisation is tried on: two steps, climbing, penalty."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.strict import STRICT
from envs.optima.problem import Problem, agent_names

__all__ = ["ClimbingConfig", "MatrixGame", "PenaltyConfig", "TwoStepConfig", "TwoStepGame"]

CLIMBING = ((11.0, -30.0, 0.0), (-30.0, 7.0, 6.0), (0.0, 0.0, 5.0))
"""Claus and Boutilier (1998), figure 3: the best joint action is beside the worst."""
SAFE_GAME = ((7.0, 7.0), (7.0, 7.0))
COORDINATED_GAME = ((0.0, 1.0), (1.0, 8.0))
"""Rashid et al. (2018), table 1: the games after the first step."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwoStepConfig:
    """The two-step game; nothing can be set."""

    def build(self, device: torch.device | str = "cpu") -> TwoStepGame:
        """Make the problem."""
        return TwoStepGame(torch.device(device))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClimbingConfig:
    """The climbing game."""

    num_repetitions: int = Field(default=25, gt=0)
    """How often it is played in an episode; 25 as in EPyMARL (Papoudakis et al. 2021)."""

    def build(self, device: torch.device | str = "cpu") -> MatrixGame:
        """Make the problem."""
        return MatrixGame(CLIMBING, best=(0, 0), safe=(2, 2), num_steps=self.num_repetitions, device=device)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PenaltyConfig:
    """The penalty game."""

    penalty: Literal[0, -25, -50, -75, -100] = -100
    """What both get when they choose opposite corners: k in Claus and Boutilier (1998)."""
    num_repetitions: int = Field(default=25, gt=0)
    """How often it is played in an episode; 25 as in EPyMARL (Papoudakis et al. 2021)."""

    def build(self, device: torch.device | str = "cpu") -> MatrixGame:
        """Make the problem."""
        k = float(self.penalty)
        payoffs = ((k, 0.0, 10.0), (0.0, 2.0, 0.0), (10.0, 0.0, k))
        return MatrixGame(payoffs, best=(0, 2), safe=(1, 1), num_steps=self.num_repetitions, device=device)


class MatrixGame(Problem):
    """Two agents who choose at once and are both paid the entry of one matrix, several times an episode.

    Climbing: ((11, -30, 0), (-30, 7, 6), (0, 0, 5)). Penalty: ((k, 0, 10), (0, 2, 0), (10, 0, k)), where two joint
    actions are best and agents who choose different ones are punished. (Claus and Boutilier 1998, "The dynamics of
    reinforcement learning in cooperative multiagent systems", section 3.)

    Observation: a constant 1. Action: a row or a column. The baseline is the choice that is best against a partner who
    chooses by chance and that never loses anything, (c, c) and (b, b).
    """

    def __init__(
        self,
        payoffs: tuple[tuple[float, ...], ...],
        *,
        best: tuple[int, int],
        safe: tuple[int, int],
        num_steps: int,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.payoffs = torch.tensor(payoffs, dtype=torch.float64, device=self.device)
        self.agent_ids, self.num_steps = agent_names("agent", 2), num_steps
        self.obs_dim = self.state_dim = 1
        self.num_actions = len(payoffs)
        self._best, self._safe = best, safe

    @property
    def optimal_value(self) -> Tensor:
        """The largest entry, each time."""
        return (self.num_steps * self.payoffs.max()).expand(2)

    @property
    def baseline_value(self) -> Tensor:
        """The safe entry, each time."""
        return (self.num_steps * self.payoffs[self._safe]).expand(2)

    def open(self, draws: Tensor) -> Tensor:
        """Nothing is remembered."""
        return draws.new_zeros(len(draws), 1)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """One, for everyone."""
        return books.new_ones(len(books), 2, 1)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """One."""
        return books.new_ones(len(books), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Pay both the entry."""
        return books, self.payoffs[actions[:, 0], actions[:, 1]][:, None].repeat(1, 2)

    def optimal(self, obs: Tensor) -> Tensor:
        """The best joint action; of two, the first."""
        return torch.tensor(self._best, device=obs.device).expand(len(obs), 2)

    def baseline(self, obs: Tensor) -> Tensor:
        """The safe joint action."""
        return torch.tensor(self._safe, device=obs.device).expand(len(obs), 2)


class TwoStepGame(Problem):
    """Agent 0's first choice picks the second game: in one every joint action pays 7, the other pays ((0, 1), (1, 8)).

    The value of the first choice is representable by a monotonic mixer and not by a sum: VDN settles for 7, QMIX finds
    8 (Rashid et al. 2018, "QMIX", section 5).

    Observation: where the game is, one-hot of 3, for both. Action: one of two.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.payoffs = torch.tensor((SAFE_GAME, COORDINATED_GAME), dtype=torch.float64, device=self.device)
        self.agent_ids, self.num_steps, self.num_actions = agent_names("agent", 2), 2, 2
        self.obs_dim = self.state_dim = 3

    @property
    def optimal_value(self) -> Tensor:
        """8 for each."""
        return self.payoffs[1].max().expand(2)

    @property
    def baseline_value(self) -> Tensor:
        """7 for each."""
        return self.payoffs[0].max().expand(2)

    def open(self, draws: Tensor) -> Tensor:
        """At place 0; games 1 and 2 are the places of the second step."""
        return draws.new_zeros(len(draws), 1)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Place, one-hot, for both."""
        return self.state(books, step)[:, None].repeat(1, 2, 1)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Place, one-hot."""
        return torch.nn.functional.one_hot(books[:, 0].to(torch.int64), 3).to(torch.float64)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Go to a game, or play it."""
        place = books[:, 0].to(torch.int64)
        paid = self.payoffs[(place - 1).clamp_min(0), actions[:, 0], actions[:, 1]]
        reward = torch.where(place > 0, paid, 0.0)
        moved = torch.where(place > 0, place, 1 + actions[:, 0])
        return moved[:, None].to(torch.float64), reward[:, None].repeat(1, 2)

    def optimal(self, obs: Tensor) -> Tensor:
        """Choose 1 everywhere."""
        return torch.ones(len(obs), 2, dtype=torch.int64, device=obs.device)

    def baseline(self, obs: Tensor) -> Tensor:
        """Choose 0 everywhere."""
        return torch.zeros(len(obs), 2, dtype=torch.int64, device=obs.device)
