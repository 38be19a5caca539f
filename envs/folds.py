"""Walk-forward folds: training on all that lies before, tests that follow one another and never overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.errors import InputError
from envs.bar_data import Bars


@dataclass(frozen=True)
class Fold:
    """One step of a walk-forward.

    Attributes:
        number: From 1.
        validation_start: Date of the first validation bar; training ends an embargo before it.
        test_start: Date of the first test bar; validation ends an embargo before it.
        end: Date from which on bars are left out; None where the test goes to the last bar.
    """

    number: int
    validation_start: str
    test_start: str
    end: str | None


def walk_forward(
    bars: Bars, *, num_folds: int, first_test: float, validation: float, lookback_bars: int, embargo_bars: int
) -> list[Fold]:
    """Divide history into expanding windows (Lopez de Prado 2018, section 12.2: walk-forward).

    The tests divide the last part of history evenly. Before each lie an embargo, a validation split that is a fixed
    share of what comes before, another embargo, and training on everything earlier.

    Args:
        bars: The whole history.
        num_folds: Tests, at least 1.
        first_test: Share of history before the first test, between 0 and 1.
        validation: Share of the usable bars before a test that selects the checkpoint, between 0 and 1.
        lookback_bars: Bars before the first decision.
        embargo_bars: Bars left out between splits.

    Raises:
        InputError: if history is too short for so many folds.
    """
    T = bars.num_bars
    edges = np.linspace(round(first_test * T), T, num_folds + 1).round().astype(int)
    folds = []
    for k in range(num_folds):
        start, stop = int(edges[k]), int(edges[k + 1])
        usable = start - lookback_bars - 2 * embargo_bars
        num_validation = round(validation * usable)
        if stop - start < 2 or num_validation < 2 or usable - num_validation < 2:
            raise InputError(
                f"history too short: {bars.source} has {T} bars; fold {k + 1} of {num_folds} would have "
                f"{max(usable, 0)} usable bars before a test of {stop - start}: give fewer folds, or a larger "
                "first_test"
            )
        folds.append(
            Fold(
                number=k + 1,
                validation_start=_date(bars, start - embargo_bars - num_validation),
                test_start=_date(bars, start),
                end=_date(bars, stop) if stop < T else None,
            )
        )
    return folds


def _date(bars: Bars, index: int) -> str:
    return str(bars.dates[index])
