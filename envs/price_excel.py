"""Excel workbooks as text, so that they are read as any table of text is."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

from common.errors import InputError


def workbook_text(file: Path) -> tuple[bytes, tuple[str, ...]]:
    """The first sheet of a workbook as CSV, a line for each of its rows, and a note where there are others.

    Formulas are what Excel has last found for them.

    Raises:
        InputError: where openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise InputError(
            f"{file} is an Excel workbook, which takes openpyxl: pip install 'trading-floor[excel]', or save it as CSV"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles, which hold no prices
        book = load_workbook(file, read_only=True, data_only=True)
        try:
            sheet, *others = book.worksheets
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows(_cells(row) for row in sheet.iter_rows(values_only=True))
        finally:
            book.close()
    names = ", ".join(other.title for other in others)
    notes = (f"sheet {sheet.title!r} read; sheets not used: {names}",) if others else ()
    return out.getvalue().encode(), notes


def _cells(row: tuple[object, ...]) -> list[str]:
    """A row as text, up to its last full cell: a title is one cell, however wide the sheet is."""
    cells = ["" if cell is None else str(cell) for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells
