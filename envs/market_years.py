"""How many bars a market has in a year: as is known of an exchange's week, and as they are counted elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_YEAR = 365
_YEAR_DAYS = 365.2425
_WEEKS = _YEAR_DAYS / 7
_KNOWN = {5: (252.0, 241, 262), 7: (365.0, 350, 366)}
"""Days of a week with sessions -> sessions in a year by the usual count, and the fewest and most that are taken for it:
exchanges are closed on 4 to 20 weekdays a year, on which some sources repeat the last close."""
_NIGHT_S = 5 * _HOUR_S
"""Shortest gap between sessions: markets rest up to two hours at noon, and eight between late and early trading."""
_LONGEST_SESSION_S = 18 * _HOUR_S
"""Markets that stay open for longer trade around the clock."""
_ALIKE = 0.05
"""Share by which a count may differ from what a usual week makes of a year, for holidays, half days and holes."""

Dates = NDArray[np.datetime64]


def days_in_a_year(days: Dates, *, is_every_day: bool) -> tuple[float, str]:
    """Days in a year on which a market is open: 252 or 365 where that is clearly its calendar, else as counted.

    Args:
        days: Days with bars, increasing, [D] datetime64[D].
        is_every_day: Whether all days on which the market was open are among them.

    Returns:
        Days in a year, and what they were told by, in words.
    """
    num_days = _open_weekdays(days, is_every_day=is_every_day)
    usual, least, most = _KNOWN.get(num_days, (round(num_days * _WEEKS), 1, 0))
    counted = _counted(days, 1.0, per_days=_YEAR) if is_every_day else 0.0
    if counted and not least <= counted <= most:
        return float(round(counted)), "the count of its median year"
    return usual, f"{num_days} days a week"


def bars_in_a_year(dates: Dates, gap_s: float) -> tuple[float, str]:
    """Intraday bars in a year.

    Around the clock and on every day they are 365 days of them. Where a market opens and closes they are its sessions
    in a year times the bars of a usual session. Where the count says otherwise (currencies, open from Sunday night to
    Friday night; days of which sessions are cut in two), the count is taken.

    Args:
        dates: Increasing, [T] datetime64, T >= 2.
        gap_s: Usual gap between two bars, in seconds.

    Returns:
        Bars in a year, and what they were told by, in words.
    """
    counted, told_by = _counted(dates, gap_s / _DAY_S, per_days=_YEAR), "the count of its median year"
    if not counted:
        counted, told_by = _counted(dates, gap_s / _DAY_S, per_days=7), "the count of its median week"
    gaps_s = np.diff(dates.astype("datetime64[us]")).astype(np.int64) / 1e6
    first = np.concatenate([[0], np.flatnonzero(gaps_s > max(_NIGHT_S, 1.5 * gap_s)) + 1])
    last = np.append(first[1:], len(dates)) - 1
    bars_a_session = float(np.median(last - first + 1))
    if bars_a_session * gap_s > _LONGEST_SESSION_S:
        whole, words = 365 * _DAY_S / gap_s, "trade around the clock"
        if not _has_weekends(dates):
            whole, words = float(round(5 * _WEEKS * _DAY_S / gap_s)), "trade around the clock on 5 days a week"
        elif counted >= 0.9 * whole:
            return whole, words
    else:
        middle = (dates[first] + (dates[last] - dates[first]) // 2).astype("datetime64[D]")
        days, words = days_in_a_year(np.unique(middle), is_every_day=True)
        whole, words = days * bars_a_session, f"{words}, {bars_a_session:g} bars each"
        if abs(counted / whole - 1) <= _ALIKE:
            return whole, words
    return (float(round(counted)), told_by) if counted else (whole, words)


def _counted(dates: Dates, gap_days: float, *, per_days: int) -> float:
    """Bars a year by the median year, or week, of so many days in the history; 0 where there is no whole one."""
    ago = (dates[-1].astype("datetime64[us]") - dates.astype("datetime64[us]")) / np.timedelta64(per_days, "D")
    num = int(ago[0] + gap_days / per_days + 1e-9)
    counts = np.bincount(ago.astype(np.int64))[:num]
    return float(np.quantile(counts, 0.5, method="higher")) * _YEAR_DAYS / per_days if num else 0.0


def _weekdays(dates: Dates) -> NDArray[np.int64]:
    """Bars on Monday to Sunday, [7]."""
    return np.bincount((dates.astype("datetime64[D]").astype(np.int64) + 3) % 7, minlength=7)


def _has_weekends(dates: Dates) -> bool:
    """Whether one bar in five or more stands on a Saturday or Sunday, as of 14 around the clock 4 do."""
    counts = _weekdays(dates)
    return bool(counts[5:].sum() > 0.2 * counts.sum())


def _open_weekdays(days: Dates, *, is_every_day: bool) -> int:
    """Days of the week on which a market is open; of short or holey histories, which do not show it, 5 or 7."""
    counts = _weekdays(days)
    if not is_every_day or days[-1] - days[0] < np.timedelta64(13, "D"):
        return 7 if counts[5:].all() else 5
    return int((counts >= counts.max() / 2).sum())
