"""How sure the mean of several seeds is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean of several seeds with its confidence interval."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % confidence interval of independent values by Student: mean -+ t(n - 1) s / sqrt(n).

    For values without bounds: of a figure that has some, its ends may lie beyond (see ``percentile_interval``).

    Args:
        values: One for each seed.

    Returns:
        Both ends are NaN with one seed.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def percentile_interval(mean: float, resampled: ArrayLike) -> Interval:
    """A mean with the middle 95 % of what it was in resamples (Efron 1979): within what each of them can be.

    Args:
        mean: As measured.
        resampled: The same mean in each resample, [R].
    """
    tail = 0.5 - CONFIDENCE / 2
    low, high = np.quantile(np.asarray(resampled, dtype=np.float64), [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))
