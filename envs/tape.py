"""The tape: everything that a step reads from the market, one column for each bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import InputError
from envs.accounts import Layout
from envs.bar_data import Bars
from envs.cost_tables import asset_costs
from envs.costs import RATES
from envs.execution import MAX_MOVE, Quotes
from envs.liquidity import IMPACT_BARS, most_shares, settled_volatility, trailing_volume
from envs.mandates import Mandate
from envs.market import Market
from envs.settings import FUNDING, FillRule

BOOK_BARS = 60
"""Bars over which volatility is measured for inverse-volatility books."""


class Tape:
    """Recorded prices, impact coefficients and book weights, as columns that replicas gather by their bar.

    Orders fill at the next bar's open or close; ``next_vwap`` stands in for the average price that bars do not record:
    it is the typical price (high + low + close) / 3. ``same_close_unsafe`` fills at the price that was seen.

    Args:
        market: Prices, agents and rules.
        layout: Which assets are traded, and by which slots.
        device: Where the table lives.

    Raises:
        InputError: if impact needs volumes and there are none.
    """

    def __init__(self, market: Market, layout: Layout, device: torch.device | str = "cpu"):
        bars, costs, fill = market.bars, market.spec.floor.costs, market.spec.floor.fill
        columns = [bars.assets.index(asset) for asset in layout.assets]
        close = bars.close[:, columns]
        blocks = {"close": close, "fill": _fill_prices(bars, columns, fill), "next_close": _next(close)}
        market.check_volume(layout.assets)
        permanent = _permanent_impact(market, layout.assets, columns)
        most = most_shares(bars, columns, asset_costs("max_participation", costs, bars, columns))
        most = most if fill == "same_close_unsafe" else _next(most)
        temporary = asset_costs("temporary_impact", costs, bars, columns)
        self.has_temporary, self.has_permanent = bool(temporary.any()), bool(permanent.any())
        if self.has_permanent:
            with np.errstate(divide="ignore", over="ignore"):
                most = np.minimum(most, MAX_MOVE / permanent)
        if np.isfinite(most).any():
            blocks["most"] = most
        if self.has_temporary:
            blocks["temporary"] = temporary * _volatility_over_depth(bars, columns, costs.impact_law)
        ends = bars.ends[:, columns]
        if ends.any():
            blocks["ends"] = ends.astype(np.float64)
        if FUNDING in bars.costs:
            blocks[FUNDING] = _next(bars.costs[FUNDING][:, columns])
        own = {name: asset_costs(name, costs, bars, columns) for name in RATES}
        own = {name: values for name, values in own.items() if len(values) > 1}
        self._names, self._own = (*blocks, *own), tuple(own)
        self.permanent = torch.tensor(permanent[:, None], dtype=torch.float64, device=device)
        self._num_assets = layout.num_assets
        self.has_weights = any(m.book_rule == "inverse_volatility" and m.is_discrete for m in market.mandates)
        weights = [_book_weights(bars, market.mandates)] if self.has_weights else []
        table = np.concatenate([*blocks.values(), *own.values(), *weights], axis=1).T
        self.table = torch.tensor(np.ascontiguousarray(table), dtype=torch.float64, device=device)

    def read(self, bar: Tensor) -> tuple[Quotes, Tensor | None]:
        """Look up one bar for each replica.

        Args:
            bar: Decision bar, [B] int64.

        Returns:
            Quotes, [A, B] each, and the weights of the slots in their books, [P, B], where some book needs them.
        """
        rows = self.table.gather(1, bar.expand(self.table.shape[0], -1))
        split = len(self._names) * self._num_assets
        quoted = rows[:split] if self.has_weights else rows
        blocks = dict(zip(self._names, quoted.view(len(self._names), self._num_assets, -1).unbind(0), strict=True))
        quotes = Quotes(
            blocks["close"],
            blocks["fill"],
            blocks["next_close"],
            blocks.get("most"),
            blocks.get("temporary"),
            blocks.get("ends"),
            self.permanent if self.has_permanent else None,
            blocks.get(FUNDING),
            {name: blocks[name] for name in self._own},
        )
        return quotes, rows[split:] if self.has_weights else None


def _next(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row t + 1 at row t; the last row, at which nobody decides, repeats itself."""
    return np.concatenate((x[1:], x[-1:]))


def _fill_prices(bars: Bars, columns: list[int], fill: FillRule) -> NDArray[np.float64]:
    if fill == "next_open":
        return _next(bars.open[:, columns])
    if fill == "next_vwap":
        return _next((bars.high + bars.low + bars.close)[:, columns] / 3.0)
    if fill == "next_close":
        return _next(bars.close[:, columns])
    return bars.close[:, columns]


def _permanent_impact(market: Market, assets: Sequence[str], columns: list[int]) -> NDArray[np.float64]:
    """Log-price move by a flow of one share, [A]."""
    costs = asset_costs("permanent_impact", market.spec.floor.costs, market.bars, columns)[0]
    permanent = np.where(costs > 0, costs * market.impact_unit[columns], 0.0)
    if np.isnan(permanent).any():
        raise InputError(
            f"permanent impact needs volumes in the training split of {market.bars.source}, but "
            f"{assets[int(np.isnan(permanent).argmax())]} has none there, nor has any other asset: "
            "set --floor.costs.permanent-impact 0"
        )
    return permanent


def _volatility_over_depth(bars: Bars, columns: list[int], law: str) -> NDArray[np.float64]:
    """Temporary impact of an order of one share (to the power of the law), where its setting is 1, [T, A]."""
    assert bars.volume is not None
    tradable, traded = bars.tradable[:, columns], bars.volume[:, columns]
    volume = trailing_volume(traded, tradable)
    of_first = traded[tradable.argmax(axis=0), np.arange(len(columns))]  # of the bar in which a first order fills
    volume = np.where(np.cumsum(tradable, axis=0) == 0, np.maximum(of_first, volume), volume)
    depth = np.sqrt(volume) if law == "square_root" else volume
    return settled_volatility(bars.close[:, columns], tradable, IMPACT_BARS) / depth


def _book_weights(bars: Bars, mandates: Sequence[Mandate]) -> NDArray[np.float64]:
    """Weight of each slot in its book, [T, P]: equal, or by inverse trailing volatility; sums to 1 over a book."""
    rows = []
    for mandate in mandates:
        columns = [bars.assets.index(asset) for asset in mandate.assets]
        inverse = np.ones((bars.num_bars, len(columns)))
        if mandate.book_rule == "inverse_volatility":
            tradable = bars.tradable[:, columns]
            inverse = bars.alive[:, columns] / settled_volatility(bars.close[:, columns], tradable, BOOK_BARS)
            inverse[~inverse.any(axis=1)] = 1.0  # nothing is listed, and nothing can be traded
        rows.append(inverse / inverse.sum(axis=1, keepdims=True))
    return np.concatenate(rows, axis=1)
