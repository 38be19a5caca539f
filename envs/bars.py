"""Which prices a floor runs on, and how their history is divided into training, validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.bar_data import Bars
from envs.frequencies import settle_frequency
from envs.price_dates import read_date, rows_within
from envs.price_files import load_bars
from envs.settings import DataConfig
from envs.synthetic import generate_bars
from envs.universe import keep_members

__all__ = ["Bars", "Split", "Splits", "build_bars", "load_bars", "split_bars"]

_MOST_TOLD = 1e9
"""Bars beyond which it is of no help to say how many are needed."""


@plain_dataclass(frozen=True)
class Split:
    """A half-open range of bars, ``start`` to ``stop``, but for ``holes``: half-open ranges within it, in their order.

    Decisions are taken at bars ``start`` to ``stop - 2``, so that every fill and every mark, which come one bar later,
    lie inside it; likewise in each block between holes.
    """

    name: Literal["train", "validation", "test"]
    start: int
    stop: int
    holes: tuple[tuple[int, int], ...] = ()

    @property
    def blocks(self) -> list[Split]:
        """Its unbroken ranges, one more than it has holes."""
        edges = [self.start, *(edge for hole in self.holes for edge in hole), self.stop]
        return [Split(self.name, *block) for block in zip(edges[::2], edges[1::2], strict=True)]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Its bars, [num_bars] int64."""
        return np.concatenate([np.arange(block.start, block.stop) for block in self.blocks])

    @property
    def num_bars(self) -> int:
        """Bars in the split."""
        return self.stop - self.start - sum(stop - start for start, stop in self.holes)

    @property
    def num_decisions(self) -> int:
        """Bars at which an agent can decide: all but the last of each block."""
        return self.num_bars - 1 - len(self.holes)

    def last(self, num_decisions: int) -> Split:
        """Its end, with so many decisions at most."""
        return replace(self, start=max(self.start, self.stop - num_decisions - 1))


@plain_dataclass(frozen=True)
class Splits:
    """Training, validation and test, with ``embargo_bars`` unused bars between them; without groups in this order."""

    train: Split
    validation: Split
    test: Split
    embargo_bars: int

    def __getitem__(self, name: str) -> Split:
        """Look a split up by its name.

        Raises:
            InputError: if the name is not one of train, validation, test.
        """
        if name not in ("train", "validation", "test"):
            raise InputError(f"split {name!r} does not exist: choose train, validation or test")
        return getattr(self, name)


def build_bars(config: DataConfig) -> Bars:
    """Read the price file that the config names, or make the built-in market where it names none.

    Raises:
        InputError: if the file, its assets, its calendar or its universe cannot be used.
    """
    bars = _all_bars(config)
    if config.universe is None:
        return bars
    return keep_members(bars, config.universe, told_missing=config.assets is None)


def _all_bars(config: DataConfig) -> Bars:
    """The same, whatever assets are members."""
    if config.path is not None:
        return load_bars(
            config.path,
            assets=config.assets,
            calendar=config.calendar,
            frequency=config.frequency,
            periods_per_year=config.periods_per_year,
            timezone=config.timezone,
            columns=config.columns,
            date_format=config.date_format,
            decimal=config.decimal,
            missing=config.missing,
            adjust=config.adjust,
            jumps=config.jumps,
            start=config.start,
            end=config.end,
        )
    bars = generate_bars(config.synthetic)
    kept = np.flatnonzero(rows_within(bars.dates, config.start, config.end, source=bars.source))
    bars = bars.between(int(kept[0]), int(kept[-1]) + 1)
    if config.frequency is not None or config.periods_per_year is not None:
        frequency, periods, notes = settle_frequency(
            bars.dates,
            frequency=config.frequency,
            periods_per_year=config.periods_per_year,
            source=bars.source,
        )
        bars = replace(bars, frequency=frequency, periods_per_year=periods, notes=(*bars.notes, *notes))
    return bars if config.assets is None else bars.select(config.assets)


def training_bars(bars: Bars, config: DataConfig) -> int:
    """Bars of the share of history that is for training, whatever features look back on; with groups, all of it."""
    if config.groups is not None:
        return bars.num_bars
    if config.validation_start is None:
        return round(config.train * bars.num_bars)
    return int(np.searchsorted(bars.dates, read_date(config.validation_start, setting="validation_start")))


def split_bars(bars: Bars, config: DataConfig, *, lookback_bars: int, embargo_bars: int, horizon_bars: int) -> Splits:
    """Divide history into training, validation and test, in this order, with an embargo between them.

    The embargo keeps what an agent sees on the first bar of a split apart from everything that another split was scored
    on (Lopez de Prado 2018, section 7.4). By shares, the bars that are left after the warm-up and both embargoes are
    divided 60/20/20; by dates, the validation and test splits begin on the first bar at or after theirs and the embargo
    is cut from the end of the split before. By groups, training has holes: see ``_split_by_groups``.

    Args:
        bars: The whole history.
        config: Shares or dates, optionally a longer embargo, and how much of validation and test is looked at.
        lookback_bars: Bars that must lie before the first decision: feature look-back plus observation window less one.
        embargo_bars: Shortest allowed embargo; ``config.embargo_bars`` may only be longer.
        horizon_bars: Decisions in an episode; every split must hold at least one episode.

    Returns:
        The splits; ``train.start >= lookback_bars``. Validation and test have no holes.

    Raises:
        InputError: if shares or dates make no sense, the embargo is too short, or history is too short (with the
            numbers).
    """
    embargo = embargo_bars if config.embargo_bars is None else config.embargo_bars
    if embargo < embargo_bars:
        raise InputError(
            f"data.embargo_bars is {embargo}, but features and window look back on {embargo_bars} bars: set at "
            "least that, or leave it out"
        )
    if config.groups is not None or config.test_groups:
        splits = _split_by_groups(bars, config, lookback_bars, embargo, horizon_bars)
    elif config.validation_start is None and config.test_start is None:
        splits = _split_by_shares(bars, config, lookback_bars, embargo, horizon_bars)
    else:
        splits = _split_by_dates(bars, config, lookback_bars, embargo)
    for split in (splits.train, splits.validation, splits.test):
        if split.num_decisions < horizon_bars and config.groups is None:
            raise InputError(
                f"history too short: {bars.source} has {bars.num_bars} bars; after {lookback_bars} bars of "
                "look-back and two embargoes of "
                f"{embargo} the {split.name} split has {max(split.num_bars, 0)} bars, but a horizon of "
                f"{horizon_bars} needs "
                f"{horizon_bars + 1}: give more history{_bars_needed(config, lookback_bars, embargo, horizon_bars)}, a "
                "shorter horizon or other splits"
            )
    if config.evaluation_bars is None:
        return splits
    validation, test = (split.last(config.evaluation_bars) for split in (splits.validation, splits.test))
    return replace(splits, validation=validation, test=test)


def _split_by_shares(bars: Bars, config: DataConfig, lookback: int, embargo: int, horizon: int) -> Splits:
    shares = (config.train, config.validation, config.test)
    if sum(shares) > 1 + 1e-9:
        raise InputError(f"data.train, data.validation and data.test are {shares}: their sum must be at most 1")
    usable = bars.num_bars - lookback - 2 * embargo
    if usable < 3 * (horizon + 1):
        raise InputError(
            f"history too short: {bars.source} has {bars.num_bars} bars; {lookback} bars of look-back and two "
            f"embargoes of {embargo} leave "
            f"{max(usable, 0)}, but three splits with a horizon of {horizon} need at least {3 * (horizon + 1)}: "
            f"give more history{_bars_needed(config, lookback, embargo, horizon)} or a shorter horizon"
        )
    num_train, num_validation = round(usable * shares[0]), round(usable * shares[1])
    num_test = min(round(usable * shares[2]), usable - num_train - num_validation)
    train = Split("train", lookback, lookback + num_train)
    validation = Split("validation", train.stop + embargo, train.stop + embargo + num_validation)
    test = Split("test", validation.stop + embargo, validation.stop + embargo + num_test)
    return Splits(train, validation, test, embargo)


def _bars_needed(config: DataConfig, lookback: int, embargo: int, horizon: int) -> str:
    """Say how many bars the smallest share must be a part of; nothing where dates divide history."""
    if config.validation_start is not None or config.test_start is not None:
        return ""
    smallest = min(config.train, config.validation, config.test)
    usable = (horizon + 1.5) / smallest  # a half more, because splits are rounded
    if usable > _MOST_TOLD:
        return ""
    return f" ({lookback + 2 * embargo + math.ceil(usable)} bars are enough)"


def group_edges(num_bars: int, num_groups: int, *, lookback_bars: int) -> list[int]:
    """First bar of each of G groups of equal length, and the bar after the last, G + 1 of them."""
    return [round(edge) for edge in np.linspace(lookback_bars, num_bars, num_groups + 1)]


def _split_by_groups(bars: Bars, config: DataConfig, lookback: int, embargo: int, horizon: int) -> Splits:
    """One split of combinatorial purged cross-validation (Lopez de Prado 2018, sections 7.4 and 12.4).

    A test on bars c to d - 1 looks back to bar c - lookback, and is marked on bar d, where its last order fills. So
    training ends ``embargo`` bars before c, and goes on ``embargo`` bars after d: no bar that it looks at, or is paid
    by, is one that a test looks at, or is paid by. Validation, the end of the longest stretch, lies an embargo away
    from training too. Blocks that hold no whole episode are left out.
    """
    tested = _tested_groups(config)
    edges = group_edges(bars.num_bars, config.groups or 0, lookback_bars=lookback)
    free = [g for g in range(len(edges) - 1) if g + 1 not in tested]
    stretches = [
        (edges[first] + (embargo + 1 if first else 0), edges[stop] - (embargo if stop < len(edges) - 1 else 0))
        for first, stop in zip(
            [g for g in free if g - 1 not in free], [g + 1 for g in free if g + 1 not in free], strict=True
        )
    ]
    start, stop = max(stretches, key=lambda stretch: (stretch[1] - stretch[0], stretch))
    num_validation = round(config.validation * (sum(max(b - a, 0) for a, b in stretches) - embargo))
    cut = stop - num_validation - embargo
    blocks = [block for a, b in stretches if (block := (a, cut if b == stop else b))[1] - a > horizon]
    if not blocks or not horizon < num_validation <= stop - start or min(np.diff(edges)) < 2:
        raise InputError(
            f"history too short: {bars.source} has {bars.num_bars} bars; {config.groups} groups without "
            f"{', '.join(map(str, tested))} and an embargo of {embargo} around each test leave a longest stretch of "
            f"{max(stop - start, 0)} bars, of which validation is to have {max(num_validation, 0)}, but an episode of "
            f"training and validation needs {horizon + 1} bars in a row: give more history, fewer groups or test "
            "groups, another share of validation or a shorter horizon"
        )
    holes = tuple((before[1], after[0]) for before, after in pairwise(blocks))
    return Splits(
        Split("train", blocks[0][0], blocks[-1][1], holes),
        Split("validation", stop - num_validation, stop),
        Split("test", edges[tested[-1] - 1], edges[tested[-1]]),
        embargo,
    )


def _tested_groups(config: DataConfig) -> list[int]:
    """The groups that are tested, rising.

    Raises:
        InputError: if they are none, not among the groups, all of them, or history is divided by dates as well.
    """
    if config.validation_start is not None or config.test_start is not None:
        raise InputError("data.groups divides history in place of data.validation_start and test_start: not both")
    num_groups, tested = config.groups or 0, sorted(set(config.test_groups))
    if not 0 < len(tested) < num_groups or tested[0] < 1 or tested[-1] > num_groups:
        raise InputError(
            f"data.groups is {config.groups} and data.test_groups are {list(config.test_groups)}: set both, with at "
            "least one of the groups, from 1, for tests and one for training"
        )
    return tested


def _split_by_dates(bars: Bars, config: DataConfig, lookback: int, embargo: int) -> Splits:
    if config.validation_start is None or config.test_start is None:
        raise InputError("data.validation_start and data.test_start go together: set both, or neither")
    starts = []
    for setting in ("validation_start", "test_start"):
        text = getattr(config, setting)
        date = read_date(text, setting=setting)
        if not bars.dates[0] < date <= bars.dates[-1]:
            first, last = (str(day)[:10] for day in (bars.dates[0], bars.dates[-1]))
            raise InputError(f"data.{setting} is {text}, outside the history of {bars.source} ({first} to {last})")
        starts.append(int(np.searchsorted(bars.dates, date)))
    if starts[1] <= starts[0]:
        raise InputError(
            f"data.test_start {config.test_start} must come after validation_start {config.validation_start}"
        )
    return Splits(
        Split("train", lookback, starts[0] - embargo),
        Split("validation", starts[0], starts[1] - embargo),
        Split("test", starts[1], bars.num_bars),
        embargo,
    )
