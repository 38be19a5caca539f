"""Tables of prices as they stand in files, read so that a message can point at any cell."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from common.errors import InputError, nearest, shown, told
from common.memory import check_memory
from envs.calendars import show_date
from envs.price_names import NAMES, folded, plain_name

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {
    "csv": "csv",
    "txt": "csv",
    "tsv": "csv",
    "gz": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "feather": "feather",
}
_BLANKS = ["", "nan", "NaN", "NAN", "na", "NA", "N/A", "null", "NULL", "None"]


@dataclass(frozen=True)
class PriceTable:
    """A file as read, with what is needed to point at its cells.

    Attributes:
        path: As the user gave it.
        frame: Its columns, and an index that counts data rows from 0.
        first_row: Number, in the file, of data row 0: 2 in a CSV (line 1 is the header), 1 elsewhere.
    """

    path: str
    frame: pd.DataFrame
    first_row: int

    def at(
        self, row: int, column: str | None = None, *, asset: object = None, date: np.datetime64 | None = None
    ) -> str:
        """Words for a place: ``prices.csv: line 7, column 'close', asset AAPL, 2013-02-08``."""
        parts = [f"{'line' if self.first_row == 2 else 'row'} {int(self.frame.index[row]) + self.first_row}"]
        parts += [f"column {column!r}"] if column is not None else []
        parts += [f"asset {asset}"] if asset is not None else []
        parts += [show_date(date)] if date is not None else []
        return f"{self.path}: {', '.join(parts)}"


def read_table(path: str) -> PriceTable:
    """Read any of the formats; the index of the frame counts the rows of the file, blank ones included.

    Raises:
        InputError: if the file does not exist or is no table of a known format.
    """
    file = Path(path)
    try:
        is_there = file.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"price file {shown(path)} cannot be opened: {getattr(error, 'strerror', error)}") from None
    if not is_there:
        folder = file.parent
        others = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        raise InputError(f"price file {path} does not exist{nearest(file.name, others)}")
    kind = _KINDS.get(file.suffix.lower().lstrip("."))
    if file.is_dir():
        raise InputError(f"{path} is a folder: name a price file in it")
    if file.stat().st_size == 0:
        raise InputError(f"{path} is empty: it needs columns of dates and prices, and a row for each bar")
    if kind is None:
        raise InputError(f"{path} is not a price file: give a .csv, .parquet or .feather table")
    try:
        frame = _READERS[kind](file)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory, or is damaged: {told(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} cannot be read as a {kind} table: it is no text in UTF-8, save it as such") from None
    except Exception as error:  # of damaged bytes gzip, pandas and pyarrow raise errors of any kind
        raise InputError(f"{path} cannot be read as a {kind} table: {told(error)}") from None
    if frame.index.name is not None or isinstance(frame.index, (pd.DatetimeIndex, pd.MultiIndex)):
        frame = frame.reset_index()
        frame = frame.rename(columns={"index": "date"})
    elif kind != "csv":
        frame = frame.reset_index(drop=True)
    _refuse_twice([plain_name(name) for name in frame.columns], path)
    if frame.empty:
        raise InputError(f"{path} holds no rows")
    return PriceTable(path, frame, 2 if kind == "csv" else 1)


def _read_csv(file: Path) -> pd.DataFrame:
    """Read a CSV without letting asset names turn into numbers or blanks (a ticker may be NA, or 0700)."""
    is_packed = file.suffix.lower() == ".gz"
    with (gzip.open if is_packed else open)(file, "rt", encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
    if "\0" in header:
        raise ValueError("it is no text in UTF-8, save it as such")
    separator = max(",;\t", key=header.count)
    _refuse_twice([plain_name(name) for name in next(csv.reader([header], delimiter=separator), [])], f"{file}: line 1")
    packed: Literal["gzip"] | None = "gzip" if is_packed else None
    first = pd.read_csv(file, sep=separator, nrows=0, compression=packed)
    names = [name for name in first.columns if folded(name) in NAMES["asset"]]
    blanks = {name: _BLANKS for name in first.columns if name not in names}
    frame = pd.read_csv(
        file,
        sep=separator,
        compression=packed,
        dtype=dict.fromkeys(names, "str"),
        keep_default_na=False,
        na_values=blanks,
        skip_blank_lines=False,
    )
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first column for one
        raise ValueError("line 2 has more cells than line 1 has names of columns")
    no_name = (frame[names].fillna("") == "").all(axis=1)
    return frame[~(frame.drop(columns=names).isna().all(axis=1) & no_name)]


def is_nameless(name: object) -> bool:
    """Whether a column has no name, or the one that pandas gives to such a column of a CSV."""
    return not plain_name(name) or plain_name(name).startswith("unnamed:")


def _refuse_twice(names: Sequence[str], place: str) -> None:
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{place}: column {twice!r} stands twice, but for blanks and case: rename or remove one")


def _read_parquet(file: Path) -> pd.DataFrame:
    from pyarrow import parquet  # it takes a tenth of a second, which no other table needs

    about = parquet.read_metadata(file)
    rows = [about.num_rows, *(about.row_group(i).num_rows for i in range(about.num_row_groups))]
    check_memory(16.0 * max(rows) * about.num_columns, f"a table of {max(rows)} rows")
    return _of_arrow(parquet.read_table(file))


def _read_feather(file: Path) -> pd.DataFrame:
    from pyarrow import feather

    return _of_arrow(feather.read_table(file, memory_map=False))


def _of_arrow(table: pa.Table) -> pd.DataFrame:
    """What Arrow has read, once every value of it is looked at: it takes a place in memory from a file as it stands."""
    table.validate(full=True)
    frame: pd.DataFrame = table.to_pandas()
    return frame


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "feather": _read_feather,
}
