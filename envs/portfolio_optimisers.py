"""Covariances, and the portfolios that are best by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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


def least_variance_weights(covariance: Array) -> Array:
    """Weights >= 0 that sum to 1 and have the least variance, [A].

    Minimising w'Cw + (sum(w) - 1)^2 over w >= 0 gives a multiple of the answer, and is a least-squares problem.
    """
    num_assets = len(covariance)
    scale = np.trace(covariance) / num_assets
    if not scale > 0:
        return np.full(num_assets, 1.0 / num_assets)
    values, vectors = np.linalg.eigh(covariance / scale)
    root = (vectors * np.sqrt(np.maximum(values, 1e-12))).T
    system = np.vstack([root, np.ones((1, num_assets))])
    from scipy.optimize import nnls  # here, as in envs/synthetic.py

    weights, _ = nnls(system, np.r_[np.zeros(num_assets), 1.0])
    return weights / weights.sum()
