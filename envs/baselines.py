"""What a strategy must beat: simple rules through the same floor, at the same costs, capital and fills.

All but ``random`` are one continuous agent that trades the strategy's assets with its whole capital, without leverage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.backtest import BacktestResult, Decide, OnBar, Trader, run_backtest
from envs.floor import FloorStep, TradingFloor
from envs.mandates import Mandate
from envs.market import Market

Weights = NDArray[np.float64]
Dates = NDArray[np.datetime64]
Rule = Callable[[Weights, Dates], Weights]
Period = Literal["day", "month"]
MOMENTUM_MONTHS = 6
COVARIANCE_MONTHS = 12


def rule_trader(rule: Rule, every: Period | None) -> Trader:
    """A rule that sets target weights at some bars and leaves the positions alone in between.

    Rules see one close a day and trade at the ends of days or months, so that they do the same on bars of any length.

    Args:
        rule: From the last close of each day up to the decision bar, [D, A], and these days, [D] datetime64[D], to
            weights [A], |weights| summing to at most 1; negative ones are left out where shorts are not allowed.
        every: Rebalance at the last bar of every day or month; None: only at the start.
    """

    def begin(floor: TradingFloor, market: Market) -> Decide:
        mandate, bars = floor.mandates[0], itertools.count(floor.split.start)
        columns = [market.bars.assets.index(name) for name in mandate.assets]
        days = market.bars.dates.astype("datetime64[D]")
        last_of_day = np.flatnonzero(days[:-1] != days[1:])
        is_last = np.zeros(len(days), dtype=bool) if every is None else _is_last(days, every)

        def decide(step: FloorStep) -> Tensor:
            """Target weights, [1, 1, A] float64; between rebalances those that the positions have now: no orders."""
            bar = next(bars)
            if bar == floor.split.start or is_last[bar]:
                ends = np.append(last_of_day[last_of_day < bar], bar)
                weights = rule(market.bars.close[ends][:, columns], days[ends])
                weights = weights if mandate.allow_short else np.maximum(weights, 0.0)
            else:
                weights = current_weights(floor)
            return torch.as_tensor(weights, dtype=torch.float64)[None, None]

        return decide

    return begin


def _is_last(days: Dates, every: Period) -> NDArray[np.bool_]:
    """Bars after which another day or month begins, as the calendar of an exchange says beforehand, [T]."""
    periods = days.astype("datetime64[M]") if every == "month" else days
    return np.append(periods[:-1] != periods[1:], False)


def random_trader(seed: int = 0) -> Trader:
    """Uniform draws from the strategy's own actions, counted: what is drawn at a bar depends on seed and bar alone."""

    def begin(floor: TradingFloor, market: Market) -> Decide:
        mandates, bars = floor.mandates, itertools.count()

        def decide(step: FloorStep) -> Tensor:
            """A random allowed rung for each discrete agent, a random weight for each asset of a continuous one."""
            rng = np.random.default_rng([seed, next(bars)])
            rungs = [rng.integers(len(mandate.ladder)) if mandate.is_discrete else 0 for mandate in mandates]
            if step.action_mask is not None:
                for n, (mandate, mask) in enumerate(zip(mandates, step.action_mask[0].cpu().numpy(), strict=True)):
                    allowed = np.flatnonzero(mask[: len(mandate.ladder)])
                    if mandate.is_discrete and len(allowed):
                        rungs[n] = rng.choice(allowed)
            if all(mandate.is_discrete for mandate in mandates):
                return torch.tensor(rungs)[None]
            actions = np.zeros((1, len(mandates), max(len(mandate.assets) for mandate in mandates)))
            for n, mandate in enumerate(mandates):
                if mandate.is_discrete:
                    actions[0, n, 0] = rungs[n]
                else:
                    low = -1.0 if mandate.allow_short else 0.0
                    actions[0, n, : len(mandate.assets)] = rng.uniform(low, 1.0, len(mandate.assets))
            return torch.from_numpy(actions)

        return decide

    return begin


def current_weights(floor: TradingFloor) -> Weights:
    """Weights of the floor's only agent at the last mark, [A] float64."""
    detail = floor.detail
    assert detail is not None, "asked for after a first step only"
    value = detail.after.holdings * floor.layout.at_slots_from_assets(detail.mark_after)
    return (value / detail.after.equity)[:, 0].cpu().numpy()


def nothing(closes: Weights, days: Dates) -> Weights:
    """Hold cash."""
    return np.zeros(closes.shape[1])


def equal(closes: Weights, days: Dates) -> Weights:
    """The same weight in every asset (DeMiguel, Garlappi and Uppal 2009)."""
    return np.full(closes.shape[1], 1.0 / closes.shape[1])


def momentum(closes: Weights, days: Dates) -> Weights:
    """Long what rose over the last six months, short what fell, in equal parts (Moskowitz et al. 2012).

    Where shorts have grown past the floor's leverage, the floor trims them between rebalances.
    """
    return np.sign(closes[-1] / closes[_first_within(days, MOMENTUM_MONTHS)] - 1.0) / closes.shape[1]


def minimum_variance(closes: Weights, days: Dates) -> Weights:
    """The long-only portfolio of least variance, by the shrunk covariance of the daily returns of the last year."""
    recent = closes[_first_within(days, COVARIANCE_MONTHS) :]
    if len(recent) < 3:
        return equal(closes, days)
    return least_variance_weights(shrunk_covariance(recent[1:] / recent[:-1] - 1.0))


def _first_within(days: Dates, months: int) -> int:
    """The day so many months before the last one, or the nearest before that; the first of a shorter history."""
    month = days[-1].astype("datetime64[M]")
    begin, end = ((month - months + more).astype("datetime64[D]") for more in (0, 1))
    ago = min(begin + (days[-1] - month.astype("datetime64[D]")), end - 1)  # the 31st may be the 28th there
    return max(int(np.searchsorted(days, ago, side="right")) - 1, 0)


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


BASELINES: Mapping[str, Trader] = MappingProxyType(
    {
        "cash": rule_trader(nothing, None),
        "buy_and_hold": rule_trader(equal, None),
        "equal_weight": rule_trader(equal, "day"),
        "minimum_variance": rule_trader(minimum_variance, "month"),
        "momentum": rule_trader(momentum, "month"),
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


def run_baselines(market: Market, *, split: str, seed: int = 0, on_bar: OnBar | None = None) -> list[BacktestResult]:
    """Run every baseline through a split of the strategy's market; ``on_bar`` as in ``run_backtest``."""
    alone = baseline_market(market)
    traders = [(name, trader, alone) for name, trader in BASELINES.items()] + [("random", random_trader(seed), market)]
    run = partial(run_backtest, split=split, seed=seed, on_bar=on_bar)
    return [run(trader, where, name=name) for name, trader, where in traders]
