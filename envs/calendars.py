"""One calendar for several assets, and what its spacing says about the frequency of the bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.errors import InputError

CalendarPolicy = Literal["intersect", "fill", "strict"]

_DAY_S = 86_400.0
_TRADING_DAYS = 252.0  # exchanges: five days a week less holidays
_LONGER_THAN_A_DAY = ((5, 9, "1w", 52.0), (26, 33, "1mo", 12.0), (85, 95, "3mo", 4.0), (350, 380, "1y", 1.0))


def align_calendars(
    dates: NDArray[np.datetime64],
    assets: Sequence[str],
    fields: dict[str, NDArray[np.float64]],
    *,
    policy: CalendarPolicy,
    source: str,
) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """Bring assets onto one calendar.

    ``intersect`` keeps the dates that every asset has. ``fill`` begins at the first date that every asset has and then
    keeps every date; a missing bar repeats the last close with volume 0, so nothing can be gained or lost on it.
    ``strict`` refuses any difference.

    Args:
        dates: Every date that some asset has, increasing, [T].
        assets: Names of the columns, A of them.
        fields: Field name to [T, A] float64; a missing bar is NaN in ``close`` (and in every other field).
        policy: What to do with missing bars.
        source: Where the bars come from, for messages.

    Returns:
        Dates, fields without NaN, and notes that count what was dropped or filled.

    Raises:
        InputError: under ``strict``, for the first missing bar; else, if there is no date that all assets have.
    """
    present = np.isfinite(fields["close"])
    if present.all():
        return dates, fields, ()
    lacking = (~present).sum(axis=0)
    worst = f"{assets[int(lacking.argmax())]} lacks most, {int(lacking.max()):,} of {len(dates):,}"
    if policy == "strict":
        row, column = (int(i[0]) for i in np.nonzero(~present))
        raise InputError(
            f"{source}: asset {assets[column]} has no bar at {show_date(dates[row])}, where others have "
            f"({worst}): complete the file, "
            "or set calendar to intersect or fill"
        )
    complete = present.all(axis=1)
    if not complete.any():
        raise InputError(
            f"{source}: no date is common to all {len(assets)} assets ({worst}): choose assets that overlap in time"
        )
    if policy == "intersect":
        dropped = int((~complete).sum())
        note = f"dropped {dropped:,} of {len(dates):,} dates that some assets lack ({worst})"
        return dates[complete], {name: values[complete] for name, values in fields.items()}, (note,)
    start = int(complete.argmax())
    present = present[start:]
    fields = {name: values[start:].copy() for name, values in fields.items()}
    newest = np.maximum.accumulate(np.where(present, np.arange(len(present))[:, None], 0), axis=0)
    last_close = np.take_along_axis(fields["close"], newest, axis=0)
    for name, values in fields.items():
        values[~present] = 0.0 if name == "volume" else last_close[~present]
    filled = f"filled {int((~present).sum()):,} missing bars at the last close with volume 0 ({worst})"
    begun = (
        (f"dropped {start:,} dates before {show_date(dates[start])}, the first that all assets have",) if start else ()
    )
    return dates[start:], fields, (filled, *begun)


def infer_frequency(dates: NDArray[np.datetime64], *, source: str) -> tuple[str, float]:
    """Tell the spacing of the bars, and how many there are in a year, from their dates.

    Daily bars count 252 a year, or 365 where they include weekends; weekly 52, monthly 12. Intraday bars that run
    around the clock and through weekends count one year over their spacing (hourly: 8,760); others their median number
    in a day times 252.

    Args:
        dates: Increasing, [T] datetime64, T >= 2.
        source: Where the bars come from, for messages.

    Returns:
        Frequency in words (``"1d"``, ``"1h"``, ``"5min"``, ``"1w"``), and bars in a year.

    Raises:
        InputError: if there are fewer than two dates, or their spacing fits no frequency.
    """
    if len(dates) < 2:
        raise InputError(f"{source}: {len(dates)} bar is no history: give at least two")
    gaps_s = np.diff(dates.astype("datetime64[us]")).astype(np.int64) / 1e6
    spacing_s = float(np.quantile(gaps_s, 0.5, method="lower"))
    days = dates.astype("datetime64[D]")
    weekend = float(np.mean(((days.astype(np.int64) + 3) % 7) >= 5))  # day 0 of the epoch was a Thursday
    if spacing_s < 0.8 * _DAY_S:
        words = _spacing_words(spacing_s)
        if weekend > 0.2:
            return words, 365 * _DAY_S / spacing_s
        bars_a_day = float(np.median(np.unique(days, return_counts=True)[1]))
        return words, bars_a_day * _TRADING_DAYS
    if spacing_s < 5 * _DAY_S and gaps_s.min() < 1.2 * _DAY_S:  # days, with holes where assets did not overlap
        return "1d", 365.0 if weekend > 0.1 else _TRADING_DAYS
    for least, most, words, periods in _LONGER_THAN_A_DAY:
        if least <= spacing_s / _DAY_S <= most:
            return words, periods
    raise InputError(
        f"{source}: bars stand {spacing_s / _DAY_S:.3g} days apart, which is no frequency that can be inferred: "
        "set data.periods_per_year"
    )


def show_date(date: np.datetime64) -> str:
    """Write a date without the midnight: ``2013-02-08`` or ``2013-02-08 15:30``."""
    text = str(date.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00").removesuffix(":00")


def _spacing_words(spacing_s: float) -> str:
    for unit_s, word in ((3600, "h"), (60, "min")):
        if spacing_s % unit_s == 0:
            return f"{spacing_s / unit_s:g}{word}"
    return f"{spacing_s:g}s"
