"""Costs of single assets: what a table says instead of the settings, and what holds for each asset in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from common.errors import InputError, nearest
from envs.bar_data import Bars
from envs.price_checks import to_numbers
from envs.price_names import NAMES, folded
from envs.price_tables import PriceTable, read_table
from envs.settings import CostConfig

Array = NDArray[np.float64]

ASSET_COSTS = (
    "commission_bps", "commission_min_usd", "commission_fixed_usd", "half_spread_bps", "temporary_impact",
    "permanent_impact", "max_participation", "borrow_rate_annual", "delisting_haircut", "lot_size",
)  # fmt: skip
"""Settings of costs that an asset may have of its own; the others are an account's, or the market's."""
_ONE = TypeAdapter(CostConfig)


def asset_costs(name: str, costs: CostConfig, bars: Bars, columns: Sequence[int] | None = None) -> Array:
    """One of ``ASSET_COSTS``, of each asset: float64, [1, K], or [T, K] where it differs from bar to bar.

    Where ``max_participation`` is None it is infinite.

    Args:
        name: Of the setting.
        costs: What holds where the bars say nothing, settled.
        bars: What assets have of their own.
        columns: The K assets; None is all of them.

    Raises:
        ValueError: where impact is still left to the prices; ``build_market`` settles it.
    """
    own = bars.costs.get(name)
    value = getattr(costs, name)
    if value is None and name != "max_participation":
        raise ValueError("impact is left to the prices: build_market settles it, or set it")
    setting = np.inf if value is None else value
    found = np.full((1, bars.num_assets), setting) if own is None else np.where(np.isnan(own), setting, own)
    return found if columns is None else found[:, list(columns)]


def with_cost_table(bars: Bars, costs: CostConfig) -> Bars:
    """The bars, with what a table says that their assets cost; and a note that says so.

    Args:
        bars: The market.
        costs: Settings, settled; ``costs.table`` is the file, None leaves the bars as they are.

    Raises:
        InputError: if the file is no such table, names an asset or a cost that is not there, an asset twice, or has a
            number that the setting could not have.
    """
    if costs.table is None:
        return bars
    table = read_table(costs.table, what="cost table")
    asset, columns = _columns(table)
    for name in columns:
        if len(bars.costs.get(name, ())) > 1:
            raise InputError(f"{name} is a column of both {bars.source} and {costs.table}: leave it out of one of them")
    rows = _rows(table, asset, bars)
    found = {name: np.full((1, bars.num_assets), np.nan) for name in columns}  # NaN: what the setting says
    for name, column in columns.items():
        cells = table.frame[column]
        values = to_numbers(cells).to_numpy(dtype=np.float64, na_value=np.nan)
        for row in np.flatnonzero(cells.notna().to_numpy()):
            found[name][0, rows[row]] = _checked(table, int(row), column, name, float(values[row]), asset)
    flags = ", ".join(f"--floor.costs.{name.replace('_', '-')}" for name in columns)
    note = f"{costs.table} counts before {flags}, for {len(rows)} of {bars.num_assets} assets"
    return replace(bars, costs={**bars.costs, **found}, notes=tuple(dict.fromkeys((*bars.notes, note))))


def _columns(table: PriceTable) -> tuple[str, dict[str, str]]:
    """The column of assets, and cost -> its column."""
    by_name = {folded(name).replace(" ", "_"): str(name) for name in table.frame.columns}
    asset = next((by_name.pop(word) for word in map(_underscored, NAMES["asset"]) if word in by_name), None)
    if asset is None:
        raise InputError(f"{table.path}: there is no column tic: it names the asset that a row is of")
    for word, column in by_name.items():
        if word not in ASSET_COSTS:
            raise InputError(
                f"{table.path}: column {column!r} is no cost of single assets{nearest(word, ASSET_COSTS)}: use "
                f"{', '.join(ASSET_COSTS)}"
            )
    if not by_name:
        raise InputError(f"{table.path}: there is no column beside {asset!r}: use {', '.join(ASSET_COSTS)}")
    return asset, by_name


def _underscored(name: str) -> str:
    return name.replace(" ", "_")


def _rows(table: PriceTable, column: str, bars: Bars) -> list[int]:
    """The place among the bars' assets of each row's asset."""
    places: list[int] = []
    for row, cell in enumerate(table.frame[column].fillna("").astype(str).str.strip()):
        if cell not in bars.assets:
            near = nearest(cell, bars.assets)
            raise InputError(
                f"{table.at(row, column)}: asset {cell!r} is not one of those of {bars.source}{near}: remove the row"
            )
        place = bars.assets.index(cell)
        if place in places:
            first = table.at(places.index(place)).rsplit(": ", 1)[1]
            raise InputError(f"{table.at(row, column)}: asset {cell} stands already in {first}: remove one of them")
        places.append(place)
    return places


def _checked(table: PriceTable, row: int, column: str, name: str, value: float, asset: str) -> float:
    """A number of the table that its setting may have."""
    cell, owner = table.frame[column].iloc[row], table.frame[asset].iloc[row]
    place = table.at(row, column, asset=owner)
    if np.isnan(value):
        raise InputError(
            f"{place}: {str(cell)[:30]!r} is not a number: correct it, or leave it blank for the setting's"
        )
    try:
        _ONE.validate_python({name: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise InputError(f"{place}: {name} is {value:g}: {reason}: correct it") from None
    return value
