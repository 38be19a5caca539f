"""Investors who care how they do beside the others: an equilibrium of Merton's problem."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.problem import Problem, agent_names, everyone_alike, normals

Array = NDArray[np.float64]

_PERCENT = 100.0


def nash_weights(tolerance: Array, concern: Array, drift: float, volatility: float) -> Array:
    """Equilibrium amounts of N investors in one common stock, [N].

    pi_i = (delta_i + theta_i mean(delta) / (1 - mean(theta))) mu / sigma^2 (Lacker and Zariphopoulou 2019, "Mean field
    and n-agent games for optimal investment under relative performance criteria", corollary 2.4; the mean of wealth
    includes the investor's own).

    Args:
        tolerance: delta, risk tolerance of each, [N].
        concern: theta, weight of the mean wealth of all in each one's utility, [N].
        drift: mu of the stock above cash, per year.
        volatility: sigma, per year.
    """
    shared = tolerance.mean() / (1.0 - concern.mean())
    return (tolerance + concern * shared) * drift / volatility**2


def relative_rate(weights: Array, tolerance: Array, concern: Array, drift: float, volatility: float) -> Array:
    """Certainty equivalent per year of each investor, [N], where all hold constant amounts.

    With z_i = pi_i - theta_i mean(pi), X_i - theta_i mean(X) is normal and exponential utility is worth
    z_i mu - z_i^2 sigma^2 / (2 delta_i) a year; delta_i mu^2 / (2 sigma^2) in equilibrium.
    """
    exposure = weights - concern * weights.mean()
    return exposure * drift - exposure**2 * volatility**2 / (2.0 * tolerance)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MertonRelativeConfig:
    """Investors with relative concerns."""

    tolerance: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    """Risk tolerance delta of each investor: utility is -exp(-x / delta)."""
    concern: tuple[float, ...] = (0.2, 0.5, 0.0, 0.8)
    """How much each compares with the mean of all, theta between 0 and 1."""
    drift: float = Field(default=0.06, gt=0)
    """Drift of the stock above cash, a year."""
    volatility: float = Field(default=0.2, gt=0)
    """Standard deviation of its return a year."""
    num_steps: int = Field(default=12, gt=0)
    """Decisions in an episode, which is one year."""
    max_weight: float = Field(default=8.0, gt=0)
    """Largest amount in the stock, long or short."""
    noisy: bool = False
    """Pay the realised gain in place of its expectation."""

    def build(self, device: torch.device | str = "cpu") -> MertonRelative:
        """Make the problem."""
        return MertonRelative(self, device)


class MertonRelative(Problem):
    """N investors with exponential utility of X_i - theta_i mean(X), who trade one stock and do not move its price.

    Objective of each: 100 times the certainty equivalent of its utility after one year. The reward of a step is the
    part of the step, z mu - z^2 sigma^2 / (2 delta), z = pi_i - theta_i mean(pi): certainty equivalents add up for
    amounts that follow from time alone. With ``noisy`` the realised gain z (mu dt + sigma dW) takes the place of its
    expectation, with the same equilibrium.

    Observation: fraction of the year that is left, own risk tolerance, own concern. Action: amount in the stock. The
    baseline is Merton's amount, which forgets the others: in equilibrium nobody gains by going back to it.

    Raises:
        InputError: if tolerances and concerns cannot be used, or the equilibrium lies outside the box.
    """

    is_nash = True

    def __init__(self, config: MertonRelativeConfig, device: torch.device | str = "cpu"):
        tolerance, concern = np.array(config.tolerance), np.array(config.concern)
        if len(tolerance) != len(concern) or not len(tolerance):
            raise InputError(f"tolerance has {len(tolerance)} investors and concern {len(concern)}")
        if tolerance.min() <= 0 or concern.min() < 0 or concern.max() > 1 or concern.mean() >= 1:
            raise InputError("tolerance must be above 0, and concern from 0 to 1 with a mean below 1")
        self.config, self.device = config, torch.device(device)
        self.nash = nash_weights(tolerance, concern, config.drift, config.volatility)
        if np.abs(self.nash).max() > config.max_weight:
            raise InputError(f"max_weight is {config.max_weight}, but the equilibrium is {self.nash.round(3)}")
        self.agent_ids = agent_names("investor", len(tolerance))
        self.num_steps, self.num_draws, self.obs_dim = config.num_steps, 1, 3
        self.state_dim = 1 + 2 * len(tolerance)
        self.low, self.high = (-config.max_weight,), (config.max_weight,)
        self._tolerance, self._concern, self._nash = (
            torch.tensor(values, device=self.device) for values in (tolerance, concern, self.nash)
        )
        self._alone = self._tolerance * config.drift / config.volatility**2

    @property
    def optimal_value(self) -> Tensor:
        """Of the equilibrium."""
        return self._value(self._nash)

    @property
    def baseline_value(self) -> Tensor:
        """Of Merton's amounts."""
        return self._value(self._alone)

    def _value(self, weights: Tensor) -> Tensor:
        config = self.config
        rates = relative_rate(
            weights.cpu().numpy(), np.array(config.tolerance), np.array(config.concern), config.drift, config.volatility
        )
        return torch.tensor(_PERCENT * rates, device=self.device)

    def open(self, draws: Tensor) -> Tensor:
        """Gains of each investor, 0."""
        return draws.new_zeros(len(draws), self.num_agents)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left, and who one is."""
        left = self.time_left(step)[:, None].expand(-1, self.num_agents)
        own = torch.stack((self._tolerance, self._concern), 1).expand(len(left), -1, -1)
        return torch.cat((left[..., None], own), 2)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left, and who all are."""
        who = torch.cat((self._tolerance, self._concern)).expand(len(books), -1)
        return torch.cat((self.time_left(step)[:, None], who), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Hold the amounts for one step."""
        config, span = self.config, 1.0 / self.num_steps
        amounts = actions[..., 0]
        shock = config.volatility * span**0.5 * normals(draws)
        exposure = amounts - self._concern * amounts.mean(1, keepdim=True)
        reward = exposure * config.drift * span
        reward = reward - exposure.square() * config.volatility**2 * span / (2.0 * self._tolerance)
        if config.noisy:
            reward = reward + exposure * shock
        return books + amounts * (config.drift * span + shock), _PERCENT * reward

    def optimal(self, obs: Tensor) -> Tensor:
        """The equilibrium."""
        return everyone_alike(obs, self._nash[:, None])

    def baseline(self, obs: Tensor) -> Tensor:
        """Delta mu / sigma^2: what each would hold alone."""
        return everyone_alike(obs, self._alone[:, None])
