"""A backtest's conditions in words: period, capital, costs, fills, books."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.cost_tables import asset_costs
from envs.market import Market
from envs.settings import FUNDING
from experiments.reporting.tables import money


def period_in_words(split: str, dates: NDArray[np.datetime64]) -> str:
    """Write the split and its dates; with hours only where bars are shorter than a day."""
    is_daily = bool((dates == dates.astype("datetime64[D]")).all())
    first, last = (str(date)[: 10 if is_daily else 16].replace("T", " ") for date in (dates[0], dates[-1]))
    return f"{split} split, {first} to {last}"


def capital_in_words(market: Market) -> str:
    """Write the capital; for rivals that of each account too."""
    each, count = market.spec.floor.capital, len({mandate.account for mandate in market.mandates})
    return money(each) if count == 1 else f"{money(each * count)} ({count} accounts of {money(each)})"


def costs_in_words(market: Market) -> str:
    """Write the main costs of the floor in one line."""
    costs = market.spec.floor.costs

    def cost(name: str, form: str = "{:g}") -> str:
        """A setting; of assets that have their own, the least and the most. Nothing where none has any."""
        found = asset_costs(name, costs, market.bars)
        ends = [form.format(x) for x in (found.min(), found.max())]
        return " to ".join(dict.fromkeys(ends)) if found.any() else ""

    parts = [f"commission {cost('commission_bps') or 0} bps", f"half spread {cost('half_spread_bps') or 0} bps"]
    least, fixed = cost("commission_min_usd", "${:g}"), cost("commission_fixed_usd", "${:g}")
    if least or fixed:
        parts[0] += f" (min {least or '$0'}, fixed {fixed or '$0'})"
    if impact := cost("temporary_impact"):
        parts.append(f"{costs.impact_law.replace('_', '-')} impact {impact}")
    if impact := cost("permanent_impact"):
        parts.append(f"permanent impact {impact}")
    taken = cost("max_participation", "{:.4g}").replace("inf", "any part")
    if taken != "any part" and market.bars.volume is not None:
        parts.append(f"orders fill up to {taken} of a bar's volume")
    if costs.carry_orders:
        parts.append("what is unfilled waits with its size")
    if borrow := cost("borrow_rate_annual", "{:.2%}"):
        parts.append(f"borrowed shares cost {borrow} a year")
    has_funding = FUNDING in market.bars.costs
    if has_funding:
        parts.append("longs pay shorts the file's funding")
    if costs.loan_rate_annual and (market.spec.floor.max_leverage > 1 or has_funding):
        parts.append(f"borrowed cash costs {costs.loan_rate_annual:.2%} a year")
    if costs.cash_rate_annual:
        parts.append(f"cash earns {costs.cash_rate_annual:.2%} a year (ratios are of what is earned above it)")
    return ", ".join([*parts, f"fills at {fill_in_words(market)}"])


def fill_in_words(market: Market) -> str:
    """Write the price at which orders fill; where there are only closes, every one of them is the next close."""
    fill = market.spec.floor.fill.replace("_", " ")
    if market.bars.has_only_closes and fill in ("next open", "next vwap"):
        return "next close (the prices are closes only)"
    return fill


def books_in_words(sizes: Sequence[int]) -> str:
    """Write how many assets agents trade: ``books of 1 asset each``, ``books of 3, 3 and 2 assets``."""
    if len(set(sizes)) == 1:
        return f"books of {sizes[0]} asset{'s' if sizes[0] > 1 else ''} each"
    return f"books of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]} assets"
