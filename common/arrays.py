"""Arrays of what somebody gave, which may be anything."""

from typing import Any

import numpy as np


def as_numbers(value: Any) -> np.ndarray[Any, Any] | None:
    """An array of numbers or truth values; None of what is neither, or of rows of different length."""
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.dtype.kind in "fiub" else None
