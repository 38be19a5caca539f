"""Making a market: how deep to quote on either side while inventory costs (Cartea and Jaimungal)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.linalg import expm
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.problem import Problem, agent_names, normals

Array = NDArray[np.float64]

_NEWTON_STEPS = 8
_ROUNDS = 6  # of answering one side's quote with the other's; each cuts the error by the chance of a fill


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MarketMakingConfig:
    """One market maker by the example of Cartea, Jaimungal and Penalva."""

    arrival_rate: float = Field(default=140.0, gt=0)
    """A: market orders a unit of time on each side that would fill a quote of depth 0."""
    fill_decay: float = Field(default=1.5, gt=0)
    """k: a quote of depth d fills at the rate A exp(-k d)."""
    volatility: float = Field(default=2.0, ge=0)
    """Standard deviation of the mid price in a unit of time, US dollars."""
    horizon: float = Field(default=1.0, gt=0)
    """T: length of an episode in units of time."""
    running_penalty: float = Field(default=0.2, ge=0)
    """phi: inventory q costs phi q^2 a unit of time."""
    final_penalty: float = Field(default=0.001, ge=0)
    """alpha: inventory left at the end costs alpha q^2."""
    max_inventory: int = Field(default=20, gt=0)
    """Largest inventory, long or short; a quote that would exceed it is not shown."""
    num_steps: int = Field(default=100, gt=0)
    """Quotes in an episode; on each side at most one fill for each."""
    min_depth: float = 0.0
    """Nearest quote to the mid price, US dollars."""
    max_depth: float = 2.0
    """Farthest quote."""
    noisy: bool = False
    """Pay realised fills and the move of the mid price on the inventory, in place of their expectation."""

    def build(self, device: torch.device | str = "cpu") -> MarketMaking:
        """Make the problem."""
        return MarketMaking(self, device)


class Quotes(NamedTuple):
    """Values and quotes on the environment's own step.

    Attributes:
        value: Expected reward to come, [T + 1, 2 Q + 1], at step t with inventory -Q .. Q; row T is the final penalty.
        depths: Depths of ask, at which one sells, and bid, at which one buys, [T, 2 Q + 1, 2]; US dollars away from the
            mid price.
    """

    value: Tensor
    depths: Tensor


def inventories(config: MarketMakingConfig) -> Array:
    """-Q .. Q."""
    return np.arange(-config.max_inventory, config.max_inventory + 1.0)


def continuous_value(config: MarketMakingConfig) -> Array:
    """h(0, q) of quoting all the time, [2 Q + 1], US dollars.

    h = ln(exp(M T) exp(-alpha k q^2)) / k, M with -phi k q^2 on its diagonal and A / e beside it (Cartea, Jaimungal and
    Penalva 2015, "Algorithmic and high-frequency trading", proposition 10.3).
    """
    q = inventories(config)
    beside = np.full(len(q) - 1, config.arrival_rate / np.e)
    matrix = np.diag(-config.running_penalty * config.fill_decay * q**2) + np.diag(beside, 1) + np.diag(beside, -1)
    final = np.exp(-config.final_penalty * config.fill_decay * q**2)
    return np.log(expm(matrix * config.horizon) @ final) / config.fill_decay


def continuous_quotes(config: MarketMakingConfig) -> tuple[Array, Array]:
    """Depths of ask and bid at time 0, [2 Q + 1] each: 1 / k + h(q) - h(q -+ 1); infinite where none is shown."""
    h, base = continuous_value(config), 1.0 / config.fill_decay
    gone = np.array([np.inf])
    return np.append(gone, base + h[1:] - h[:-1]), np.append(base + h[:-1] - h[1:], gone)


def continuous_constant_value(config: MarketMakingConfig) -> Array:
    """Expected objective of quoting 1 / k all the time on both sides, [2 Q + 1]: h' = -(G h + A / e (2 / k) - phi q^2).

    G is the generator of the inventory; the edges show one quote only.
    """
    q, rate = inventories(config), config.arrival_rate / np.e
    size = len(q)
    jumps = np.diag(np.full(size - 1, rate), 1) + np.diag(np.full(size - 1, rate), -1)
    sides = jumps.sum(1)
    matrix = np.zeros((size + 1, size + 1))
    matrix[:size, :size] = jumps - np.diag(sides)
    matrix[:size, size] = sides / config.fill_decay - config.running_penalty * q**2
    return (expm(matrix * config.horizon) @ np.append(-config.final_penalty * q**2, 1.0))[:size]


def fill_probability(config: MarketMakingConfig, depth: Tensor) -> Tensor:
    """Chance that a quote fills within one step: 1 - exp(-A exp(-k depth) dt)."""
    return -torch.expm1(-_fills(config, depth))


def _fills(config: MarketMakingConfig, depth: Tensor) -> Tensor:
    """Market orders that reach a quote within one step, on average."""
    return config.arrival_rate * config.horizon / config.num_steps * torch.exp(-config.fill_decay * depth)


def _shown(config: MarketMakingConfig, held: Tensor) -> Tensor:
    """Whether ask and bid are shown with an inventory, [..., 2]: not where a fill would exceed the largest."""
    return torch.stack((held > -config.max_inventory, held < config.max_inventory), -1)


def best_quotes(config: MarketMakingConfig) -> Quotes:
    """Dynamic programme on the environment's own step: at most one fill a side, depths within the box.

    Backward from the final penalty. Given the chance that the bid fills, an ask that fills earns its depth d and moves
    the value by some D, and p(d) (d + D) is largest where d + D = (exp(f) - 1) / (k f), f the orders that reach d:
    found by Newton's method, cut to the box (the gain has one peak). The two sides answer each other several times.
    """
    value = _final_value(config)
    depths = torch.full((len(value), 2), 1.0 / config.fill_decay, dtype=torch.float64)
    values, quotes = [value], []
    for _ in range(config.num_steps):
        for _ in range(_ROUNDS):
            depths = torch.stack((_best_depth(config, value, depths, 0), depths[:, 1]), 1)
            depths = torch.stack((depths[:, 0], _best_depth(config, value, depths, 1)), 1)
        value = _one_step(config, value, depths)
        values.append(value)
        quotes.append(depths)
    return Quotes(torch.stack(values[::-1]), torch.stack(quotes[::-1]))


def constant_quotes(config: MarketMakingConfig) -> Quotes:
    """The same of quoting 1 / k on both sides, or the nearest depth in the box."""
    value = _final_value(config)
    depth = min(max(1.0 / config.fill_decay, config.min_depth), config.max_depth)
    depths, values = torch.full((len(value), 2), depth, dtype=torch.float64), [value]
    for _ in range(config.num_steps):
        value = _one_step(config, value, depths)
        values.append(value)
    return Quotes(torch.stack(values[::-1]), depths.expand(config.num_steps, -1, -1))


def _final_value(config: MarketMakingConfig) -> Tensor:
    """What an inventory is worth at the end, [2 Q + 1]."""
    return -config.final_penalty * torch.from_numpy(inventories(config)) ** 2


def _after(value: Tensor) -> Tensor:
    """Values after the ask has filled and after the bid has, [2 Q + 1, 2]; at the edges, where nothing fills, as is."""
    return torch.stack((torch.cat((value[:1], value[:-1])), torch.cat((value[1:], value[-1:]))), 1)


def _chances(config: MarketMakingConfig, depths: Tensor) -> Tensor:
    """Chances that ask and bid fill, [2 Q + 1, 2]."""
    return fill_probability(config, depths) * _shown(config, torch.from_numpy(inventories(config)))


def _best_depth(config: MarketMakingConfig, value: Tensor, depths: Tensor, side: int) -> Tensor:
    """Best depth of the ask (side 0) or bid (1), [2 Q + 1], given the other's and the value after the step."""
    k, other = config.fill_decay, _chances(config, depths)[:, 1 - side]
    after = _after(value)
    move = (1.0 - other) * (after[:, side] - value) + other * (value - after[:, 1 - side])
    depth = (1.0 / k - move).clamp(config.min_depth, config.max_depth)
    for _ in range(_NEWTON_STEPS):
        fills = _fills(config, depth)
        excess = depth + move - torch.expm1(fills) / (k * fills)
        slope = 1.0 + torch.exp(fills) - torch.expm1(fills) / fills
        depth = (depth - excess / slope).clamp(config.min_depth, config.max_depth)
    return depth


def _one_step(config: MarketMakingConfig, value: Tensor, depths: Tensor) -> Tensor:
    """Value before a step, from the value after it, [2 Q + 1]."""
    chances, after = _chances(config, depths), _after(value)
    alone = chances * (1.0 - chances.flip(1))
    stays = chances.prod(1) + (1.0 - chances).prod(1)
    held = torch.from_numpy(inventories(config))
    return _paid(config, held, chances, depths) + (alone * after).sum(1) + stays * value


def _paid(config: MarketMakingConfig, held: Tensor, fills: Tensor, depths: Tensor) -> Tensor:
    """What a step pays: fills, or their chances, times depths, less what the inventory costs; [...]."""
    return (fills * depths).sum(-1) - config.running_penalty * held.square() * config.horizon / config.num_steps


class MarketMaking(Problem):
    """One agent quotes a bid and an ask; each fills at most once a step, less often the deeper it is.

    Objective: US dollars earned over the mid price, less phi q^2 a unit of time and alpha q^2 at the end. The reward of
    a step is p_ask ask + p_bid bid - phi q^2 dt: the expectation, given the quotes, of what fills earn (which of them
    happen shows in q); the move of the mid price on q has expectation zero. Best quotes are the same as with ``noisy``,
    which pays realised fills and q dS.

    The optimum is a dynamic programme on this very step (``best_quotes``); the closed form for continuous quoting is
    its limit for many steps. Observation: fraction of the time that is left, inventory in quarters of the largest.
    Action: depths of ask and bid, US dollars. The baseline quotes 1 / k on both sides.

    Raises:
        InputError: if the box is empty.
    """

    def __init__(self, config: MarketMakingConfig, device: torch.device | str = "cpu"):
        if config.min_depth >= config.max_depth:
            raise InputError(f"min_depth is {config.min_depth}: it must be below max_depth {config.max_depth}")
        self.config, self.device = config, torch.device(device)
        self.agent_ids, self.num_steps = agent_names("maker", 1), config.num_steps
        self.num_draws = 3 if config.noisy else 2
        self.obs_dim = self.state_dim = 2
        self.low, self.high = (config.min_depth,) * 2, (config.max_depth,) * 2
        self.quotes, self.constant = best_quotes(config), constant_quotes(config)
        self._best, self._plain = (quotes.depths.to(self.device) for quotes in (self.quotes, self.constant))

    @property
    def optimal_value(self) -> Tensor:
        """Of the dynamic programme, from no inventory."""
        return self.quotes.value[0, [self.config.max_inventory]].to(self.device)

    @property
    def baseline_value(self) -> Tensor:
        """Of constant quotes, from no inventory."""
        return self.constant.value[0, [self.config.max_inventory]].to(self.device)

    def open(self, draws: Tensor) -> Tensor:
        """No inventory."""
        return draws.new_zeros(len(draws), 1)

    def observe(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and inventory."""
        return self.state(books, step)[:, None]

    def state(self, books: Tensor, step: Tensor) -> Tensor:
        """Time left and inventory."""
        return torch.stack((self.time_left(step), 4.0 * books[:, 0] / self.config.max_inventory), 1)

    def move(self, books: Tensor, step: Tensor, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Show the quotes for one step."""
        config, held, depths = self.config, books[:, 0], actions[:, 0]
        chances = fill_probability(config, depths) * _shown(config, held)
        fills = (draws[:, :2] < chances).to(torch.float64)
        after = held + fills[:, 1] - fills[:, 0]
        reward = _paid(config, held, fills if config.noisy else chances, depths)
        if config.noisy:
            span = config.horizon / config.num_steps
            reward = reward + after * config.volatility * span**0.5 * normals(draws[:, 2])
        is_last = step + 1 >= self.num_steps
        reward = reward - torch.where(is_last, config.final_penalty * after.square(), 0.0)
        return after[:, None], reward[:, None]

    def optimal(self, obs: Tensor) -> Tensor:
        """Quotes of the dynamic programme."""
        return self._quote(self._best, obs)

    def baseline(self, obs: Tensor) -> Tensor:
        """1 / k on both sides."""
        return self._quote(self._plain, obs)

    def _quote(self, table: Tensor, obs: Tensor) -> Tensor:
        Q = self.config.max_inventory
        step = torch.round((1.0 - obs[..., 0].to(torch.float64)) * self.num_steps).to(torch.int64)
        held = torch.round(obs[..., 1].to(torch.float64) * Q / 4.0).to(torch.int64)
        return table[step.clamp(0, self.num_steps - 1), (held + Q).clamp(0, 2 * Q)]
