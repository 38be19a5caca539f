"""What a walk-forward has found: out-of-sample returns of every seed and baseline, and how sure their figures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.metrics import (
    annual_return,
    annual_volatility,
    deflated_sharpe_ratio,
    expected_max_sharpe,
    max_drawdown,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
    sharpe_standard_error,
    simple_returns,
    total_return,
)
from experiments.reporting.intervals import Interval, interval

Array = NDArray[np.float64]
STRATEGY = "strategy"
FIGURES = ("total_return", "annual_return", "annual_volatility", "sharpe", "sharpe_se", "max_drawdown")


@dataclass(frozen=True)
class Course:
    """Out-of-sample returns of one series, all folds in a row.

    Attributes:
        dates: End of each bar, [T] datetime64.
        returns: Simple returns, [T].
    """

    dates: NDArray[np.datetime64]
    returns: Array

    @property
    def equity(self) -> Array:
        """What one dollar became, [T + 1]."""
        return np.concatenate([[1.0], np.cumprod(1.0 + self.returns)])


def stitched(tables: Sequence[pd.DataFrame], series: str) -> Course:
    """Put the tests of all folds of one seed in a row; each fold begins with its own capital, so returns are joined.

    Args:
        tables: ``equity.parquet`` of each fold, in the order of time.
        series: Which of its curves.

    Raises:
        ValueError: if a fold begins before the one before it has ended.
    """
    dates: list[NDArray[np.datetime64]] = []
    returns: list[Array] = []
    for table in tables:
        own = table[table["series"] == series]
        days = own["date"].to_numpy()
        if dates and days[0] <= dates[-1][-1]:
            raise ValueError(f"the folds overlap at {days[0]}")
        dates.append(days[1:])
        returns.append(simple_returns(own["equity"].to_numpy()))
    return Course(np.concatenate(dates), np.concatenate(returns))


def figures(course: Course, *, periods_per_year: float) -> dict[str, float]:
    """The figures of one course, under the names of ``FIGURES``."""
    equity, returns = course.equity, course.returns
    return {
        "total_return": total_return(equity),
        "annual_return": annual_return(equity, periods_per_year=periods_per_year),
        "annual_volatility": annual_volatility(returns, periods_per_year=periods_per_year),
        "sharpe": sharpe_ratio(returns, periods_per_year=periods_per_year),
        "sharpe_se": sharpe_standard_error(returns, periods_per_year=periods_per_year),
        "max_drawdown": max_drawdown(equity),
    }


@dataclass(frozen=True)
class Evaluation:
    """A walk-forward.

    Attributes:
        seeds: Course of each seed.
        baselines: Course of each baseline.
        of_seeds: Figures of each seed.
        of_baselines: Figures of each baseline.
        intervals: Mean over seeds, with 95 % interval, of each figure.
        best_baseline: The baseline with the largest Sharpe ratio, cash apart, whose ratio means nothing.
        probability: For each seed, that its true Sharpe ratio exceeds the best baseline's measured one (Bailey and
            Lopez de Prado 2012).
        deflated: For each seed, the deflated Sharpe ratio; empty where no search chose the model.
        num_trials: Trials of all searches of one seed together; 0 without a search.
        hurdle: Sharpe ratio that the best of so many useless trials would show; None without a search.
    """

    seeds: dict[int, Course]
    baselines: dict[str, Course]
    of_seeds: dict[int, dict[str, float]]
    of_baselines: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    best_baseline: str
    probability: dict[int, float]
    deflated: dict[int, float]
    num_trials: int
    hurdle: float | None


def evaluated(
    seeds: Mapping[int, Course],
    baselines: Mapping[str, Course],
    *,
    periods_per_year: float,
    trial_sharpes: Mapping[int, Sequence[float]] | None = None,
) -> Evaluation:
    """Put courses together.

    Args:
        seeds: At least one.
        baselines: At least one, over the same bars.
        periods_per_year: Bars in a year.
        trial_sharpes: Where a search chose the model of each fold: annual Sharpe ratios of all its trials on the
            validation split, by seed, all folds together.
    """
    year = {"periods_per_year": periods_per_year}
    of_seeds = {seed: figures(course, **year) for seed, course in seeds.items()}
    of_baselines = {name: figures(course, **year) for name, course in baselines.items()}
    best = max((n for n in of_baselines if n != "cash"), key=lambda n: of_baselines[n]["sharpe"])
    tried = {seed: np.asarray(v, float) for seed, v in (trial_sharpes or {}).items() if len(v) > 1}
    return Evaluation(
        seeds=dict(seeds),
        baselines=dict(baselines),
        of_seeds=of_seeds,
        of_baselines=of_baselines,
        intervals={name: interval([own[name] for own in of_seeds.values()]) for name in FIGURES},
        best_baseline=best,
        probability={
            seed: probabilistic_sharpe_ratio(course.returns, benchmark=of_baselines[best]["sharpe"], **year)
            for seed, course in seeds.items()
        },
        deflated={seed: deflated_sharpe_ratio(seeds[seed].returns, sharpes, **year) for seed, sharpes in tried.items()},
        num_trials=max((len(v) for v in tried.values()), default=0),
        hurdle=max((expected_max_sharpe(v) for v in tried.values()), default=None),
    )


def as_json(found: Evaluation) -> dict[str, Any]:
    """All of it but the courses as plain values."""
    return {
        "seeds": {str(seed): own for seed, own in found.of_seeds.items()},
        "baselines": found.of_baselines,
        "intervals": {name: vars(one) for name, one in found.intervals.items()},
        "best_baseline": found.best_baseline,
        "probability_to_exceed_it": {str(seed): p for seed, p in found.probability.items()},
        "deflated_sharpe": {str(seed): p for seed, p in found.deflated.items()},
        "num_trials": found.num_trials,
        "hurdle": found.hurdle,
    }
