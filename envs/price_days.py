"""Bars of a day or longer stand under the dates of their exchange, whatever zone their stamps are written in."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError

Dates = NDArray[np.datetime64]
_DAY, _HOUR, _QUARTER = (np.timedelta64(minutes * 60_000_000, "us") for minutes in (1440, 60, 15))
_NONE = np.timedelta64(0, "us")
_MONTHS_APART = np.timedelta64(20, "D")
_FEW = 0.6
"""Share of the closed days that may be left when dates go on by one: Tel Aviv opens on Sundays, which leaves half."""


def exchange_dates(
    stamps: Dates,
    offsets: NDArray[np.timedelta64] | None,
    assets: NDArray[np.int64],
    *,
    timezone: str | None,
    source: str,
) -> tuple[Dates, tuple[str, ...]]:
    """Give bars of a day or longer the dates of their exchange; intraday bars stay in UTC.

    The dates are those of ``timezone``, else those of each stamp's own zone. Stamps in UTC do not say: where midnight
    in a zone to the east has become an hour of the day before (Tokyo: 15:00 in UTC; London in summer: 23:00), bars on
    days on which exchanges are closed give it away, and they are taken for the day after.

    Args:
        stamps: As ``parse_dates`` gives them, in UTC where the file has zones, [T] datetime64[us].
        offsets: How far the clocks of the stamps are ahead of UTC, [T] timedelta64[us]; None where they have no zone.
        assets: Index of each row's asset, [T].
        timezone: Zone of the exchange (Asia/Tokyo); None takes it from the stamps. Plain dates stay what they are, and
            intraday stamps without a zone are times in it.
        source: Where the bars come from, for messages.

    Returns:
        [T] datetime64[us], and a note where dates are not the stamps.

    Raises:
        InputError: if there is no such zone, or one is set and bars are intraday and have a zone, or it does not say
            which of two hours a stamp is in; where none is set, and stamps in UTC could be Auckland's midnights or
            Riyadh's afternoons.
    """
    days = stamps.astype("datetime64[D]").astype(stamps.dtype)
    local = None if timezone is None else _in_zone(stamps, timezone)
    if offsets is None and (days == stamps).all():
        return stamps, () if local is None else ("dates have no time of day: data.timezone changes nothing",)
    if timezone is not None and local is not None:
        dates = local.astype("datetime64[D]").astype(stamps.dtype)
        if _num_twice(dates, stamps, assets):
            if offsets is not None:
                raise InputError(
                    f"data.timezone is {timezone}, but {source} has several bars a day, whose stamps have a zone: "
                    "leave it out"
                )
            note = f"dates have no zone, and are read as times in {timezone} (data.timezone); bars stand in UTC"
            return _from_zone(stamps, assets, timezone, source), (note,)
        return dates, (f"bars stand under their dates in {timezone}",)
    if (days == stamps).all() or _num_twice(days, stamps, assets) > 1 + len(stamps) // 10:
        return stamps, ()
    if offsets is not None and (offsets != _NONE).any():
        dates = (stamps + offsets).astype("datetime64[D]").astype(stamps.dtype)
        clocks = ", ".join(_clock(offset) for offset in np.unique(offsets))
        note = f"bars stand under the dates of their own time zones ({clocks})"
    else:
        order = np.argsort(assets, kind="stable")
        shifted = np.zeros(len(stamps), dtype=bool)
        for rows in np.split(order, np.flatnonzero(np.diff(assets[order])) + 1):
            shifted[rows] = _are_of_the_day_after(stamps[rows], source)
        dates = days + np.where(shifted, _DAY, _NONE)
        hours = ", ".join(_hour(time) for time in np.unique((stamps - days)[shifted]))
        note = (
            f"bars stamped {hours} in UTC, midnight in a zone to the east, stand under the date that begins there "
            "(set data.timezone where that is wrong; UTC leaves them)"
            if shifted.any()
            else "time of day left out of the dates: no date has two bars"
        )
    return (stamps, ()) if _num_twice(dates, stamps, assets) else (dates, (note,))


def _in_zone(stamps: Dates, timezone: str) -> Dates:
    try:
        local = pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(ZoneInfo(timezone)).tz_localize(None)
    except (ValueError, OSError, KeyError):  # a path, a folder of zones, a name of none
        raise InputError(
            f"data.timezone is {timezone!r}, which is no time zone: write one such as Asia/Tokyo, or UTC"
        ) from None
    return local.to_numpy(dtype="datetime64[us]")


def _from_zone(stamps: Dates, assets: NDArray[np.int64], timezone: str, source: str) -> Dates:
    """Times of a zone in UTC; where clocks were set back, the rows of an asset say which hour is the first."""
    dates = stamps.copy()
    for asset in np.unique(assets):
        rows = np.flatnonzero(assets == asset)
        if stamps[rows[0]] > stamps[rows[-1]]:
            rows = rows[::-1]
        try:
            local = pd.DatetimeIndex(stamps[rows]).tz_localize(timezone, ambiguous="infer")
        except ValueError as error:  # no such time, or one of two that nothing tells apart
            raise InputError(
                f"data.timezone is {timezone}, but {source} has a time that its clocks did not show once: "
                f"{str(error).splitlines()[0]}: write the dates with their zone, or in UTC"
            ) from None
        dates[rows] = local.tz_convert("UTC").tz_localize(None).to_numpy(dtype=stamps.dtype)
    return dates


def _clock(offset: np.timedelta64) -> str:
    return f"-{_hour(-offset)}" if offset < _NONE else f"+{_hour(offset)}"


def _hour(time: np.timedelta64) -> str:
    return str(np.datetime64(0, "m") + time.astype("timedelta64[m]"))[-5:]


def _num_twice(dates: Dates, stamps: Dates, assets: NDArray[np.int64]) -> int:
    """Bars under a date under which another bar of their asset stands; a row that is there again is no other bar."""
    order = np.lexsort((stamps, assets))
    is_other = (stamps[order][1:] != stamps[order][:-1]) & (assets[order][1:] == assets[order][:-1])
    return int((is_other & (dates[order][1:] == dates[order][:-1])).sum())


def _are_of_the_day_after(stamps: Dates, source: str) -> NDArray[np.bool_]:
    """Which stamps in UTC of one asset are midnights of zones so far east that their day is UTC's next, [T]."""
    days = stamps.astype("datetime64[D]")
    times = stamps - days
    late = times >= (10 if times.min() >= 10 * _HOUR else 12) * _HOUR  # at UTC+13 and +14 days begin before noon
    if not late.any() or (times[late] % _QUARTER != _NONE).any():
        return np.zeros(len(stamps), dtype=bool)
    one = np.zeros(len(stamps), dtype=np.int64)
    twice, twice_after = (_num_twice(dates, stamps, one) for dates in (days, days + late))
    closed, closed_after = (_num_closed(dates) for dates in (days, days + late))
    if twice_after > twice or (twice_after == twice and not closed_after < _FEW * closed):
        return np.zeros(len(stamps), dtype=bool)
    if (times == times[0]).all() and times[0] <= 12 * _HOUR:
        raise InputError(
            f"{source}: bars are stamped {_hour(times[0])} in UTC, from Sunday on: midnight of a Monday in Auckland, "
            "or a Sunday's afternoon in Riyadh: set data.timezone to Pacific/Auckland or Asia/Riyadh"
        )
    return late


def _num_closed(days: Dates) -> int:
    """Dates on which no bar is expected: those of weekends; where bars are months, all but the first of each month."""
    if len(days) > 1 and np.median(np.diff(np.sort(days))) > _MONTHS_APART:
        return int((days != days.astype("datetime64[M]")).sum())
    return int(((days.astype(np.int64) + 3) % 7 >= 5).sum())  # day 0 of the epoch was a Thursday
