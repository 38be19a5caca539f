"""Whether all bars of a market are of one length: daily and hourly bars beside each other do not mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.calendars import show_date
from envs.frequencies import gap_words, is_intraday

_GAPS, _FEWEST = 20, 8
"""Gaps between bars of one asset that are looked at together, and the fewest that say something."""
_ALIKE, _MOST = 0.2, 0.7
"""A stretch of bars has a length where so many of its gaps are that long, give or take a fifth: weekends and holidays
leave daily bars as many. Bars with many holes, or two a day, have none, and are not judged."""
_LONGER = 1.8


class _Stretch(NamedTuple):
    """Bars of one asset that stand equally far apart."""

    gap_s: float
    asset: int
    dates: NDArray[np.datetime64]

    @property
    def told(self) -> str:
        return f"bars {gap_words(self.gap_s)} apart from {show_date(self.dates[0])} to {show_date(self.dates[-1])}"


def check_lengths(
    source: str,
    dates: NDArray[np.datetime64],
    assets: Sequence[str],
    present: NDArray[np.bool_],
    *,
    frequency: str | None,
) -> None:
    """Refuse bars of two lengths, of two assets or one after the other of one.

    A bar of a day stands under the date at whose end it is known: beside hours of that date it would be seen early.

    Args:
        source: Where the bars come from, for messages.
        dates: Every date that some asset has, increasing, [T].
        assets: Names, A of them.
        present: Which bars an asset has, [T, A].
        frequency: What the user says that all bars are, so that longer gaps are holes; days beside hours are refused
            all the same. None: nothing was said.

    Raises:
        InputError: naming the shortest and the longest.
    """
    found = [stretch for a in range(len(assets)) for stretch in _ends(dates[present[:, a]], a)]
    if not found:
        return
    short, long = min(found, key=lambda one: one.gap_s), max(found, key=lambda one: one.gap_s)
    are_days = bool((long.dates == long.dates.astype("datetime64[D]")).all())
    is_seen_early = is_intraday(short.gap_s) and not is_intraday(long.gap_s) and are_days
    if long.gap_s < _LONGER * short.gap_s or (frequency is not None and not is_seen_early):
        return
    other = "" if long.asset == short.asset else f"asset {assets[short.asset]} has "
    way_out = "" if is_seen_early else f", or set --data.frequency {gap_words(short.gap_s)} where the others are holes"
    raise InputError(
        f"{source}: asset {assets[long.asset]} has {long.told}, and {other}{short.told}: give bars of one length, "
        f"choose assets or dates that have it (--data.assets, --data.start, --data.end){way_out}"
    )


def _ends(dates: NDArray[np.datetime64], asset: int) -> list[_Stretch]:
    """The stretches of an asset whose bars, at their dates [T], are the shortest and the longest; none without one."""
    size = min(_GAPS, len(dates) - 1)
    if size < _FEWEST:
        return []
    gaps_s = np.diff(dates.astype("datetime64[us]")).astype(np.int64) / 1e6
    windows = gaps_s[: len(gaps_s) // size * size].reshape(-1, size)
    usual = np.quantile(windows, 0.5, axis=1, method="lower")
    judged = np.flatnonzero((np.abs(windows / usual[:, None] - 1) <= _ALIKE).mean(axis=1) >= _MOST)
    if not len(judged):
        return []
    ends = {int(judged[usual[judged].argmin()]), int(judged[usual[judged].argmax()])}
    return [_Stretch(float(usual[k]), asset, dates[k * size : (k + 1) * size + 1]) for k in sorted(ends)]
