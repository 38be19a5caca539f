"""What a backtest of one policy leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TRADE_COLUMNS = ("date", "agent", "asset", "shares", "price", "commission", "spread", "impact")
COST_COLUMNS = ("commission", "spread", "impact", "borrow")
"""Kinds of cost; the table of costs has ``interest`` (received less paid) beside them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BacktestResult:
    """One policy over one split, from the first decision to the last mark.

    Attributes:
        name: Name of the series: a model's or a baseline's.
        dates: First decision bar, then every bar at whose close the books were marked, [T+1] datetime64[us].
        equity: Value of all accounts at those dates, US dollars, [T+1] float64; the first is the capital.
        trades: One row for each fill, columns ``TRADE_COLUMNS``; ``date`` is the bar of the fill, ``price`` includes
            impact and not spread; costs are US dollars, ``impact`` is what the price moved against the order.
        weights: Position values as fractions of equity after each mark, indexed by ``dates[1:]``, a column an asset.
        agent_profit: Profit of each agent so far, after costs, US dollars, indexed by ``dates[1:]``, a column an agent.
        costs: Costs of each bar by kind, US dollars, indexed by ``dates[1:]``: ``COST_COLUMNS``, ``interest``.
        metrics: ``envs.metrics.performance`` of the equity.
        ruined: Whether the run ended before the split did, because the capital was lost.
    """

    name: str
    dates: NDArray[np.datetime64]
    equity: NDArray[np.float64]
    trades: pd.DataFrame
    weights: pd.DataFrame
    agent_profit: pd.DataFrame
    costs: pd.DataFrame
    metrics: Mapping[str, float]
    ruined: bool = False
