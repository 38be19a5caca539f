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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.bar_data import Bars
from envs.calendars import align_calendars
from envs.frequencies import settle_frequency
from envs.price_checks import RowChecks, check_leaps, to_numbers
from envs.price_columns import Columns, recognise_columns
from envs.price_dates import parse_dates, rows_within, zone_offsets
from envs.price_days import exchange_dates
from envs.price_faults import Faults
from envs.price_numbers import Decimal
from envs.price_tables import PriceTable, is_nameless, read_table
from envs.settings import CalendarPolicy, Missing


def load_bars(
    path: str | Path,
    *,
    assets: Sequence[str] | None = None,
    calendar: CalendarPolicy = "intersect",
    frequency: str | None = None,
    periods_per_year: float | None = None,
    timezone: str | None = None,
    columns: Sequence[str] | None = None,
    date_format: str | None = None,
    decimal: Decimal | None = None,
    missing: Missing = "blanks",
    start: str | None = None,
    end: str | None = None,
) -> Bars:
    """Read a price file into bars; the top of this module says which tables are understood.

    Args:
        path: A CSV (also packed, or with ; or tab), Parquet or feather file; docs/data.md says how it is read.
        assets: Assets to keep, in this order; None keeps all, in the order in which the file first names them.
        calendar: What to do where some assets have no bar; see ``envs.calendars.align_calendars``.
        frequency: Spacing of the bars, as ``Bars.frequency`` has it; None infers it from the dates.
        periods_per_year: Bars in a year; None takes what the frequency makes of the dates.
        timezone: Zone of the exchange (Asia/Tokyo), for bars of a day or longer; None takes it from the stamps.
        columns: What columns are, where their names do not say it: ``"close=Last"``; see ``envs.price_columns``.
        date_format: How dates are written, in the letters of ``strptime``; None lets them show it.
        decimal: The decimal sign of numbers in text; None lets them show it.
        missing: What a missing bar is: blanks in place of all its prices, or zeros too.
        start: Rows before this date (2000-01-01) are not looked at; None looks at all.
        end: Rows from this date on are not looked at; None looks at all.

    Returns:
        Validated bars on one calendar.

    Raises:
        InputError: for a file, column, row or asset that cannot be used; the message is one line that points at it and
            says what to do.
    """
    path = str(path)
    table = read_table(path, decimal)
    table, which = recognise_columns(table, columns or ())
    faults = Faults()
    stamps = parse_dates(table, which.date, faults, date_format)
    table, stamps = table.rows(~np.isnat(stamps)), stamps[~np.isnat(stamps)]
    if not len(stamps):
        faults.refuse()
    dates, day_notes = exchange_dates(
        stamps, zone_offsets(table.frame[which.date]), _row_assets(table, which), timezone=timezone, source=path
    )
    kept = rows_within(dates, start, end, source=path)
    table, dates = table.rows(kept), dates[kept]
    read = _long_fields if which.fields else _wide_fields
    days, names, fields, notes = read(table, which, dates, faults, assets, missing)
    days, fields, calendar_notes = align_calendars(days, names, fields, policy=calendar, source=path)
    check_leaps(path, days, names, fields)
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
    faults: Faults,
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
        faults.add(
            table,
            np.flatnonzero(labels == ""),
            lambda row: f"{table.at(row, asset_column)}: the asset has no name: fill it in or remove the row",
        )
    codes, found = pd.factorize(labels)
    names = tuple(str(name) for name in found)
    if wanted is not None:
        _check_known(table.path, wanted, names)
        keep = np.flatnonzero(np.isin(labels, list(wanted)))
        order = {name: i for i, name in enumerate(wanted)}
        codes = np.array([order.get(name, -1) for name in names])[codes]
        names = tuple(wanted)
    checks = RowChecks(table, dates, labels, faults)
    notes = checks.order(codes, keep[labels[keep] != ""], asset_column)
    read = {field: checks.numbers(column, keep) for field, column in present.items()}
    given = ~_no_bars({field: values for field, (values, _) in read.items()}, missing)
    raw = {field: values[given] for field, (values, _) in read.items()}
    texts = {field: is_text[given] for field, (_, is_text) in read.items()}
    days, rows = np.unique(dates[keep], return_inverse=True)
    keep, rows = keep[given], rows[given]
    checks.bars(raw, texts, present, keep)
    faults.refuse()
    fields = {field: np.full((len(days), len(names)), np.nan) for field in raw}
    for field, values in raw.items():
        fields[field][rows, codes[keep]] = values
    notes += _complete_prices(fields)
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
    faults: Faults,
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
    checks = RowChecks(table, dates, None, faults)
    notes += checks.order(np.zeros(len(dates), np.int64), everything, None)
    close = np.empty((len(dates), len(names)))
    for i, name in enumerate(names):
        close[:, i], is_text = checks.numbers(found[name], everything, asset=name)
        if missing == "zeros":
            close[close[:, i] == 0, i] = np.nan
        checks.prices(close[:, i], is_text, found[name], everything, asset=name, blank_is_missing=True)
    faults.refuse()
    in_time = np.argsort(dates)
    fields = {"close": close[in_time]}
    return dates[in_time], names, fields, (*notes, *_complete_prices(fields))


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
        if number > 1 or not (to_numbers(cells).diff().iloc[1:] == 1).all():
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
