"""Trading toward an aim: predictable returns that fade, and quadratic costs (Garleanu and Pedersen 2013)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.problem import Policy, Problem, agent_names, normals

Array = NDArray[np.floating[Any]]

_WIDEST = 5.0  # standard deviations of the first best trade, or of the aim, at which the box ends


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GarleanuPedersenConfig:
    """Assets with predictable returns and quadratic costs."""

    num_assets: int = Field(default=1, gt=0)
    """Assets, all alike, each with factors of its own."""
    discount_rate: float = Field(default=0.01, gt=0, lt=1)
    """rho: a step later is worth 1 - rho as much."""
    risk_aversion: float = Field(default=1.0, gt=0)
    """gamma, of gamma / 2 x' Sigma x."""
    cost: float = Field(default=10.0, gt=0)
    """lambda: trading d costs d' Lambda d / 2, Lambda = lambda sigma^2 times the cost matrix of correlation one."""
    cost_coupling: float = Field(default=0.0, gt=-1, lt=1)
    """Off-diagonal entry of the cost matrix, whose diagonal is 1: how far one asset's trades move the others."""
    volatility: float = Field(default=0.01, gt=0)
    """sigma of each asset's unpredictable return, US dollars a step."""
    factor_decay: tuple[float, ...] = (0.05, 0.3)
    """phi of each factor: the part of it that fades in a step."""
    factor_sd: tuple[float, ...] = (0.0004, 0.0006)
    """Stationary standard deviation of each factor, US dollars a step."""
    num_steps: int = Field(default=500, gt=0)
    """Steps of an episode; what lies beyond is paid as the value of going on optimally."""
    agents: str = Field(default="joint", pattern="^(joint|per_asset)$")
    """joint: one agent trades all assets. per_asset: one agent an asset."""
    reward: str = Field(default="team", pattern="^(own|team)$")
    """team: each is paid the mean over assets. own: each its own asset's, possible without coupling only."""
    action: str = Field(default="trades", pattern="^(trades|positions)$")
    """trades: what to buy. positions: what to hold, as the paper has it; what is done at random does not add up."""
    use_discounted_rewards: bool = True
    """Discount inside the reward, so that its plain sum is the objective. Without it rewards do not depend on time, and
    the learner's discount must be 1 - discount_rate."""
    noisy: bool = False
    """Pay the realised return in place of the predicted one."""

    def build(self, device: torch.device | str = "cpu") -> GarleanuPedersen:
        """Make the problem."""
        return GarleanuPedersen(self, device)


class Quadratic(NamedTuple):
    """Value V(x, f) = -x' A_xx x / 2 + x' A_xf f + f' A_ff f / 2 + A_0, and the best x = hold x_before + follow f.

    Attributes:
        a_xx: [A, A].
        a_xf: [A, M], M factors of all assets together.
        a_ff: [M, M].
        a_0: Number.
        hold: [A, A].
        follow: [A, M].
    """

    a_xx: Array
    a_xf: Array
    a_ff: Array
    a_0: float
    hold: Array
    follow: Array


def trading_rate(discount_rate: float, risk_aversion: float, cost: float) -> float:
    """A / lambda: how much of the way to the aim is traded in a step, where costs are lambda Sigma.

    Garleanu and Pedersen (2013), "Dynamic trading with predictable returns and transaction costs", proposition 3, eq.
    13.
    """
    rest = 1.0 - discount_rate
    b = risk_aversion * rest + cost * discount_rate
    return (np.sqrt(b * b + 4.0 * risk_aversion * cost * rest**2) - b) / (2.0 * rest) / cost


def aim_loadings(
    discount_rate: float, risk_aversion: float, cost: float, volatility: float, factor_decay: Array
) -> Array:
    """Shares of the aim for each unit of each factor, [K]: 1 / (gamma sigma^2 (1 + phi a / gamma)) (eq. 16)."""
    a = cost * trading_rate(discount_rate, risk_aversion, cost)
    return 1.0 / (risk_aversion * volatility**2 * (1.0 + factor_decay * a / risk_aversion))


def solve(config: GarleanuPedersenConfig) -> Quadratic:
    """Value and best policy for any cost matrix, in closed form (proposition 1 and appendix A of the paper).

    With r = 1 - rho and L = Lambda / r, A_xx = (r L^1/2 gamma Sigma L^1/2 + (rho^2 L^2 + 2 rho L^1/2 gamma Sigma L^1/2
    + gamma^2 L^1/2 Sigma L^-1 Sigma L^1/2) / 4)^1/2 - (rho L + gamma Sigma) / 2; the rest follows from it linearly.
    """
    rest, gamma = 1.0 - config.discount_rate, config.risk_aversion
    costs, risk, loads = cost_matrix(config), config.volatility**2 * np.eye(config.num_assets), loading_matrix(config)
    scaled = costs / rest
    root = _square_root(scaled)
    inner = gamma * root @ risk @ root
    quarter = config.discount_rate**2 * scaled @ scaled + 2.0 * config.discount_rate * inner
    quarter = quarter + gamma**2 * root @ risk @ np.linalg.inv(scaled) @ risk @ root
    a_xx = _square_root(rest * inner + 0.25 * quarter) - 0.5 * (config.discount_rate * scaled + gamma * risk)
    curvature = costs + rest * (gamma * risk + a_xx)
    hold = np.linalg.solve(curvature, costs)
    stay = 1.0 - np.tile(config.factor_decay, config.num_assets)
    a_xf = np.stack(
        [
            np.linalg.solve(np.eye(config.num_assets) - rest * keep * hold.T, rest * hold.T @ load)
            for keep, load in zip(stay, loads.T, strict=True)
        ],
        1,
    )
    ahead = loads + a_xf * stay
    follow = rest * np.linalg.solve(curvature, ahead)
    a_ff = rest * ahead.T @ follow / (1.0 - rest * np.outer(stay, stay))
    shocks = np.tile(config.factor_sd, config.num_assets) ** 2 * (1.0 - stay**2)
    return Quadratic(a_xx, a_xf, a_ff, float(0.5 * rest / (1.0 - rest) * np.diag(a_ff) @ shocks), hold, follow)


def cost_matrix(config: GarleanuPedersenConfig) -> Array:
    """Lambda, [A, A], US dollars a squared share.

    Raises:
        InputError: if it is not positive definite.
    """
    matrix = np.full((config.num_assets,) * 2, config.cost_coupling)
    np.fill_diagonal(matrix, 1.0)
    if np.linalg.eigvalsh(matrix).min() <= 0.0:
        raise InputError(f"cost_coupling {config.cost_coupling} makes trades that earn money: raise it")
    return config.cost * config.volatility**2 * matrix


def loading_matrix(config: GarleanuPedersenConfig) -> Array:
    """B, [A, M]: which factors predict which asset; each asset has its own K, in its own columns."""
    return np.kron(np.eye(config.num_assets), np.ones((1, len(config.factor_decay))))


def _square_root(matrix: Array) -> Array:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.sqrt(values.clip(0.0))) @ vectors.T


class GarleanuPedersen(Problem):
    """Factors predict returns and fade; the position x follows them at a cost that grows with the square of the trade.

    r_{t+1} = sum_k f_k + u, f_{t+1} = (1 - phi) f_t + shock, factors stationary from the start, x = 0 at first.
    Objective: sum over t of (1 - rho)^(t+1) (x_t' r_{t+1} - gamma / 2 x_t' Sigma x_t) - (1 - rho)^t d_t' Lambda d_t / 2
    (eq. 4), d_t = x_t - x_{t-1}, divided by the number of assets for agents of one asset each. The reward of a step is
    its part, with the predicted return in place of the realised one: u has mean zero whatever is held, so the best
    policy is the same; ``noisy`` pays the realised one. The last reward holds the value of going on optimally from
    there, which makes ``num_steps`` steps worth what the infinite problem is: neither its best policy nor J* depend on
    where it is cut.

    Observation: fraction of the episode that is left; then position (in standard deviations of the aim) and factors (in
    their own) of the agent's own asset; where costs are coupled, of all others too, in the order of the assets; an
    agent for all assets sees them in order. Action: trades, in standard deviations of the first best trade, or
    positions, in those of the aim, within +- 5. The baseline is myopic: it weighs one step's gain against the cost of
    trading (section 2 of the paper).

    Raises:
        InputError: if factors do not fit together, or own rewards are asked for with coupled costs.
    """

    def __init__(self, config: GarleanuPedersenConfig, device: torch.device | str = "cpu"):
        if len(config.factor_decay) != len(config.factor_sd) or not config.factor_decay:
            raise InputError(f"factor_decay has {len(config.factor_decay)} factors, factor_sd {len(config.factor_sd)}")
        if not all(0 < phi <= 1 for phi in config.factor_decay) or min(config.factor_sd) <= 0:
            raise InputError("every factor_decay must be above 0 and at most 1, and every factor_sd above 0")
        if config.reward == "own" and config.cost_coupling != 0:
            raise InputError("reward own with cost_coupling has no known optimum: choose reward team")
        self.config, self.device = config, torch.device(device)
        A, K = config.num_assets, len(config.factor_decay)
        is_joint = config.agents == "joint"
        self.agent_ids = agent_names("trader", 1) if is_joint else agent_names("asset", A)
        self.num_steps, self.num_draws = config.num_steps, A * K + (A if config.noisy else 0)
        self._width = A if is_joint else 1
        sees_all = is_joint or config.cost_coupling != 0
        self.obs_dim, self.state_dim = 1 + (1 + K) * (A if sees_all else 1), 1 + (1 + K) * A
        self.low, self.high = (-_WIDEST,) * self._width, (_WIDEST,) * self._width
        self.discount = 1.0 if config.use_discounted_rewards else 1.0 - config.discount_rate
        self.solution = solve(config)
        # The asset in each row of what an agent sees, [N, R]: its own first, then the others.
        seen = [[n] + [a for a in range(A) if a != n] if sees_all else [n] for n in range(self.num_agents)]
        self._seen = torch.tensor(list(range(A)) if is_joint else seen, device=self.device).reshape(self.num_agents, -1)
        self._set_arithmetic(config)

    def _set_arithmetic(self, config: GarleanuPedersenConfig) -> None:
        """Matrices and scales as tensors."""
        rest, gamma, risk = 1.0 - config.discount_rate, config.risk_aversion, config.volatility**2
        eye, loads = np.eye(config.num_assets), loading_matrix(config)
        costs, sd = cost_matrix(config), np.tile(config.factor_sd, config.num_assets)
        curvature = costs + rest * gamma * risk * eye
        aim = np.linalg.solve(eye - self.solution.hold, self.solution.follow)
        rules = {
            "optimal": (self.solution.hold, self.solution.follow),
            "baseline": (np.linalg.solve(curvature, costs), np.linalg.solve(curvature, rest * loads)),
            "markowitz": (0.0 * eye, loads / (gamma * risk)),
        }

        def on_device(array: Array | tuple[float, ...]) -> Tensor:
            return torch.tensor(np.asarray(array), dtype=torch.float64, device=self.device)

        self._rules = {name: (on_device(hold), on_device(follow)) for name, (hold, follow) in rules.items()}
        self._position_scale = on_device(np.sqrt(aim**2 @ sd**2))
        self._trade_scale = on_device(np.sqrt(self.solution.follow**2 @ sd**2))
        self._sd, self._stay = on_device(config.factor_sd), 1.0 - on_device(config.factor_decay)
        self._costs = on_device(costs)
        self._tail = tuple(on_device(part) for part in (self.solution.a_xx, self.solution.a_xf, self.solution.a_ff))

    @property
    def optimal_value(self) -> Tensor:
        """J* from x = 0, averaged over stationary factors."""
        sd = np.tile(self.config.factor_sd, self.config.num_assets)
        total = 0.5 * float(np.diag(self.solution.a_ff) @ sd**2) + self.solution.a_0
        return torch.full((self.num_agents,), total / self.num_agents, dtype=torch.float64, device=self.device)

    def open(self, draws: Tensor) -> Tensor:
        """Positions, then factors in units of their standard deviations: [B, A + A K]."""
        factors = normals(draws[:, : self._costs.shape[0] * len(self._sd)])
        return torch.cat((draws.new_zeros(len(draws), self._costs.shape[0]), factors), 1)

    def _split(self, books: Tensor) -> tuple[Tensor, Tensor]:
        """Positions, [B, A], and factors in standard deviations, [B, A, K]."""
        A = self._costs.shape[0]
        return books[:, :A], books[:, A:].view(len(books), A, -1)

    def _rows(self, books: Tensor) -> Tensor:
        """Scaled position and factors of each asset, [B, A, 1 + K]."""
        position, factors = self._split(books)
        return torch.cat(((position / self._position_scale)[..., None], factors), 2)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left, own asset, and the others where they matter."""
        left = self.time_left(step)[:, None, None].expand(-1, self.num_agents, 1)
        return torch.cat((left, self._rows(books)[:, self._seen].flatten(2)), 2)

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left, and all assets."""
        return torch.cat((self.time_left(step)[:, None], self._rows(books).flatten(1)), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Trade, hold for a step, and see the factors fade."""
        config, rest = self.config, 1.0 - self.config.discount_rate
        position, factors = self._split(books)
        if config.action == "positions":
            held = actions.flatten(1) * self._position_scale
            trade = held - position
        else:
            trade = actions.flatten(1) * self._trade_scale
            held = position + trade
        mean = (factors * self._sd).sum(2)
        A, K = factors.shape[1:]
        shocks = normals(draws)
        if config.noisy:
            mean = mean + config.volatility * shocks[:, A * K :]
        gain = held * mean - 0.5 * config.risk_aversion * config.volatility**2 * held.square()
        paid = rest * gain - 0.5 * trade * (trade @ self._costs)
        fresh = self._stay * factors + (1.0 - self._stay.square()).sqrt() * shocks[:, : A * K].view_as(factors)
        is_last = (step + 1 >= self.num_steps)[:, None]
        paid = paid + torch.where(is_last, rest * self._worth_of_going_on(held, fresh), 0.0)
        if config.use_discounted_rewards:
            paid = paid * (rest ** step.to(torch.float64))[:, None]
        total = paid.sum(1, keepdim=True) / self.num_agents
        reward = paid if config.reward == "own" and self._width == 1 else total.expand(-1, self.num_agents)
        return torch.cat((held, fresh.flatten(1)), 1), reward

    def _worth_of_going_on(self, position: Tensor, factors: Tensor) -> Tensor:
        """Share of each asset in V(x, f), [B, A]; without coupling it is that asset's own value."""
        a_xx, a_xf, a_ff = self._tail
        f = (factors * self._sd).flatten(1)
        by_position = position * (f @ a_xf.T - 0.5 * position @ a_xx)
        by_factor = 0.5 * (f * (f @ a_ff)).view_as(factors).sum(2)
        return by_position + by_factor + self.solution.a_0 / position.shape[1]

    def optimal(self, obs: Tensor) -> Tensor:
        """Trade toward the aim at the best rate."""
        return self._follow("optimal", obs)

    def baseline(self, obs: Tensor) -> Tensor:
        """Trade as if there were one step."""
        return self._follow("baseline", obs)

    def policies(self) -> dict[str, Policy]:
        """Also ``markowitz``: go where one would hold for ever if trading were free, every step."""
        return {name: partial(self._follow, name) for name in self._rules}

    def _follow(self, name: str, obs: Tensor) -> Tensor:
        """Go to hold x + follow f, as each agent sees it, [B, N, D]."""
        hold, follow = self._rules[name]
        B, N, _ = obs.shape
        rows = obs[..., 1:].to(torch.float64).view(B, N, -1, 1 + len(self._sd))
        position = rows[..., 0] * self._position_scale[self._seen]
        factors = (rows[..., 1:] * self._sd).flatten(2)
        own = self._seen[:, : self._width]  # assets that each agent trades, [N, D]
        columns = (self._seen[..., None] * len(self._sd) + torch.arange(len(self._sd), device=obs.device)).flatten(1)
        keep = hold[own[:, :, None], self._seen[:, None, :]]
        lean = follow[own[:, :, None], columns[:, None, :]]
        wanted = torch.einsum("nda,bna->bnd", keep, position) + torch.einsum("ndm,bnm->bnd", lean, factors)
        if self.config.action == "positions":
            return wanted / self._position_scale[own]
        return (wanted - position[..., : self._width]) / self._trade_scale[own]
