"""Portfolio rules: plain functions that are shown what has happened so far and say what to hold.

A rule is asked before the first order and at the last bar of every day, so that it does the same on bars of any length.
It answers with target weights, or with None to leave the positions as they are; ``once`` and ``monthly`` make rules of
others that answer less often. One of your own is no different: ``backtest.py --baselines my_package.rules:my_rule``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.portfolio_optimisers import least_variance_weights, shrunk_covariance

Array = NDArray[np.float64]
MOMENTUM_MONTHS = 6
COVARIANCE_MONTHS = 12


class History(NamedTuple):
    """What a rule is shown.

    Attributes:
        closes: Last close of each day so far, [D, A] float64, read-only; the last row is the close of the decision bar.
        days: These days, [D] datetime64[D]. Bars longer than a day are a day each.
        assets: Names of the columns, A of them.
        days_per_year: Rows in a year, for annualising.
        ends_month: Whether the next bar lies in another month, as the calendar of an exchange says beforehand.
        chosen: Weights that the rule answered with last, [A]; None before its first answer.
    """

    closes: Array
    days: NDArray[np.datetime64]
    assets: tuple[str, ...]
    days_per_year: float = 252.0
    ends_month: bool = False
    chosen: Array | None = None

    def last(self, months: int) -> Array:
        """Closes from so many months ago (the same day of the month, or the nearest before it) or from the first on."""
        month = self.days[-1].astype("datetime64[M]")
        begin, end = ((month - months + more).astype("datetime64[D]") for more in (0, 1))
        ago = min(begin + (self.days[-1] - month.astype("datetime64[D]")), end - 1)  # the 31st may be the 28th there
        return self.closes[max(int(np.searchsorted(self.days, ago, side="right")) - 1, 0) :]


Rule = Callable[[History], Array | None]
"""From what has happened to weights [A], |weights| summing to at most 1, the rest in cash; None trades nothing.

Negative weights are left out where the strategy may not be short.
"""


def once(rule: Rule) -> Rule:
    """The rule, asked before the first order only."""
    return wraps(rule)(lambda history: rule(history) if history.chosen is None else None)


def monthly(rule: Rule) -> Rule:
    """The rule, asked before the first order and at the ends of months."""
    return wraps(rule)(lambda history: rule(history) if history.chosen is None or history.ends_month else None)


def nothing(history: History) -> Array:
    """Hold cash."""
    return np.zeros(len(history.assets))


def equal(history: History) -> Array:
    """The same weight in every asset (DeMiguel, Garlappi and Uppal 2009)."""
    return np.full(len(history.assets), 1.0 / len(history.assets))


def momentum(history: History) -> Array:
    """Long what rose over the last six months, short what fell, in equal parts (Moskowitz et al. 2012).

    Where shorts have grown past the floor's leverage, the floor trims them between rebalances.
    """
    closes = history.last(MOMENTUM_MONTHS)
    return np.sign(closes[-1] / closes[0] - 1.0) / len(history.assets)


def minimum_variance(history: History) -> Array:
    """The long-only portfolio of least variance, by the shrunk covariance of the daily returns of the last year."""
    closes = history.last(COVARIANCE_MONTHS)
    if len(closes) < 3:
        return equal(history)
    return least_variance_weights(shrunk_covariance(closes[1:] / closes[:-1] - 1.0))
