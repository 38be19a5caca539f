"""What a strategy must beat: simple rules that trade all of its assets as one agent, each by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from envs.online_portfolios import best_constant_weights, exponentiated_gradient, olmar, pamr
from envs.portfolio_rules import (
    Rule,
    best_asset,
    equal,
    max_sharpe,
    minimum_variance,
    momentum,
    monthly,
    nothing,
    once,
    risk_parity,
    sixty_forty,
    volatility_target,
)

BASELINES: Mapping[str, Rule] = MappingProxyType(
    {
        "cash": once(nothing),
        "buy_and_hold": once(equal),
        "equal_weight": equal,
        "minimum_variance": monthly(minimum_variance),
        "momentum": monthly(momentum),
        "risk_parity": monthly(risk_parity),
        "max_sharpe": monthly(max_sharpe),
        "volatility_target": monthly(volatility_target),
        "sixty_forty": monthly(sixty_forty),
        "eg": exponentiated_gradient,
        "pamr": pamr,
        "olmar": olmar,
        "best_asset_in_hindsight": once(best_asset),
        "bcrp_in_hindsight": best_constant_weights,
    }
)
HINDSIGHT = frozenset({"best_asset_in_hindsight", "bcrp_in_hindsight"})
"""Those that are shown the whole split before its first bar: no strategy, but a measure of what there was to gain."""


def best_baseline(sharpes: Mapping[str, float]) -> str:
    """Name of the baseline with the largest Sharpe ratio; cash, whose ratio means nothing, where there is no other."""
    return max((name for name in sharpes if name != "cash"), key=lambda name: sharpes[name], default="cash")
