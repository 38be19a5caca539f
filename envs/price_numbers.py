"""Numbers as people write them: decimal commas, thousands divided by signs, currencies, volumes in K, M and B."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

import pandas as pd

from common.errors import InputError
from envs.price_names import NAMES, ROLES, bare, folded, plain_name

Decimal = Literal[".", ","]
_SHORT = {"k": 1e3, "m": 1e6, "b": 1e9}
_AROUND = r"^[$€£¥\s]+|[$€£¥\s]+$"
_DOTTED_DAY = r"\d{1,2}\.\d{1,2}\.\d{4}|\d{4}\.\d{1,2}\.\d{1,2}"
_BETWEEN = r"(?<=\d)[\s'’](?=\d{3}(?!\d))"


def number_columns(names: Sequence[str]) -> list[str]:
    """Columns that may hold numbers, by their names: all but dates, times, assets and the first without a name."""
    others = names[1:] if names and plain_name(names[0]).startswith("unnamed:") else names
    return [name for name in others if ROLES.get(folded(name)) not in ("date", "time", "asset")]


def need_reading(frame: pd.DataFrame, decimal: Decimal | None) -> bool:
    """Whether some number of a table is, or may be, written in another way than ``1234.5``, or is said to be."""
    if decimal is None and _may_have_dotted_thousands(frame):
        return True
    columns = [
        frame[name] for name in number_columns(list(frame.columns)) if not pd.api.types.is_numeric_dtype(frame[name])
    ]
    return decimal == "," or any(_plain(cells).str.fullmatch(r"[-+]?\d[\d.,]*[KMBkmb%]?").any() for cells in columns)


def _may_have_dotted_thousands(frame: pd.DataFrame) -> bool:
    """Whether volumes of 23106 may stand as 23.106: none has more than three decimals, nor has a price."""
    columns = number_columns(list(frame.columns))
    volumes = [name for name in columns if _is_volume(name)]
    for name in dict.fromkeys((*volumes, *columns)):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            return False
        cells = frame[name].dropna()
        if not pd.api.types.is_float_dtype(cells) and name not in volumes:
            continue
        if not ((cells >= 1) & (cells < 1000) & ((cells * 1000 % 1 - 0.5).abs() > 0.499)).all():
            return False
    return bool(volumes) and any(bool((frame[name] % 1 > 0).any()) for name in volumes)


def _is_volume(name: str) -> bool:
    return folded(name) in NAMES["volume"] or bare(name) in NAMES["volume"]


def read_numbers(
    text: pd.DataFrame, decimal: Decimal | None, at: Callable[[int, str], str]
) -> tuple[dict[str, pd.Series], tuple[str, ...]]:
    """Read numbers as they are written.

    Args:
        text: Columns of ``number_columns``, each cell as it stands in the file; blanks are missing.
        decimal: The decimal sign; None lets the cells of all columns show it.
        at: Row number and column -> words for the place.

    Returns:
        Those columns all of whose cells are numbers, as float64, and notes on how they were read; nothing where some
        cells show a decimal comma and others a point.

    Raises:
        InputError: where no cell shows whether ``1,234`` (or ``1.234``, volumes too) is a thousand or one, and where
            ``1.5`` stands among numbers with a decimal comma.
    """
    plain = {str(name): _plain(text[name]) for name in text.columns}
    decimal = decimal or _decimal(plain, at)
    if decimal is None:
        return {}, ()
    thousands = "." if decimal == "," else ","
    groups = (
        rf"\d{{1,3}}(?:\{thousands}\d{{3}})+|\d{{1,2}}(?:\{thousands}\d{{2}})+\{thousands}\d{{3}}"  # 1,00,000 in India
    )
    whole = rf"[-+]?(?:\d+|{groups})(?:\{decimal}\d*)?(?:[eE][-+]?\d+)?"
    notes = [f"numbers read with a decimal {'comma' if decimal == ',' else 'point'}; data.decimal sets it"]
    read = {}
    for name, cells in plain.items():
        factors = pd.Series(1.0, text.index)
        if _is_volume(name):
            factors = cells.str.extract(r"\d([KMBkmb])$")[0].str.lower().map(_SHORT).fillna(1.0)
            cells = cells.str.replace(r"(?<=\d)[KMBkmb]$", "", regex=True)
            notes += (
                [f"column {name!r}: K, M and B are thousands, millions and billions"] if (factors > 1).any() else []
            )
        is_number = cells.str.fullmatch(whole) | (cells == "")
        wrong = cells.str.fullmatch(r"[-+]?[\d.,]+") & ~is_number
        if wrong.any() and cells[cells != ""].str.fullmatch(_DOTTED_DAY).all():  # dates, under whatever name
            continue
        if decimal == "," and wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(f"{at(row, name)}: {cells.iloc[row]!r} is not a number with a decimal comma: correct it")
        if is_number.all():
            cells = cells.str.replace(thousands, "", regex=False).str.replace(decimal, ".", regex=False)
            read[name] = pd.to_numeric(cells.where(cells != ""), errors="coerce").astype("float64") * factors
    return read, tuple(notes) if read else ()


def _plain(cells: pd.Series) -> pd.Series:
    """Text without currencies and blanks around it, and without what divides thousands but points and commas."""
    text = cells.astype(object).where(cells.notna(), "").astype(str)
    if not text.map(str.isascii).all():
        text = text.map(_western)
    return text.str.replace(_AROUND, "", regex=True).str.replace(_BETWEEN, "", regex=True)


def _western(cell: str) -> str:
    """The same number in the digits 0 to 9 and with the signs beside them, of full-width, Arabic or Indian ones."""
    plain = unicodedata.normalize("NFKC", cell).replace("\u066b", ".").replace("\u066c", ",")
    return "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in plain)


def _decimal(columns: dict[str, pd.Series], at: Callable[[int, str], str]) -> Decimal | None:
    """The decimal sign that the cells of a table show; None where some show one and some the other.

    Raises:
        InputError: where nothing shows whether ``1,234`` is a thousand, or ``1.234`` where volumes are written so too.
    """
    shown: list[Decimal] = []
    doubt = None
    signs: tuple[tuple[Decimal, Decimal], ...] = ((",", "."), (".", ","))
    for name, cells in columns.items():
        text = cells.str.replace(r"[KMBkmb%]$", "", regex=True)
        for sign, other in signs:
            decimals = rf"\d+\{sign}(?:\d{{1,2}}|\d{{4,}})|0\{sign}\d+"
            thousands = rf"\d+(?:\{other}\d{{3}})+\{sign}\d+|\d+(?:\{other}\d{{3}}){{2,}}"
            if text.str.fullmatch(rf"[-+]?(?:{decimals}|{thousands})").any():
                shown.append(sign)
        unsure = text.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}")
        if doubt is None and unsure.any():
            row = int(unsure.to_numpy().argmax())
            doubt = f"{at(row, name)}: {cells.iloc[row]!r}"
    volume = next((name for name in columns if _is_volume(name)), None)  # prices alone have three decimals, as of FX
    is_dotted = all(cells.str.fullmatch(r"[1-9]\d{0,2}\.\d{3}|").all() for cells in columns.values())
    if is_dotted and volume is not None and (columns[volume] != "").any():
        row = int((columns[volume] != "").to_numpy().argmax())
        doubt = f"{at(row, volume)}: {columns[volume].iloc[row]!r}"
    if not shown and doubt is not None:
        raise InputError(f"{doubt} could be a thousand, or have decimals: set --data.decimal . or ,")
    return None if len(set(shown)) > 1 else shown[0] if shown else "."
