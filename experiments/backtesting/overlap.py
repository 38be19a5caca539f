"""Whether the bars of a backtest are new to a model, judged by their dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.market import build_market
from experiments.runs.models import Model
from experiments.settings.run_config import floor_spec

_SHOWN = 16  # characters of a date: to the minute


class Seen(NamedTuple):
    """What a model was trained or selected on.

    Attributes:
        last: The last date, datetime64[us].
        gaps: First and last date of each period before it that is kept for tests, an embargo away.
    """

    last: np.datetime64
    gaps: tuple[tuple[np.datetime64, np.datetime64], ...] = ()


def dates_seen(model: Model) -> Seen | None:
    """Find what a model was trained or selected on, by the training and validation splits of its own run.

    Returns:
        None where the prices of the run are no longer there, or are no longer the same.
    """
    try:
        market = build_market(floor_spec(model.config))
    except (InputError, OSError):
        return None
    recorded = model.record.provenance.get("data_fingerprint")
    if recorded is not None and recorded != market.bars.fingerprint:
        return None
    dates, splits, embargo = market.bars.dates, market.splits, market.splits.embargo_bars
    blocks = sorted((*splits.train.blocks, splits.validation), key=lambda block: block.start)
    starts = [0, *(block.stop + embargo for block in blocks[:-1])]
    gaps = zip(starts, (block.start - embargo for block in blocks), strict=True)
    return Seen(dates[blocks[-1].stop - 1], tuple((dates[a], dates[b - 1]) for a, b in gaps if a < b))


def overlaps(tested: NDArray[np.datetime64], seen: Seen | None) -> bool | None:
    """Whether a period, by its dates, holds some that a model has seen, or seen beyond; None where that is unknown."""
    if seen is None:
        return None
    return bool(tested[0] <= seen.last) and not any(a <= tested[0] and tested[-1] <= b for a, b in seen.gaps)


def overlap_notes(models: Sequence[Model], tested: NDArray[np.datetime64], seen: Sequence[Seen | None]) -> list[str]:
    """Say which models have seen dates of the period, or may have, or were trained on both sides of it."""
    notes = []
    for model, own in zip(models, seen, strict=True):
        if own is None:
            notes.append(
                f"the prices that {model.name} was trained on are gone or have changed: unknown whether it has seen "
                "the tested period"
            )
        elif overlaps(tested, own):
            notes.append(
                f"NOT OUT OF SAMPLE: {model.name} was trained and selected on dates up to {_in_words(own.last)}, and "
                f"the tested period begins on {_in_words(tested[0])}"
            )
        elif tested[0] <= own.last:
            notes.append(f"cross-validation: {model.name} was trained or selected on later dates, and not on these")
    return notes


def _in_words(date: np.datetime64) -> str:
    return str(date)[:_SHOWN].replace("T", " ").removesuffix(" 00:00")
