"""Whether one series of returns is better than others over the same bars, or only looks so.

Returns of strategies and baselines share the market's ups and downs; their difference, bar by bar, does not. Every test
here is of that difference. Resamples keep what follows what (the stationary bootstrap) and are drawn with a fixed seed:
the same returns give the same figures. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from envs.sharpe import FLAT, series_of, sharpe_difference_error, sharpe_ratio, spread_of

Array = NDArray[np.float64]

NUM_RESAMPLES = 2000
_SEED = 0
_MOST_NUMBERS = 4_000_000
"""Indices that are drawn at once: 32 MB."""


@dataclass(frozen=True)
class PairedTest:
    """How sure it is that a strategy is better than one baseline.

    Attributes:
        mean_difference: Mean return of the strategy less the baseline's, a year, as a fraction.
        mean_confidence: 1 less the one-sided p-value of "the mean difference is 0 or less"; 0.5 for equal series.
        sharpe_difference: Sharpe ratio of the strategy less the baseline's, a year.
        sharpe_confidence: 1 less the one-sided p-value of "the difference of Sharpe ratios is 0 or less".
    """

    mean_difference: float
    mean_confidence: float
    sharpe_difference: float
    sharpe_confidence: float


@dataclass(frozen=True)
class PairedTests:
    """How a strategy stands against several baselines.

    Attributes:
        against: The test against each baseline, by its name.
        not_beaten_p: p-value of "no baseline has a larger mean return than the strategy" (Hansen 2005): near 0 where
            some baseline is better beyond what the best of so many shows by luck; 1 where none was better.
    """

    against: Mapping[str, PairedTest]
    not_beaten_p: float


def paired_tests(
    strategy: ArrayLike, baselines: Mapping[str, ArrayLike], *, periods_per_year: float, risk_free: float = 0.0
) -> PairedTests:
    """Hold a strategy against baselines, one by one and all at once.

    Means by the stationary bootstrap (Politis and Romano 1994) of the differences, its blocks as long as
    ``block_length`` finds for the one that needs the longest. Sharpe ratios by Ledoit and Wolf (2008, section 3.1) with
    ``sharpe_difference_error``. All at once by Hansen's test for superior predictive ability (2005, its consistent
    p-value) with the strategy as the benchmark: White's reality check (2000) with studentised differences, and without
    the baselines that are hopeless.

    Args:
        strategy: Simple returns per bar, [T].
        baselines: Those of each baseline over the same bars, [T] each, by name; at least one.
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.

    Raises:
        ValueError: if these are not series of one length.
    """
    own, year = series_of(strategy), {"periods_per_year": periods_per_year, "risk_free": risk_free}
    differences = np.stack([own - series_of(returns) for returns in baselines.values()], axis=1)
    says_nothing = (np.abs(differences) <= FLAT) | (len(own) < 2)  # rounding, or a single bar
    differences = np.where(says_nothing, 0.0, differences)
    means, draws = differences.mean(axis=0), _resampled_means(differences)
    against = {}
    for k, (name, returns) in enumerate(baselines.items()):
        ratio, error = sharpe_ratio(own, **year) - sharpe_ratio(returns, **year), 0.0
        if differences[:, k].any():
            error = sharpe_difference_error(own, returns, **year)
        against[name] = PairedTest(
            mean_difference=float(means[k]) * periods_per_year,
            mean_confidence=share_below(means[k], draws[:, k] - means[k]),
            sharpe_difference=ratio,
            sharpe_confidence=float(ndtr(ratio / error)) if error else 0.5,
        )
    return PairedTests(against, _superior_ability_p(-means, -draws, len(own)))


def _superior_ability_p(means: Array, draws: Array, num_bars: int) -> float:
    """Hansen's p-value (2005) of "no mean [K] is above 0", from the means of resamples, [R, K]."""
    errors = draws.std(axis=0)
    varies = errors > FLAT
    if (means[~varies] > 0).any():  # a difference that does not vary is no matter of luck
        return 0.0
    means, draws, errors = means[varies], draws[:, varies], errors[varies]
    if not (means > 0).any():
        return 1.0
    is_near = means >= -errors * np.sqrt(2 * np.log(np.log(max(num_bars, 3))))
    largest = ((draws - np.where(is_near, means, 0.0)) / errors).max(axis=1)
    return float((np.maximum(largest, 0.0) >= (means / errors).max()).mean())


def block_length(values: ArrayLike) -> float:
    """Mean length of the blocks by which the stationary bootstrap errs least on the mean of a series, in bars, >= 1.

    Politis and White (2004), with the correction of Patton, Politis and White (2009). It is long where returns hang on
    those long before them, and 1 where they do not.

    Args:
        values: [T].
    """
    series = series_of(values)
    T, run = len(series), 5
    most = int(np.ceil(np.sqrt(T))) + run
    if most >= T or spread_of(series) == 0:
        return 1.0
    centred = series - series.mean()
    covariances = np.array([centred[k:] @ centred[: T - k] for k in range(most + 1)]) / T
    is_small = np.abs(covariances) < 2 * np.sqrt(np.log10(T) / T) * covariances[0]
    last = next((k for k in range(1, most - run + 1) if is_small[k : k + run].all()), most)  # lag that may matter
    lags = np.arange(1, min(2 * last, most) + 1)
    weighted = np.minimum(1.0, 2 * (1 - lags / lags[-1])) * covariances[lags]
    longest = np.ceil(min(3 * np.sqrt(T), T / 3))
    slope, level = 2 * float(lags @ weighted), covariances[0] + 2 * float(weighted.sum())
    return float(np.clip(np.cbrt(T * slope**2 / level**2), 1.0, longest)) if level else float(longest)


def resamples(num_bars: int, mean_block: float, num_resamples: int = NUM_RESAMPLES) -> Iterator[NDArray[np.int32]]:
    """Bars of each resample of a history, by the stationary bootstrap (Politis and Romano 1994).

    Blocks of geometric length begin anywhere, and go on at the first bar after the last one.

    Args:
        num_bars: Bars of the history, T.
        mean_block: Mean length of a block, in bars, >= 1.
        num_resamples: How many.

    Yields:
        Some resamples at a time, [R, T] int32; the same ones for the same arguments.
    """
    rng, bars = np.random.default_rng(_SEED), np.arange(num_bars, dtype=np.int32)
    at_once = max(1, _MOST_NUMBERS // num_bars)
    for done in range(0, num_resamples, at_once):
        shape = (min(at_once, num_resamples - done), num_bars)
        begins = rng.random(shape, dtype=np.float32) < 1.0 / mean_block
        first = np.maximum.accumulate(np.where(begins, bars, 0), axis=1)
        starts = np.take_along_axis(rng.integers(num_bars, size=shape, dtype=np.int32), first, axis=1)
        indices = starts + (bars - first)
        yield np.where(indices < num_bars, indices, indices - num_bars)


def share_below(value: float, values: ArrayLike) -> float:
    """Share of values that are smaller than one, and half of those that equal it."""
    drawn = np.asarray(values, dtype=np.float64)
    return float((drawn < value).mean() + (drawn == value).mean() / 2)


def _resampled_means(series: Array) -> Array:
    """Mean of each of K series [T, K] in each resample, [R, K], by blocks that are long enough for all of them."""
    T = len(series)
    means = []
    for indices in resamples(T, max(block_length(column) for column in series.T)):
        R = len(indices)
        counts = np.bincount((indices + T * np.arange(R)[:, None]).ravel(), minlength=R * T).reshape(R, T)
        means.append(counts @ series / T)
    return np.concatenate(means)
