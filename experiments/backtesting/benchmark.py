"""The benchmark of a backtest: a price file, an asset or a baseline, and how every series compares with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, nearest
from common.paths import home_path
from envs.backtest import BacktestResult
from envs.baseline_names import RANDOM
from envs.baselines import BASELINES
from envs.benchmark_figures import benchmark_figures
from envs.calendars import show_date
from envs.market import Market
from envs.metrics import simple_returns
from envs.price_files import load_bars
from envs.price_tables import split_endings
from envs.settings import Adjust

_LEAST_BARS = 3


class Benchmark(NamedTuple):
    """What series are compared with.

    Attributes:
        name: As the user named it.
        dates: [T] datetime64[us], increasing.
        values: Prices or equity at them, [T] float64.
        notes: What was inferred on the way, and whether it lacks dates.
    """

    name: str
    dates: NDArray[np.datetime64]
    values: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def is_baseline(word: str, market: Market, names: Sequence[str]) -> bool:
    """Whether a word names a baseline, and not an asset or a price file.

    Args:
        word: What the user gave.
        market: Prices of the backtest.
        names: Baselines of the backtest, among them rules of the user's own.

    Raises:
        InputError: if it names several of these, or none.
    """
    known = (*BASELINES, RANDOM, *names)
    is_file = split_endings(word)[1] is not None or Path(word).is_file()
    kinds = {
        "a baseline": word in known,
        "an asset": word in market.bars.assets,
        "a price file": is_file,
    }
    found = [kind for kind, holds in kinds.items() if holds]
    if len(found) > 1:
        raise InputError(f"--benchmark {word} is {' and '.join(found)}: give its prices in a file of another name")
    if not found:
        there = nearest(word, (*known, *market.bars.assets))
        raise InputError(
            f"--benchmark {word} is neither a price file, nor an asset of {market.bars.source}, nor a baseline{there}; "
            "a rule of your own stands among --baselines too"
        )
    return kinds["a baseline"]


def prices_of(word: str, market: Market, *, split: str) -> Benchmark:
    """Closes of an asset of the market, or of a price file.

    Args:
        word: Names either.
        market: Prices of the backtest.
        split: Part of the history that is tested.

    Raises:
        InputError: if the file holds several assets, or bars of another length, or shares too few dates.
    """
    bars = market.bars
    if word in bars.assets:
        return Benchmark(word, bars.dates, bars.close[:, bars.assets.index(word)])
    data = market.spec.data
    adjust: Adjust | None = "none" if data.adjust == "none" else None
    other = load_bars(home_path(word), adjust=adjust, jumps=data.jumps)
    if other.num_assets > 1:
        raise InputError(f"--benchmark {word} holds {other.num_assets} assets: give a file of one")
    if other.frequency != bars.frequency:
        raise InputError(
            f"--benchmark {word} has bars that are {other.frequency} apart, but those of {bars.source} are "
            f"{bars.frequency}: give prices of the same times"
        )
    tested = market.splits[split]
    dates = bars.dates[tested.start : tested.stop]
    shared = np.intersect1d(other.dates, dates)
    if len(shared) < _LEAST_BARS:
        own, theirs = (f"{show_date(days[0])} to {show_date(days[-1])}" for days in (dates, other.dates))
        raise InputError(
            f"--benchmark {word} goes from {theirs} and shares {len(shared)} dates with the backtest, {own}: it takes "
            f"{_LEAST_BARS}"
        )
    notes = [f"{word}: {note}" for note in other.notes]
    if len(shared) < len(dates):
        notes.append(f"{word} has {len(shared)} of the {len(dates)} bars: compared with it over these alone")
    return Benchmark(word, other.dates, other.close[:, 0], tuple(notes))


def equity_of(result: BacktestResult) -> Benchmark:
    """A series as a benchmark."""
    return Benchmark(result.name, result.dates, result.equity)


def compare_with(benchmark: Benchmark, results: Sequence[BacktestResult], market: Market) -> dict[str, Any]:
    """What ``backtest.json`` says of a benchmark: the dates that are shared with it, and the figures of each series.

    Args:
        benchmark: Shares dates with the results.
        results: At least one, over the same bars.
        market: Of the backtest.
    """
    shared, own, other = np.intersect1d(results[0].dates, benchmark.dates, return_indices=True)
    year: dict[str, float] = {"periods_per_year": market.bars.periods_per_year}
    year["risk_free"] = market.spec.floor.costs.cash_rate_annual
    returns = simple_returns(benchmark.values[other])
    return {
        "name": benchmark.name,
        "start": str(shared[0]),
        "end": str(shared[-1]),
        "num_bars": len(shared),
        "series": {
            result.name: benchmark_figures(simple_returns(result.equity[own]), returns, **year) for result in results
        },
    }
