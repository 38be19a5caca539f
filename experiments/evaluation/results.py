"""What cross-validation has found: out-of-sample returns of every seed and baseline, and how sure their figures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.intervals import percentile_interval
from envs.backtest import BacktestResult
from envs.baselines import best_baseline
from envs.metrics import annual_return, annual_volatility, max_drawdown, simple_returns, total_return
from envs.paired_tests import block_length, paired_tests, resamples, share_below
from envs.sharpe import deflated_sharpe_ratio, expected_max_sharpe, sharpe_ratio, sharpe_standard_error

Array = NDArray[np.float64]
NUM_RESAMPLES = 1000
"""Resamples of an interval: 25 lie beyond each of its ends."""
FIGURES = ("total_return", "annual_return", "annual_volatility", "sharpe", "sharpe_se", "max_drawdown")


@dataclass(frozen=True)
class Course:
    """Out-of-sample returns of one series through all folds.

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


def series_name(seed: int, path: int, num_paths: int) -> str:
    """Of one path that models of one seed trade; the seed's where there is one path."""
    return str(seed) if num_paths == 1 else f"{seed}, path {path + 1}"


def course_of(result: BacktestResult) -> Course:
    """The course of a backtest."""
    return Course(result.dates[1:], simple_returns(result.equity))


def figures(course: Course, *, periods_per_year: float, risk_free: float) -> dict[str, float]:
    """The figures of one course, under the names of ``FIGURES``."""
    equity, returns = course.equity, course.returns
    return {
        "total_return": total_return(equity),
        "annual_return": annual_return(equity, periods_per_year=periods_per_year),
        "annual_volatility": annual_volatility(returns, periods_per_year=periods_per_year),
        "sharpe": sharpe_ratio(returns, periods_per_year=periods_per_year, risk_free=risk_free),
        "sharpe_se": sharpe_standard_error(returns, periods_per_year=periods_per_year, risk_free=risk_free),
        "max_drawdown": max_drawdown(equity),
    }


def _over_seeds(seeds: Sequence[Course], best: Course, num_paths: int, **year: float) -> dict[str, Any]:
    """``intervals`` and ``seeds_together`` of ``evaluated``: both kinds of luck, of the seeds and of the history.

    Each resample draws bars, the same ones for all, which share a market, and then as many seeds as there are. Of a
    seed's paths the mean counts: they share models' training, so that they are no further seeds.
    """
    S, rng, ratio = len(seeds) // num_paths, np.random.default_rng(0), FIGURES.index("sharpe")

    def of_each(bars: NDArray[np.int32] | slice) -> Array:
        """Figures of each seed over these bars; its mean return and its ratio less the best baseline's."""
        drawn = [Course(course.dates[bars], course.returns[bars]) for course in (*seeds, best)]
        found = np.array([list(figures(course, **year).values()) for course in drawn])
        means = np.array([course.returns.mean() for course in drawn]) * year["periods_per_year"]
        above = np.stack([means, found[:, ratio]], axis=1)
        of_paths = np.concatenate([found, above - above[-1]], axis=1)[:-1]
        return of_paths.reshape(S, num_paths, -1).mean(axis=1)

    mean_block = max(block_length(course.returns) for course in (*seeds, best))
    rows = (bars for some in resamples(len(best.returns), mean_block, NUM_RESAMPLES) for bars in some)
    resampled = np.array([of_each(bars)[rng.integers(S, size=S)].mean(axis=0) for bars in rows])
    means = of_each(slice(None)).mean(axis=0)
    names = (*FIGURES, "mean_difference", "sharpe_difference")
    return {
        "intervals": {
            name: vars(percentile_interval(float(mean), drawn))
            for name, mean, drawn in zip(names, means, resampled.T, strict=True)
        },
        "seeds_together": {
            "mean_confidence": share_below(0.0, -resampled[:, -2]),
            "sharpe_confidence": share_below(0.0, -resampled[:, -1]),
        },
    }


def _distribution(ratios: Array, best: float) -> dict[str, float]:
    """How Sharpe ratios of paths, [P], are distributed: quartiles, spread, and shares below 0 and below ``best``."""
    names = ("min", "q25", "median", "q75", "max")
    quartiles = dict(zip(names, map(float, np.quantile(ratios, np.linspace(0, 1, 5))), strict=True))
    shares = {"below_zero": float(np.mean(ratios < 0)), "below_best_baseline": float(np.mean(ratios < best))}
    return quartiles | {"mean": float(ratios.mean()), "std": float(ratios.std(ddof=1))} | shares


def evaluated(
    seeds: Mapping[str, Course],
    baselines: Mapping[str, Course],
    *,
    num_paths: int = 1,
    periods_per_year: float,
    risk_free: float,
    trial_sharpes: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> dict[str, Any]:
    """Say what courses come to, as plain values.

    Args:
        seeds: By ``series_name``, the paths of each seed together; at least one.
        baselines: At least one, over the same bars.
        num_paths: Of each seed.
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earned, as a fraction.
        trial_sharpes: Where a search chose the model of each fold: by name of the series, for each of its models the
            annual Sharpe ratios on the validation split of all that it was chosen among.

    Returns:
        Figures of each of ``seeds`` and ``baselines``; ``best_baseline``, by its Sharpe ratio; ``sharpe_of_paths``, how
        the ratios of all paths are distributed, None where a seed has one alone; ``intervals``, the mean over seeds of
        each figure, and of its difference to that baseline's, with its 95 % interval over seeds and time;
        ``seeds_together``, how sure it is that these differences are above 0; ``paired_tests``, of each seed against
        every baseline; ``deflated_sharpe``, for each seed that a search chose the model of; ``num_trials``, the most
        that one search chose among, 0 without; and ``hurdle``, the Sharpe ratio that the best of so many useless ones
        would show, the mean over folds, None without a search.
    """
    year = {"periods_per_year": periods_per_year, "risk_free": risk_free}
    of_seeds = {name: figures(course, **year) for name, course in seeds.items()}
    of_baselines = {name: figures(course, **year) for name, course in baselines.items()}
    best = best_baseline({name: own["sharpe"] for name, own in of_baselines.items()})
    rivals = {name: course.returns for name, course in baselines.items()}
    ratios = np.array([own["sharpe"] for own in of_seeds.values()])
    searched = {name: [fold for fold in folds if len(fold) > 1] for name, folds in (trial_sharpes or {}).items()}
    searched = {name: folds for name, folds in searched.items() if folds}
    return {
        "seeds": of_seeds,
        "baselines": of_baselines,
        "best_baseline": best,
        "sharpe_of_paths": None if num_paths == 1 else _distribution(ratios, of_baselines[best]["sharpe"]),
        **_over_seeds(list(seeds.values()), baselines[best], num_paths, **year),
        "paired_tests": {name: asdict(paired_tests(own.returns, rivals, **year)) for name, own in seeds.items()},
        "deflated_sharpe": {
            name: deflated_sharpe_ratio(seeds[name].returns, folds, **year) for name, folds in searched.items()
        },
        "num_trials": max((len(fold) for folds in searched.values() for fold in folds), default=0),
        "hurdle": max((fmean(map(expected_max_sharpe, folds)) for folds in searched.values()), default=None),
    }
