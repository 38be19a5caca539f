"""Jumps of a price that look like a stock split which the prices are not adjusted for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.calendars import show_date
from envs.price_faults import refuse_lines

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

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
_BEFORE = 20
_BUSY = 3.0
"""A bar that trades this many times the value of the busiest of the 20 before it has news, and its move is real."""


def check_jumps(
    source: str, days: NDArray[np.datetime64], names: Sequence[str], fields: dict[str, Array], traded: Mask
) -> None:
    """Refuse prices that are not adjusted for a split.

    A jump is held for one where, less the median move of the other assets in that bar, it is that of a common split;
    it is many times what the asset moves in a usual bar around it; prices of the five bars before and after stay on
    their sides of it; and the bar does not trade a multiple of the value of any bar before. Where there are opens the
    gap before the bar must be the jump: markets also fall by half, but seldom while they are closed.

    Args:
        source: Where the bars come from, for messages.
        days: Dates, [T].
        names: Assets, A of them.
        fields: Field name to [T, A] float64, without gaps.
        traded: Bars that are no repeated prices, [T, A].

    Raises:
        InputError: a line for each of the first ten jumps.
    """
    close = fields["close"]
    growth = close[1:] / close[:-1]
    found = [(t + 1, a) for t, a in np.argwhere((growth < _FALL) | (growth > _RISE))]
    lines = []
    for t, a in found:
        usual = _usual_move(close[traded[:, a], a], int(traded[:t, a].sum()))
        split = None if usual is None else _split_of(fields, traded, int(t), int(a), usual)
        if split is not None:
            lines.append(
                f"{source}: asset {names[a]}, {show_date(days[t])}: the price goes from {close[t - 1, a]:g} to "
                f"{close[t, a]:g}, as by a {split} split that it is not adjusted for (a usual bar moves it by "
                f"{usual:.2%}): give adjusted prices, or set --data.jumps accept if it is a real move"
            )
    refuse_lines(lines, len(lines))


def _usual_move(close: Array, row: int) -> float | None:
    """Standard deviation of the log moves around a row, as the median shows it; None where there are too few."""
    moves = np.abs(np.diff(np.log(close[max(0, row - _AROUND - 1) : row + _AROUND + 1])))
    moves = moves[moves > 0]
    return None if len(moves) < _FEWEST_MOVES else float(np.median(moves)) / 0.6745


def _split_of(fields: dict[str, Array], traded: Mask, t: int, a: int, usual: float) -> str | None:
    """The split that the move of an asset into bar t looks like; None where it looks like a move of the market."""
    close = fields["close"]
    has_opens = not np.array_equal(fields["open"][:, a], close[:, a])
    moves = np.log(fields["open" if has_opens else "close"][t] / close[t - 1])
    others = traded[t] & (np.arange(len(moves)) != a)
    jump = moves[a] - (np.median(moves[others]) if others.any() else 0.0)
    ratio = min(_SPLITS, key=lambda shares: abs(jump + np.log(shares)))
    size = abs(np.log(ratio))
    whole = np.log(close[t, a] / close[t - 1, a])
    is_near = abs(jump + np.log(ratio)) <= min(max(_NEAR * usual, _LEAST_NEAR), _SHARE * size)
    is_large = min(abs(jump), abs(whole)) >= _MANY * usual and whole * jump > 0
    if not (is_near and is_large):
        return None
    rows = np.flatnonzero(traded[:, a])
    at = int(np.searchsorted(rows, t))
    before, after = rows[max(0, at - _STAYS) : at], rows[at : at + _STAYS]
    upper, lower = (before, after) if jump < 0 else (after, before)
    middle = np.sqrt(close[t, a] * close[t - 1, a])
    if fields["low"][upper, a].min() <= middle or fields["high"][lower, a].max() >= middle:
        return None
    if "volume" in fields:
        value = close[rows, a] * fields["volume"][rows, a]
        earlier = value[max(0, at - _BEFORE) : at].max()
        if earlier > 0 and value[at] > _BUSY * earlier:
            return None
    return _SPLITS[ratio]
