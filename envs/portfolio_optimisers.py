"""Covariances, and the portfolios that are best by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LEAST_VARIANCE = 1e-12  # of a direction, as a share of the mean variance of an asset
_QUADRATIC, _CONVERGED, _MOST_STEPS = 0.36, 1e-9, 200


def shrunk_covariance(returns: Array) -> Array:
    """Covariance shrunk toward a multiple of the identity by the share that minimises the expected error.

    Args:
        returns: [T, A], T >= 2.

    Returns:
        [A, A] float64, positive definite where any asset has moved (Ledoit and Wolf 2004, "A well-conditioned
        estimator for large-dimensional covariance matrices").
    """
    num_bars, num_assets = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / num_bars
    target = np.trace(sample) / num_assets * np.eye(num_assets)
    distance = ((sample - target) ** 2).sum()
    noise = ((centred**2).T @ (centred**2) / num_bars - sample**2).sum() / num_bars
    share = 1.0 if distance <= 0 else min(1.0, max(0.0, noise / distance))
    return share * target + (1.0 - share) * sample


def shrunk_means(returns: Array, covariance: Array) -> Array:
    """Mean returns, shrunk toward that of the portfolio of least variance (Bayes-Stein: Jorion 1986, eq. 14 and 17).

    Args:
        returns: [T, A].
        covariance: Of the returns, [A, A]; Jorion takes the sample's, a shrunk one serves as well.

    Returns:
        [A] float64, per bar.
    """
    num_bars, num_assets = returns.shape
    means, precision = returns.mean(axis=0), np.linalg.pinv(covariance, hermitian=True)
    total = precision.sum()
    centre = precision.sum(axis=0) @ means / total if total > 0 else means.mean()
    apart = means - centre
    share = (num_assets + 2) / (num_assets + 2 + num_bars * (apart @ precision @ apart))
    return means - share * apart


def least_variance_weights(covariance: Array) -> Array:
    """Weights >= 0 that sum to 1 and have the least variance, [A]."""
    return highest_ratio_weights(np.ones(len(covariance)), covariance)


def highest_ratio_weights(means: Array, covariance: Array) -> Array:
    """Weights >= 0 that sum to 1 and have the highest mean for their deviation, [A]; zeros where no mean is above 0.

    Minimising w'Cw + (means'w - 1)^2 over w >= 0 gives a multiple of the answer, and is a least-squares problem: along
    a direction of mean 1 and variance v it comes to v / (1 + v).

    Args:
        means: [A].
        covariance: [A, A]; where nothing varies, what has the highest means is held in equal parts.
    """
    best = means.max()
    if not best > 0:
        return np.zeros_like(means)
    scale = np.trace(covariance) / len(means)
    if not scale > 0:
        return (means == best) / np.sum(means == best)
    values, vectors = np.linalg.eigh(covariance / scale)
    root = (vectors * np.sqrt(np.maximum(values, _LEAST_VARIANCE))).T
    from scipy.optimize import nnls  # here, as in envs/synthetic.py

    weights, _ = nnls(np.vstack([root, means / best]), np.r_[np.zeros(len(means)), 1.0])
    return weights / weights.sum()


def risk_parity_weights(covariance: Array) -> Array:
    """Weights > 0 that sum to 1, of which each adds the same to the variance (Maillard, Roncalli and Teiletche 2010).

    They are a multiple of what minimises x'Cx / 2 - sum(log(x)) / A; damped Newton steps find it from anywhere (Spinu
    2013, "An algorithm for computing risk parity weights").

    Args:
        covariance: [A, A]; equal parts where nothing varies.
    """
    num_assets = len(covariance)
    scale = np.trace(covariance) / num_assets
    if not scale > 0:
        return np.full(num_assets, 1.0 / num_assets)
    scaled = covariance / scale + _LEAST_VARIANCE * np.eye(num_assets)
    x = 1.0 / np.sqrt(np.diag(scaled) * num_assets)
    for _ in range(_MOST_STEPS):
        gradient = scaled @ x - 1.0 / (num_assets * x)
        step = np.linalg.solve(scaled + np.diag(1.0 / (num_assets * x**2)), gradient)
        decrement = np.sqrt(num_assets * max(gradient @ step, 0.0))
        x = x - (step if decrement < _QUADRATIC else step / (1.0 + np.abs(step / x).max()))
        if decrement < _CONVERGED:
            break
    return x / x.sum()
