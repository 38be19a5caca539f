"""The date column of a price file: text, numbers or timestamps, with or without time zones -> datetime64 in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError

_OFFSET = r"\d:\d{2}(?:[.:]\d+)*\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_CLOCK = r"([+-]\d{2}):?(\d{2})?$"
_EPOCHS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e8, "s"))


def parse_dates(column: pd.Series, at: Callable[[int], str]) -> NDArray[np.datetime64]:
    """Parse the dates of a table.

    Understood are timestamps, ISO text, 20130208, seconds to nanoseconds since 1970, and day-first or month-first text
    where the column shows which it is. Dates with a time zone are converted to UTC.

    Args:
        column: T cells.
        at: Row number -> words for its place, for messages.

    Returns:
        [T] datetime64[us], in the order of the rows.

    Raises:
        InputError: at the first cell that is no date; where some dates have a time zone and others have none; where
            01/02/2013 could be January or February throughout.
    """
    blank = column.isna().to_numpy()
    if blank.any():
        raise InputError(f"{at(int(blank.argmax()))}: the date is missing: fill it in or remove the row")
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return column.to_numpy(dtype="datetime64[us]")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _from_numbers(column.to_numpy(), at)
    codes, unique = pd.factorize(column.astype(str).str.strip())
    rows = np.full(len(unique), len(codes))
    np.minimum.at(rows, codes, np.arange(len(codes)))
    return _from_text(pd.Series(np.asarray(unique, dtype=object), dtype="str"), rows, at)[codes]


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
    codes, unique = pd.factorize(column.astype(str).str.strip())
    parts = pd.Series(np.asarray(unique, dtype=object), dtype="str").str.extract(_CLOCK).fillna("0")
    minutes = parts[1].astype(int) * np.where(parts[0].str.startswith("-"), -1, 1) + parts[0].astype(int) * 60
    return (minutes.to_numpy() * np.timedelta64(60_000_000, "us"))[codes]


def _from_numbers(numbers: NDArray[Any], at: Callable[[int], str]) -> NDArray[np.datetime64]:
    bad = ~(np.abs(numbers.astype(np.float64)) < 2.0**63)  # NaN and infinity too
    if bad.any():
        raise InputError(f"{at(int(bad.argmax()))}: {numbers[bad.argmax()]:g} is not a date: write 2013-02-08")
    if numbers.min() >= 1e7 and numbers.max() < 1e8:
        return _strict(pd.Series(numbers.astype(np.int64).astype(str)), np.arange(len(numbers)), at, pattern="%Y%m%d")
    for least, unit in _EPOCHS:
        if np.abs(numbers).max() >= least:
            return numbers.astype(np.int64).astype(f"datetime64[{unit}]").astype("datetime64[us]")
    raise InputError(f"{at(0)}: {numbers[0]:g} is not a date: write 2013-02-08, or seconds since 1970")


def _from_text(text: pd.Series, rows: NDArray[np.int64], at: Callable[[int], str]) -> NDArray[np.datetime64]:
    zoned = text.str.contains(_OFFSET, regex=True).to_numpy(dtype=bool)
    if zoned.any() and not zoned.all():
        with_zone, without = int(rows[zoned].min()), int(rows[~zoned].min())
        raise InputError(
            f"{at(max(with_zone, without))}: some dates have a time zone and others none: give all of them one, or none"
        )
    if zoned.all():
        return _strict(text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True), rows, at, utc=True)
    parts = text.str.extract(r"^(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}(.*)$")
    if parts[0].notna().all():
        first, second = (parts[i].astype(int).max() for i in (0, 1))
        if first <= 12 and second <= 12:
            raise InputError(
                f"{at(int(rows.min()))}: {text[0]!r} could begin with the day or the month: write 2013-02-08"
            )
        return _strict(text, rows, at, dayfirst=bool(first > 12))
    return _strict(text, rows, at)


def _strict(
    text: pd.Series,
    rows: NDArray[np.int64],
    at: Callable[[int], str],
    *,
    pattern: str | None = None,
    utc: bool = False,
    dayfirst: bool | None = None,
) -> NDArray[np.datetime64]:
    """Parse text, and refuse the first cell that is no date."""
    if pattern is None and dayfirst is None:
        parsed = pd.to_datetime(text, errors="coerce", utc=utc, format="ISO8601")
    else:
        parsed = pd.to_datetime(text, errors="coerce", format=pattern or "mixed", dayfirst=bool(dayfirst))
    bad = parsed.isna().to_numpy()
    if bad.any():
        row = int(rows[bad].min())
        value = text[int(np.flatnonzero(bad)[rows[bad].argmin()])]
        raise InputError(f"{at(row)}: {value!r} is not a date: write 2013-02-08 or 2013-02-08 15:30:00")
    return (parsed.dt.tz_localize(None) if utc else parsed).to_numpy(dtype="datetime64[us]")
