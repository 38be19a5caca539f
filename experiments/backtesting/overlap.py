"""Whether the bars of a backtest are new to a model, judged by their dates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.errors import InputError
from envs.market import build_market
from experiments.runs.models import Model
from experiments.settings.run_config import floor_spec

_SHOWN = 16  # characters of a date: to the minute


def last_date_seen(model: Model) -> np.datetime64 | None:
    """Find the last date that a model was trained or selected on: the end of its own run's validation split.

    Returns:
        datetime64[us]; None where the prices of the run are no longer there, or are no longer the same.
    """
    try:
        market = build_market(floor_spec(model.config))
    except (InputError, OSError):
        return None
    recorded = model.record.provenance.get("data_fingerprint")
    if recorded is not None and recorded != market.bars.fingerprint:
        return None
    last: np.datetime64 = market.bars.dates[market.splits.validation.stop - 1]
    return last


def overlaps(start: np.datetime64, seen: np.datetime64 | None) -> bool | None:
    """Whether a period that begins on ``start`` holds a date that a model has seen; None where that is unknown."""
    return None if seen is None else bool(start <= seen)


def overlap_notes(models: Sequence[Model], start: np.datetime64, seen: Sequence[np.datetime64 | None]) -> list[str]:
    """Say which models have seen dates of the period that begins on ``start``, or may have."""
    notes = []
    for model, date in zip(models, seen, strict=True):
        if date is None:
            notes.append(
                f"the prices that {model.name} was trained on are gone or have changed: unknown whether it has seen "
                "the tested period"
            )
        elif overlaps(start, date):
            notes.append(
                f"NOT OUT OF SAMPLE: {model.name} was trained and selected on dates up to {_in_words(date)}, and the "
                f"tested period begins on {_in_words(start)}"
            )
    return notes


def _in_words(date: np.datetime64) -> str:
    return str(date)[:_SHOWN].replace("T", " ").removesuffix(" 00:00")
