"""One calendar for several assets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.settings import BAR_COSTS, FUNDING, CalendarPolicy

_MOST_NAMED = 3
_FEW_BARS, _FEW_DAYS = 5, np.timedelta64(7, "D")  # without trade at either end, that are a hole and no end of a life


def lives(tradable: NDArray[np.bool_], dates: NDArray[np.datetime64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First bar of each asset's life, and the bar after its last, [A] each.

    An asset begins late or ends early where it does not trade for more than five bars and seven days at that end of
    the history; what is shorter, such as a weekend, is a hole.

    Args:
        tradable: Which bars an asset trades in, [T, A]; each trades in one at least, or its life is all of the history.
        dates: Stamps of the bars, [T].
    """
    num_bars = len(dates)
    first, last = tradable.argmax(axis=0), num_bars - 1 - tradable[::-1].argmax(axis=0)
    begins_late = (first > _FEW_BARS) & (dates[first] - dates[0] > _FEW_DAYS)
    ends_early = (num_bars - 1 - last > _FEW_BARS) & (dates[-1] - dates[last] > _FEW_DAYS)
    return np.where(begins_late, first, 0), np.where(ends_early, last + 1, num_bars)


def align_calendars(
    dates: NDArray[np.datetime64],
    assets: Sequence[str],
    fields: dict[str, NDArray[np.float64]],
    *,
    policy: CalendarPolicy | None,
    source: str,
) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]], NDArray[np.bool_], tuple[str, ...]]:
    """Bring assets onto one calendar.

    ``intersect`` keeps the dates that every asset has. ``fill`` begins at the first date that every asset has and then
    keeps every date; ``union`` keeps every date from the first. A missing bar repeats the last close (before the first
    bar of an asset: its first open) with volume 0, and is not tradable. ``strict`` refuses any difference.

    Args:
        dates: Every date that some asset has, increasing, [T].
        assets: Names of the columns, A of them.
        fields: Field name to [T, A] float64; a missing bar is NaN in ``close`` (and in every other field).
        policy: What to do with missing bars; None is ``union`` where ``lives`` of assets differ, else ``intersect``.
        source: Where the bars come from, for messages.

    Returns:
        Dates; fields without NaN; which bars the source has, [T, A]; and notes that count what was dropped or filled.

    Raises:
        InputError: under ``strict``, for the first missing bar; else, if there is no date that all assets have.
    """
    present = np.isfinite(fields["close"])
    if present.all():
        return dates, fields, present, ()
    lacking = (~present).sum(axis=0)
    worst = f"{assets[int(lacking.argmax())]} lacks most, {int(lacking.max()):,} of {len(dates):,}"
    if policy == "strict":
        row, column = (int(i[0]) for i in np.nonzero(~present))
        raise InputError(
            f"{source}: asset {assets[column]} has no bar at {show_date(dates[row])}, where others have "
            f"({worst}): complete the file, or set calendar to union, intersect or fill"
        )
    first, stop = lives(present, dates)
    lives_differ = (first > 0) | (stop < len(dates))
    if policy is None:
        policy = "union" if lives_differ.any() else "intersect"
    if not present.any(axis=0).all():
        raise InputError(
            f"{source}: asset {assets[int(lacking.argmax())]} has no bar at all: leave it out (data.assets)"
        )
    if policy == "union":
        short = ", ".join(assets[a] for a in np.flatnonzero(lives_differ)[:5])
        note = f"{int(lives_differ.sum())} of {len(assets)} assets begin late or end early ({short})" if short else None
        return dates, *_filled(fields, present), (_count(present, worst), *([note] if note else ()))
    complete = present.all(axis=1)
    if not complete.any():
        raise InputError(
            f"{source}: no date is common to all {len(assets)} assets ({worst}): choose assets that overlap in time, "
            "or set --data.calendar union"
        )
    if policy == "intersect":
        note = _because_of(present, assets)
        kept = {name: values[complete] for name, values in fields.items()}
        return dates[complete], kept, present[complete], (note,)
    start = int(complete.argmax())
    present = present[start:]
    fields = {name: values[start:] for name, values in fields.items()}
    notes = [_count(present, worst)]
    if start:
        notes.append(f"dropped {start:,} dates before {show_date(dates[start])}, the first that all assets have")
    return dates[start:], *_filled(fields, present), tuple(notes)


def last_traded(tradable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The newest row up to and including each in which an asset trades, [T, A]; -1 before its first."""
    return np.maximum.accumulate(np.where(tradable, np.arange(len(tradable))[:, None], -1), axis=0)


def _because_of(present: NDArray[np.bool_], assets: Sequence[str]) -> str:
    """How much ``intersect`` drops, because of whom, and how much it would without who lacks most."""
    lacking = (~present).sum(axis=0)
    order = np.argsort(-lacking, kind="stable")
    found = [f"{assets[a]} lacks {lacking[a]:,}" for a in order[:_MOST_NAMED] if lacking[a]]
    num_others = int((lacking > 0).sum()) - len(found)
    others = f" and {num_others} more lack some" if num_others else ""
    dropped, without = (int((~kept.all(axis=1)).sum()) for kept in (present, np.delete(present, order[0], axis=1)))
    return (
        f"dropped {dropped:,} of {len(present):,} bars that some assets lack: {', '.join(found)}{others} (without "
        f"{assets[order[0]]} {without:,} would be dropped; --data.calendar union keeps all)"
    )


def _count(present: NDArray[np.bool_], worst: str) -> str:
    return f"filled {int((~present).sum()):,} missing bars at the last close, as bars without trade ({worst})"


def _filled(
    fields: dict[str, NDArray[np.float64]], present: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """Write the last close, or before there is one the first open, into bars that are missing; costs stay."""
    newest = last_traded(present)
    known = np.where(newest >= 0, newest, present.argmax(axis=0))
    last_close = np.take_along_axis(fields["close"], np.maximum(newest, 0), axis=0)
    first_open = fields["open"][present.argmax(axis=0), np.arange(present.shape[1])]
    price = np.where(newest >= 0, last_close, first_open)

    def of_missing(name: str, values: NDArray[np.float64]) -> NDArray[np.float64] | float:
        if name in BAR_COSTS:
            return np.take_along_axis(values, known, axis=0)
        return 0.0 if name in ("volume", FUNDING) else price

    return {name: np.where(present, values, of_missing(name, values)) for name, values in fields.items()}, present


def show_date(date: np.datetime64) -> str:
    """Write a date without the midnight: ``2013-02-08`` or ``2013-02-08 15:30``."""
    text = str(date.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00").removesuffix(":00")
