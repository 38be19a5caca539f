"""Folds of cross-validation: which models are trained, what each is tested on, and how their tests join to paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from common.errors import InputError
from envs.bar_data import Bars
from envs.bars import group_edges, split_bars
from envs.settings import DataConfig

MOST_FOLDS = 1_000
"""Each is a run, for each seed."""


@dataclass(frozen=True)
class Fold:
    """What one model is trained and tested on.

    Attributes:
        number: From 1.
        tests: Date of the first and of the last bar of each of its tests.
        data: Settings of the data group that make a run train and select on nothing else than it may.
    """

    number: int
    tests: tuple[tuple[str, str], ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class CrossValidation:
    """Folds, and the paths through all tests that their models trade.

    Attributes:
        folds: Each needs models of its own.
        starts: Date of the first bar of each test, in the order of time; together they go to the last bar of history.
        paths: For each path and test the index of the fold whose model trades it.
    """

    folds: tuple[Fold, ...]
    starts: tuple[str, ...]
    paths: tuple[tuple[int, ...], ...]


def walk_forward(
    bars: Bars, *, num_folds: int, first_test: float, validation: float, lookback_bars: int, embargo_bars: int
) -> CrossValidation:
    """Divide history into expanding windows (Lopez de Prado 2018, section 12.2: walk-forward).

    The tests divide the last part of history evenly. Before each lie an embargo, a validation split that is a fixed
    share of what comes before, another embargo, and training on everything earlier. They make one path.

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
        data = {
            "validation_start": _date(bars, start - embargo_bars - num_validation),
            "test_start": _date(bars, start),
        }
        folds.append(Fold(k + 1, ((_date(bars, start), _date(bars, stop - 1)),), data))
    return CrossValidation(tuple(folds), tuple(fold.tests[0][0] for fold in folds), (tuple(range(num_folds)),))


def combinatorial(
    bars: Bars, *, data: DataConfig, num_tested: int, lookback_bars: int, embargo_bars: int, horizon_bars: int
) -> CrossValidation:
    """Test every choice of k among N groups of bars (Lopez de Prado 2018, section 12.4: CPCV).

    There are C(N, k) folds, and each group is tested by C(N - 1, k - 1) of them. Path p takes for each group the p-th
    fold that tests it: k / N C(N, k) paths, each over all usable bars, no two of which share a model in any group.
    What is kept apart around a test says ``envs.bars.split_bars``.

    Args:
        bars: The whole history.
        data: Settings of which ``groups`` is N, and those that all folds share.
        num_tested: k, at least 1 and below N.
        lookback_bars: Bars before the first decision.
        embargo_bars: Shortest allowed embargo.
        horizon_bars: Decisions in an episode of training.

    Raises:
        InputError: if history is too short for a fold.
    """
    N = data.groups or 0
    if (num_folds := math.comb(N, num_tested)) > MOST_FOLDS:
        raise InputError(f"{num_tested} of {N} groups are {num_folds} folds, more than {MOST_FOLDS}: give fewer groups")
    edges = group_edges(bars.num_bars, N, lookback_bars=lookback_bars)
    spans = [(_date(bars, start), _date(bars, stop - 1)) for start, stop in pairwise(edges)]
    folds: list[Fold] = []
    for tested in combinations(range(N), num_tested):
        groups = tuple(group + 1 for group in tested)
        split_bars(
            bars,
            replace(data, test_groups=groups),
            lookback_bars=lookback_bars,
            embargo_bars=embargo_bars,
            horizon_bars=horizon_bars,
        )
        own = {"groups": N, "test_groups": groups, "validation": data.validation}
        folds.append(Fold(len(folds) + 1, tuple(spans[group] for group in tested), own))
    testing = [[i for i, fold in enumerate(folds) if span in fold.tests] for span in spans]
    return CrossValidation(tuple(folds), tuple(start for start, _ in spans), tuple(zip(*testing, strict=True)))


def _date(bars: Bars, index: int) -> str:
    return str(bars.dates[index])
