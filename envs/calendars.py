"""One calendar for several assets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.settings import CalendarPolicy


def align_calendars(
    dates: NDArray[np.datetime64],
    assets: Sequence[str],
    fields: dict[str, NDArray[np.float64]],
    *,
    policy: CalendarPolicy,
    source: str,
) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """Bring assets onto one calendar.

    ``intersect`` keeps the dates that every asset has. ``fill`` begins at the first date that every asset has and then
    keeps every date; a missing bar repeats the last close with volume 0, so nothing can be gained or lost on it.
    ``strict`` refuses any difference.

    Args:
        dates: Every date that some asset has, increasing, [T].
        assets: Names of the columns, A of them.
        fields: Field name to [T, A] float64; a missing bar is NaN in ``close`` (and in every other field).
        policy: What to do with missing bars.
        source: Where the bars come from, for messages.

    Returns:
        Dates, fields without NaN, and notes that count what was dropped or filled.

    Raises:
        InputError: under ``strict``, for the first missing bar; else, if there is no date that all assets have.
    """
    present = np.isfinite(fields["close"])
    if present.all():
        return dates, fields, ()
    lacking = (~present).sum(axis=0)
    worst = f"{assets[int(lacking.argmax())]} lacks most, {int(lacking.max()):,} of {len(dates):,}"
    if policy == "strict":
        row, column = (int(i[0]) for i in np.nonzero(~present))
        raise InputError(
            f"{source}: asset {assets[column]} has no bar at {show_date(dates[row])}, where others have "
            f"({worst}): complete the file, "
            "or set calendar to intersect or fill"
        )
    complete = present.all(axis=1)
    if not complete.any():
        raise InputError(
            f"{source}: no date is common to all {len(assets)} assets ({worst}): choose assets that overlap in time"
        )
    if policy == "intersect":
        dropped = int((~complete).sum())
        note = f"dropped {dropped:,} of {len(dates):,} dates that some assets lack ({worst})"
        return dates[complete], {name: values[complete] for name, values in fields.items()}, (note,)
    start = int(complete.argmax())
    present = present[start:]
    fields = {name: values[start:].copy() for name, values in fields.items()}
    newest = np.maximum.accumulate(np.where(present, np.arange(len(present))[:, None], 0), axis=0)
    last_close = np.take_along_axis(fields["close"], newest, axis=0)
    for name, values in fields.items():
        values[~present] = 0.0 if name == "volume" else last_close[~present]
    filled = f"filled {int((~present).sum()):,} missing bars at the last close with volume 0 ({worst})"
    begun = (
        (f"dropped {start:,} dates before {show_date(dates[start])}, the first that all assets have",) if start else ()
    )
    return dates[start:], fields, (filled, *begun)


def show_date(date: np.datetime64) -> str:
    """Write a date without the midnight: ``2013-02-08`` or ``2013-02-08 15:30``."""
    text = str(date.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00").removesuffix(":00")
