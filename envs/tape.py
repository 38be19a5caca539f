"""The tape: everything that a step reads from the market, one column for each bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.accounts import Layout
from envs.bar_data import Bars
from envs.execution import Quotes
from envs.mandates import Mandate
from envs.settings import CostConfig, FillRule

IMPACT_BARS = 20
"""Bars over which volatility and average volume are measured for impact, up to and including the decision bar."""
BOOK_BARS = 60
"""Bars over which volatility is measured for inverse-volatility books."""
_LEAST_VOLUME = 1e-9  # shares; a market without any trade is moved by MAX_IMPACT
_LEAST_VOLATILITY = 1e-6


class Tape:
    """Recorded prices, impact coefficients and book weights, as columns that replicas gather by their bar.

    Args:
        bars: The market.
        layout: Which assets are traded, and by which slots.
        mandates: Book rules of the agents.
        costs: Impact coefficients and law.
        fill: Price at which orders fill. ``next_vwap`` stands in for the average price that bars do not record: it is
            the typical price (high + low + close) / 3 of the next bar. ``same_close_unsafe`` fills at the price that
            was seen.
        device: Where the table lives.

    Raises:
        InputError: if impact needs volumes and there are none.
    """

    def __init__(
        self,
        bars: Bars,
        layout: Layout,
        mandates: Sequence[Mandate],
        costs: CostConfig,
        fill: FillRule,
        device: torch.device | str = "cpu",
    ):
        columns = [bars.assets.index(asset) for asset in layout.assets]
        close = bars.close[:, columns]
        blocks = [close, _fill_prices(bars, columns, fill), _next(close)]
        self.has_temporary, self.has_permanent = bool(costs.temporary_impact), bool(costs.permanent_impact)
        if costs.needs_volume:
            blocks += _impact_coefficients(bars, columns, close, costs)
        self._num_quotes, self._num_assets = len(blocks), layout.num_assets
        self.has_weights = any(m.book_rule == "inverse_volatility" and m.is_discrete for m in mandates)
        if self.has_weights:
            blocks.append(_book_weights(bars, mandates))
        table = np.concatenate(blocks, axis=1).T
        self.table = torch.tensor(np.ascontiguousarray(table), dtype=torch.float64, device=device)

    def read(self, bar: Tensor) -> tuple[Quotes, Tensor | None]:
        """Look up one bar for each replica.

        Args:
            bar: Decision bar, [B] int64.

        Returns:
            Quotes, [A, B] each, and the weights of the slots in their books, [P, B], where some book needs them.
        """
        rows = self.table.gather(1, bar.expand(self.table.shape[0], -1))
        split = self._num_quotes * self._num_assets
        quoted = rows[:split] if self.has_weights else rows
        blocks = quoted.view(self._num_quotes, self._num_assets, -1).unbind(0)
        close, fill, next_close = blocks[:3]
        temporary = blocks[3] if self.has_temporary else None
        permanent = blocks[-1] if self.has_permanent else None
        return Quotes(close, fill, next_close, temporary, permanent), rows[split:] if self.has_weights else None


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


def _trailing_mean(x: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the last ``window`` rows up to and including each row; over those that exist at the start."""
    total = np.zeros_like(x)
    for lag in range(min(window, len(x))):
        total[lag:] += x[: len(x) - lag]
    return total / np.minimum(np.arange(1, len(x) + 1), window)[:, None]


def trailing_volatility(close: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Root mean square of the log returns of the last ``window`` bars, [T, A], per bar."""
    returns = np.zeros_like(close)
    returns[1:] = np.diff(np.log(close), axis=0)
    return np.maximum(np.sqrt(_trailing_mean(returns**2, window)), _LEAST_VOLATILITY)


def trailing_volume(volume: NDArray[np.float64], window: int = IMPACT_BARS) -> NDArray[np.float64]:
    """Average volume of a bar over the last ``window`` bars, [T, A], shares."""
    return np.maximum(_trailing_mean(volume, window), _LEAST_VOLUME)


def _impact_coefficients(
    bars: Bars, columns: list[int], close: NDArray[np.float64], costs: CostConfig
) -> list[NDArray[np.float64]]:
    volume = trailing_volume(bars.volume_for_impact([bars.assets[c] for c in columns]))
    blocks = []
    if costs.temporary_impact:
        depth = np.sqrt(volume) if costs.impact_law == "square_root" else volume
        blocks.append(costs.temporary_impact * trailing_volatility(close, IMPACT_BARS) / depth)
    if costs.permanent_impact:
        blocks.append(costs.permanent_impact / volume)
    return blocks


def _book_weights(bars: Bars, mandates: Sequence[Mandate]) -> NDArray[np.float64]:
    """Weight of each slot in its book, [T, P]: equal, or by inverse trailing volatility; sums to 1 over a book."""
    rows = []
    for mandate in mandates:
        columns = [bars.assets.index(asset) for asset in mandate.assets]
        inverse = np.ones((bars.num_bars, len(columns)))
        if mandate.book_rule == "inverse_volatility":
            inverse = 1.0 / trailing_volatility(bars.close[:, columns], BOOK_BARS)
        rows.append(inverse / inverse.sum(axis=1, keepdims=True))
    return np.concatenate(rows, axis=1)
