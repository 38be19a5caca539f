"""Kyle's market: informed traders who hide in noise, before a market maker who prices by the flow of orders."""

from __future__ import annotations

import math
from functools import partial

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.strict import STRICT
from envs.optima.problem import Policy, Problem, agent_names, normals

_WIDEST = 4.0  # standard deviations of the value at which a lone trader's best order reaches the edge of the box


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KyleConfig:
    """Kyle's one-period market with N informed traders, played several times."""

    num_traders: int = Field(default=2, gt=0)
    """How many know the value."""
    value_sd: float = Field(default=1.0, gt=0)
    """Standard deviation of the value, the root of Sigma_0."""
    noise_sd: float = Field(default=1.0, gt=0)
    """Standard deviation of the noise traders' order, sigma_u."""
    num_rounds: int = Field(default=10, gt=0)
    """Independent rounds in an episode."""
    reward: str = Field(default="own", pattern="^(own|team)$")
    """own: each is paid its own profit. team: each is paid the mean of all."""
    noisy: bool = False
    """Let the noise traders move the price that is paid, in place of its expectation."""

    def build(self, device: torch.device | str = "cpu") -> Kyle:
        """Make the problem."""
        return Kyle(self, device)


def trading_intensity(num_traders: int, value_sd: float, noise_sd: float) -> float:
    """Beta of the orders x = beta v in equilibrium: sigma_u / sqrt(N Sigma_0).

    Kyle (1985), "Continuous auctions and insider trading", theorem 1, for N = 1; Admati and Pfleiderer (1988), "A
    theory of intraday patterns", lemma 1, for N who know the same.
    """
    return noise_sd / (math.sqrt(num_traders) * value_sd)


def price_impact(num_traders: int, value_sd: float, noise_sd: float) -> float:
    """Lambda of the price lambda y in equilibrium: sqrt(N Sigma_0) / ((N + 1) sigma_u)."""
    return math.sqrt(num_traders) * value_sd / ((num_traders + 1) * noise_sd)


def trader_profit(num_traders: int, value_sd: float, noise_sd: float) -> float:
    """Expected profit of each trader a round in equilibrium: sigma_u sqrt(Sigma_0) / (sqrt(N) (N + 1))."""
    return noise_sd * value_sd / (math.sqrt(num_traders) * (num_traders + 1))


def posterior_variance(num_traders: int, value_sd: float) -> float:
    """Variance of the value once the price is known: Sigma_0 / (N + 1)."""
    return value_sd**2 / (num_traders + 1)


def collusive_intensity(num_traders: int, value_sd: float, noise_sd: float) -> float:
    """Beta of each at which the profit of all together is largest, lambda held where it is: 1 / (2 lambda N)."""
    return 0.5 / (price_impact(num_traders, value_sd, noise_sd) * num_traders)


def collusive_profit(num_traders: int, value_sd: float, noise_sd: float) -> float:
    """Expected profit of each a round at ``collusive_intensity``: Sigma_0 / (4 lambda N)."""
    return value_sd**2 / (4.0 * price_impact(num_traders, value_sd, noise_sd) * num_traders)


class Kyle(Problem):
    """N traders see the value v, order x_i, and pay the price lambda (sum x + u); the market maker's lambda is fixed.

    lambda is that of the equilibrium of the N traders and the market maker, at which the price is the expected value
    given the orders. Objective of each: mean profit x_i (v - lambda y) of a round. The reward leaves out u, whose
    expectation is zero whatever x and v are, so the best orders are the same; with ``noisy`` u is in it.

    Observation: v / sqrt(Sigma_0). Action: order in units of sigma_u, within a box that a lone trader's best order
    leaves at four standard deviations of v. ``optimal`` is the equilibrium with ``reward`` own, and collusion with
    team; the baseline is collusion in the one case and the equilibrium in the other, and an order half as large for
    one trader alone.
    """

    def __init__(self, config: KyleConfig, device: torch.device | str = "cpu"):
        self.config, self.device = config, torch.device(device)
        sizes = (config.num_traders, config.value_sd, config.noise_sd)
        self.agent_ids = agent_names("trader", config.num_traders)
        self.num_steps, self.num_draws = config.num_rounds, 2
        self.obs_dim, self.state_dim = 1, 1
        self.low, self.high = (-_WIDEST,), (_WIDEST,)
        self.is_nash = config.num_traders > 1 and config.reward == "own"
        self.impact = price_impact(*sizes)
        nash, collusive = trading_intensity(*sizes), collusive_intensity(*sizes)
        first, second = (nash, collusive) if config.reward == "own" else (collusive, nash)
        if config.num_traders == 1:
            second = 0.5 * first
        self.intensities = {"optimal": first, "baseline": second, "nash": nash, "collusion": collusive}

    @property
    def optimal_value(self) -> Tensor:
        """Profit of each a round where all play ``optimal``."""
        return self.intensity_value(self.intensities["optimal"])

    @property
    def baseline_value(self) -> Tensor:
        """Profit of each a round where all play the baseline."""
        return self.intensity_value(self.intensities["baseline"])

    def intensity_value(self, intensity: float) -> Tensor:
        """Expected profit of each a round, [N], where all order beta v: beta (1 - lambda N beta) Sigma_0."""
        config = self.config
        profit = intensity * (1.0 - self.impact * config.num_traders * intensity) * config.value_sd**2
        return torch.full((self.num_agents,), profit, dtype=torch.float64, device=self.device)

    def open(self, draws: Tensor) -> Tensor:
        """Value of the first round."""
        return self.config.value_sd * normals(draws[:, :1])

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """The value, to everyone."""
        return self.state(books, step)[:, None].repeat(1, self.num_agents, 1)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """The value."""
        return books / self.config.value_sd

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Trade one round, and draw the value of the next."""
        config = self.config
        orders = config.noise_sd * actions[..., 0]
        flow = orders.sum(1, keepdim=True)
        if config.noisy:
            flow = flow + config.noise_sd * normals(draws[:, 1:])
        profit = orders * (books - self.impact * flow) / config.num_rounds
        if config.reward == "team":
            profit = profit.mean(1, keepdim=True).expand_as(profit)
        return self.open(draws), profit

    def optimal(self, obs: Tensor) -> Tensor:
        """Order beta v."""
        return self._order("optimal", obs)

    def baseline(self, obs: Tensor) -> Tensor:
        """Order a different multiple of v."""
        return self._order("baseline", obs)

    def policies(self) -> dict[str, Policy]:
        """Also the equilibrium and collusion by their own names."""
        return {name: partial(self._order, name) for name in self.intensities}

    def _order(self, name: str, obs: Tensor) -> Tensor:
        config = self.config
        return obs.to(torch.float64) * (self.intensities[name] * config.value_sd / config.noise_sd)
