"""Problem: a market or game whose best policy is known, as arithmetic on B replicas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Policy = Callable[[Tensor], Tensor]
"""Observations, [B, N, F], to actions: [B, N] int64, or [B, N, D] float in the units of the box."""


class Problem(ABC):
    """The rules of a market with a known optimum: what is seen, what an action does, what it pays, what is best.

    A problem holds no episode: everything that changes is in ``books``, and chance is handed in as ``draws``, so a step
    is a function of tensors. ``envs.optima.batched.OptimaEnv`` adds clocks, seeds and resets. All episodes are
    ``num_steps`` long; the sum of an agent's rewards (times ``discount`` to the power of the step) is its objective.

    Attributes:
        agent_ids: Names of the N agents.
        num_steps: Steps of an episode.
        num_draws: Uniform draws that opening or moving takes for each replica.
        obs_dim: Width of every agent's observation, F.
        state_dim: Width of the global state.
        num_actions: Choices of an agent, K; 0 where actions are continuous.
        low: Lower ends of an agent's box, D of them; empty where actions are choices.
        high: Upper ends.
        discount: Factor by which the objective discounts the rewards of each further step; 1 nearly everywhere.
        is_nash: What ``optimal`` plays is an equilibrium, not the best that the team could do.
        device: Where tensors live.
    """

    agent_ids: tuple[str, ...]
    num_steps: int
    num_draws: int = 0
    obs_dim: int
    state_dim: int
    num_actions: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    discount: float = 1.0
    is_nash: bool = False
    device: torch.device

    @property
    def num_agents(self) -> int:
        """N."""
        return len(self.agent_ids)

    @property
    @abstractmethod
    def optimal_value(self) -> Tensor:
        """Expected objective of each agent where all play ``optimal``, [N] float64, in units of reward."""

    @property
    def baseline_value(self) -> Tensor | None:
        """The same of ``baseline``; None where only simulation tells."""
        return None

    @abstractmethod
    def open(self, draws: Tensor) -> Tensor:
        """Books at the start of an episode, [B, S] float64, from uniform draws, [B, num_draws]."""

    @abstractmethod
    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """What agents see, [B, N, F] float64 of order one; ``step`` counts from 0, [B] int64."""

    @abstractmethod
    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """What a centralised critic sees, [B, state_dim] float64 of order one."""

    @abstractmethod
    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step.

        Args:
            books: [B, S] float64.
            step: [B] int64.
            actions: [B, N] int64, or [B, N, D] float64 within the box.
            draws: Uniform, [B, num_draws] float64.

        Returns:
            Books, and reward, [B, N] float64.
        """

    @abstractmethod
    def optimal(self, obs: Tensor) -> Tensor:
        """Best (or equilibrium) actions after an observation."""

    @abstractmethod
    def baseline(self, obs: Tensor) -> Tensor:
        """Actions of the simple policy that a learner must beat."""

    def policies(self) -> Mapping[str, Policy]:
        """Every policy that is known by name."""
        return {"optimal": self.optimal, "baseline": self.baseline}

    def time_left(self, step: Tensor) -> Tensor:
        """Fraction of the episode that is still to come, [B] float64; 1 at the start."""
        return 1.0 - step.to(torch.float64) / self.num_steps


def agent_names(kind: str, count: int) -> tuple[str, ...]:
    """Names of agents: ``seller_0``, ``seller_1`` and so on."""
    return tuple(f"{kind}_{n}" for n in range(count))


def normals(draws: Tensor) -> Tensor:
    """Standard normals of uniform draws, by the inverse of their distribution function."""
    return torch.special.ndtri(draws)


def everyone_alike(obs: Tensor, action: Tensor) -> Tensor:
    """One action for each agent, [N, D], repeated for every replica of ``obs``: [B, N, D] float64."""
    return action.expand(obs.shape[0], *action.shape).clone()
