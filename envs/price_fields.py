"""The prices of a table whose columns and dates are known, asset by asset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError
from envs.bar_data import PRICE_FIELDS
from envs.price_adjustments import action_columns, adjust_prices
from envs.price_checks import RowChecks, to_numbers
from envs.price_columns import Columns
from envs.price_faults import Faults, named
from envs.price_names import folded
from envs.price_tables import PriceTable, is_nameless
from envs.settings import FUNDING, Adjust, Missing

Array = NDArray[np.float64]
_COUNTS = {"index", "level 0", "id", "row", "no", "nr"}


@dataclass(frozen=True)
class OpenTable:
    """A table that is understood, before its prices are looked at.

    Attributes:
        table: As read, T rows.
        which: What its columns are.
        dates: Of its rows, [T] datetime64[us].
        labels: The asset of each row, [T]; None where each column is an asset.
        wide: Asset -> column, where each column is an asset; else empty.
        faults: What was found wrong so far.
        notes: What was understood on the way.
    """

    table: PriceTable
    which: Columns
    dates: NDArray[np.datetime64]
    labels: NDArray[np.object_] | None
    wide: Mapping[str, Any]
    faults: Faults
    notes: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Its assets, in the order in which it first names them."""
        return tuple(self.wide) if self.labels is None else tuple(pd.unique(self.labels).tolist())

    def rows(self, kept: NDArray[np.bool_]) -> OpenTable:
        """Some of its rows, [T] bool."""
        if kept.all():
            return self
        labels = None if self.labels is None else self.labels[kept]
        return replace(self, table=self.table.rows(kept), dates=self.dates[kept], labels=labels)


@dataclass(frozen=True)
class PriceFields:
    """Prices of A assets of one file on its T dates.

    Attributes:
        path: The file.
        days: Dates, rising, [T].
        names: Assets, A of them.
        fields: Field -> [T, A] float64, NaN where an asset has no bar.
        is_named_after_file: Whether nothing else says which asset it is.
        adjusted: Assets whose prices were adjusted for dividends or splits in columns of the file.
        notes: What was inferred, filled or left out.
    """

    path: str
    days: NDArray[np.datetime64]
    names: tuple[str, ...]
    fields: dict[str, Array]
    is_named_after_file: bool
    adjusted: frozenset[str]
    notes: tuple[str, ...]


def read_fields(
    table: OpenTable, names: tuple[str, ...], missing: Missing, adjust: Adjust | None = None
) -> PriceFields:
    """Read the prices of some of a table's assets, and check them.

    Args:
        table: The table.
        names: Assets of it, in the order wanted; rows of others are not looked at.
        missing: What a missing bar is.
        adjust: What prices are adjusted for; see ``envs.price_adjustments``.

    Raises:
        InputError: with all faults of its rows; or if it lacks what prices are to be adjusted by.
    """
    columns = action_columns(table.which.actions, adjust, table.table.path)
    adjusted: frozenset[str] = frozenset()
    if table.labels is None:
        days, fields, notes = _wide_fields(table, names, missing)
    else:
        days, fields, actions, notes = _long_fields(table, names, missing, columns)
        if "adj_close" not in actions:  # which says of every bar by itself what it is adjusted by
            nothing = {"dividends": 0.0, "splits": 1.0}
            paid = [(values > 0) & (values != nothing[role]) for role, values in actions.items()]
            adjusted = frozenset(name for a, name in enumerate(names) if any(x[:, a].any() for x in paid))
        notes += adjust_prices(table.table.path, days, names, fields, actions, is_asked=adjust is not None)
    is_named = table.labels is not None and table.which.asset is None
    return PriceFields(table.table.path, days, names, fields, is_named, adjusted, (*table.notes, *notes))


def _long_fields(
    opened: OpenTable, names: tuple[str, ...], missing: Missing, action_columns: Mapping[str, str]
) -> tuple[NDArray[np.datetime64], dict[str, Array], dict[str, Array], tuple[str, ...]]:
    """A row for each date and asset -> [T, A] fields and corporate actions, NaN where an asset has no bar."""
    table, dates, labels = opened.table, opened.dates, opened.labels
    assert labels is not None
    present, asset_column = opened.which.fields, opened.which.asset
    codes = pd.Index(names).get_indexer(pd.Index(labels)).astype(np.int64)
    keep = np.flatnonzero(codes >= 0)
    opened.faults.add(
        table,
        np.flatnonzero(labels == ""),
        lambda row: f"{table.at(row, asset_column)}: the asset has no name: fill it in or remove the row",
    )
    checks = RowChecks(table, dates, labels, opened.faults)
    notes = checks.order(codes, keep[labels[keep] != ""], asset_column)
    read = {field: checks.numbers(column, keep) for field, column in present.items()}
    whole = {field: values for field, (values, _) in read.items()}
    given = ~_no_bars(whole, missing)
    if not given.all():
        notes += (f"{int((~given).sum()):,} rows without prices are missing bars",)
    partly = given & np.logical_or.reduce([np.isnan(whole[name]) for name in PRICE_FIELDS if name in whole])
    if missing in ("drop", "fill") and partly.any():
        lost = partly if missing == "drop" else partly & np.isnan(whole["close"])
        notes += _settle_blanks(whole, partly & ~lost, lost, labels[keep])
        given &= ~lost
    raw = {field: values[given] for field, values in whole.items()}
    texts = {field: is_text[given] for field, (_, is_text) in read.items()}
    done = {role: checks.action(role, column, keep, given) for role, column in action_columns.items()}
    costs = {name: column for name, column in opened.which.costs.items() if name != FUNDING}
    funded = {name: checks.funding(opened.which.costs[name], keep, given) for name in opened.which.costs.keys() - costs}
    days, rows = np.unique(dates[keep], return_inverse=True)
    keep, rows = keep[given], rows[given]
    checks.bars(raw, texts, present, keep)
    raw |= checks.costs(costs, keep) | funded
    opened.faults.refuse()
    fields, actions = (
        {name: np.full((len(days), len(names)), np.nan) for name in columns} for columns in (raw, action_columns)
    )
    for field, values in raw.items():
        fields[field][rows, codes[keep]] = values
    for role, values in done.items():
        actions[role][rows, codes[keep]] = values[given]
    notes += _complete_prices(fields)
    used = {opened.which.date, asset_column, *present.values(), *action_columns.values(), *opened.which.costs.values()}
    unused = [str(name) for name in table.frame.columns if name not in used]
    return days, fields, actions, (*notes, *((f"columns not used: {', '.join(unused)}",) if unused else ()))


def _no_bars(raw: dict[str, NDArray[np.float64]], missing: Missing) -> NDArray[np.bool_]:
    """Which rows of a long table hold no price and no volume: blanks, or zeros too."""
    blank = [
        np.isnan(values) | ((values == 0) & (missing == "zeros" or name == "volume")) for name, values in raw.items()
    ]
    return np.logical_and.reduce(blank)


def _settle_blanks(
    raw: Mapping[str, Array], filled: NDArray[np.bool_], lost: NDArray[np.bool_], labels: NDArray[np.object_]
) -> tuple[str, ...]:
    """Fill blanks of the rows that are to be filled, in place: open by the close, high and low by both.

    Args:
        raw: Fields of K rows.
        filled: Rows whose blanks are filled, [K]; they have a close.
        lost: Rows that are missing bars, [K].
        labels: Assets, [K].

    Returns:
        How many rows they were, and of which assets.
    """
    for name, of in (("open", ("close", "close")), ("high", ("open", "close")), ("low", ("open", "close"))):
        if name in raw:
            better = (np.minimum if name == "low" else np.maximum)(*(raw[field] for field in of))
            raw[name][:] = np.where(filled & np.isnan(raw[name]), better, raw[name])
    notes = []
    for rows, said in (
        (lost, "rows of which some prices are blank are missing bars"),
        (filled, "rows have a blank open, high or low, taken from their close"),
    ):
        if rows.any():
            names, counts = np.unique(labels[rows].astype(str), return_counts=True)
            most = [f"{names[i]} {counts[i]:,}" for i in np.argsort(-counts, kind="stable")]
            notes.append(f"{int(rows.sum()):,} {said}: {named(most)}")
    return tuple(notes)


def _wide_fields(
    opened: OpenTable, names: tuple[str, ...], missing: Missing
) -> tuple[NDArray[np.datetime64], dict[str, Array], tuple[str, ...]]:
    """A date column and a column of closes for each asset -> [T, A] fields; a blank cell is a missing bar."""
    dates, everything = opened.dates, np.arange(len(opened.dates))
    checks = RowChecks(opened.table, dates, None, opened.faults)
    notes = checks.order(np.zeros(len(dates), np.int64), everything, None)
    close = np.empty((len(dates), len(names)))
    for i, name in enumerate(names):
        column = opened.wide[name]
        close[:, i], is_text = checks.numbers(column, everything, asset=name)
        if missing == "zeros":
            close[close[:, i] == 0, i] = np.nan
        checks.prices(close[:, i], is_text, column, everything, asset=name)
    opened.faults.refuse()
    in_time = np.argsort(dates)
    fields = {"close": close[in_time]}
    return dates[in_time], fields, (*notes, *_complete_prices(fields))


def wide_columns(table: PriceTable, date: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Asset -> column of a wide table, and a note where a column is none.

    Raises:
        InputError: where there is no asset, or a column has no name.
    """
    nameless, notes = _nameless(table, date)
    found = {str(name).strip(): name for name in table.frame.columns if name != date and name not in nameless}
    if not found:
        raise InputError(f"{table.path}: there is no column beside {date!r}: add a column of closes for each asset")
    return found, notes


def _nameless(table: PriceTable, date: str) -> tuple[list[Any], tuple[str, ...]]:
    """Columns of a wide table that hold no prices: blank ones without a name, and counts of the rows.

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
    for name in table.frame.columns:
        if folded(name) in _COUNTS and (to_numbers(table.frame[name]).diff().iloc[1:] == 1).all():
            notes.append(f"column not used: {name!r}, which counts the rows")
            found.append(name)
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
