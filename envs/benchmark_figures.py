"""How returns compare with those of a benchmark over the same bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.metrics import annual_volatility
from envs.sharpe import sharpe_ratio

Array = NDArray[np.float64]
BENCHMARK_FIGURES = ("alpha", "beta", "tracking_error", "information_ratio", "up_capture", "down_capture")


def benchmark_figures(
    returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0
) -> dict[str, float]:
    """Compare simple returns with a benchmark's.

    Beta and alpha are slope and intercept of the returns above cash over the benchmark's above cash (Jensen 1968); the
    tracking error is the standard deviation of the difference of returns, the information ratio its mean over that
    (Grinold and Kahn 2000); up and down capture are the mean growth on bars on which the benchmark rose, or fell, over
    the benchmark's own mean growth on them.

    Args:
        returns: Simple returns per bar, [T], T >= 2, finite.
        benchmark: The benchmark's, of the same bars, [T].
        periods_per_year: Bars in a year.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        ``BENCHMARK_FIGURES``; alpha, tracking error and information ratio a year. What would divide by a benchmark that
        does not vary, rise or fall, or by a difference that does not vary, is 0.
    """
    own, other = np.asarray(returns, dtype=np.float64), np.asarray(benchmark, dtype=np.float64)
    varies = annual_volatility(other, periods_per_year=periods_per_year) > 0
    beta = float(np.cov(own, other)[0, 1] / other.var(ddof=1)) if varies else 0.0
    active = own - other
    values = (
        float(own.mean() - beta * other.mean()) * periods_per_year - (1.0 - beta) * risk_free,
        beta,
        annual_volatility(active, periods_per_year=periods_per_year),
        sharpe_ratio(active, periods_per_year=periods_per_year),
        _capture(own, other, other > 0),
        _capture(own, other, other < 0),
    )
    return dict(zip(BENCHMARK_FIGURES, values, strict=True))


def _capture(own: Array, other: Array, counts: NDArray[np.bool_]) -> float:
    """Geometric mean return on the bars that count, over the benchmark's."""
    if not counts.any():
        return 0.0
    mean, mean_of_other = (
        np.maximum(1.0 + series[counts], 0.0).prod() ** (1.0 / counts.sum()) - 1.0 for series in (own, other)
    )
    return float(mean / mean_of_other)
