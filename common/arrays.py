"""Numbers that somebody gave, or that a file holds, which may be anything."""

from typing import Any

import numpy as np

from common.errors import shown


def as_numbers(value: Any) -> np.ndarray[Any, Any] | None:
    """An array of numbers or truth values; None of what is neither, or of rows of different length."""
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.dtype.kind in "fiub" else None


def as_count(value: Any, *, most: int = 1 << 62) -> int:
    """A whole number of things, read from a file.

    Raises:
        ValueError: if it is none, or there are more than there can be.
    """
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{shown(value)} counts nothing that there can be")
    return value
