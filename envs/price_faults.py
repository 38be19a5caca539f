"""What is wrong with a price file: noted check by check, and told all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import FaultsError, InputError
from envs.price_tables import PriceTable

MOST_TOLD = 10
_MOST_NAMED = 3


class Faults:
    """Faults of the rows of a table, each a line that says where, what and what to do."""

    def __init__(self) -> None:
        self._count = 0
        self._found: list[tuple[int, str]] = []

    def add(self, table: PriceTable, rows: NDArray[np.int64], say: Callable[[int], str]) -> None:
        """Note one kind of fault.

        Args:
            table: Where it was found.
            rows: Positions of its rows in that table, rising, [K].
            say: Position -> the line; called for as many as may be told.
        """
        self._count += len(rows)
        self._found += [(int(table.frame.index[row]), say(int(row))) for row in rows[:MOST_TOLD]]

    def refuse(self) -> None:
        """Tell the first ten in the order of the file, and how many more there are.

        Raises:
            InputError: if there is one fault.
            FaultsError: if there are several.
        """
        refuse_lines([line for _, line in sorted(self._found, key=lambda fault: fault[0])], self._count)


def refuse_lines(lines: Sequence[str], count: int) -> None:
    """Raise ``InputError`` for one fault and ``FaultsError`` for more: the first ten lines, and how many there are."""
    if count == 1:
        raise InputError(lines[0])
    if count:
        more = [f"and {count - MOST_TOLD:,} more faults"] if count > MOST_TOLD else []
        raise FaultsError("\n".join([*lines[:MOST_TOLD], *more]))


def named(names: Sequence[str]) -> str:
    """The first three of them, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
