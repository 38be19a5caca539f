"""Which files a path stands for, and how what is in several files becomes one market."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.calendars import show_date
from envs.price_faults import named
from envs.price_fields import Array, PriceFields
from envs.price_tables import split_endings

Paths = str | Path | Sequence[str | Path]
_NO_PRICES = "readme"


def files_of(paths: Paths) -> tuple[list[str], tuple[str, ...]]:
    """The files that paths stand for: a folder stands for the price files that lie in it, by name.

    Returns:
        Files, and a note on what was passed over.

    Raises:
        InputError: for a folder without a price file, a file that is named twice, and where nothing is named.
    """
    files: list[str] = []
    notes = []
    for path in _each(paths):
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            entries = sorted(item for item in Path(path).iterdir() if not item.name.startswith((".", "~$")))
        except OSError as error:
            raise InputError(f"{path} cannot be opened: {error.strerror}") from None
        found = [str(item) for item in entries if item.is_file() and _may_hold_prices(item.name)]
        if not found:
            raise InputError(f"{path} is a folder without a price file: name one that holds .csv, .parquet or the like")
        others = [item.name for item in entries if str(item) not in found]
        files += found
        notes += [f"not read in {path}: {named(others)}"] if others else []
    if not files:
        raise InputError("data.path is empty: name a price file, several, or a folder of them")
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise InputError(f"data.path names {twice} twice: name it once")
    return files, tuple(notes)


def changes_of(paths: Paths) -> tuple[tuple[str, float], ...]:
    """Each file and when it was last changed, in seconds since 1970; 0 where it is not there."""
    files, _ = files_of(paths)
    return tuple((file, os.path.getmtime(file) if os.path.exists(file) else 0.0) for file in files)


def source_of(paths: Paths) -> str:
    """What to call them in messages."""
    first, *others = _each(paths)
    return f"{first} and {len(others)} more" if others else first


def _each(paths: Paths) -> list[str]:
    return [str(paths)] if isinstance(paths, (str, Path)) else [str(path) for path in paths]


def _may_hold_prices(name: str) -> bool:
    stem, kind, _ = split_endings(name)
    return kind not in (None, "npz") and stem.lower() != _NO_PRICES  # relatives seldom have dates to join by


def notes_of_files(parts: Sequence[PriceFields]) -> tuple[str, ...]:
    """The notes on several files, each once, with the names of those that it is on where it is not on all."""
    of: dict[str, list[str]] = {}
    for part in parts:
        for note in part.notes:
            of.setdefault(note, []).append(Path(part.path).name)
    return tuple(note if len(files) == len(parts) else f"{named(files)}: {note}" for note, files in of.items())


def join_fields(
    parts: Sequence[PriceFields], names: tuple[str, ...]
) -> tuple[NDArray[np.datetime64], tuple[str, ...], dict[str, Array]]:
    """Put what is in several files onto all dates of them.

    Args:
        parts: At least one.
        names: All their assets, in the order wanted.

    Returns:
        Dates, rising, [T]; the names; and fields, [T, A] each, NaN where an asset has no bar.

    Raises:
        InputError: where two files have a bar of one asset and date, some have volumes and others none, files that
            are named after one asset each have no date in common, or one holds dividends of what others have bars of.
    """
    if len(parts) == 1:
        return parts[0].days, names, parts[0].fields
    for one in parts[1:]:
        for name in sorted(set(one.fields) ^ set(parts[0].fields)):
            with_it, without = (parts[0], one) if name in parts[0].fields else (one, parts[0])
            what = "volumes" if name == "volume" else f"a column {name}"
            raise InputError(
                f"{with_it.path} has {what} and {without.path} has none: give all files a {name} column, or none"
            )
    _refuse_pieces(parts)
    _refuse_adjusted_pieces(parts)
    days = np.unique(np.concatenate([part.days for part in parts]))
    fields = {field: np.full((len(days), len(names)), np.nan) for field in parts[0].fields}
    place = {name: i for i, name in enumerate(names)}
    for k, part in enumerate(parts):
        rows, columns = np.searchsorted(days, part.days), np.array([place[name] for name in part.names])
        at = np.ix_(rows, columns)
        is_there = ~np.isnan(part.fields["close"])
        again = is_there & ~np.isnan(fields["close"][at])
        if again.any():
            t, a = divmod(int(np.argmax(again)), len(part.names))
            name, date = part.names[a], part.days[t]
            other = next(one for one in parts[:k] if _has_bar(one, name, date))
            count = f" (and {int(again.sum()) - 1:,} more bars)" if again.sum() > 1 else ""
            raise InputError(
                f"{part.path} and {other.path} both have a bar of {name} at {show_date(date)}{count}: leave one out"
            )
        for field, values in part.fields.items():
            fields[field][at] = np.where(is_there, values, fields[field][at])
    return days, names, fields


def _has_bar(part: PriceFields, name: str, date: np.datetime64) -> bool:
    return name in part.names and bool(
        np.isfinite(part.fields["close"][part.days == date, part.names.index(name)]).any()
    )


def _refuse_adjusted_pieces(parts: Sequence[PriceFields]) -> None:
    """Refuse pieces of one asset's history that were adjusted each by itself, and do not meet where they join."""
    for part in parts:
        for name in sorted(part.adjusted):
            other = next((one for one in parts if one is not part and name in one.names), None)
            if other is not None:
                raise InputError(
                    f"{part.path} has dividends or splits of {name}, of which {other.path} has other bars: what was "
                    "before them cannot be adjusted: join the files into one, or set --data.adjust none"
                )


def _refuse_pieces(parts: Sequence[PriceFields]) -> None:
    """Refuse the months of one asset in a file each, which would be taken for as many assets."""
    if not all(part.is_named_after_file for part in parts) or len({part.names for part in parts}) < len(parts):
        return
    in_time = sorted(parts, key=lambda part: part.days[0])
    if all(before.days[-1] < after.days[0] for before, after in pairwise(in_time)):
        raise InputError(
            f"{in_time[0].path} and {in_time[1].path} have no date in common: assets are named after their files, so "
            "name all files of one asset alike (in folders), or give them a column tic"
        )
