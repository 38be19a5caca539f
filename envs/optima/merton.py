"""Merton's problem: how much of each asset to hold, for one investor with constant relative risk aversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.problem import Problem, agent_names, everyone_alike, normals

Array = NDArray[np.floating[Any]]

_PERCENT = 100.0


def merton_weights(drift: Array, rate: float, covariance: Array, risk_aversion: float) -> Array:
    """Best constant weights, Sigma^-1 (mu - r) / gamma, [A] (Merton 1969, "Lifetime portfolio selection", eq. 29).

    Args:
        drift: mu, [A], per year.
        rate: r of cash, per year.
        covariance: Sigma, [A, A], per year.
        risk_aversion: gamma of utility W^(1 - gamma) / (1 - gamma); 1 is the logarithm.
    """
    return np.linalg.solve(covariance, drift - rate) / risk_aversion


def certainty_equivalent_rate(
    weights: Array, drift: Array, rate: float, covariance: Array, risk_aversion: float
) -> float:
    """Riskless rate that is worth as much as holding constant weights: r + w'(mu - r) - gamma / 2 w' Sigma w.

    Exact for geometric Brownian prices and power utility: log wealth is normal (Merton 1969, section 5). At the best
    weights it is r + (mu - r)' Sigma^-1 (mu - r) / (2 gamma).
    """
    excess = float(weights @ (drift - rate))
    return rate + excess - 0.5 * risk_aversion * float(weights @ covariance @ weights)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MertonConfig:
    """Merton's problem."""

    drift: tuple[float, ...] = (0.08,)
    """Drift of each asset a year, one entry an asset."""
    volatility: tuple[float, ...] = (0.2,)
    """Standard deviation of each asset's return a year."""
    correlation: float = Field(default=0.0, gt=-1, lt=1)
    """Correlation between any two assets."""
    rate: float = 0.02
    """Interest on cash a year."""
    risk_aversion: float = Field(default=3.0, gt=0)
    """gamma of utility W^(1 - gamma) / (1 - gamma)."""
    num_steps: int = Field(default=12, gt=0)
    """Decisions in an episode, which is one year."""
    max_weight: float = Field(default=2.0, gt=0)
    """Largest weight of an asset, long or short."""
    agents: str = Field(default="joint", pattern="^(joint|per_asset)$")
    """joint: one agent sets all weights. per_asset: one agent an asset, all paid the reward of the whole portfolio."""
    noisy: bool = False
    """Pay the realised log return, corrected for gamma, in place of its expectation."""

    def build(self, device: torch.device | str = "cpu") -> Merton:
        """Make the problem."""
        return Merton(self, device)


def equicorrelated(scale: Sequence[float], correlation: float, name: str) -> Array:
    """Matrix with the squares of ``scale`` on its diagonal and one correlation elsewhere, [A, A].

    Raises:
        InputError: if it is not positive definite.
    """
    size = len(scale)
    matrix = np.full((size, size), correlation) + (1.0 - correlation) * np.eye(size)
    covariance = matrix * np.outer(scale, scale)
    if np.linalg.eigvalsh(covariance).min() <= 0.0:
        raise InputError(f"{name} {correlation} over {size} assets gives no positive definite matrix: raise it")
    return covariance


class Merton(Problem):
    """One year of constant opportunities, rebalanced ``num_steps`` times.

    Objective: the certainty-equivalent rate of the year in per cent, so that the sum of the rewards of constant weights
    is 100 (r + w'(mu - r) - gamma / 2 w' Sigma w). The reward of a step is that of its share of the year: utility of
    final wealth is not a sum, but its certainty equivalent under weights that follow from time alone is, and the best
    weights of the one are those of the other. With ``noisy`` the realised log return takes the place of its expectation
    (less (gamma - 1) / 2 times its variance): the same in expectation, hence the same best weights.

    Observation: fraction of the year that is left, log wealth. Action: weights within +- ``max_weight``. The baseline
    holds cash.

    Raises:
        InputError: if drifts and volatilities differ in number, or the best weights lie outside the box.
    """

    def __init__(self, config: MertonConfig, device: torch.device | str = "cpu"):
        if len(config.drift) != len(config.volatility) or not config.drift:
            raise InputError(f"drift has {len(config.drift)} assets and volatility {len(config.volatility)}")
        if min(config.volatility) <= 0:
            raise InputError(f"volatility is {config.volatility}: every asset needs one above 0")
        self.config, self.device = config, torch.device(device)
        num_assets = len(config.drift)
        self._drift = np.array(config.drift)
        self._covariance = equicorrelated(config.volatility, config.correlation, "correlation")
        self.best_weights = merton_weights(self._drift, config.rate, self._covariance, config.risk_aversion)
        if np.abs(self.best_weights).max() > config.max_weight:
            raise InputError(
                f"max_weight is {config.max_weight}, but the best weights are {self.best_weights.round(3)}"
            )
        is_joint = config.agents == "joint"
        self.agent_ids = agent_names("investor", 1) if is_joint else agent_names("asset", num_assets)
        self.num_steps, self.num_draws, self.obs_dim, self.state_dim = config.num_steps, num_assets, 2, 2
        width = num_assets if is_joint else 1
        self.low, self.high = (-config.max_weight,) * width, (config.max_weight,) * width
        self._excess = torch.tensor(self._drift - config.rate, device=self.device)
        self._sigma = torch.tensor(self._covariance, device=self.device)
        self._root = torch.linalg.cholesky(self._sigma)
        best = torch.tensor(self.best_weights, device=self.device)
        self._best = best.reshape(self.num_agents, width)

    @property
    def optimal_value(self) -> Tensor:
        """Certainty-equivalent rate of the best weights, per cent."""
        return self._value(self.best_weights)

    @property
    def baseline_value(self) -> Tensor:
        """The rate of cash, per cent."""
        return self._value(np.zeros_like(self.best_weights))

    def _value(self, weights: Array) -> Tensor:
        config = self.config
        rate = certainty_equivalent_rate(weights, self._drift, config.rate, self._covariance, config.risk_aversion)
        return torch.full((self.num_agents,), _PERCENT * rate, dtype=torch.float64, device=self.device)

    def open(self, draws: Tensor) -> Tensor:
        """Log wealth 0."""
        return draws.new_zeros(len(draws), 1)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and log wealth, for everyone."""
        return self.state(books, step)[:, None].repeat(1, self.num_agents, 1)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and log wealth."""
        return torch.stack((self.time_left(step), books[:, 0]), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Hold the weights, rebalanced all the time, for one step."""
        config, span = self.config, 1.0 / self.num_steps
        weights = actions.flatten(1)
        variance = ((weights @ self._sigma) * weights).sum(1) * span
        mean = (config.rate + weights @ self._excess) * span
        shock = (weights * (normals(draws) @ self._root.T)).sum(1) * span**0.5
        reward = mean - 0.5 * config.risk_aversion * variance
        if config.noisy:
            reward = reward + shock
        books = books + (mean - 0.5 * variance + shock)[:, None]
        return books, (_PERCENT * reward)[:, None].repeat(1, self.num_agents)

    def optimal(self, obs: Tensor) -> Tensor:
        """Merton's weights."""
        return everyone_alike(obs, self._best)

    def baseline(self, obs: Tensor) -> Tensor:
        """Nothing but cash."""
        return everyone_alike(obs, torch.zeros_like(self._best))
