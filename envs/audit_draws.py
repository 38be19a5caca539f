"""Random actions, costs and markets for audits, from a generator that the caller seeds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from envs.bar_data import PRICE_FIELDS, Bars
from envs.calendars import last_traded
from envs.settings import CostConfig

if TYPE_CHECKING:
    from envs.floor import TradingFloor


def random_actions(floor: TradingFloor, rng: np.random.Generator) -> Tensor:
    """Actions for every agent of every replica, uniform over rungs and weights."""
    B, N = floor.num_replicas, floor.num_agents
    sizes = np.array([len(m.ladder) if m.is_discrete else 1 for m in floor.mandates])
    rungs = (rng.random((B, N)) * sizes).astype(np.int64)
    if all(m.is_discrete for m in floor.mandates):
        return torch.from_numpy(rungs)
    width = max(len(m.assets) for m in floor.mandates)
    weights = rng.uniform(-1.0, 1.0, (B, N, width))
    for n, mandate in enumerate(floor.mandates):
        weights[:, n, len(mandate.assets) :] = 0.0
        if mandate.is_discrete:
            weights[:, n] = 0.0
            weights[:, n, 0] = rungs[:, n]
    return torch.from_numpy(weights)


def random_costs(rng: np.random.Generator, *, has_volume: bool = True) -> CostConfig:
    """Draw a cost setting; each term is off in one of three."""

    def draw(high: float, is_possible: bool = True) -> float:
        return float(rng.uniform(0.0, high)) if is_possible and rng.random() < 2 / 3 else 0.0

    return CostConfig(
        commission_bps=draw(50.0),
        commission_min_usd=draw(20.0),
        commission_fixed_usd=draw(5.0),
        half_spread_bps=draw(30.0),
        temporary_impact=draw(2.0, has_volume),
        impact_law="linear" if rng.random() < 0.5 else "square_root",
        permanent_impact=draw(2.0, has_volume),
        max_participation=(None, 1.0, 0.1, 1e-4)[rng.integers(4)],
        borrow_rate_annual=draw(0.2),
        loan_rate_annual=draw(0.2),
        cash_rate_annual=draw(0.1),
        delisting_haircut=draw(1.0),
        lot_size=float(rng.choice([0.0, 0.0, 1.0, 100.0])),
        carry_orders=bool(rng.random() < 0.5),
    )


def perturb_after(bars: Bars, bar: int, rng: np.random.Generator) -> Bars:
    """Replace everything after a bar by a market of other prices, volumes, closed days, members and signals.

    Up to the bar nothing changes. As in a file before its calendar is aligned, only bars that trade have prices of
    their own: the others repeat the last one, be it from before the bar.
    """
    later = slice(bar + 1, None)
    shape = bars.close[later].shape
    factor = np.exp(0.2 * rng.standard_normal(shape))
    rows = np.arange(bars.num_bars)[:, None]
    first, stop = bars.lives
    is_inside = (rows > first) & (rows < stop - 1) & (rows > bar)
    tradable = bars.tradable ^ (is_inside & (rng.random(bars.close.shape) < 0.1))
    newest = last_traded(tradable)
    is_repeated = ~tradable & (newest >= 0) & (rows > bar)
    close = bars.close.copy()
    close[later] *= factor
    last_close = np.take_along_axis(close, np.maximum(newest, 0), axis=0)
    changed: dict[str, Any] = {"tradable": tradable}
    for name in PRICE_FIELDS:
        values = getattr(bars, name).copy()
        values[later] *= factor
        changed[name] = np.where(is_repeated, last_close, values)
    for name in ("volume", "signal"):
        if getattr(bars, name) is not None:
            values = getattr(bars, name).copy()
            values[later] = values[later] * np.exp(rng.standard_normal(shape)) + 0.1
            changed[name] = values
    changed["costs"] = {name: value.copy() for name, value in bars.costs.items()}
    for value in changed["costs"].values():
        if len(value) > 1:
            value[later] *= np.exp(rng.standard_normal(shape))
    if bars.volume is not None:
        changed["volume"] = np.where(bars.has_volume & (tradable | (rows <= bar)), changed["volume"], bars.volume)
        changed["volume"] = np.where(bars.has_volume & ~tradable & (rows > bar), 0.0, changed["volume"])
    if bars.members is not None:
        changed["members"] = bars.members ^ ((rows > bar) & (rng.random(bars.close.shape) < 0.1))
    return dataclasses.replace(bars, **changed)
