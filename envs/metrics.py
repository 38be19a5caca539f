"""Performance of an equity curve: returns, risk, and what was traded for them.

``performance`` has the whole curve; ``performance_of_sums`` has what a floor adds up along many curves at once. Both
call the same formulas, and where they share a name they mean the same.

Pure numpy. Conventions, the same everywhere: simple returns per bar; standard deviations with one degree of freedom
taken off; annualised by ``periods_per_year`` of the market at hand and never by a habit (252 or 365); losses as
negative numbers; Sharpe and Sortino ratios of what is earned above ``risk_free``, the rate that cash earns on the floor
(a bar's share of it each bar), so that a portfolio has the same ratios as its mixtures with cash. Degenerate curves
give defined values and never NaN: a ratio whose denominator is 0 is 0, a curve of one bar has returned nothing and
risked nothing, and a curve that reaches 0 has lost everything and stays there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.sharpe import (
    FLAT,
    annual_sharpe,
    per_bar,
    series_of,
    sharpe_ratio,
    sharpe_standard_error,
    sharpe_standard_error_hac,
    spread_of,
)

Array = NDArray[np.float64]

METRIC_NAMES = (
    "total_return",
    "annual_return",
    "annual_volatility",
    "sharpe",
    "sharpe_se",
    "sharpe_se_hac",
    "sortino",
    "calmar",
    "max_drawdown",
    "cvar_95",
    "turnover",
    "total_costs",
    "win_rate",
    "num_trades",
    "final_equity",
    "liquidation_equity",
    "unfilled_notional",
    "gross_exposure",
    "net_exposure",
)

_NOTHING = 1e-9  # share of the first value
_MOST_GROWTH = 230.0  # log of 1e100


def performance(
    equity: ArrayLike,
    *,
    periods_per_year: float,
    turnover: float = 0.0,
    total_costs: float = 0.0,
    num_trades: int = 0,
    liquidation_equity: float | None = None,
    unfilled_notional: float = 0.0,
    gross_exposure: float = 0.0,
    net_exposure: float = 0.0,
    risk_free: float = 0.0,
) -> dict[str, Any]:
    """Every metric of one equity curve, under the names that ``backtest.json`` promises.

    Args:
        equity: Account value at each bar, the first before anything was traded, [T], T >= 1, in US dollars, finite.
        periods_per_year: Bars in a year, > 0.
        turnover: Value traded a year over mean equity; see ``annual_turnover``.
        total_costs: Commission, spread, impact and borrow fees paid, in US dollars; interest is not in it.
        num_trades: Fills: an agent, an asset and a bar with shares other than zero. Orders of agents that cross inside
            their account are fills too, though they cost nothing and are no turnover.
        liquidation_equity: What the last value would be if every position were closed, in US dollars; None: the same.
        unfilled_notional: Value of what the market did not take of all orders, in US dollars.
        gross_exposure: Mean over bars of the value of all positions, shorts as much as longs, over equity.
        net_exposure: The same with shorts negative.
        risk_free: Rate a year that cash earns, as a fraction.

    Returns:
        The metrics named in ``METRIC_NAMES``, in that order; plain floats, and an int for ``num_trades``.

    Raises:
        ValueError: if the curve is empty, not one-dimensional or not finite, does not begin above 0, or a year has no
            bars.
    """
    curve = _curve(equity)
    returns = simple_returns(curve)
    ppy = float(periods_per_year)
    if not ppy > 0:
        raise ValueError(f"periods_per_year is {periods_per_year}, expected a number above 0")
    values = (
        total_return(curve),
        annual_return(curve, periods_per_year=ppy),
        annual_volatility(returns, periods_per_year=ppy),
        sharpe_ratio(returns, periods_per_year=ppy, risk_free=risk_free),
        sharpe_standard_error(returns, periods_per_year=ppy, risk_free=risk_free),
        sharpe_standard_error_hac(returns, periods_per_year=ppy, risk_free=risk_free),
        sortino_ratio(returns, periods_per_year=ppy, risk_free=risk_free),
        calmar_ratio(curve, periods_per_year=ppy),
        max_drawdown(curve),
        conditional_value_at_risk(returns, level=0.95),
        float(turnover),
        float(total_costs),
        win_rate(returns),
        int(num_trades),
        float(np.asarray(equity, dtype=np.float64)[-1]),
        float(np.asarray(equity, dtype=np.float64)[-1]) if liquidation_equity is None else float(liquidation_equity),
        float(unfilled_notional),
        float(gross_exposure),
        float(net_exposure),
    )
    return dict(zip(METRIC_NAMES, values, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveSums:
    """Sums along B equity curves of one length, [B] float64 each; enough for most figures without keeping the curves.

    A curve that ended in ruin counts to its full length: the account is closed and keeps its last value, as in a
    backtest.

    Attributes:
        num_bars: Bars after the first value of a curve, >= 1.
        num_traded: Bars that were traded, fewer than ``num_bars`` only after a ruin.
        first: Value before anything was traded, US dollars, > 0.
        last: Value at the end.
        equity: Sum of the values after the first, over the bars that were traded.
        returns: Sum of simple returns.
        squares: Sum of their squares.
        deepest: Deepest fall from a peak, as a fraction of the peak, >= 0.
        traded_usd: Absolute value of all fills.
    """

    num_bars: int
    num_traded: Array
    first: Array
    last: Array
    equity: Array
    returns: Array
    squares: Array
    deepest: Array
    traded_usd: Array


def performance_of_sums(sums: CurveSums, *, periods_per_year: float, risk_free: float = 0.0) -> dict[str, Array]:
    """Figures of many equity curves: ``sharpe``, ``calmar``, ``max_drawdown``, ``turnover``, [B] float64 each.

    They are those of ``performance``, but for rounding: a variance from sums loses what two large sums have in common,
    so returns that vary by less than that are taken not to vary.
    """
    T, year = sums.num_bars, float(periods_per_year)
    mean = sums.returns / T
    variance = np.maximum(sums.squares - mean * sums.returns, 0.0)
    is_rounding = variance <= sums.squares * (T * np.finfo(np.float64).eps)
    spread = np.where(is_rounding, 0.0, np.sqrt(variance / max(T - 1, 1)))
    drawdown = -np.minimum(sums.deepest, 1.0)
    growth = _annual_growth(sums.last / sums.first, T, year)
    equity = sums.first + sums.equity + sums.last * (T - sums.num_traded)
    return {
        "sharpe": annual_sharpe(mean - per_bar(risk_free, year), spread, year),
        "calmar": _calmar(growth, drawdown),
        "max_drawdown": drawdown,
        "turnover": _annual_turnover(sums.traded_usd, equity / (T + 1), T, year),
    }


def simple_returns(equity: ArrayLike) -> Array:
    """Return of each bar, E_t / E_(t-1) - 1, [T - 1]; 0 on every bar after ruin (equity at or below 0)."""
    curve = _curve(equity)
    before = np.maximum.accumulate(curve <= 0)[:-1]
    return np.where(before, 0.0, curve[1:] / np.where(before, 1.0, curve[:-1]) - 1.0)


def total_return(equity: ArrayLike) -> float:
    """Gain over the whole curve as a fraction of its first value, not below -1 after ruin."""
    curve = _curve(equity)
    return -1.0 if (curve <= 0).any() else float(curve[-1] / curve[0] - 1.0)


def annual_return(equity: ArrayLike, *, periods_per_year: float) -> float:
    """Compound growth rate a year (CAGR), (E_T / E_0)^(periods_per_year / (T - 1)) - 1; -1 after ruin.

    Over a few bars the power can exceed what a float holds; it is cut at 1e100.
    """
    curve = _curve(equity)
    if (curve <= 0).any():
        return -1.0
    if len(curve) < 2:
        return 0.0
    return float(_annual_growth(curve[-1] / curve[0], len(curve) - 1, periods_per_year))


def annual_volatility(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Standard deviation of returns times the root of periods a year; 0 for fewer than two returns."""
    return spread_of(series_of(returns)) * float(np.sqrt(periods_per_year))


def sortino_ratio(returns: ArrayLike, *, periods_per_year: float, risk_free: float = 0.0) -> float:
    """Mean excess return over downside deviation, a year (Sortino and Price 1994).

    The downside deviation is the root mean square of the negative excess returns over **all** bars. 0 where no bar
    loses.
    """
    excess = series_of(returns) - per_bar(risk_free, periods_per_year)
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2))) if len(excess) else 0.0
    return float(excess.mean() / downside * np.sqrt(periods_per_year)) if downside > FLAT else 0.0


def drawdowns(equity: ArrayLike) -> Array:
    """Distance of each bar below the highest value so far, as a negative fraction of it, [T]; -1 after ruin."""
    curve = _curve(equity)
    return np.maximum(curve / np.maximum.accumulate(curve) - 1.0, -1.0)


def max_drawdown(equity: ArrayLike) -> float:
    """Deepest fall from a peak, as a negative fraction of the peak; 0 for a curve that never falls, -1 after ruin."""
    return float(drawdowns(equity).min())


def calmar_ratio(equity: ArrayLike, *, periods_per_year: float) -> float:
    """Annual return over the size of the deepest drawdown (Young 1991); 0 where there is none."""
    return float(_calmar(annual_return(equity, periods_per_year=periods_per_year), max_drawdown(equity)))


def conditional_value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> float:
    """Mean return of the worst ``1 - level`` of bars, negative for a loss (expected shortfall).

    Rockafellar and Uryasev (2000). The worst fraction counts at least one bar, and whole bars only, as in empyrical.
    """
    series = np.sort(series_of(returns))
    if not len(series):
        return 0.0
    worst = max(int((len(series) - 1) * (1 - level) + 1e-9) + 1, 1)
    return float(series[:worst].mean())


def win_rate(returns: ArrayLike) -> float:
    """Share of gaining bars among the bars that gained or lost; 0 where none did either."""
    series = series_of(returns)
    moved = int((series != 0).sum())
    return float((series > 0).sum() / moved) if moved else 0.0


def annual_turnover(traded_usd: ArrayLike, equity: ArrayLike, *, periods_per_year: float) -> float:
    """Value traded a year, buys and sells added, over mean equity.

    Args:
        traded_usd: Absolute value of all fills of each bar, [T - 1] or [T], in US dollars.
        equity: Account value, [T].
        periods_per_year: Bars in a year.

    Returns:
        Turnover as a multiple of equity a year: 2.0 is one full round trip. 0 for a curve of one bar.
    """
    curve = _curve(equity)
    if len(curve) < 2:
        return 0.0
    traded = np.sum(np.asarray(traded_usd, dtype=np.float64))
    return float(_annual_turnover(traded, curve.mean(), len(curve) - 1, periods_per_year))


def _annual_growth(ratio: ArrayLike, num_bars: int, periods_per_year: float) -> Array:
    """Growth a year of what has grown by ``ratio`` in ``num_bars``; -1 where nothing is left."""
    ratio = np.asarray(ratio, dtype=np.float64)
    is_left = ratio > 0
    growth = np.log(np.where(is_left, ratio, 1.0)) * periods_per_year / num_bars
    return np.where(is_left, np.expm1(np.minimum(growth, _MOST_GROWTH)), -1.0)


def _calmar(annual_growth: ArrayLike, drawdown: ArrayLike) -> Array:
    """Growth a year over the size of the deepest drawdown (<= 0); 0 where there is none."""
    depth = -np.asarray(drawdown, dtype=np.float64)
    return np.where(depth > 0, annual_growth / np.where(depth > 0, depth, 1.0), 0.0)


def _annual_turnover(traded_usd: ArrayLike, mean_equity: ArrayLike, num_bars: int, periods_per_year: float) -> Array:
    """Value traded over mean equity, a year; 0 where there was no equity."""
    mean = np.asarray(mean_equity, dtype=np.float64)
    return np.where(mean > 0, traded_usd / np.where(mean > 0, mean, 1.0) * periods_per_year / num_bars, 0.0)


def _curve(equity: ArrayLike) -> Array:
    """Check a curve; what is left of the first value after losing all but a billionth of it counts as nothing."""
    curve = np.asarray(equity, dtype=np.float64)
    if curve.ndim != 1 or not len(curve) or not np.isfinite(curve).all() or curve[0] <= 0:
        raise ValueError(f"equity must be a finite curve [T], T >= 1, that begins above 0; got shape {curve.shape}")
    return np.where(np.abs(curve) < _NOTHING * curve[0], 0.0, curve)
