"""Price files -> Bars: read, recognise, validate, align.

Long tables have a row for each date and asset: ``date, tic, open, high, low, close, volume``, under these or other
names (``envs.price_columns``). Without an asset column the file is one asset, named after the file, or the columns
hold the fields of each asset (``BTC:open``). Volume may be missing; so may open, high and low together. Wide tables
have a date column and one column of closes for each asset; a blank cell there is a missing bar. Where there are only
closes, open, high and low are set to the close of the **same** bar, so an order decided at bar t fills at the close of
t + 1 and never at a price that was already seen.

Bars of a day or longer stand under the dates of their exchange, intraday bars in UTC. Nothing is repaired in silence:
bad cells are refused, and everything that was inferred, dropped or filled is counted in ``Bars.notes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.bar_data import PRICE_FIELDS, Bars
from envs.calendars import align_calendars, show_date
from envs.frequencies import settle_frequency
from envs.price_columns import Columns, recognise_columns
from envs.price_dates import parse_dates, zone_offsets
from envs.price_days import exchange_dates
from envs.price_numbers import Decimal
from envs.price_tables import PriceTable, is_nameless, read_table
from envs.settings import CalendarPolicy, Missing

SMALLEST, LARGEST = 1e-9, 1e12
"""Bounds of a price. Powers of prices, and a whole capital in shares times a price, stay far from the ends of float64,
in which the books are kept, and of float32, in which agents see them."""
LARGEST_VOLUME = 1e18
LARGEST_LEAP = 1e6
"""Factor between two neighbouring closes, and between low and high of a bar: no market has leapt so far, and after much
larger leaps float64 has no digits left in which books would balance."""
_LEAST_GAP_US = 1_000_000
_ROUNDING = 1e-3  # sources round open, high, low and close one by one; a larger gap is an error in the data


def load_bars(
    path: str | Path,
    *,
    assets: Sequence[str] | None = None,
    calendar: CalendarPolicy | None = None,
    frequency: str | None = None,
    periods_per_year: float | None = None,
    timezone: str | None = None,
    columns: Sequence[str] | None = None,
    date_format: str | None = None,
    decimal: Decimal | None = None,
    missing: Missing = "blanks",
    start: np.datetime64 | None = None,
) -> Bars:
    """Read a price file into bars; the top of this module says which tables are understood.

    Args:
        path: A CSV (also packed, or with ; or tab), Parquet, feather or .npz file; docs/data.md says how it is read.
        assets: Assets to keep, in this order; None keeps all, in the order in which the file first names them.
        calendar: What to do where some assets have no bar; see ``envs.calendars.align_calendars``.
        frequency: Spacing of the bars, as ``Bars.frequency`` has it; None infers it from the dates.
        periods_per_year: Bars in a year; None takes what the frequency makes of the dates.
        timezone: Zone of the exchange (Asia/Tokyo), for bars of a day or longer; None takes it from the stamps.
        columns: What columns are, where their names do not say it: ``"close=Last"``; see ``envs.price_columns``.
        date_format: How dates are written, in the letters of ``strptime``; None lets them show it.
        decimal: The decimal sign of numbers in text; None lets them show it.
        missing: What a missing bar is: blanks in place of all its prices, or zeros too.
        start: Rows before this date are not looked at; None looks at all.

    Returns:
        Validated bars on one calendar.

    Raises:
        InputError: for a file, column, row or asset that cannot be used; the message is one line that points at it and
            says what to do.
    """
    path = str(path)
    table = read_table(path, decimal)
    table, which = recognise_columns(table, columns or ())
    cells = table.frame[which.date]
    stamps = parse_dates(cells, lambda row: table.at(row, which.date), date_format)
    dates, day_notes = exchange_dates(
        stamps, zone_offsets(cells), _row_assets(table, which), timezone=timezone, source=path
    )
    if start is not None:
        if not (dates >= start).any():
            raise InputError(
                f"data.start is {show_date(start)}, but the history of {path} ends on {show_date(dates.max())}"
            )
        table, dates = replace(table, frame=table.frame[dates >= start]), dates[dates >= start]
    read = _long_fields if which.fields else _wide_fields
    days, names, fields, notes = read(table, which, dates, assets, missing)
    days, fields, present, calendar_notes = align_calendars(days, names, fields, policy=calendar, source=path)
    _check_leaps(path, days, names, fields)
    words, periods, frequency_notes = settle_frequency(
        days, frequency=frequency, periods_per_year=periods_per_year, source=path
    )
    return Bars(
        dates=days,
        assets=names,
        open=fields["open"],
        high=fields["high"],
        low=fields["low"],
        close=fields["close"],
        volume=fields.get("volume"),
        tradable=present,
        frequency=words,
        periods_per_year=periods,
        source=path,
        notes=(*table.notes, *day_notes, *notes, *frequency_notes, *calendar_notes),
    )


def _row_assets(table: PriceTable, which: Columns) -> NDArray[np.int64]:
    """Index of each row's asset, [T]: 0 throughout where no column names them."""
    if which.asset is None:
        return np.zeros(len(table.frame), np.int64)
    return pd.factorize(table.frame[which.asset].astype(str))[0]


def _long_fields(
    table: PriceTable,
    which: Columns,
    dates: NDArray[np.datetime64],
    wanted: Sequence[str] | None,
    missing: Missing,
) -> tuple[NDArray[np.datetime64], tuple[str, ...], dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """A row for each date and asset -> [T, A] fields, NaN where an asset has no bar."""
    present, asset_column = which.fields, which.asset
    keep = np.arange(len(dates))
    if asset_column is None:
        labels = np.full(len(dates), table.name, dtype=object)
    else:
        labels = table.frame[asset_column].astype(object).fillna("").astype(str).str.strip().to_numpy(dtype=object)
        if (labels == "").any():
            row = int(np.argmax(labels == ""))
            raise InputError(f"{table.at(row, asset_column)}: the asset has no name: fill it in or remove the row")
    codes, found = pd.factorize(labels)
    names = tuple(str(name) for name in found)
    if wanted is not None:
        _check_known(table.path, wanted, names)
        keep = np.flatnonzero(np.isin(labels, list(wanted)))
        order = {name: i for i, name in enumerate(wanted)}
        codes = np.array([order.get(name, -1) for name in names])[codes]
        names = tuple(wanted)
    _check_order(table, dates, codes, names, keep, asset_column)
    raw = {field: _numbers(table, present[field], keep, labels, dates) for field in present}
    days, rows = np.unique(dates[keep], return_inverse=True)
    given = ~_no_bars(raw, missing)
    keep, rows, raw = keep[given], rows[given], {field: values[given] for field, values in raw.items()}
    _check_values(table, raw, present, keep, labels, dates)
    fields = {field: np.full((len(days), len(names)), np.nan) for field in raw}
    for field, values in raw.items():
        fields[field][rows, codes[keep]] = values
    notes = _complete_prices(fields)
    if not given.all():
        notes += (f"{int((~given).sum()):,} rows without prices are missing bars",)
    used = {which.date, asset_column, *present.values()}
    unused = [str(name) for name in table.frame.columns if name not in used]
    return days, names, fields, (*which.notes, *notes, *((f"columns not used: {', '.join(unused)}",) if unused else ()))


def _no_bars(raw: dict[str, NDArray[np.float64]], missing: Missing) -> NDArray[np.bool_]:
    """Which rows of a long table hold no price and no volume: blanks, or zeros too."""
    blank = [
        np.isnan(values) | ((values == 0) & (missing == "zeros" or name == "volume")) for name, values in raw.items()
    ]
    return np.logical_and.reduce(blank)


def _wide_fields(
    table: PriceTable,
    which: Columns,
    dates: NDArray[np.datetime64],
    wanted: Sequence[str] | None,
    missing: Missing,
) -> tuple[NDArray[np.datetime64], tuple[str, ...], dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """A date column and a column of closes for each asset -> [T, A] fields; a blank cell is a missing bar."""
    nameless, notes = _nameless(table, which.date)
    found = {str(name).strip(): name for name in table.frame.columns if name != which.date and name not in nameless}
    if not found:
        raise InputError(
            f"{table.path}: there is no column beside {which.date!r}: add a column of closes for each asset"
        )
    names = tuple(found)
    if wanted is not None:
        _check_known(table.path, wanted, names)
        names = tuple(wanted)
    everything = np.arange(len(dates))
    _check_order(table, dates, np.zeros(len(dates), np.int64), ("",), everything, None)
    close = np.empty((len(dates), len(names)))
    for i, name in enumerate(names):
        labels = np.full(len(dates), name, dtype=object)
        close[:, i] = _numbers(table, found[name], everything, labels, dates)
        if missing == "zeros":
            close[close[:, i] == 0, i] = np.nan
        _check_prices(table, close[:, i], found[name], everything, labels, dates, blank_is_missing=True)
    fields = {"close": close}
    return dates, names, fields, (*notes, *_complete_prices(fields))


def _nameless(table: PriceTable, date: str) -> tuple[list[Any], tuple[str, ...]]:
    """Columns of a wide table that have no name and hold no prices: blank ones, and a count of the rows in front.

    Raises:
        InputError: for any other column without a name: which asset its prices are of cannot be told.
    """
    found = [name for name in table.frame.columns if is_nameless(name) and name != date]
    notes = []
    for name in found:
        cells, number = table.frame[name], list(table.frame.columns).index(name) + 1
        if cells.isna().all():
            continue
        if number > 1 or not (_to_numbers(cells).diff().iloc[1:] == 1).all():
            raise InputError(
                f"{table.path}: column {number} has no name: write its asset's into the header, or remove the column"
            )
        notes.append("column not used: the first, which has no name and counts the rows")
    return found, tuple(notes)


def _complete_prices(fields: dict[str, NDArray[np.float64]]) -> tuple[str, ...]:
    """Set open, high and low where there are only closes, and widen ranges that rounding made too narrow, in place."""
    if "open" not in fields:
        for field in ("open", "high", "low"):
            fields[field] = fields["close"].copy()
        return (
            "only closes given: open, high and low set to the close of the same bar, so orders fill at the next close",
        )
    high = np.maximum(fields["high"], np.maximum(fields["open"], fields["close"]))
    low = np.minimum(fields["low"], np.minimum(fields["open"], fields["close"]))
    widened = int(((high > fields["high"]) | (low < fields["low"])).sum())
    fields["high"], fields["low"] = high, low
    return (
        (f"widened the range of {widened:,} bars to hold open and close (rounding in the source)",) if widened else ()
    )


def _check_known(path: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    if not wanted:
        raise InputError(f"data.assets is empty: name at least one of {', '.join(names)}, or leave it out")
    for name in wanted:
        if name not in names:
            raise InputError(f"{path}: there is no asset {name!r}{nearest(name, names)}")
    if len(set(wanted)) < len(wanted):
        raise InputError(f"data.assets names an asset twice: {', '.join(wanted)}")


def _check_order(
    table: PriceTable,
    dates: NDArray[np.datetime64],
    codes: NDArray[np.int64],
    names: Sequence[str],
    keep: NDArray[np.int64],
    asset_column: str | None,
) -> None:
    """Refuse two rows for one date and asset, and dates that go back within an asset."""
    by_asset = keep[np.argsort(codes[keep], kind="stable")]
    stamps = dates[by_asset].astype("datetime64[us]").astype(np.int64)
    same_asset = np.diff(codes[by_asset]) == 0
    gaps = np.diff(stamps)[same_asset]
    if (gaps >= _LEAST_GAP_US).all():
        return
    if (gaps > 0).all():
        row = int(by_asset[1:][same_asset & (np.diff(stamps) < _LEAST_GAP_US)].min())
        raise InputError(
            f"{table.at(row, asset=names[codes[row]] or None, date=dates[row])}: the bar before lies "
            f"{gaps[gaps < _LEAST_GAP_US][0] / 1e6:g} s earlier, but bars are a second apart or more: correct the "
            "dates, or set --data.date-format"
        )
    sort_by = f"{asset_column} and date" if asset_column else "date"
    order = np.lexsort((by_asset, stamps, codes[by_asset]))
    again = np.flatnonzero((np.diff(stamps[order]) == 0) & (np.diff(codes[by_asset][order]) == 0))
    if len(again):
        pairs = by_asset[order]
        first, second = min(((int(pairs[i]), int(pairs[i + 1])) for i in again), key=lambda pair: pair[1])
        hint = "" if asset_column else " (no asset column found: name it tic, or set --data.columns asset=NAME)"
        raise InputError(
            f"{table.at(second, asset=names[codes[second]] or None, date=dates[second])}: the same date stands "
            "already in "
            f"{table.at(first).rsplit(': ', 1)[1]}: remove one of them{hint}"
        )
    row = int(by_asset[1:][same_asset & (np.diff(stamps) <= 0)].min())
    raise InputError(
        f"{table.at(row, asset=names[codes[row]] or None, date=dates[row])}: dates go back in time: sort the file "
        f"by {sort_by}, oldest first"
    )


def _numbers(
    table: PriceTable, column: str, keep: NDArray[np.int64], labels: NDArray[np.object_], dates: NDArray[np.datetime64]
) -> NDArray[np.float64]:
    """A column as float64; blanks are NaN, and text is refused."""
    series = table.frame[column]
    values = _to_numbers(series).to_numpy(dtype=np.float64, na_value=np.nan)[keep]
    bad = np.flatnonzero(np.isnan(values) & series.notna().to_numpy()[keep])
    if len(bad):
        row = int(keep[bad[0]])
        raise InputError(
            f"{table.at(row, column, asset=labels[row], date=dates[row])}: {str(series.iloc[row])[:30]!r} is not a "
            "number"
        )
    return values


def _to_numbers(cells: pd.Series) -> pd.Series:
    """Cells as numbers: NaN where one is none, infinite where it has more digits than a float64 can be large."""
    try:
        return pd.to_numeric(cells, errors="coerce")
    except OverflowError:  # pandas reads such digits as one of Python's whole numbers
        return pd.to_numeric(cells.astype(str), errors="coerce")


def _check_values(
    table: PriceTable,
    raw: dict[str, NDArray[np.float64]],
    columns: dict[str, str],
    keep: NDArray[np.int64],
    labels: NDArray[np.object_],
    dates: NDArray[np.datetime64],
) -> None:
    """Refuse prices that are none, negative volumes, and bars whose high and low do not hold their open and close."""

    def refuse(bad: NDArray[np.bool_], field: str, reason: str) -> None:
        if bad.any():
            row = int(keep[np.argmax(bad)])
            raise InputError(f"{table.at(row, columns[field], asset=labels[row], date=dates[row])}: {reason}")

    for field in PRICE_FIELDS:
        if field in raw:
            _check_prices(table, raw[field], columns[field], keep, labels, dates)
    if "volume" in raw:
        refuse(
            ~np.isfinite(raw["volume"]),
            "volume",
            "there is no volume: write a number (0 for no trade), or leave the column out",
        )
        refuse(raw["volume"] < 0, "volume", "volume is negative: correct the row")
        refuse(
            (raw["volume"] > LARGEST_VOLUME) | ((raw["volume"] > 0) & (raw["volume"] < SMALLEST)),
            "volume",
            f"volume must be 0, or from {SMALLEST:g} to {LARGEST_VOLUME:g}: correct the row, or give another unit",
        )
    if "high" in raw:
        refuse(raw["high"] < raw["low"] * (1 - 1e-9), "high", "high is below low: correct or remove the row")
        for field in ("open", "close"):
            outside = (raw[field] > raw["high"] * (1 + _ROUNDING)) | (raw[field] < raw["low"] * (1 - _ROUNDING))
            refuse(outside, field, f"{field} lies outside low to high: correct or remove the row")


def _check_prices(
    table: PriceTable,
    values: NDArray[np.float64],
    column: str,
    keep: NDArray[np.int64],
    labels: NDArray[np.object_],
    dates: NDArray[np.datetime64],
    *,
    blank_is_missing: bool = False,
) -> None:
    good = (values >= SMALLEST) & (values <= LARGEST)
    bad = ~(good | np.isnan(values)) if blank_is_missing else ~good
    if not bad.any():
        return
    i = int(np.argmax(bad))
    what = "is missing" if np.isnan(values[i]) else f"is {values[i]:g}"
    row = int(keep[i])
    place = table.at(row, column, asset=labels[row], date=dates[row])
    is_there = values[i] != 0 and not np.isnan(values[i])
    way_out = "give prices in another unit" if is_there else "leave early ones out with --data.start"
    raise InputError(
        f"{place}: the price {what}, but prices must lie from {SMALLEST:g} to {LARGEST:g}: correct or remove the row, "
        f"or {way_out}"
    )


def _check_leaps(
    path: str, days: NDArray[np.datetime64], names: Sequence[str], fields: dict[str, NDArray[np.float64]]
) -> None:
    """Refuse a bar in which the price of an asset leaps as no market does; fields are [T, A], without gaps."""
    close = fields["close"]
    growth = close / np.concatenate([close[:1], close[:-1]])
    leaps = {
        "from the close before": np.maximum(growth, 1 / growth),
        "from low to high": fields["high"] / fields["low"],
    }
    for where, factor in leaps.items():
        if (factor > LARGEST_LEAP).any():
            t, a = divmod(int(np.argmax(factor > LARGEST_LEAP)), len(names))
            raise InputError(
                f"{path}: asset {names[a]}, {show_date(days[t])}: the price leaps by a factor of {factor[t, a]:.3g} "
                f"{where}, but at most {LARGEST_LEAP:g} is taken: correct or remove the row"
            )
