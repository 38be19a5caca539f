"""What a strategy must beat: simple rules through the same floor, at the same costs, capital and fills.

All but ``random`` are one continuous agent that trades the strategy's assets with its whole capital, without leverage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.bar_data import Bars
from envs.floor import FloorStep, TradingFloor
from envs.mandates import Mandate
from envs.market import Market
from experiments.backtesting.engine import Trader, run_backtest
from experiments.backtesting.result import BacktestResult

Weights = NDArray[np.float64]
MONTH_BARS = 21
MOMENTUM_BARS = 126
COVARIANCE_BARS = 252


@dataclass
class RuleTrader:
    """A rule that sets target weights at some bars and leaves the positions alone in between.

    Attributes:
        rule: (bars, asset columns, decision bar, whether shorts are allowed) -> weights [A], |weights| summing to at
            most 1. It may look at bars up to the decision bar only.
        every_bars: Bars between two rebalances; None: only at the start.
    """

    rule: Callable[[Bars, list[int], int, bool], Weights]
    every_bars: int | None
    _floor: TradingFloor = field(init=False)
    _market: Market = field(init=False)
    _columns: list[int] = field(init=False)
    _step: int = field(init=False, default=0)

    def begin(self, floor: TradingFloor, market: Market) -> None:
        """Find the strategy's assets in the market."""
        self._floor, self._market, self._step = floor, market, 0
        self._columns = [market.bars.assets.index(name) for name in floor.mandates[0].assets]

    def decide(self, step: FloorStep) -> Tensor:
        """Target weights, [1, 1, A] float64; between rebalances those that the positions have now: no orders."""
        is_due = self._step == 0 or (self.every_bars is not None and self._step % self.every_bars == 0)
        bar = self._floor.split.start + self._step
        self._step += 1
        if is_due:
            weights = self.rule(self._market.bars, self._columns, bar, self._floor.mandates[0].allow_short)
        else:
            weights = current_weights(self._floor)
        return torch.as_tensor(weights, dtype=torch.float64)[None, None]


class RandomTrader:
    """Uniform draws from the strategy's own actions, counted: what is drawn at a bar depends on seed and bar alone."""

    def __init__(self, seed: int = 0):
        self._seed = seed

    def begin(self, floor: TradingFloor, market: Market) -> None:
        """Take the agents from the floor."""
        self._floor, self._step = floor, 0

    def decide(self, step: FloorStep) -> Tensor:
        """A random allowed rung for each discrete agent, a random weight for each asset of a continuous one."""
        rng = np.random.default_rng([self._seed, self._step])
        self._step += 1
        mandates = self._floor.mandates
        rungs = np.array([rng.integers(len(m.ladder)) if m.is_discrete else 0 for m in mandates], dtype=np.int64)
        if step.action_mask is not None:
            mask = step.action_mask[0].cpu().numpy()
            for n, mandate in enumerate(mandates):
                allowed = np.flatnonzero(mask[n, : len(mandate.ladder)])
                if mandate.is_discrete and len(allowed):
                    rungs[n] = rng.choice(allowed)
        if all(mandate.is_discrete for mandate in mandates):
            return torch.from_numpy(rungs)[None]
        actions = np.zeros((1, len(mandates), max(len(m.assets) for m in mandates)))
        for n, mandate in enumerate(mandates):
            if mandate.is_discrete:
                actions[0, n, 0] = rungs[n]
            else:
                low = -1.0 if mandate.allow_short else 0.0
                actions[0, n, : len(mandate.assets)] = rng.uniform(low, 1.0, len(mandate.assets))
        return torch.from_numpy(actions)


def current_weights(floor: TradingFloor) -> Weights:
    """Weights of the floor's only agent at the last mark, [A] float64; zeros before it has traded."""
    detail = floor.detail
    if detail is None:
        return np.zeros(floor.layout.num_slots)
    value = detail.after.holdings * floor.layout.at_slots_from_assets(detail.mark_after)
    return (value / detail.after.equity)[:, 0].cpu().numpy()


def nothing(bars: Bars, columns: list[int], bar: int, allow_short: bool) -> Weights:
    """Hold cash."""
    return np.zeros(len(columns))


def equal(bars: Bars, columns: list[int], bar: int, allow_short: bool) -> Weights:
    """The same weight in every asset (DeMiguel, Garlappi and Uppal 2009)."""
    return np.full(len(columns), 1.0 / len(columns))


def momentum(bars: Bars, columns: list[int], bar: int, allow_short: bool) -> Weights:
    """Long what rose over the last 126 bars, short (or without) what fell, in equal parts (Moskowitz et al. 2012).

    Where shorts have grown past the floor's leverage, the floor trims them between rebalances.
    """
    start = max(0, bar - MOMENTUM_BARS)
    signs = np.sign(bars.close[bar, columns] / bars.close[start, columns] - 1.0)
    return (signs if allow_short else np.maximum(signs, 0.0)) / len(columns)


def minimum_variance(bars: Bars, columns: list[int], bar: int, allow_short: bool) -> Weights:
    """The long-only portfolio of least variance, by the shrunk covariance of the last 252 bars."""
    closes = bars.close[max(0, bar - COVARIANCE_BARS) : bar + 1, columns]
    returns = closes[1:] / closes[:-1] - 1.0
    if len(returns) < 2:
        return equal(bars, columns, bar, allow_short)
    return least_variance_weights(shrunk_covariance(returns))


def shrunk_covariance(returns: Weights) -> Weights:
    """Covariance shrunk toward a multiple of the identity by the share that minimises the expected error.

    Args:
        returns: [T, A], T >= 2.

    Returns:
        [A, A] float64, positive definite where any asset has moved (Ledoit and Wolf 2004, "A well-conditioned
        estimator for large-dimensional covariance matrices").
    """
    num_bars, num_assets = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / num_bars
    target = np.trace(sample) / num_assets * np.eye(num_assets)
    distance = ((sample - target) ** 2).sum()
    noise = ((centred**2).T @ (centred**2) / num_bars - sample**2).sum() / num_bars
    share = 1.0 if distance <= 0 else min(1.0, max(0.0, noise / distance))
    return share * target + (1.0 - share) * sample


def least_variance_weights(covariance: Weights) -> Weights:
    """Weights >= 0 that sum to 1 and have the least variance, [A].

    Minimising w'Cw + (sum(w) - 1)^2 over w >= 0 gives a multiple of the answer, and is a least-squares problem.
    """
    num_assets = len(covariance)
    scale = np.trace(covariance) / num_assets
    if not scale > 0:
        return np.full(num_assets, 1.0 / num_assets)
    values, vectors = np.linalg.eigh(covariance / scale)
    root = (vectors * np.sqrt(np.maximum(values, 1e-12))).T
    system = np.vstack([root, np.ones((1, num_assets))])
    from scipy.optimize import nnls  # here, as in envs/synthetic.py

    weights, _ = nnls(system, np.r_[np.zeros(num_assets), 1.0])
    return weights / weights.sum()


BASELINES: Mapping[str, Callable[[], RuleTrader]] = MappingProxyType(
    {
        "cash": lambda: RuleTrader(nothing, None),
        "buy_and_hold": lambda: RuleTrader(equal, None),
        "equal_weight": lambda: RuleTrader(equal, 1),
        "minimum_variance": lambda: RuleTrader(minimum_variance, MONTH_BARS),
        "momentum": lambda: RuleTrader(momentum, MONTH_BARS),
    }
)
"""Rules that trade all assets of the strategy as one agent; ``random`` stands beside them with its agents."""


def baseline_market(market: Market) -> Market:
    """The same prices and rules with one continuous agent that has the strategy's whole capital and all its assets."""
    traded = {asset for mandate in market.mandates for asset in mandate.assets}
    agent = Mandate(
        name="portfolio",
        role="baseline",
        account=0,
        assets=tuple(asset for asset in market.bars.assets if asset in traded),
        feature_groups=market.mandates[0].feature_groups,
        action="continuous",
        limit=1.0,
        allow_short=any(mandate.allow_short for mandate in market.mandates),
    )
    num_accounts = len({mandate.account for mandate in market.mandates})
    rules = market.spec.floor
    rules = replace(rules, capital=rules.capital * num_accounts, max_leverage=1.0)
    return replace(market, mandates=(agent,), spec=replace(market.spec, floor=rules))


def run_baselines(market: Market, *, split: str, seed: int = 0) -> list[BacktestResult]:
    """Run every baseline through a split of the strategy's market."""
    alone = baseline_market(market)
    traders: list[tuple[str, Trader, Market]] = [(name, make(), alone) for name, make in BASELINES.items()]
    traders.append(("random", RandomTrader(seed), market))
    return [run_backtest(trader, where, name=name, split=split, seed=seed) for name, trader, where in traders]
