"""Selling a block: one seller who weighs cost against risk, or several who sell in one market at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, validate_call
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.problem import Policy, Problem, agent_names, normals

Array = NDArray[np.float64]

_LADDER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AlmgrenChrissConfig:
    """One seller by the example of Almgren and Chriss (2000); ``rival_sellers`` makes those for several."""

    num_sellers: int = Field(default=1, gt=0)
    """How many sell at once, each a block of the same size."""
    num_shares: float = Field(default=1e6, gt=0)
    """Shares in the block of each seller."""
    num_days: float = Field(default=5.0, gt=0)
    """Time until everything must be sold."""
    num_steps: int = Field(default=5, gt=0)
    """Sales in that time."""
    volatility: float = Field(default=0.95, ge=0)
    """Standard deviation of the price in a day, in US dollars."""
    half_spread: float = Field(default=0.0625, ge=0)
    """Fixed cost of selling a share, in US dollars: epsilon."""
    permanent_impact: float = Field(default=2.5e-7, ge=0)
    """Fall of the price for each share that anyone has sold before, in US dollars: gamma."""
    temporary_impact: float = Field(default=2.5e-6, gt=0)
    """Fall of the price for each share a day at which all sell together, for that step alone, in US dollars: eta."""
    risk_aversion: float = Field(default=1e-6, ge=0)
    """Dollars of expected cost that a squared dollar of variance is worth: lambda."""
    reward_unit_usd: float = Field(default=1e6, gt=0)
    """Cost that makes a reward of -1."""
    reward: str = Field(default="own", pattern="^(own|team)$")
    """own: each is paid for its own cost. team: each is paid the mean of all."""
    actions: str = Field(default="rest", pattern="^(rest|ladder)$")
    """rest: the fraction of what is left, a number from 0 to 1. ladder: a choice of multiples of an even pace."""
    ladder: tuple[float, ...] = _LADDER
    """What may be chosen, as multiples of the block divided by the number of steps; 0 and 1 must be among them."""
    noisy: bool = False
    """Pay the cost at the realised price, in place of its expectation."""

    def build(self, device: torch.device | str = "cpu") -> AlmgrenChriss:
        """Make the problem."""
        return AlmgrenChriss(self, device)


@validate_call
def rival_sellers(
    num_sellers: PositiveInt = 4,
    *,
    permanent: NonNegativeFloat = 1.0,
    temporary: PositiveFloat = 0.1,
    num_steps: PositiveInt = 10,
    **more: Any,
) -> AlmgrenChrissConfig:
    """Settings for N sellers of one share each in one unit of time, who push the price by g sum X and l sum X'.

    A sale meets half of the permanent impact of its own step, as the average over the step in continuous time does,
    hence eta = l + g tau / 2. Without risk aversion the best that the team can do is an even pace, at a cost of
    N (g / 2 + l) a seller whatever the number of steps.

    Args:
        num_sellers: N.
        permanent: g.
        temporary: l.
        num_steps: Sales.
        more: Other settings of AlmgrenChrissConfig.
    """
    settings = {
        "num_sellers": num_sellers,
        "num_shares": 1.0,
        "num_days": 1.0,
        "num_steps": num_steps,
        "volatility": 0.0,
        "half_spread": 0.0,
        "permanent_impact": permanent,
        "temporary_impact": temporary + permanent / (2 * num_steps),
        "risk_aversion": 0.0,
        "reward_unit_usd": 1.0,
    }
    return AlmgrenChrissConfig(**{**settings, **more})  # type: ignore[arg-type]


def urgency(config: AlmgrenChrissConfig) -> float:
    """Kappa, per day: 2 (cosh(kappa tau) - 1) / tau^2 = lambda sigma^2 / eta~ (Almgren and Chriss 2000, eq. 18).

    eta~ = eta - gamma tau / 2 (eq. 9).

    Raises:
        InputError: if eta~ is not positive.
    """
    tau = config.num_days / config.num_steps
    ratio = config.risk_aversion * config.volatility**2 / _eta_tilde(config)
    return float(np.arccosh(1.0 + 0.5 * ratio * tau**2) / tau)


def best_holdings(config: AlmgrenChrissConfig) -> Array:
    """Fraction of the block that one seller still holds at times 0, tau .. T, [T + 1].

    x_j / X = sinh(kappa (T - t_j)) / sinh(kappa T) (Almgren and Chriss 2000, eq. 17); an even pace without risk
    aversion.
    """
    kappa, left = urgency(config), np.linspace(config.num_days, 0.0, config.num_steps + 1)
    if kappa == 0.0:
        return left / config.num_days
    return np.sinh(kappa * left) / np.sinh(kappa * config.num_days)


def expected_cost(config: AlmgrenChrissConfig, holdings: Array) -> float:
    """E of one seller, US dollars: gamma X^2 / 2 + epsilon X + (eta~ / tau) sum n_k^2 (eq. 8); holdings [T + 1]."""
    shares, tau = config.num_shares, config.num_days / config.num_steps
    sold = -np.diff(holdings) * shares
    fixed = 0.5 * config.permanent_impact * shares**2 + config.half_spread * shares
    return float(fixed + _eta_tilde(config) / tau * (sold @ sold))


def cost_variance(config: AlmgrenChrissConfig, holdings: Array) -> float:
    """V of one seller, squared US dollars: sigma^2 tau sum x_k^2, k = 1 .. T (eq. 5); holdings [T + 1]."""
    held, tau = holdings[1:] * config.num_shares, config.num_days / config.num_steps
    return float(config.volatility**2 * tau * (held @ held))


def mean_variance_cost(config: AlmgrenChrissConfig, holdings: Array) -> float:
    """U = E + lambda V of one seller, US dollars."""
    return expected_cost(config, holdings) + config.risk_aversion * cost_variance(config, holdings)


def team_holdings(config: AlmgrenChrissConfig) -> Array:
    """Holdings, [T + 1], that minimise the mean of all sellers' costs; all sell alike.

    The mean cost of N alike is that of one seller who meets N times the impact.
    """
    return best_holdings(_as_one(config))


def nash_holdings(config: AlmgrenChrissConfig) -> Array:
    """Holdings, [T + 1], from which no seller gains by leaving alone: the symmetric open-loop equilibrium.

    Sellers see time and their own block, so a plan is a path n_ik. Cost is quadratic in it, and the first-order
    conditions of one seller, put equal for all, are linear: with S the sum over sellers,

        gamma sum_{m<k} S_m + (eta / tau)(S_k + n_k) + gamma sum_{m>k} n_m - 2 lambda sigma^2 tau sum_{j>=k} x_j = mu,

    x_j what is left after sale j. In continuous time (Carlin, Lobo and Viswanathan 2007, "Episodic liquidity crises",
    proposition 1) and without risk aversion the pace is proportional to exp(-(N - 1) / (N + 1) g t / l).
    """
    N, T = config.num_sellers, config.num_steps
    tau = config.num_days / T
    before, after = np.tril(np.ones((T, T)), -1), np.triu(np.ones((T, T)), 1)
    matrix = np.zeros((T + 1, T + 1))
    pushes = config.permanent_impact * (N * before + after) + config.temporary_impact / tau * (N + 1) * np.eye(T)
    # x_j = X - sum_{m<=j} n_m: its derivative by n_k is -1 for j >= k; the constant goes to the right-hand side.
    held = np.triu(np.ones((T, T))) @ np.tril(np.ones((T, T)))
    risk = 2.0 * config.risk_aversion * config.volatility**2 * tau
    matrix[:T, :T] = pushes + risk * held
    matrix[:T, T], matrix[T, :T] = -1.0, 1.0
    right = np.append(risk * np.arange(T, 0, -1.0), 1.0)
    sold = np.linalg.solve(matrix, right)[:T]
    if sold.min() < 0:
        raise InputError("in equilibrium somebody would buy, which no seller here can: lower permanent_impact")
    return np.append(1.0, 1.0 - np.cumsum(sold))


def _eta_tilde(config: AlmgrenChrissConfig) -> float:
    tilde = config.temporary_impact - 0.5 * config.permanent_impact * config.num_days / config.num_steps
    if tilde <= 0.0:
        raise InputError("temporary_impact must exceed permanent_impact * num_days / num_steps / 2: raise it")
    return tilde


def _as_one(config: AlmgrenChrissConfig) -> AlmgrenChrissConfig:
    more = {
        "num_sellers": 1,
        "permanent_impact": config.permanent_impact * config.num_sellers,
        "temporary_impact": config.temporary_impact * config.num_sellers,
    }
    return AlmgrenChrissConfig(**{**vars(config), **more})


class AlmgrenChriss(Problem):
    """N sellers with a block each, who must have sold it after T sales; what anyone sells moves the price for all.

    Sale k of a seller fills at S_k - gamma sum_{m<k} (sum over sellers) - (eta / tau) (sum over sellers) - epsilon,
    S a random walk. Objective: minus (expected cost + lambda * variance of cost), in units of ``reward_unit_usd``. The
    reward of a step is that sale's expected cost, and lambda sigma^2 tau x_k^2 for what is left after it: all chance is
    in S, whose expectation given the plan is zero and whose variance is known, so nothing has to be drawn and the best
    plan is the same. With ``noisy`` the value lost on the walk, -x_k dS, is added to the reward.

    Observation: fraction of the time that is left, own fraction of the block that is left; a seller does not see the
    others. State: time and all holdings. The last sale sells all that is left. ``optimal`` is the equilibrium with
    ``reward`` own, and the best of the team with team; the baseline is an even pace (TWAP), except for rivals as a
    team, where the best is the even pace and the baseline is the equilibrium.

    A ladder cannot follow other paths than its own: there the optimal policy is the nearest choice, and
    ``optimal_value`` is still that of continuous actions (they agree for an even pace).
    """

    def __init__(self, config: AlmgrenChrissConfig, device: torch.device | str = "cpu"):
        _eta_tilde(config)
        if config.actions == "ladder" and not {0.0, 1.0} <= set(config.ladder):
            raise InputError(f"ladder is {config.ladder}: 0 and 1 must be among its multiples")
        if min(config.ladder) < 0:
            raise InputError(f"ladder is {config.ladder}: a seller cannot buy")
        self.config, self.device = config, torch.device(device)
        self.is_nash = config.num_sellers > 1 and config.reward == "own"
        self.agent_ids = agent_names("seller", config.num_sellers)
        self.num_steps, self.num_draws = config.num_steps, 1 if config.noisy else 0
        self.obs_dim, self.state_dim = 2, 1 + config.num_sellers
        if config.actions == "ladder":
            self.num_actions = len(config.ladder)
        else:
            self.low, self.high = (0.0,), (1.0,)
        self._ladder = torch.tensor(config.ladder, dtype=torch.float64, device=self.device) / config.num_steps
        even = np.linspace(1.0, 0.0, config.num_steps + 1)
        team = team_holdings(config)
        self._has_even_best = config.reward == "team" and config.num_sellers > 1 and bool(np.allclose(team, even))
        nash = nash_holdings(config) if self.is_nash or self._has_even_best else team
        self.plans = {"optimal": nash if self.is_nash else team, "baseline": nash if self._has_even_best else even}
        self.plans |= {"twap": even, "team": team, "nash": nash}
        self._paths = {name: torch.tensor(plan, device=self.device) for name, plan in self.plans.items()}

    @property
    def optimal_value(self) -> Tensor:
        """Minus the cost of a seller where all follow the optimal plan, in units of reward."""
        return self.plan_value(self.plans["optimal"])

    @property
    def baseline_value(self) -> Tensor:
        """Minus the cost of a seller where all follow the baseline."""
        return self.plan_value(self.plans["baseline"])

    def plan_value(self, holdings: Array) -> Tensor:
        """Objective of each seller, [N], where all follow one plan, [T + 1] fractions of the block."""
        cost = mean_variance_cost(_as_one(self.config), holdings)
        return torch.full(
            (self.num_agents,), -cost / self.config.reward_unit_usd, dtype=torch.float64, device=self.device
        )

    def open(self, draws: Tensor) -> Tensor:
        """Everything still held, as fractions of the block."""
        return draws.new_ones(len(draws), self.num_agents)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and own holdings."""
        left = self.time_left(step)[:, None].expand_as(books)
        return torch.stack((left, books), 2)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and all holdings."""
        return torch.cat((self.time_left(step)[:, None], books), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Sell; the last time all that is left."""
        config, tau = self.config, self.config.num_days / self.num_steps
        wanted = self._ladder[actions] if self.num_actions else actions[..., 0] * books
        is_last = (step + 1 >= self.num_steps)[:, None]
        sold = torch.where(is_last, books, torch.minimum(wanted, books))
        held = books - sold
        shares = config.num_shares
        sold_before = shares * (1.0 - books).sum(1, keepdim=True)
        pushed = config.permanent_impact * sold_before
        pushed = pushed + config.temporary_impact / tau * shares * sold.sum(1, keepdim=True)
        cost = shares * sold * (pushed + config.half_spread)
        cost = cost + config.risk_aversion * config.volatility**2 * tau * (shares * held).square()
        if config.noisy:
            cost = cost - shares * held * config.volatility * tau**0.5 * normals(draws)
        if config.reward == "team":
            cost = cost.mean(1, keepdim=True).expand_as(cost)
        return held, -cost / config.reward_unit_usd

    def optimal(self, obs: Tensor) -> Tensor:
        """Follow the equilibrium, or the best plan of the team."""
        return self._follow("optimal", obs)

    def baseline(self, obs: Tensor) -> Tensor:
        """Follow an even pace, or the equilibrium."""
        return self._follow("baseline", obs)

    def policies(self) -> dict[str, Policy]:
        """Also the even pace, the best plan of the team and the equilibrium by their own names."""
        return {name: partial(self._follow, name) for name in self._paths}

    def _follow(self, name: str, obs: Tensor) -> Tensor:
        """Sell the fraction of the rest that a plan sells at this time."""
        left, held = obs[..., 0].to(torch.float64), obs[..., 1].to(torch.float64)
        step = torch.round((1.0 - left) * self.num_steps).to(torch.int64).clamp(0, self.num_steps - 1)
        plan = self._paths[name]
        fraction = 1.0 - plan[step + 1] / plan[step].clamp_min(1e-300)
        if not self.num_actions:
            return fraction[..., None]
        return ((fraction * held)[..., None] - self._ladder).abs().argmin(-1)
