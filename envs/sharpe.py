"""Sharpe ratios, and how much of one may be luck: its errors, its probability, and what the best of many would show.

Pure numpy; conventions as in ``envs/metrics.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

FLAT = 1e-14
"""A spread of returns below this is the rounding of a flat curve."""


def sharpe_ratio(returns: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0) -> float:
    """Mean excess return over standard deviation, a year (Sharpe 1994); 0 where returns do not vary.

    Args:
        returns: Simple returns per bar, [T].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.
    """
    excess = series_of(returns) - per_bar(risk_free, periods_per_year)
    return float(annual_sharpe(excess.mean(), spread_of(excess), periods_per_year)) if len(excess) else 0.0


def sharpe_standard_error(returns: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0) -> float:
    """Standard error of the annual Sharpe ratio, for skewed and fat-tailed returns.

    sqrt((1 + S^2 / 2 - skew S + (kurtosis - 3) / 4 S^2) / (T - 1)), annualised, with S the Sharpe ratio per bar and
    kurtosis 3 for normal returns. The first two terms are Lo (2002) for normal returns; the others are Mertens (2002)
    for skewed and fat-tailed ones, in the form of Bailey and Lopez de Prado (2012, eq. 8). Returns are taken to be
    independent from bar to bar.

    Args:
        returns: Simple returns per bar, [T].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        Standard error in the units of ``sharpe_ratio``; 0 for fewer than two returns or a flat curve.
    """
    excess = series_of(returns) - per_bar(risk_free, periods_per_year)
    spread = spread_of(excess)
    if spread == 0:
        return 0.0
    variance = _sharpe_variance(float(excess.mean() / spread), *_skew_kurtosis(excess), len(excess))
    return float(np.sqrt(variance * periods_per_year))


def sharpe_standard_error_hac(returns: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0) -> float:
    """Standard error of the annual Sharpe ratio, for returns that hang on those before them.

    By Lo (2002, the case of returns that are not independent): the ratio's error is the mean of
    ``z - S / 2 (z^2 - 1)`` with z the standardised excess return, whose long-run variance is estimated with the weights
    of Newey and West (1987) over ``floor(4 (T / 100)^(2/9))`` lags (Newey and West 1994). Without any lag it is
    ``sharpe_standard_error``, to the last digits.

    Args:
        returns: Simple returns per bar, [T].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        Standard error in the units of ``sharpe_ratio``; 0 for fewer than two returns or a flat curve.
    """
    error = _sharpe_error(series_of(returns) - per_bar(risk_free, periods_per_year))
    return float(np.sqrt(_variance_of_mean(error) * periods_per_year))


def sharpe_difference_error(
    returns: ArrayLike, others: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0
) -> float:
    """Standard error of the difference of two annual Sharpe ratios over the same bars (Ledoit and Wolf 2008, 3.1).

    The difference of the two ratios' errors bar by bar, so that what both owe to the market cancels; its long-run
    variance as in ``sharpe_standard_error_hac``.

    Args:
        returns: Simple returns per bar, [T].
        others: Those that they are compared with, [T].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        Standard error in the units of ``sharpe_ratio``; a flat curve adds nothing to it.
    """
    cash = per_bar(risk_free, periods_per_year)
    error = _sharpe_error(series_of(returns) - cash) - _sharpe_error(series_of(others) - cash)
    return float(np.sqrt(_variance_of_mean(error) * periods_per_year))


def probabilistic_sharpe_ratio(
    returns: ArrayLike, *, periods_per_year: float, benchmark: float = 0.0, risk_free: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark (Bailey and Lopez de Prado 2012, eq. 11).

    Args:
        returns: Simple returns per bar, [T].
        periods_per_year: Bars in a year.
        benchmark: Annual Sharpe ratio to beat.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        A probability; 0.5 for fewer than two returns, which show nothing. Returns that do not vary, as of who never
        trades, have a ratio of 0, and the standard error of such a ratio by as many normal returns.
    """
    num_returns = len(series_of(returns))
    if num_returns < 2:
        return 0.5
    error = sharpe_standard_error(returns, periods_per_year=periods_per_year, risk_free=risk_free)
    if error == 0:
        error = float(np.sqrt(_sharpe_variance(0.0, 0.0, 3.0, num_returns) * periods_per_year))
    ratio = sharpe_ratio(returns, periods_per_year=periods_per_year, risk_free=risk_free)
    return float(ndtr((ratio - benchmark) / error))


def expected_max_sharpe(trial_sharpes: ArrayLike) -> float:
    """Sharpe ratio that the best of several worthless trials is expected to show.

    By Bailey and Lopez de Prado (2014, eq. 1) it is sqrt(V) ((1 - g) Z(1 - 1/n) + g Z(1 - 1/(n e))) with V the variance
    of the trials' ratios, g Euler's constant, Z the normal quantile.

    Args:
        trial_sharpes: Sharpe ratio of every trial of the search, [n], all in the same units.

    Returns:
        The expected maximum in those units; 0 for fewer than two trials.
    """
    trials = series_of(trial_sharpes)
    n = len(trials)
    if n < 2:
        return 0.0
    weight = float(np.euler_gamma)
    best = (1 - weight) * ndtri(1 - 1 / n) + weight * ndtri(1 - 1 / (n * np.e))
    return float(trials.std(ddof=1) * best)


def deflated_sharpe_ratio(
    returns: ArrayLike, trial_sharpes: Sequence[ArrayLike], *, periods_per_year: float, risk_free: float = 0.0
) -> float:
    """Probability that what was chosen among many has a true Sharpe ratio above what luck alone would show.

    The probabilistic Sharpe ratio against ``expected_max_sharpe`` (Bailey and Lopez de Prado 2014). Where a model was
    chosen anew for each of several periods, that is their mean: the ratios of one period are compared with one another
    and never with those of another, which differ by what the market did.

    Args:
        returns: Simple returns per bar of the chosen strategy, [T].
        trial_sharpes: For each choice the annual Sharpe ratios of all that was tried, the chosen one among them, [n].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.
    """
    hurdle = float(np.mean([expected_max_sharpe(tried) for tried in trial_sharpes]))
    return probabilistic_sharpe_ratio(returns, periods_per_year=periods_per_year, benchmark=hurdle, risk_free=risk_free)


def annual_sharpe(mean: ArrayLike, spread: ArrayLike, periods_per_year: float) -> Array:
    """Mean over standard deviation of a bar's return, a year; 0 where the deviation is only rounding."""
    mean, spread = np.asarray(mean, dtype=np.float64), np.asarray(spread, dtype=np.float64)
    varies = spread > FLAT
    return np.where(varies, mean / np.where(varies, spread, 1.0), 0.0) * np.sqrt(periods_per_year)


def series_of(values: ArrayLike) -> Array:
    """Check a series of numbers, [T] float64.

    Raises:
        ValueError: if it is not one-dimensional, or a number of it is not finite.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise ValueError(f"expected a finite series [T], got shape {series.shape}")
    return series


def spread_of(series: Array) -> float:
    """Sample standard deviation, and 0 where it is only rounding."""
    if len(series) < 2:
        return 0.0
    spread = float(series.std(ddof=1))
    return spread if spread > FLAT else 0.0


def per_bar(annual: float, periods_per_year: float) -> float:
    """What cash earns in a bar, at a rate a year: the floor pays it so, without interest on interest within a year."""
    return annual / periods_per_year


def _sharpe_error(excess: Array) -> Array:
    """What each bar adds to the error of a Sharpe ratio per bar, [T], mean 0; zeros for a flat curve."""
    spread = spread_of(excess)
    if spread == 0:
        return np.zeros_like(excess)
    z = (excess - excess.mean()) / excess.std()
    error: Array = z - excess.mean() / spread / 2 * (z**2 - 1)
    return error


def _variance_of_mean(error: Array) -> float:
    """Variance of the mean of a series of mean 0 whose bars hang on those before them (Newey and West 1987)."""
    T = len(error)
    if T < 2:
        return 0.0
    num_lags = min(int(4 * (T / 100) ** (2 / 9)), T - 1)
    covariances = np.array([error[j:] @ error[: T - j] for j in range(num_lags + 1)]) / T
    weights = 1 - np.arange(num_lags + 1) / (num_lags + 1)
    variance = covariances[0] + 2 * float(weights[1:] @ covariances[1:])
    return float(max(variance, 0.0)) / (T - 1)


def _skew_kurtosis(series: Array) -> tuple[float, float]:
    """Skewness and (not excess) kurtosis, from population moments."""
    centred = series - series.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**3) / variance**1.5), float(np.mean(centred**4) / variance**2)


def _sharpe_variance(sharpe: float, skew: float, kurtosis: float, num_returns: int) -> float:
    """Variance of the estimate of a Sharpe ratio per bar; the bracket is at least 0 because kurtosis >= 1 + skew^2."""
    return max(1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2, 0.0) / (num_returns - 1)
