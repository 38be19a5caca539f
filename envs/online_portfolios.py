"""Online portfolio selection: rules that go on from their last weights by what prices did since, and what they chase.

They take no cost into account. Parameters are those of the papers; a rule of others is ``partial(pamr, epsilon=0.9)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.portfolio_rules import History, equal

Array = NDArray[np.float64]


def exponentiated_gradient(history: History, *, eta: float = 0.05) -> Array:
    """EG (Helmbold, Schapire, Singer and Warmuth 1998, eq. 3.3): a little more of what has gained more than the rest.

    Args:
        history: What has happened so far.
        eta: Learning rate.
    """
    if history.chosen is None or not history.chosen.any():  # or all that was held is gone
        return equal(history)
    relatives = _last_relatives(history)
    weights = history.chosen * np.exp(eta * relatives / (history.chosen @ relatives))
    return weights / weights.sum()


def pamr(history: History, *, epsilon: float = 0.5) -> Array:
    """PAMR (Li, Zhao, Hoi and Gopalkrishnan 2012, algorithm 1): bets that what has gained falls back.

    Args:
        history: What has happened so far.
        epsilon: Relative of the portfolio above which it is changed, so that it would have come to no more.
    """
    if history.chosen is None:
        return equal(history)
    relatives = _last_relatives(history)
    return _step(history.chosen, relatives, -max(0.0, float(history.chosen @ relatives) - epsilon))


def olmar(history: History, *, epsilon: float = 10.0, window: int = 5) -> Array:
    """OLMAR-1 (Li and Hoi 2012, algorithms 1 and 2): bets that prices go back to their moving average tomorrow.

    Args:
        history: What has happened so far; as many days as there are where these are fewer than the window.
        epsilon: Relative of the portfolio that is aimed for.
        window: Days of the moving average.
    """
    chosen = equal(history) if history.chosen is None else history.chosen
    expected = history.closes[-window:].mean(axis=0) / history.closes[-1]
    return _step(chosen, expected, max(0.0, epsilon - float(chosen @ expected)))


def best_constant_weights(history: History) -> Array:
    """BCRP (Cover 1991): of all weights that are kept by rebalancing, those that gain most from first close to last.

    In hindsight, where these are the split's: worked out at the first decision, and kept.
    """
    if history.chosen is not None:
        return history.chosen
    from scipy.optimize import minimize  # here, as in envs/synthetic.py

    relatives = history.closes[1:] / history.closes[:-1]

    def loss(weights: Array) -> tuple[float, Array]:
        """Mean log growth, and its gradient, with the signs changed."""
        growth = relatives @ weights
        return -float(np.log(growth).mean()), -(relatives / growth[:, None]).mean(axis=0)

    whole = {"type": "eq", "fun": lambda weights: weights.sum() - 1.0, "jac": np.ones_like}
    start, bounds = equal(history), [(0.0, 1.0)] * len(history.assets)
    options = {"ftol": 1e-15, "maxiter": 1000}
    found = minimize(loss, start, jac=True, bounds=bounds, constraints=whole, method="SLSQP", options=options)
    weights = np.maximum(found.x, 0.0)
    return weights / weights.sum()


def project_to_simplex(point: Array) -> Array:
    """The nearest weights >= 0 that sum to 1, [A] (Duchi, Shalev-Shwartz, Singer and Chandra 2008, figure 1)."""
    falling = np.sort(point)[::-1]
    above = (np.cumsum(falling) - 1.0) / np.arange(1, len(point) + 1)
    return np.maximum(point - above[np.flatnonzero(falling > above)[-1]], 0.0)


def _last_relatives(history: History) -> Array:
    """Close over the close of the day before, [A]."""
    return history.closes[-1] / history.closes[-2]


def _step(weights: Array, direction: Array, change: float) -> Array:
    """Change the value of a portfolio along a direction by so much, with the least change of weights that sum to 1."""
    apart = direction - direction.mean()
    size = apart @ apart
    return weights if size == 0 else project_to_simplex(weights + change / size * apart)
