"""Price relatives in a NumPy file, as online portfolio selection publishes them -> a wide table of closes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, shown
from envs.price_names import ROLES, folded

_FIRST_DATE = "1900-01-01"  # of made dates: with it, 126 years of them lie before next year
_MOST_USUAL = 2.0
"""Half of an asset's relatives lie closer to 1 than by this factor, or they are none."""


def read_relatives(file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read relatives [T, A], each a close over the close before it, and build closes from them that begin at 1.

    The file has one array of two dimensions, under any name; ``assets`` [A] and ``dates`` [T] or [T + 1] may stand
    beside it, dates as datetime64 or as text such as 2020-01-31. Where there are none, business days are made; where
    there are T, the first relative is what led to the close of the first. Arrays of Python objects are refused: reading
    them would run code.

    Returns:
        ``date`` and a column of closes for each asset, and notes that say what was made.

    Raises:
        InputError: if the file holds no relatives.
    """
    try:
        archive = np.load(file, allow_pickle=False)
    except ValueError:  # numpy takes other bytes for a pickle, and says how to load it
        archive = None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{file} is no archive of arrays: write it by numpy.savez(file, x=relatives)")
    with archive:
        try:
            arrays = {name: archive[name] for name in archive.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise InputError(f"{file} holds Python objects, which are not read: write numbers and texts") from None
    tables = [name for name, array in arrays.items() if array.ndim == 2]
    if len(tables) != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise InputError(f"{file} needs one array [bars, assets] of price relatives, but there is {found}")
    at = f"{file}: array {tables[0]!r}"
    relatives = _checked(arrays[tables[0]], at)
    num_bars, num_assets = relatives.shape
    roles: dict[str, str] = {}
    for name in sorted(set(arrays) - {tables[0]}):
        roles.setdefault(ROLES.get(folded(name).removesuffix("s"), ""), name)
    notes = [f"closes are the products of the relatives of {tables[0]!r}, from 1"]
    names = [f"asset_{a + 1}" for a in range(num_assets)]
    if "asset" in roles:
        names = [str(name) for name in _beside(arrays, roles["asset"], (num_assets,), at)]
    else:
        notes.append(f"assets have no names (array 'assets'): called {names[0]} to {names[-1]}")
    if "date" in roles:
        dates = pd.Series(_rising(_beside(arrays, roles["date"], (num_bars, num_bars + 1), at), file))
    else:
        dates = pd.Series(pd.bdate_range(_FIRST_DATE, periods=num_bars + 1))
        notes.append("bars have no dates (array 'dates'): business days are made, and mean nothing")
    if len(dates) > num_bars:
        relatives = np.vstack([np.ones(num_assets), relatives])
    frame = pd.DataFrame(np.cumprod(relatives, axis=0), columns=pd.Index(names, dtype=object))
    frame.insert(0, "date", dates, allow_duplicates=True)
    unused = sorted(set(arrays) - {tables[0], roles.get("asset"), roles.get("date")})
    return frame, (*notes, *((f"arrays not used: {', '.join(unused)}",) if unused else ()))


def _checked(relatives: NDArray[np.generic], at: str) -> NDArray[np.float64]:
    """Refuse what cannot be relatives, or is something else."""
    if not np.issubdtype(relatives.dtype, np.floating) or not relatives.size:
        raise InputError(f"{at} has {relatives.size} values of type {relatives.dtype}: relatives are float64, near 1")
    values = relatives.astype(np.float64)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        t, a = (int(i[0]) for i in np.nonzero(bad))
        raise InputError(
            f"{at}, bar {t}, asset {a} (counted from 0) is {values[t, a]:g}: relatives are closes over the closes "
            "before, above 0; of returns, give 1 + the return"
        )
    usual = np.median(values, axis=0)
    far = np.abs(np.log(usual)) > np.log(_MOST_USUAL)
    if far.any():
        a = int(far.argmax())
        raise InputError(
            f"{at}, asset {a} (counted from 0) has a median of {usual[a]:g}: relatives are closes over the closes "
            "before, near 1; write prices into a .csv, .parquet or .feather table"
        )
    return values


def _rising(dates: NDArray[np.generic], file: Path) -> NDArray[np.datetime64]:
    """Dates that rise; in any other order the products of the relatives would be of another one than the dates."""
    days = np.full(len(dates), "NaT", dtype="datetime64[us]")
    if dates.dtype.kind in "MU":
        with contextlib.suppress(ValueError):
            days = dates.astype("datetime64[us]")
    if np.isnat(days).any():
        raise InputError(f"{file} has dates such as {shown(dates[0])}: write datetime64, or text such as 2020-01-31")
    if not (np.diff(days) > np.timedelta64(0)).all():
        raise InputError(f"{file} has dates that go back in time or stand twice: sort them and the relatives")
    return days


def _beside(
    arrays: dict[str, NDArray[np.generic]], name: str, lengths: tuple[int, ...], at: str
) -> NDArray[np.generic]:
    """Names or dates, of which there must be so many."""
    array = arrays[name]
    if array.ndim != 1 or len(array) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise InputError(f"{at} needs {wanted} {name}, but there are {shown(array.shape)}")
    return array
