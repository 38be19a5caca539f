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

from envs.portfolio_optimisers import (
    highest_ratio_weights,
    least_variance_weights,
    risk_parity_weights,
    shrunk_covariance,
    shrunk_means,
)

Array = NDArray[np.float64]
MOMENTUM_MONTHS = 6
ESTIMATION_MONTHS = 12
VOLATILITY_MONTHS = 3
TARGET_VOLATILITY = 0.10
"""A year, as a fraction."""


class History(NamedTuple):
    """What a rule is shown.

    Attributes:
        closes: Last close of each day so far of the assets that are traded now, [D, A] float64, read-only; the last row
            is the close of the decision bar. Before an asset's first bar they repeat its first price.
        days: These days, [D] datetime64[D]. Bars longer than a day are a day each.
        assets: Names of the columns, A of them.
        days_per_year: Rows in a year, for annualising.
        ends_month: Whether the next bar lies in another month, as the calendar of an exchange says beforehand.
        chosen: Weights that the rule answered with last, [A], 0 for an asset that is new; None before its first answer.
        shared: The first row on which all of the assets were traded.
    """

    closes: Array
    days: NDArray[np.datetime64]
    assets: tuple[str, ...]
    days_per_year: float = 252.0
    ends_month: bool = False
    chosen: Array | None = None
    shared: int = 0

    def last(self, months: int) -> Array:
        """Closes from so many months ago (the same day of the month, or the nearest before) or from ``shared`` on."""
        month = self.days[-1].astype("datetime64[M]")
        begin, end = ((month - months + more).astype("datetime64[D]") for more in (0, 1))
        ago = min(begin + (self.days[-1] - month.astype("datetime64[D]")), end - 1)  # the 31st may be the 28th there
        return self.closes[max(int(np.searchsorted(self.days, ago, side="right")) - 1, self.shared) :]


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
    returns = _returns(history, ESTIMATION_MONTHS)
    return equal(history) if len(returns) < 2 else least_variance_weights(shrunk_covariance(returns))


def risk_parity(history: History) -> Array:
    """Each asset adds the same to the risk (Maillard, Roncalli and Teiletche 2010), by the same covariance."""
    returns = _returns(history, ESTIMATION_MONTHS)
    return equal(history) if len(returns) < 2 else risk_parity_weights(shrunk_covariance(returns))


def max_sharpe(history: History) -> Array:
    """The long-only portfolio with the highest Sharpe ratio, by the same covariance and by shrunk mean returns.

    Markowitz (1952), with means by Jorion (1986); cash where no asset is expected to gain.
    """
    returns = _returns(history, ESTIMATION_MONTHS)
    if len(returns) < 2:
        return equal(history)
    covariance = shrunk_covariance(returns)
    return highest_ratio_weights(shrunk_means(returns, covariance), covariance)


def volatility_target(history: History) -> Array:
    """Equal parts of as much of the capital as would have varied by 10 % a year lately, and of no more than all of it.

    By the volatility of equal parts over the last three months, as in Moreira and Muir (2017), but without leverage.
    """
    returns = _returns(history, VOLATILITY_MONTHS).mean(axis=1)
    volatility = returns.std(ddof=1) * np.sqrt(history.days_per_year) if len(returns) > 1 else 0.0
    return equal(history) * (TARGET_VOLATILITY / max(volatility, TARGET_VOLATILITY))


def sixty_forty(history: History) -> Array:
    """60 % of the capital in equal parts, 40 % in cash, which earns the floor's rate."""
    return 0.6 * equal(history)


def best_asset(history: History) -> Array:
    """All in what has gained most from the first close to the last; in hindsight, where these are the split's."""
    gains = history.closes[-1] / history.closes[0]
    return np.eye(len(gains))[gains.argmax()]


def _returns(history: History, months: int) -> Array:
    """Daily returns of the last months, [D - 1, A]."""
    closes = history.last(months)
    return closes[1:] / closes[:-1] - 1.0
