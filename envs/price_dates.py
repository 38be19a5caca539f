"""The date column of a price file: text, numbers or timestamps, with or without time zones -> datetime64 in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, told
from envs.calendars import show_date
from envs.price_faults import Faults
from envs.price_tables import PriceTable

_OFFSET = "[0-9]:[0-9]{2}(?:[.:][0-9]+)* *(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_CLOCK = r"([+-]\d{2}):?(\d{2})?$"
_SECONDS, _MILLIS, _MICROS, _NANOS = 1e8, 1e11, 1e14, 1e17
"""Least counts since 1970 of each unit: all are a day of March 1973."""
_FIRST_YEAR = 1900
_MONTH_BY_NAME = r"^(?=.*[A-Za-z]{3})(?=.*(?<!\d)\d{4}(?!\d))[A-Za-z\d\s.,/:-]+$"
_LIKE_ISO = (
    (r"^(\d{4})(?:[./]|年)(\d{1,2})(?:[./]|月)(\d{1,2})日?", r"\1-\2-\3"),
    (r"^(\d{4})-(\d)-", r"\1-0\2-"),
    (r"^(\d{4}-\d{2})-(\d)(?!\d)", r"\1-0\2"),
    (r"^(\d{4})(\d{2})(\d{2})[ T](\d{2}):?(\d{2})", r"\1-\2-\3 \4:\5"),
    (r"^(\d{4}-\d{2}-\d{2} \d{2}:\d{2})(\d{2})$", r"\1:\2"),
)
"""Year, month and day in this order, and what makes ISO text of it."""
_TIME = "[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO, _ZONED = f"{_DAY}({_TIME})?", f"{_DAY}{_TIME}(Z|[+-][0-9]{{2}}:[0-9]{{2}})"
"""Text that pandas reads at once. Patterns with [0-9] in place of \\d are looked for ten times as fast."""
_DAY_AND_TIME = "^(.*?)[ T]([0-9]{1,2}:[0-9]{2})(:[0-9]{2}(?:[.][0-9]+)?)?$"
_SETTING = f"[0-9]{{4}}(-[0-9]{{2}})?|{_ISO}"
_DAY_OR_MONTH_FIRST = "([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})(.*)"
_MOST = 0.5
"""Share of cells that show how a column is written; the others are faults."""
_NONE = np.datetime64("NaT", "us")


def parse_dates(
    table: PriceTable, name: str, faults: Faults, date_format: str | None = None, *, has_format: bool = True
) -> NDArray[np.datetime64]:
    """Parse the dates of a table.

    Understood are timestamps, ISO text, text with the year first or a month by its name, day-first or month-first text
    where the column shows which it is, 20130208 to 20130208153000, and seconds to nanoseconds since 1970, each number
    by itself. Dates with a time zone are converted to UTC.

    Args:
        table: T rows.
        name: Its column of dates.
        faults: Where cells are noted that are no date, or one before 1900 or after next year.
        date_format: How the cells are written, in the letters of ``strptime``; None lets them show it.
        has_format: Whether ``data.date_format`` is of this table, so that messages may name it.

    Returns:
        [T] datetime64[us], in the order of the rows; NaT where a fault was noted.

    Raises:
        InputError: where some dates have a time zone and others have none, and where 01/02/2013 could be January or
            February throughout.
    """
    column = table.frame[name]
    blank = column.isna().to_numpy()
    given = np.flatnonzero(~blank)
    dates = np.full(len(column), _NONE)
    if len(given):
        cells = column.iloc[given] if blank.any() else column
        dates[given] = _parse(cells, lambda row: table.at(int(given[row]), name), date_format, has_format)
    known = ~np.isnat(dates)
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    odd = known & ((years < _FIRST_YEAR) | (years > _last_year()))

    def say(row: int) -> str:
        cell = column.iloc[row]
        if blank[row]:
            return f"{table.at(row, name)}: the date is missing: fill it in or remove the row"
        if odd[row]:
            return (
                f"{table.at(row, name)}: {str(cell)!r} is read as {show_date(dates[row])}, but dates must lie from "
                f"{_FIRST_YEAR} to {_last_year()}: correct it{', or set --data.date-format' if has_format else ''}"
            )
        as_set = f" of data.date_format {date_format!r}" if date_format else ""
        text = f"{cell:.15g}" if isinstance(cell, float) else str(cell).strip()[:40]
        shown = text if isinstance(cell, (int, float, np.number)) else repr(text)
        return f"{table.at(row, name)}: {shown} is not a date{as_set}: {_way_out(has_format)}"

    faults.add(table, np.flatnonzero(~known | odd), say)
    return np.where(odd, _NONE, dates)


def _way_out(has_format: bool, such_as: str = "as %d.%m.%Y") -> str:
    return f"write 2013-02-08{f', or set --data.date-format, {such_as}' if has_format else ''}"


def _parse(
    column: pd.Series, at: Callable[[int], str], date_format: str | None, has_format: bool
) -> NDArray[np.datetime64]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return column.to_numpy(dtype="datetime64[us]")
    if pd.api.types.is_numeric_dtype(column.dtype) and date_format is None:
        return _from_numbers(column.to_numpy(), at)
    codes, unique = pd.factorize(column.astype(str).str.strip())
    rows = np.full(len(unique), len(codes))
    np.minimum.at(rows, codes, np.arange(len(codes)))
    text = pd.Series(np.asarray(unique, dtype=object), dtype="str")
    if date_format is not None:
        parts = text.str.extract(_DAY_AND_TIME)
        if re.search("%[HIMSfTXRcpsz]", date_format) or parts[0].isna().any():
            return _strict(text, pattern=date_format, utc="%z" in date_format)[codes]
        times = pd.to_timedelta(parts[1] + parts[2].fillna(":00"))  # of a column of its own
        return (_strict(parts[0], pattern=date_format) + times.to_numpy(dtype="timedelta64[us]"))[codes]
    for pattern, has_zone in ((_ISO, False), (_ZONED, True)):
        if text.str.fullmatch(pattern).all():
            return _strict(text, utc=has_zone)[codes]
    if text.str.fullmatch("[0-9]{8,18}").all():
        return _from_numbers(text.astype(np.int64).to_numpy()[codes], at)
    return _from_text(text, rows, at, has_format)[codes]


def read_date(text: str, *, setting: str) -> np.datetime64:
    """Read the date of a setting in the data group.

    Raises:
        InputError: if it is none.
    """
    iso = re.sub(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", text.strip())
    try:
        if re.fullmatch(_SETTING, iso) and int(iso[:4]) >= _FIRST_YEAR:
            return np.datetime64(iso, "us")
    except ValueError:
        pass
    raise InputError(f"data.{setting} is {text!r}: write a date such as 2017-01-01, or 2017-01-01 09:30 in UTC")


def rows_within(dates: NDArray[np.datetime64], start: str | None, end: str | None, *, source: str) -> NDArray[np.bool_]:
    """Which dates lie from ``data.start`` on and before ``data.end``, [T] for dates in any order.

    Raises:
        InputError: if none does, or a setting is no date.
    """
    kept = np.ones(len(dates), dtype=bool)
    if start is not None:
        kept = dates >= read_date(start, setting="start")
        if not kept.any():
            raise InputError(f"data.start is {start}, but the history of {source} ends on {show_date(dates.max())}")
    if end is not None:
        first = dates[kept].min()
        kept &= dates < read_date(end, setting="end")
        if not kept.any():
            raise InputError(f"data.end is {end}, but the history of {source} begins on {show_date(first)}")
    return kept


def zone_offsets(column: pd.Series) -> NDArray[np.timedelta64] | None:
    """How far the clock that each date was read from is ahead of UTC, [T] timedelta64[us]; None where none has a zone.

    Args:
        column: T cells that ``parse_dates`` has taken.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        utc, local = column.dt.tz_convert("UTC").dt.tz_localize(None), column.dt.tz_localize(None)
        return (local - utc).to_numpy(dtype="timedelta64[us]")
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_dtype(column.dtype):
        return None
    if re.search(_OFFSET, str(column.iloc[0]).strip()) is None:
        return None
    codes, unique = pd.factorize(column.astype(str).str.strip().str[-6:])  # where a zone stands
    parts = pd.Series(np.asarray(unique, dtype=object), dtype="str").str.extract(_CLOCK).fillna("0")
    minutes = parts[1].astype(int) * np.where(parts[0].str.startswith("-"), -1, 1) + parts[0].astype(int) * 60
    return (minutes.to_numpy() * np.timedelta64(60_000_000, "us"))[codes]


def _from_numbers(numbers: NDArray[Any], at: Callable[[int], str]) -> NDArray[np.datetime64]:
    """Numbers one by one: counts from 1970 by their size, or the digits of a date where these make one; else NaT.

    Raises:
        InputError: where all of them could be 1501021600 for 2015-01-02 16:00, which counts of seconds hardly ever are.
    """
    is_small = np.abs(numbers.astype(np.float64)) < 2.0**63  # which NaN and infinity are not
    numbers = np.where(is_small, numbers, 0)
    digits, has_digits = _of_digits(numbers.astype(np.int64))
    counts, is_count = _of_counts(numbers)
    for length in (10, 12, 14):  # 202101041530 is in milliseconds a day of 1976: numbers of a length are of one kind
        alike = _of_length(numbers, length)
        has_digits &= ~alike | bool(has_digits[alike].all())
        is_short = length < 14 and alike.all() and not has_digits.any()
        if is_short and _of_digits(20 * 10**length + numbers.astype(np.int64))[1].all():
            raise InputError(
                f"{at(0)}: {numbers[0]:.0f} could begin with a year of two digits, or count from 1970: set "
                f"--data.date-format {'%y%m%d%H%M%S'[:length]}, or write 2013-02-08 15:30"
            )
    return np.where(has_digits, digits, np.where(is_count, counts, _NONE))


def _of_length(numbers: NDArray[Any], length: int) -> NDArray[np.bool_]:
    return (numbers >= 10 ** (length - 1)) & (numbers < 10**length)


def _of_digits(numbers: NDArray[np.int64]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """20130208, 2013020815, 201302081530 and 20130208153000 as dates, and which numbers are one."""
    whole = np.zeros(len(numbers), np.int64)  # with all fourteen digits
    for length in (8, 10, 12, 14):
        alike = _of_length(numbers, length)
        whole[alike] = numbers[alike] * 10 ** (14 - length)
    year, month, day = whole // 10**10, whole // 10**8 % 100, whole // 10**6 % 100
    hour, minute, second = whole // 10**4 % 100, whole // 100 % 100, whole % 100
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    is_day = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    is_clock = (hour < 24) & (minute < 60) & (second < 60)
    is_likely = (numbers < 10**8) | ((year >= _FIRST_YEAR) & (year <= _last_year()))
    seconds = days.astype("datetime64[s]") + (hour * 3600 + minute * 60 + second)
    return seconds.astype("datetime64[us]"), (whole > 0) & is_day & is_clock & is_likely


def _of_counts(numbers: NDArray[Any]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Counts of seconds to nanoseconds as dates, and which numbers are one; near 1970 only among others in seconds."""
    size = np.abs(numbers.astype(np.float64))
    times = np.select([size >= _MICROS, size >= _MILLIS], [1, 1_000], 1_000_000)
    parts = np.where(size >= _NANOS, 1_000, 1)
    if np.issubdtype(numbers.dtype, np.integer):
        micros = numbers.astype(np.int64) // parts * times
    else:
        micros = np.rint(numbers / parts * times).astype(np.int64)
    return micros.astype("datetime64[us]"), (size >= _SECONDS) | (_SECONDS <= size.max() < _MILLIS)


def _last_year() -> int:
    return datetime.now(UTC).year + 1


def _from_text(
    text: pd.Series, rows: NDArray[np.int64], at: Callable[[int], str], has_format: bool
) -> NDArray[np.datetime64]:
    """Text of any kind; ``rows`` is where each stands first, and ``at`` tells the place of a row."""
    zoned = text.str.contains(_OFFSET, regex=True).to_numpy(dtype=bool)
    if zoned.any() and not zoned.all():
        with_zone, without = int(rows[zoned].min()), int(rows[~zoned].min())
        raise InputError(
            f"{at(max(with_zone, without))}: some dates have a time zone and others none: give all of them one, or none"
        )
    if zoned.all():
        return _strict(text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True), utc=True)
    is_alike = text.str.fullmatch(_DAY_OR_MONTH_FIRST)
    if is_alike.mean() > _MOST:
        first, second, year, rest = (
            text[is_alike].str.replace(_DAY_OR_MONTH_FIRST, rf"\{i}", regex=True) for i in (1, 2, 3, 4)
        )
        is_day_first = max(map(int, first.unique())) > 12
        if not is_day_first and max(map(int, second.unique())) <= 12:
            way_out = _way_out(has_format, "%d/%m/%Y or %m/%d/%Y, with the signs of the file")
            raise InputError(f"{at(int(rows.min()))}: {text[0]!r} could begin with the day or the month: {way_out}")
        if rest.str.fullmatch(f"({_TIME})?").all():
            day, month = (first, second) if is_day_first else (second, first)
            stamps = year + "-" + month.str.zfill(2) + "-" + day.str.zfill(2) + rest
            return _strict(stamps.reindex(text.index))
        return _strict(text.where(is_alike), dayfirst=is_day_first)
    is_alike = text.str.contains(_MONTH_BY_NAME, regex=True)
    if is_alike.mean() > _MOST:
        return _strict(text.where(is_alike), dayfirst=True)
    for written, iso in _LIKE_ISO:
        text = text.str.replace(written, iso, regex=True)
    return _strict(text)


def _strict(
    text: pd.Series, *, pattern: str | None = None, utc: bool = False, dayfirst: bool | None = None
) -> NDArray[np.datetime64]:
    """Parse text all of which is written alike; NaT where it is no date."""
    form = pattern or ("ISO8601" if dayfirst is None else "mixed")
    try:
        parsed = pd.to_datetime(text, errors="coerce", utc=utc, format=form, dayfirst=bool(dayfirst))
    except ValueError as error:
        raise InputError(f"data.date_format is {pattern!r}: {told(error)}; write it as %Y-%m-%d %H:%M") from None
    return (parsed.dt.tz_localize(None) if utc else parsed).to_numpy(dtype="datetime64[us]")
