"""How much is traded: what price impact is measured by, and what the market takes of orders in a bar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.bar_data import Bars
from envs.calendars import last_traded

IMPACT_BARS = 20
"""Traded bars over which volatility and average volume are measured for temporary impact, the decision bar included."""
_LEAST_VOLUME = 1e-9  # shares; of an asset that has not traded yet
_LEAST_VOLATILITY = 1e-6
_TRADING_DAYS_A_CALENDAR_DAY = 5 / 7

Array = NDArray[np.float64]


def _trailing_mean(x: Array, window: int) -> Array:
    """Mean over the last ``window`` rows up to and including each row; over those that exist at the start."""
    total = np.zeros_like(x)
    for lag in range(min(window, len(x))):
        total[lag:] += x[: len(x) - lag]
    return total / np.minimum(np.arange(1, len(x) + 1), window)[:, None]


def _mean_of_traded(x: Array, tradable: NDArray[np.bool_], window: int) -> Array:
    """Mean over the last ``window`` rows in which the asset traded, [T, A]; 0 before the first of them."""
    if tradable.all():
        return _trailing_mean(x, window)
    result = np.zeros_like(x)
    for a in range(x.shape[1]):
        rows = tradable[:, a]
        known = np.cumsum(rows)
        means = np.concatenate(([0.0], _trailing_mean(x[rows, a : a + 1], window)[:, 0]))
        result[:, a] = means[known]
    return result


def _traded_returns(close: Array, tradable: NDArray[np.bool_]) -> Array:
    """Log return of each traded bar from the one traded before it, [T, A]; 0 in the first and in all others."""
    newest = last_traded(tradable)
    last_trade = np.take_along_axis(np.log(close), np.maximum(newest, 0), axis=0)
    returns = np.zeros_like(close)
    returns[1:] = np.where(newest[:-1] >= 0, np.diff(last_trade, axis=0), 0.0)
    return returns


def trailing_volatility(close: Array, tradable: NDArray[np.bool_], window: int) -> Array:
    """Root mean square of the log returns of the last ``window`` traded bars, [T, A], per bar."""
    squares = _traded_returns(close, tradable) ** 2
    return np.maximum(np.sqrt(_mean_of_traded(squares, tradable, window)), _LEAST_VOLATILITY)


def settled_volatility(close: Array, tradable: NDArray[np.bool_], window: int) -> Array:
    """``trailing_volatility``, and of an asset of which few bars are known no less than is usual among the others.

    An asset that has just been listed would else be the calmest of all, since nothing is known of it.
    """
    own = trailing_volatility(close, tradable, window)
    is_new = np.cumsum(tradable, axis=0) < window
    if not (is_new & ~is_new.all(axis=1, keepdims=True)).any():
        return own
    others = np.ma.masked_array(own, is_new)
    usual = np.ma.median(others, axis=1).filled(0.0)[:, None]
    return np.where(is_new, np.maximum(own, usual), own)


def trailing_volume(volume: Array, tradable: NDArray[np.bool_], window: int = IMPACT_BARS) -> Array:
    """Average volume of the last ``window`` traded bars, [T, A], shares a bar."""
    return np.maximum(_mean_of_traded(volume, tradable, window), _LEAST_VOLUME)


def impact_of_a_share(bars: Bars, rows: slice | NDArray[np.int64]) -> Array:
    """Daily volatility over the volume of a day: by how much a flow of one share moves the log price, [A].

    Permanent impact must be linear in the flow and the same at all times: where it differed, as with a trailing
    volume, one could buy while it is small, lift the price while it is large, and be paid for a round trip
    (Huberman and Stanzl 2004, propositions 1 and 3). So it is measured once, over bars for training; sums over days
    make it the same on bars of any length.

    Args:
        bars: The market.
        rows: Bars that are looked at.

    Returns:
        [A] float64. An asset of which these bars say little gets the median of the others at its first price, as if it
        were traded for as much money. NaN where no volume is known.
    """
    traded = bars.tradable[rows]
    squares = (_traded_returns(bars.close, bars.tradable)[rows] ** 2).sum(axis=0)
    calendar = bars.dates[rows].astype("datetime64[D]")
    days = np.array([len(np.unique(calendar[some])) for some in traded.T]) * _days_in_a_bar(bars.dates)
    volume = np.zeros(bars.num_assets) if bars.volume is None else bars.volume[rows].sum(axis=0)
    is_known = (days > 0) & (volume > 0)
    is_settled = is_known & (traded.sum(axis=0) > IMPACT_BARS) & (squares > 0)
    is_known = is_settled if is_settled.any() else is_known
    price = bars.close[np.minimum(bars.tradable.argmax(axis=0), bars.num_bars - 1), np.arange(bars.num_assets)]
    unit = np.full(bars.num_assets, np.nan)
    volatility = np.sqrt(squares[is_known] / days[is_known])
    unit[is_known] = np.maximum(volatility, _LEAST_VOLATILITY) * days[is_known] / volume[is_known]
    if is_known.any():
        of_money = np.median(unit[is_known] / price[is_known])
        unit = np.where(bars.has_volume & ~is_known, of_money * price, unit)
    return unit


def _days_in_a_bar(dates: NDArray[np.datetime64]) -> float:
    """Days on which a market is open in a bar of a day or longer; 1 for shorter bars, of which days are counted."""
    spacing = np.diff(np.unique(dates.astype("datetime64[D]"))).astype(np.int64)
    return max(1.0, float(np.median(spacing)) * _TRADING_DAYS_A_CALENDAR_DAY) if len(spacing) else 1.0


def most_shares(bars: Bars, assets: list[int], max_participation: float | None) -> Array:
    """What the market takes in a bar, [T, K], shares: none where the asset does not trade.

    Args:
        bars: The market.
        assets: Columns of the K assets.
        max_participation: Largest part of the volume of a bar; None, or no volume known: no limit.
    """
    limit = np.full((bars.num_bars, len(assets)), np.inf)
    if max_participation is not None and bars.volume is not None:
        limit = np.where(bars.has_volume[assets], bars.volume[:, assets] * max_participation, limit)
    return np.where(bars.tradable[:, assets], limit, 0.0)
