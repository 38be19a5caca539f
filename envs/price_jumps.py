"""Jumps of a price that look like a stock split which the prices are not adjusted for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.calendars import show_date
from envs.price_faults import refuse_lines

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

_NEW_FOR_OLD = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)
_SPLITS = {3 / 2: "3:2"} | {float(n): f"{n}:1" for n in _NEW_FOR_OLD} | {1 / n: f"1:{n}" for n in _NEW_FOR_OLD}
"""New shares for an old one, and how that is written. Smaller splits (5:4) fall by what a bad day does."""
_FALL, _RISE = 0.75, 1.7  # less than what any of them does to a price: moves between these are not looked at
_FEWEST_MOVES = 20
_AROUND = 60
"""Traded bars before and after a jump whose median move is the usual one."""
_MANY = 8.0
_NEAR, _LEAST_NEAR, _SHARE = 3.0, 0.005, 1 / 15
"""How far from a split the log of a jump may lie: so many usual moves, but at most this share of the split's own."""
_STAYS = 5
_CHEAP = 2.0
"""A price below which nobody splits a share; adjusted for many splits, a history has such early prices, and crashes."""
_BEFORE = 20
_BUSY = 3.0
"""A bar that trades this many times the shares, and the value, of the busiest of the 20 before it has news, and its
move is real. A split changes the shares that are traded, or where the volume is adjusted their value, by its ratio."""


def check_jumps(
    source: str,
    days: NDArray[np.datetime64],
    names: Sequence[str],
    fields: dict[str, Array],
    traded: Mask,
    *,
    are_quotes: bool = True,
) -> None:
    """Refuse prices that are not adjusted for a split.

    A jump is held for one where, less the median move of the other assets in that bar, it is that of a common split;
    it is many times what the asset moves in a usual bar around it; prices of the five bars before and after stay on
    their sides of it; and the bar does not trade a multiple of what any bar before does. Where there are opens the
    gap before the bar must be the jump: markets also fall by half, but seldom while they are closed. Closes alone say
    least: a loss of half on the day's news may be taken for a split.

    Args:
        source: Where the bars come from, for messages.
        days: Dates, [T].
        names: Assets, A of them.
        fields: Field name to [T, A] float64, without gaps.
        traded: Bars that are no repeated prices, [T, A].
        are_quotes: Whether the level of a price means something, unlike in a product of relatives.

    Raises:
        InputError: a line for each of the first ten jumps.
    """
    close = fields["close"]
    growth = close[1:] / close[:-1]
    found = [(t + 1, a) for t, a in np.argwhere((growth < _FALL) | (growth > _RISE))]
    rows_of = {a: np.flatnonzero(traded[:, a]) for a in {a for _, a in found}}
    opens = np.where((fields["open"] != close).any(axis=0), fields["open"], close) if found else close
    lines = []
    for t, a in found:
        if t <= rows_of[a][0]:  # there is no price before the first
            continue
        jump = _jump(opens[t], close[t - 1], traded[t], a)
        usual = _usual_move(close[:, a], rows_of[a], t)
        if usual is None or (ratio := _ratio_of(jump, usual)) is None:
            continue
        if are_quotes and ratio > 1 and close[t - 1, a] < _CHEAP:
            continue
        whole = np.log(close[t, a] / close[t - 1, a])
        is_large = min(abs(jump), abs(whole)) >= _MANY * usual and whole * jump > 0
        if is_large and _stays(fields, rows_of[a], t, a) and not _has_news(fields, rows_of[a], t, a):
            lines.append(
                f"{source}: asset {names[a]}, {show_date(days[t])}: the price goes from {close[t - 1, a]:g} to "
                f"{close[t, a]:g}, as by a {_SPLITS[ratio]} split that it is not adjusted for (a usual bar moves it by "
                f"{usual:.2%}): give adjusted prices, or set --data.jumps accept if it is a real move"
            )
    refuse_lines(lines, len(lines))


def _jump(price: Array, before: Array, traded: Mask, a: int) -> float:
    """The log move of an asset to a price, less the median one of the others that trade; [A] each."""
    moves = np.log(price / before)
    others = traded & (np.arange(len(moves)) != a)
    return float(moves[a] - (np.median(moves[others]) if others.any() else 0.0))


def _usual_move(close: Array, rows: Rows, t: int) -> float | None:
    """Standard deviation of an asset's log moves around bar t, as the median shows it; None where there are too few."""
    at = int(np.searchsorted(rows, t))
    around = close[rows[max(0, at - _AROUND - 1) : at + _AROUND + 1]]
    moves = np.abs(np.diff(np.log(around)))
    moves = moves[moves > 0]
    return None if len(moves) < _FEWEST_MOVES else float(np.median(moves)) / 0.6745


def _ratio_of(jump: float, usual: float) -> float | None:
    """The new shares for an old one by which a log price would move so; None where no common split does it."""
    ratio = min(_SPLITS, key=lambda shares: abs(jump + np.log(shares)))
    is_near = abs(jump + np.log(ratio)) <= min(max(_NEAR * usual, _LEAST_NEAR), _SHARE * abs(np.log(ratio)))
    return ratio if is_near else None


def _stays(fields: dict[str, Array], rows: Rows, t: int, a: int) -> bool:
    """Whether the prices of the bars before and after the jump into bar t do not meet half way."""
    close, at = fields["close"][:, a], int(np.searchsorted(rows, t))
    before, after = rows[max(0, at - _STAYS) : at], rows[at : at + _STAYS]
    upper, lower = (before, after) if close[t] < close[t - 1] else (after, before)
    middle = np.sqrt(close[t] * close[t - 1])
    return bool(fields["low"][upper, a].min() > middle > fields["high"][lower, a].max())


def _has_news(fields: dict[str, Array], rows: Rows, t: int, a: int) -> bool:
    """Whether bar t trades a multiple of the shares, and of the value, that any of the bars before it does."""
    if "volume" not in fields:
        return False
    at = int(np.searchsorted(rows, t))
    recent = rows[max(0, at - _BEFORE) : at + 1]
    shares = fields["volume"][recent, a]
    return all(0 < _BUSY * max(earlier) < newest for *earlier, newest in (shares, shares * fields["close"][recent, a]))
