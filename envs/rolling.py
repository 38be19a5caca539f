"""Sums, spreads and extremes over the last rows of a series: the arithmetic under the features.

Everything is summed row by row in a fixed order. Unlike a running sum, no rounding is carried from one bar to the next,
so equal windows give equal bits wherever they stand in history, and nothing after a row can touch it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rolling_sum(x: Array, window: int, weights: Sequence[float] | None = None) -> Array:
    """Sum over the last ``window`` rows, [T, A]; NaN in the first; ``weights[0]`` belongs to the newest row."""
    total = np.full_like(x, np.nan)
    rows = max(len(x) - window + 1, 0)
    sums = np.zeros((rows, *x.shape[1:]))
    for k in range(window if rows else 0):
        newest_less_k = x[window - 1 - k : len(x) - k]
        sums += newest_less_k if weights is None else weights[k] * newest_less_k
    total[len(x) - rows :] = sums
    return total


def rolling_mean(x: Array, window: int) -> Array:
    """Mean of the last ``window`` rows, [T, A]; NaN in the first."""
    return rolling_sum(x, window) / window


def rolling_std(x: Array, window: int) -> Array:
    """Population standard deviation over the last ``window`` rows, in two passes (one pass would cancel)."""
    mean = rolling_mean(x, window)
    total = np.full_like(x, np.nan)
    squares = np.zeros_like(x[window - 1 :])
    for k in range(window if len(x) >= window else 0):
        squares += (x[window - 1 - k : len(x) - k] - mean[window - 1 :]) ** 2
    total[window - 1 :] = squares
    return np.sqrt(total / window)


def rolling_max(x: Array, window: int) -> Array:
    """Largest of the last ``window`` rows, [T, A]; NaN in the first."""
    out = np.full_like(x, np.nan)
    if len(x) >= window:
        best = x[window - 1 :].copy()
        for k in range(1, window):
            np.maximum(best, x[window - 1 - k : len(x) - k], out=best)
        out[window - 1 :] = best
    return out


def rolling_min(x: Array, window: int) -> Array:
    """Smallest of the last ``window`` rows, [T, A]; NaN in the first."""
    return -rolling_max(-x, window)


def shift(x: Array, bars: int) -> Array:
    """What x was ``bars`` bars ago; NaN where there was none."""
    out = np.full_like(x, np.nan)
    if len(x) > bars:
        out[bars:] = x[: len(x) - bars]
    return out


def ema(x: Array, span: int, window: int) -> Array:
    """Exponential average of the usual span, cut off after ``window`` rows so that its memory ends."""
    weights = (1 - 2 / (span + 1)) ** np.arange(window)
    return rolling_sum(x, window, (weights / weights.sum()).tolist())
