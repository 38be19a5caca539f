"""Price files -> Bars: read, recognise, validate, join, align.

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

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.bar_data import Bars
from envs.bar_lengths import check_lengths
from envs.calendars import align_calendars
from envs.frequencies import check_no_closer, settle_frequency
from envs.price_checks import check_leaps
from envs.price_columns import Columns, recognise_columns
from envs.price_dates import parse_dates, rows_within, zone_offsets
from envs.price_days import exchange_dates
from envs.price_faults import Faults
from envs.price_fields import OpenTable, read_fields, wide_columns
from envs.price_jumps import check_jumps
from envs.price_names import plain_name
from envs.price_numbers import Decimal
from envs.price_sources import files_of, join_fields, notes_of_files, source_of
from envs.price_tables import PriceTable, read_table, split_endings
from envs.settings import BAR_COSTS, FUNDING, Adjust, CalendarPolicy, Jumps, Missing


def load_bars(
    path: str | Path | Sequence[str | Path],
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
    adjust: Adjust | None = None,
    jumps: Jumps = "refuse",
    start: str | None = None,
    end: str | None = None,
) -> Bars:
    """Read price files into bars; the top of this module says which tables are understood.

    Args:
        path: A CSV (also packed, or with ; or tab), Parquet, feather, Excel or .npz file; docs/data.md says how it is
            read. A folder stands for the price files in it. What is in several files is one market.
        assets: Assets to keep, in this order; None keeps all, in the order in which the files first name them.
        calendar: What to do where some assets have no bar; see ``envs.calendars.align_calendars``.
        frequency: Spacing of the bars, as ``Bars.frequency`` has it; None infers it from the dates.
        periods_per_year: Bars in a year; None takes what the frequency makes of the dates.
        timezone: Zone of the exchange (Asia/Tokyo), for bars of a day or longer; None takes it from the stamps.
        columns: What columns are, where their names do not say it: ``"close=Last"``; see ``envs.price_columns``.
        date_format: How dates are written, in the letters of ``strptime``; None lets them show it.
        decimal: The decimal sign of numbers in text; None lets them show it.
        missing: What a missing bar is: blanks in place of all its prices, zeros too, or a blank in place of any (drop);
            fill takes a blank open, high or low from the close.
        adjust: What prices are adjusted for; None: for what the file has columns of; see ``envs.price_adjustments``.
        jumps: Whether jumps that look like an unadjusted split are refused; see ``envs.price_jumps``.
        start: Rows before this date (2000-01-01) are not looked at; None looks at all.
        end: Rows from this date on are not looked at; None looks at all.

    Returns:
        Validated bars on one calendar.

    Raises:
        InputError: for a file, column, row or asset that cannot be used; the message points at it and says what to do.
            The faults of a file's rows are told together.
    """
    files, file_notes = files_of(path)
    source = source_of(path)
    opened = [
        _open(file, assets, decimal=decimal, columns=columns, date_format=date_format, timezone=timezone)
        for file in files
    ]
    dates = np.concatenate([table.dates for table in opened])
    kept = np.split(rows_within(dates, start, end, source=source), np.cumsum([len(t.dates) for t in opened])[:-1])
    opened = [table.rows(rows) for table, rows in zip(opened, kept, strict=True) if rows.any()]
    names = tuple(dict.fromkeys(name for table in opened for name in table.names))
    if assets is not None:
        _check_known(source, assets, names)
    wanted = [table.names if assets is None else tuple(a for a in assets if a in table.names) for table in opened]
    parts = [read_fields(table, own, missing, adjust) for table, own in zip(opened, wanted, strict=True) if own]
    days, names, fields = join_fields(parts, tuple(assets or names))
    check_lengths(source, days, names, np.isfinite(fields["close"]), frequency=frequency)
    days, fields, present, calendar_notes = align_calendars(days, names, fields, policy=calendar, source=source)
    check_leaps(source, days, names, fields)
    if jumps == "refuse":
        are_quotes = not any(split_endings(file)[1] == "npz" for file in files)
        check_jumps(source, days, names, fields, present, are_quotes=are_quotes)
    if frequency is not None:
        check_no_closer(days, frequency, source=source)
    words, periods, frequency_notes = settle_frequency(
        days, frequency=frequency, periods_per_year=periods_per_year, source=source
    )
    return Bars(
        dates=days,
        assets=names,
        open=fields["open"],
        high=fields["high"],
        low=fields["low"],
        close=fields["close"],
        volume=fields.get("volume"),
        costs={name: fields[name] for name in (*BAR_COSTS, FUNDING) if name in fields},
        tradable=present,
        frequency=words,
        periods_per_year=periods,
        source=source,
        notes=(*file_notes, *notes_of_files(parts), *frequency_notes, *calendar_notes),
    )


def _open(
    file: str,
    assets: Sequence[str] | None,
    *,
    decimal: Decimal | None,
    columns: Sequence[str] | None,
    date_format: str | None,
    timezone: str | None,
) -> OpenTable:
    """Read a file as far as its dates and the names of its assets."""
    chosen = {role: plain_name(column) for role, _, column in (words.partition("=") for words in columns or ())}
    table = read_table(file, decimal, chosen, are_dates_text=date_format is not None)
    table, which = recognise_columns(table, columns or (), assets)
    faults = Faults()
    stamps = parse_dates(table, which.date, faults, date_format)
    table, stamps = table.rows(~np.isnat(stamps)), stamps[~np.isnat(stamps)]
    if not len(stamps):
        faults.refuse()
    labels = _labels(table, which)
    codes = np.zeros(len(stamps), np.int64) if labels is None else pd.factorize(labels)[0]
    offsets = zone_offsets(table.frame[which.date])
    dates, day_notes = exchange_dates(stamps, offsets, codes, timezone=timezone, source=file)
    wide, wide_notes = ({}, ()) if which.fields else wide_columns(table, which.date)
    return OpenTable(
        table, which, dates, labels, wide, faults, notes=(*table.notes, *day_notes, *which.notes, *wide_notes)
    )


def _labels(table: PriceTable, which: Columns) -> NDArray[np.object_] | None:
    """The asset of each row, [T]: as its column or else the file's name says; None where each column is an asset."""
    if not which.fields:
        return None
    if which.asset is None:
        return np.full(len(table.frame), table.name, dtype=object)
    return table.frame[which.asset].astype(object).fillna("").astype(str).str.strip().to_numpy(dtype=object)


def _check_known(path: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    if not wanted:
        raise InputError(f"data.assets is empty: name at least one of {', '.join(names)}, or leave it out")
    for name in wanted:
        if name not in names:
            raise InputError(f"{path}: there is no asset {name!r}{nearest(name, names)}")
    if len(set(wanted)) < len(wanted):
        raise InputError(f"data.assets names an asset twice: {', '.join(wanted)}")
