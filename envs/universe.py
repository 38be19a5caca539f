"""A universe: which assets are members at each date, as of that date, such as those of an index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError
from envs.bar_data import Bars
from envs.price_dates import parse_dates
from envs.price_faults import Faults, named
from envs.price_names import ROLES, folded
from envs.price_tables import PriceTable, read_table

_NEVER = np.datetime64("NaT", "us")
Spells = dict[str, list[tuple[np.datetime64, np.datetime64]]]
"""Of each asset, from when to when it is a member; the end is NaT where it is one still."""


def keep_members(bars: Bars, path: str, *, told_missing: bool = True) -> Bars:
    """Restrict bars to what a universe says: an asset is alive from the bar of its "in" up to that of its "out".

    The bar of a date is the first at or after it, and nothing is known of it before. Who goes out cannot be traded from
    that bar on, and is paid out at its close, as an asset is that trades no more.

    Args:
        bars: The market.
        path: A table with the columns ``date``, ``tic`` and one of the words in and out.
        told_missing: Whether members without prices are told: not where assets were chosen.

    Raises:
        InputError: with all faults of its rows, or if none of the assets is ever a member.
    """
    spells = read_spells(path)
    members = np.zeros((bars.num_bars, bars.num_assets), dtype=np.bool_)
    for a, asset in enumerate(bars.assets):
        for start, stop in spells.get(asset, ()):
            members[_span(bars, start, stop), a] = True
    is_member = (members & bars.alive).any(axis=0)
    kept = [bars.assets[a] for a in np.flatnonzero(is_member)]
    if not kept:
        raise InputError(f"{path}: no asset of {bars.source} is a member while it has bars: are they named alike?")
    restricted = replace(bars, members=members).select(kept)
    at_once = restricted.alive.sum(axis=1)
    notes = [f"universe: {len(kept)} assets are members at some time, {at_once.min()} to {at_once.max()} at once"]
    if len(kept) < bars.num_assets:
        left = [bars.assets[a] for a in np.flatnonzero(~is_member)]
        notes.append(f"never members of the universe while they have bars, and left out: {named(left)}")
    missing = [asset for asset in spells if asset not in bars.assets and _is_member_within(bars, spells[asset])]
    if missing and told_missing:
        notes.append(
            f"no prices of {len(missing)} of {len(missing) + len(kept)} members of the universe: what became of them "
            f"is missing from every result (survivorship): {named(missing)}"
        )
    return replace(restricted, notes=(*bars.notes, *notes))


def _span(bars: Bars, start: np.datetime64, stop: np.datetime64) -> slice:
    """The bars from the first at or after the start to the last before the stop."""
    first, end = (int(np.searchsorted(bars.dates, date)) for date in (start, stop))  # NaT is after all
    return slice(first, end)


def _is_member_within(bars: Bars, spells: list[tuple[np.datetime64, np.datetime64]]) -> bool:
    return any(start <= bars.dates[-1] and not stop <= bars.dates[0] for start, stop in spells)


def read_spells(path: str) -> Spells:
    """Read when assets come in and go out; rows may stand in any order.

    Raises:
        InputError: with all faults of its rows.
    """
    table = read_table(path, what="universe")
    date, asset, change = _columns(table)
    faults = Faults()
    dates = parse_dates(table, date, faults, has_format=False)
    names, words = (
        table.frame[column].astype(object).fillna("").astype(str).str.strip().to_numpy(dtype=object)
        for column in (asset, change)
    )
    words = np.array([word.lower() for word in words], dtype=object)
    faults.add(
        table,
        np.flatnonzero(names == ""),
        lambda row: f"{table.at(row, asset)}: the asset has no name: fill it in or remove the row",
    )
    is_word = (words == "in") | (words == "out")
    faults.add(
        table,
        np.flatnonzero(~is_word),
        lambda row: f"{table.at(row, change, asset=names[row])}: {str(words[row])[:30]!r} is neither in nor out",
    )
    rows = np.flatnonzero(is_word & (names != "") & ~np.isnat(dates))
    rows = rows[np.argsort(dates[rows], kind="stable")]
    reasons, spells = _follow(table, rows, dates, names, words)
    faults.add(
        table,
        np.array(sorted(reasons), dtype=np.int64),
        lambda row: f"{table.at(row, change, asset=names[row], date=dates[row])}: {reasons[row]}",
    )
    faults.refuse()
    return spells


def _follow(
    table: PriceTable,
    rows: NDArray[np.int64],
    dates: NDArray[np.datetime64],
    names: NDArray[np.object_],
    words: NDArray[np.object_],
) -> tuple[dict[int, str], Spells]:
    """Rows in the order of time -> what is wrong with some of them, and the spells of each asset."""
    reasons: dict[int, str] = {}
    spells: Spells = {}
    for name, own in pd.Series(rows).groupby(names[rows], sort=False):
        known, before = spells.setdefault(str(name), []), None
        for row in own:
            is_in = bool(known) and bool(np.isnat(known[-1][1]))
            earlier = "" if before is None else f" since {table.at(before).rsplit(': ', 1)[1]}"
            if before is not None and dates[row] == dates[before]:
                reasons[row] = f"the same date stands already in {table.at(before).rsplit(': ', 1)[1]}: remove one"
            elif words[row] == "in" and is_in:
                reasons[row] = f"it is in already{earlier}: remove the row, or add when it went out"
            elif words[row] == "out" and not is_in:
                reasons[row] = f"it goes out, but is not in{earlier}: remove the row, or add when it came in"
            elif words[row] == "in":
                known.append((dates[row], _NEVER))
            else:
                known[-1] = (known[-1][0], dates[row])
            before = row
    return reasons, spells


def _columns(table: PriceTable) -> tuple[str, str, str]:
    """The columns of dates, of assets and of the words in and out."""
    names = [str(name) for name in table.frame.columns]
    found = {role: [name for name in names if ROLES.get(folded(name)) == role] for role in ("date", "asset")}
    others = [name for name in names if name not in (*found["date"], *found["asset"])]
    if not len(found["date"]) == len(found["asset"]) == len(others) == 1:
        raise InputError(
            f"{table.path}: a universe has the columns date, tic and one that says in or out, but there are "
            f"{named(names)}: rename or remove some"
        )
    return found["date"][0], found["asset"][0], others[0]
