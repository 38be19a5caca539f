"""Price files -> Bars: read, recognise, validate, align."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from envs.bar_data import Bars

CalendarPolicy = Literal["intersect", "fill", "strict"]


def load_bars(
    path: str,
    *,
    assets: Sequence[str] | None = None,
    calendar: CalendarPolicy = "intersect",
    periods_per_year: float | None = None,
) -> Bars:
    """Read a price file into bars."""
    raise NotImplementedError
