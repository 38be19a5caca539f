"""Tables of prices in text: what stands above the header, the header, and numbers as people write them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import lzma
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pandas as pd

from common.errors import InputError, shown
from envs.price_names import ROLES, folded, level_names, plain_name
from envs.price_numbers import Decimal, need_reading, number_columns, read_numbers

_BLANKS = ["", "nan", "NaN", "NAN", "na", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "<NA>", "null", "NULL", "None"]
_MOST_LINES_ABOVE = 40
_KLINES = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
"""Columns of Binance's files, which have no header."""
_NO_TABLES = {"a web page": r"\s*<(!doctype|html|head|body|\?xml)\b", "JSON": r'\s*(\{|\[\s*([{\["]|$))'}
_BEYOND = "fields beyond the header"
_DAY = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d)|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}(?!\d)"
_CELL = r"[-+]?[\d.,:/ T-]*\d[\d.,:/ TZ-]*"


@dataclass(frozen=True)
class Header:
    """Where a table begins.

    Attributes:
        names: Of its columns, none twice.
        num_lines: Lines of the file up to its first row of data.
        separator: What divides its cells.
        is_there: Whether the file names its columns; otherwise they are counted, from ``"1"``.
        notes: What was passed over or understood.
    """

    names: list[str]
    num_lines: int
    separator: str
    is_there: bool = True
    notes: tuple[str, ...] = ()


def open_packed(file: Path, packing: str) -> IO[bytes]:
    """Open a file that may be compressed; ``packing`` is its last ending (``gz``), or empty."""
    if packing == "zip":
        archive = zipfile.ZipFile(file)
        names = [item.filename for item in archive.infolist() if not item.is_dir()]
        if len(names) != 1:
            raise InputError(f"{file} holds {len(names)} files: unpack it, and name one of them")
        return archive.open(names[0])
    if packing == "zst":
        import pyarrow as pa  # it takes a tenth of a second

        return io.BytesIO(pa.input_stream(str(file), compression="zstd").read())
    opener: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}.get(packing, open)
    return opener(file, "rb")  # type: ignore[no-any-return]


def read_text_table(
    file: Path,
    opened: Callable[[], IO[bytes]],
    decimal: Decimal | None,
    chosen: Mapping[str, str] = MappingProxyType({}),
    *,
    are_dates_text: bool = False,
) -> tuple[pd.DataFrame, Header]:
    """Read a table of text without letting asset names turn into numbers or blanks (a ticker may be NA, or 0700).

    Args:
        file: Where it is, for messages.
        opened: Gives its text from the start.
        decimal: The decimal sign of its numbers; None lets them show it.
        chosen: What the user says that columns are: role -> column, in lower case.
        are_dates_text: Whether dates stay as they are written, zeros in front too.

    Returns:
        The table, whose index counts lines from the first row of data, blank ones included; and its header.

    Raises:
        InputError: where a line has more cells than the header, or numbers could be read in two ways.
    """
    with opened() as stream:
        start = b"".join(itertools.islice(stream, _MOST_LINES_ABOVE))
    header = find_header(re.split("\r\n|\r|\n", start.decode("utf-8-sig")), str(file))
    roles = {name: ROLES.get(folded(name)) for name in header.names}
    has_date = any(role == "date" and folded(name) != "time" for name, role in roles.items())
    assets = [name for name, role in roles.items() if role == "asset" or plain_name(name) == chosen.get("asset")]
    clocks = [name for name, role in roles.items() if has_date and (role == "time" or folded(name) == "time")]
    if are_dates_text and "date" in chosen:
        clocks += [name for name in roles if plain_name(name) == chosen["date"]]
    elif are_dates_text:
        clocks += [name for name, role in roles.items() if role == "date" or name.startswith("Unnamed:")]
    texts = [*assets, *clocks]

    def read(**settings: Any) -> pd.DataFrame:
        with opened() as stream:
            return pd.read_csv(
                stream,
                sep=header.separator,
                header=None,
                names=header.names,
                skiprows=header.num_lines,
                index_col=False,
                keep_default_na=False,
                na_values={name: _BLANKS for name in header.names if name not in assets},
                skip_blank_lines=False,
                encoding="utf-8-sig",
                **settings,
            )

    try:
        frame = read(dtype=dict.fromkeys(texts, "str"))
    except pd.errors.ParserError as error:
        found = re.search(r"Expected \d+ fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise
        num_names = len([name for name in header.names if name != _BEYOND])
        raise InputError(f"{file}: line {found[1]} has {found[2]} fields, the header {num_names}: correct it") from None
    if _BEYOND in frame.columns:
        beyond = frame.pop(_BEYOND).notna()
        if beyond.any():
            line, number = int(beyond.argmax()) + header.num_lines + 1, len(header.names)
            raise InputError(f"{file}: line {line} has {number} fields, the header {number - 1}: correct it")
    if need_reading(frame.drop(columns=texts), decimal):
        text = read(dtype="str")
        numbers, notes = read_numbers(
            text[number_columns([name for name in frame.columns if name not in texts])],
            decimal,
            lambda row, column: f"{file}: line {row + header.num_lines + 1}, column {column!r}",
        )
        frame = frame.assign(**numbers)
        header = replace(header, notes=(*header.notes, *notes))
    no_name = (frame[assets].fillna("") == "").all(axis=1)
    return frame[~(frame.drop(columns=assets).isna().all(axis=1) & no_name)], header


def find_header(lines: Sequence[str], path: str) -> Header:
    """Find the header among the first lines of a file.

    Raises:
        InputError: where it names a column twice, or the line after it has more cells than the header.
    """
    if any("\0" in line for line in lines[:1]):
        raise ValueError("it is no text in UTF-8, save it as such")
    full = [i for i, line in enumerate(lines) if line.strip()]
    if not full:
        raise InputError(f"{path} holds no rows")
    for what, begin in _NO_TABLES.items():
        if re.match(begin, lines[full[0]], re.IGNORECASE):
            raise InputError(f"{path} holds {what}, and no table: line {full[0] + 1} is {shown(lines[full[0]])}")
    rows = [i for i in full if not lines[i].lstrip().startswith("#")] or full
    usual = next((i for i in rows if len(_cells(lines[i], _separator(lines[i]))) > 1), rows[0])
    first = next((i for i in full if _is_header(_cells(lines[i].lstrip("# "), _separator(lines[i])))), usual)
    separator = _separator(lines[first])
    names = _cells(lines[first].lstrip("# ") if first not in rows else lines[first], separator)
    if any(_width(lines[i], separator) >= len(names) for i in rows if i < first):
        first = usual
        separator = _separator(lines[first])
        names = _cells(lines[first], separator)
    above = [i + 1 for i in full if i < first]
    notes = [f"lines not used above the header: {', '.join(map(str, above))}"] if above else []
    after = [_cells(lines[i], separator) for i in rows if i > first][:2]
    levels = _two_levels([names, *after])
    end = first + 1
    if levels is not None:
        notes += [f"line not used below the header: {', '.join(after[0])}"] if levels[0] == names else []
        names, num_more = levels
        end = [i for i in rows if i > first][num_more - 1] + 1
        after = after[num_more:]
    elif _is_data(names):
        cells, end, after = names, first, [names]
        names = [str(i + 1) for i in range(len(cells))]
        if len(cells) == len(_KLINES) and cells[0].isdigit() and cells[6].isdigit() and int(cells[0]) < int(cells[6]):
            names = list(_KLINES)
            notes.append("the file has no header: read as Binance's klines, from open_time to ignore")
    refuse_twice([plain_name(name) for name in names], f"{path}: line {first + 1}")
    names = [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(names)]
    if after and len(after[0]) > len(names):
        if len(after[0]) > len(names) + 1 or after[0][-1].strip():
            line = next(i for i in rows if i >= end) + 1
            raise InputError(
                f"{path}: line {line} has {len(after[0])} fields, the header {len(names)}: give each column a name"
            )
        names.append(_BEYOND)
    return Header(names, end, separator, names[0] != "1" or end > first, tuple(notes))


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _width(line: str, separator: str) -> int:
    """Cells up to the last full one: of a title that a spreadsheet has padded, one."""
    return max((i + 1 for i, cell in enumerate(_cells(line, separator)) if cell.strip()), default=0)


def _separator(line: str) -> str:
    return max(",;\t|", key=line.count)


def _is_header(cells: Sequence[str]) -> bool:
    """Whether cells name dates and more, so that lines above may be a title."""
    roles = [ROLES.get(folded(cell)) for cell in cells]
    return len([cell for cell in cells if cell.strip()]) > 1 and "date" in roles


def _is_data(cells: Sequence[str]) -> bool:
    """Whether cells are dates and prices, and perhaps an asset, and so no header; ``,0700,0005`` may be tickers."""
    found = [cell.strip() for cell in cells if cell.strip()]
    numbers = [cell for cell in found if re.fullmatch(_CELL, cell)]
    if len(cells) > 1 and len(found) - len(numbers) == 1:
        has_date = any(re.match(_DAY, cell) for cell in numbers) and not all(re.match(_DAY, cell) for cell in numbers)
        return has_date or len([cell for cell in numbers if re.fullmatch(r"\d+\.\d+", cell)]) > 1
    are_numbers = len(cells) > 1 and bool(found) and len(numbers) == len(found)
    return are_numbers and (bool(cells[0].strip()) or not all(cell.isdigit() for cell in found))


def _two_levels(rows: Sequence[list[str]]) -> tuple[list[str], int] | None:
    """Names of a header of two levels, fields and assets, or fields and units, and how many more lines it has."""
    if len(rows) < 2 or len(rows[0]) != len(rows[1]) or len(rows[0]) < 2 or not all(rows[0][1:] + rows[1][1:]):
        return None
    if any(re.fullmatch(_CELL, cell.strip()) for cell in rows[1]):
        return None
    names = level_names(list(zip(rows[0][1:], rows[1][1:], strict=True)))
    if names is None:
        return None
    fields, others = ({folded(cell) for cell in row[1:]} for row in rows[:2])
    if len(fields) == len(names) and len(others) > 1 and ROLES.get(folded(rows[0][0])) == "date":  # units: USD, shares
        return rows[0], 1
    is_named = len(rows) > 2 and not any(rows[2][1:]) and bool(rows[2][0])
    return [rows[2][0] if is_named else "date", *names], 1 + is_named


def refuse_twice(names: Sequence[str], place: str) -> None:
    """Refuse a name that stands twice among folded ones; ``place`` begins the message."""
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{place}: column {twice!r} stands twice, but for blanks and case: rename or remove one")
