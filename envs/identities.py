"""Identities of the books of one step, computed once more in numpy from the settings and the bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from envs.bar_data import Bars
from envs.cost_tables import asset_costs
from envs.liquidity import most_shares
from envs.outcomes import Detail
from envs.settings import FUNDING

if TYPE_CHECKING:
    from envs.floor import TradingFloor
    from envs.market import Market

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Largest rounding error, as a fraction of an account's capital, that still counts as balanced."""


def _quoted_prices(bars: Bars, fill: str, bar: Array) -> Array:
    """Prices at which orders of decision bars ``bar`` [B] fill before impact, [B, A], from the bars alone."""
    following = bar + 1
    typical = (bars.high[following] + bars.low[following] + bars.close[following]) / 3.0
    prices = {
        "next_open": bars.open[following],
        "next_vwap": typical,
        "next_close": bars.close[following],
        "same_close_unsafe": bars.close[bar],
    }
    return prices[fill]


def _kept(held: Array, fills: Array) -> Array:
    """What stays of positions after fills; what the fills open is not in it."""
    return np.clip(held + fills, np.minimum(held, 0.0), np.maximum(held, 0.0))


def average_on_the_way(move: Array) -> Array:
    """Average of the prices that a move of the log price ``move`` goes through, over the price before it."""
    return np.where(move == 0, 1.0, np.expm1(move) / np.where(move == 0, 1.0, move))


def check_step(check: Callable[..., None], floor: TradingFloor, market: Market, detail: Detail) -> None:
    """Check the books of one recorded step: cash, positions, fills, costs, profits, and what may never be negative.

    Args:
        check: Called with the name of an identity, its errors (US dollars, or a fraction with a tolerance of its own)
            and, where it is not ``TOLERANCE`` of the capital, the largest error allowed.
        floor: The floor that took the step.
        market: Its market.
        detail: What it recorded.
    """
    layout, config, bars = floor.layout, floor.config, market.bars
    costs = config.costs
    recorded = {**detail._asdict(), **detail.attributed._asdict()}
    d = {name: value.numpy() for name, value in recorded.items() if isinstance(value, Tensor)}
    before = {name: value.numpy() for name, value in detail.before._asdict().items()}
    after = {name: value.numpy() for name, value in detail.after._asdict().items()}
    columns = [bars.assets.index(asset) for asset in layout.assets]

    def cost(name: str) -> Array:
        """A setting of each line's asset, [L, B]."""
        return np.broadcast_to(asset_costs(name, costs, bars, columns), (bars.num_bars, len(columns)))[d["bar"]].T[
            line_asset
        ]

    close = bars.close[d["bar"] + 1][:, columns].T * np.exp(after["offset"])
    line_asset, slot_line = np.array(layout.line_asset), np.array(layout.slot_line)

    def by_account(x: Array) -> Array:
        total = np.zeros((layout.num_accounts, x.shape[1]))
        np.add.at(total, np.array(layout.line_account), x)
        return total

    def by_line(x: Array) -> Array:
        total = np.zeros((layout.num_lines, x.shape[1]))
        np.add.at(total, slot_line, x)
        return total

    slot_asset = line_asset[slot_line]
    quoted = _quoted_prices(bars, config.fill, d["bar"])[:, columns].T * np.exp(before["offset"])
    check("orders meet the price of their fill rule", (d["mid"] - quoted[slot_asset]) / quoted[slot_asset], TOLERANCE)
    flow, impact = np.zeros_like(quoted), np.zeros_like(quoted)
    np.add.at(flow, line_asset, d["line_fills"])
    impact[slot_asset] = d["price"] - d["mid"]
    check("impact never favours the side that causes it", np.maximum(-impact * flow, 0.0))
    price = np.zeros_like(d["line_fills"])
    price[slot_line] = d["price"]
    value = d["line_fills"] * price
    positions = by_line(after["holdings"])
    held = after["cash"] + by_account(positions * close[line_asset] - d["exit_costs"])
    check("cash + positions = equity", held - after["equity"])
    check("agents' holdings sum to the account's positions", (positions - d["positions"]) * close[line_asset])
    check("agents' fills sum to the account's fills", (by_line(d["fills"]) - d["line_fills"]) * price)
    filled_at = d["bar"] + (config.fill != "same_close_unsafe")
    most = most_shares(bars, columns, asset_costs("max_participation", costs, bars, columns))[filled_at].T
    taken = np.zeros_like(most)
    np.add.at(taken, line_asset, np.abs(d["line_fills"]))
    with np.errstate(invalid="ignore"):  # of infinities, where the market takes anything
        excess = np.where(np.isinf(most), 0.0, np.maximum(taken - most, 0.0) / np.maximum(most, 1e-300))
    check("the market takes no more than it trades, and nothing where it is closed", excess, TOLERANCE)
    owned, net, filled = by_line(before["holdings"]), by_line(d["orders"]), d["line_fills"]
    opened = owned + filled - _kept(owned, filled)
    stuck = _kept(owned, net - by_line(d["unfilled"]))
    mark = d["mark_before"][line_asset]
    intended, beside = by_account(np.abs(owned + net) * mark), by_account((np.abs(stuck) + np.abs(opened)) * mark)
    most_gross = np.maximum(intended, before["equity"] * config.max_leverage)
    excess = np.where(by_account(np.abs(opened)) > 0, np.maximum(beside - most_gross, 0.0), 0.0)
    check("nothing is opened beside what the market does not close", excess)
    notional = np.abs(value)
    rated = np.maximum(notional * cost("commission_bps") * 1e-4, cost("commission_min_usd"))
    commission = np.where(notional > 0, rated + cost("commission_fixed_usd"), 0.0)
    check("commission once per side", d["line_commission"] - commission)
    check("half spread once per side", d["line_spread"] - notional * cost("half_spread_bps") * 1e-4)
    can_borrow = config.max_leverage > 1 or any(m.allow_short for m in floor.mandates)
    rate = cost("borrow_rate_annual") / bars.periods_per_year * can_borrow
    closed = by_line(d["closed"])
    borrow = np.maximum(-(positions + closed), 0.0) * price * rate
    check("borrow fee on shorts, and on nothing else", d["line_borrow"] - borrow)
    fees = by_account(value + commission + d["line_spread"] + borrow)
    owed = before["cash"] - fees
    can_owe = config.max_leverage > 1 or FUNDING in bars.costs or bars.ends[:, columns].any()
    loan = np.maximum(-owed, 0.0) * costs.loan_rate_annual / bars.periods_per_year * can_owe
    interest = np.maximum(owed, 0.0) * costs.cash_rate_annual / bars.periods_per_year - loan
    funding = np.zeros_like(positions)
    if FUNDING in bars.costs:
        following = d["bar"] + 1
        paid = (bars.costs[FUNDING] * bars.close)[following][:, columns].T[line_asset]
        funding = -(positions + closed) * paid
        check("funding of what is held at the close, and of nothing else", by_line(d["funding"]) - funding)
    funded = by_account(funding)
    is_delisted = bars.ends[d["bar"]][:, columns].T[line_asset]
    flow = np.zeros_like(close)
    np.add.at(flow, line_asset, np.where(is_delisted, -closed, 0.0))
    moved_by_a_share = asset_costs("permanent_impact", costs, bars, columns)[0] * np.nan_to_num(
        market.impact_unit[columns]
    )
    last = close * average_on_the_way(flow * moved_by_a_share[:, None])
    side = np.where(is_delisted, np.sign(closed), 0.0) * cost("delisting_haircut")
    paid_out = by_account(closed * np.where(is_delisted, last[line_asset], close[line_asset]) * (1.0 - side))
    interest = np.where(d["ruined"], 0.0, interest)
    owned_cash = owed + interest + funded + paid_out
    check("cash moves by trades, fees, interest, funding and closings alone", owned_cash - after["cash"])
    for name in ("commission", "spread", "borrow"):
        check("agents' costs sum to the account's costs", by_line(d[name]) - d[f"line_{name}"])
    marked = after["cash"] + by_account(positions * close[line_asset])
    check("closing all positions brings no more than their marks", np.maximum(d["liquidation"] - marked, 0.0))
    profit = np.zeros_like(after["equity"])
    np.add.at(profit, np.array(layout.agent_account), d["profit"])
    check("agents' profits sum to the account's profit", profit - (after["equity"] - before["equity"]))
    if config.max_leverage <= 1:
        overspent = np.minimum(owed + by_account(borrow) - np.minimum(before["cash"], 0.0), 0.0)
        check("nothing is bought on credit without leverage", overspent)
    if not can_owe:
        check("cash is never negative where nobody can owe", np.minimum(after["cash"], 0.0), 0.0)
    if not any(m.allow_short for m in floor.mandates):
        check("nothing is short where shorts are not allowed", np.minimum(after["holdings"], 0.0), 0.0)
