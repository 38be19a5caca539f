"""Tables of prices as they stand in files, read so that a message can point at any cell."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.errors import InputError, nearest, shown, told
from common.memory import check_memory
from envs.calendars import show_date
from envs.price_excel import workbook_text
from envs.price_names import level_names, plain_name
from envs.price_numbers import Decimal
from envs.price_relatives import read_relatives
from envs.price_text import open_packed, read_text_table, refuse_twice

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {
    "csv": "csv", "txt": "csv", "tsv": "csv", "parquet": "parquet", "pq": "parquet", "feather": "feather",
    "xlsx": "Excel", "npz": "npz",
}  # fmt: skip
_PACKINGS = ("gz", "bz2", "xz", "zip", "zst")


@dataclass(frozen=True)
class PriceTable:
    """A file as read, with what is needed to point at its cells.

    Attributes:
        path: As the user gave it.
        frame: Its columns, and an index that counts data rows from 0.
        first_row: Number, in the file, of data row 0: 2 in most CSVs (line 1 is the header), 1 elsewhere.
        is_text: Whether rows are lines of text.
        has_header: Whether the columns have names.
        notes: What was passed over or understood on the way.
    """

    path: str
    frame: pd.DataFrame
    first_row: int
    is_text: bool
    has_header: bool = True
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without the endings of its format: ``BRK.B`` of ``BRK.B.csv.gz``."""
        return split_endings(self.path)[0]

    def at(
        self, row: int, column: str | None = None, *, asset: object = None, date: np.datetime64 | None = None
    ) -> str:
        """Words for a place: ``prices.csv: line 7, column 'close', asset AAPL, 2013-02-08``."""
        parts = [f"{'line' if self.is_text else 'row'} {int(self.frame.index[row]) + self.first_row}"]
        parts += [f"column {column!r}"] if column is not None else []
        parts += [f"asset {asset}"] if asset is not None else []
        parts += [show_date(date)] if date is not None else []
        return f"{self.path}: {', '.join(parts)}"

    def rows(self, kept: NDArray[np.bool_]) -> PriceTable:
        """Some of its rows, [T] bool, which keep their numbers."""
        return self if kept.all() else replace(self, frame=self.frame[kept])


def split_endings(path: str) -> tuple[str, str | None, str]:
    """Divide a file's name into ``BRK.B``, ``csv`` and ``gz``; None for a format, and "" for a packing, not known."""
    name, packing = Path(path).name, ""
    stem, _, ending = name.rpartition(".")
    if stem and ending.lower() in _PACKINGS:
        name, packing = stem, ending.lower()
        stem, _, ending = name.rpartition(".")
    kind = _KINDS.get(ending.lower()) if stem else None
    return (stem, kind, packing) if kind else (name, "csv" if packing else None, packing)


def read_table(
    path: str,
    decimal: Decimal | None = None,
    chosen: Mapping[str, str] = MappingProxyType({}),
    *,
    are_dates_text: bool = False,
    what: str = "price file",
) -> PriceTable:
    """Read any of the formats; the index of the frame counts the rows of the file, blank ones included.

    Args:
        path: As the user gave it.
        decimal: The decimal sign of numbers in text; None lets them show it.
        chosen: What the user says that columns are: role -> column, in lower case.
        are_dates_text: Whether dates of text files stay as they are written, zeros in front too.
        what: What the user gave it as, for messages.

    Raises:
        InputError: if the file does not exist or is no table of a known format.
    """
    file = Path(path)
    try:
        is_there = file.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{what} {shown(path)} cannot be opened: {getattr(error, 'strerror', error)}") from None
    if not is_there:
        folder = file.parent
        others = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        raise InputError(f"{what} {path} does not exist{nearest(file.name, others)}")
    _, kind, packing = split_endings(path)
    if file.is_dir():
        raise InputError(f"{path} is a folder: name a {what} in it")
    if file.stat().st_size == 0:
        raise InputError(f"{what} {path} is empty: it needs a row of names of columns, and rows below it")
    if kind is None:
        raise InputError(
            f"{path} is not a {what}: give a .csv, .parquet, .feather or .xlsx table, or an .npz of price relatives"
        )
    if kind != "csv" and packing:
        raise InputError(f"{path} is packed twice, as {kind} tables are packed within: unpack it first")
    header, notes = None, tuple[str, ...]()
    read_text = partial(read_text_table, decimal=decimal, chosen=chosen, are_dates_text=are_dates_text)
    what = f"{'an' if kind in ('Excel', 'npz') else 'a'} {kind} table"
    try:
        if kind == "csv":
            frame, header = read_text(file, partial(open_packed, file, packing))
        elif kind == "Excel":
            text, notes = workbook_text(file)
            frame, header = read_text(file, partial(io.BytesIO, text))
        elif kind == "npz":
            frame, notes = read_relatives(file)
        else:
            frame = _READERS[kind](file)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory, or is damaged: {told(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} cannot be read as {what}: it is no text in UTF-8, save it as such") from None
    except Exception as error:  # of damaged bytes gzip, pandas and pyarrow raise errors of any kind
        raise InputError(f"{path} cannot be read as {what}: {told(error)}") from None
    if frame.index.name is not None or isinstance(frame.index, (pd.DatetimeIndex, pd.MultiIndex)):
        frame = frame.reset_index()
        frame = frame.rename(columns={"index": "date"})
    elif header is None:
        frame = frame.reset_index(drop=True)
    frame.columns = pd.Index(_flat_names(list(frame.columns)))
    refuse_twice([plain_name(name) for name in frame.columns], path)
    if frame.empty:
        names = shown(", ".join(map(str, frame.columns)))
        raise InputError(f"{path} holds no rows below the names {names}: it is no table of prices, or an empty one")
    if header is None:
        return PriceTable(path, frame, 1, is_text=False, notes=notes)
    return PriceTable(path, frame, header.num_lines + 1, kind == "csv", header.is_there, (*notes, *header.notes))


def _flat_names(columns: list[Any]) -> list[str]:
    """Names of columns as text; of two levels (``('Close', 'AAPL')``) as ``level_names`` writes them."""
    two = [name for name in columns if isinstance(name, tuple) and len(name) == 2 and all(map(str, name))]
    flat = level_names([(str(first), str(second)) for first, second in two])
    by_level = dict(zip(two, flat, strict=True)) if flat else {}
    return [
        by_level.get(name) or " ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name)
        for name in columns
    ]


def is_nameless(name: object) -> bool:
    """Whether a column has no name, or the one that pandas gives to such a column of a CSV."""
    return not plain_name(name) or plain_name(name).startswith("unnamed:")


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
    "parquet": _read_parquet,
    "feather": _read_feather,
}
