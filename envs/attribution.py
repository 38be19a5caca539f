"""Whose profit a bar's result is: costs and gains of accounts, divided among the agents that trade through them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.accounts import Layout, agent_profit
from envs.closings import Closings
from envs.costs import Costs
from envs.execution import Fills, commission, half_spread


class Attributed(NamedTuple):
    """Costs and profits of one bar, US dollars, float64.

    Attributes:
        profit: Of each agent's own book, [N, B].
        commission: Of each slot, [P, B]; likewise ``spread``, ``impact`` and ``borrow``.
        line_commission: Of each line, [L, B]; likewise ``line_spread`` and ``line_borrow``.
        interest: Of each account, received less paid, [K, B].
        funding: Of each slot, received less paid, [P, B].
    """

    profit: Tensor
    commission: Tensor
    spread: Tensor
    impact: Tensor
    borrow: Tensor
    line_commission: Tensor
    line_spread: Tensor
    line_borrow: Tensor
    interest: Tensor
    funding: Tensor


def funding_received(layout: Layout, holdings: Tensor, rate: Tensor, price: Tensor) -> Tensor:
    """Funding of perpetual futures that slots receive less what they pay: longs pay shorts where the rate is positive.

    It is of the recorded price: a price that positions have moved themselves would pay shorts for lifting it.

    Args:
        layout: Slots, lines and accounts.
        holdings: Shares of each slot at this close, [P, B].
        rate: Part of the value of a position that is paid at this close, [A, B].
        price: Recorded close, [A, B].

    Returns:
        [P, B] float64, US dollars.
    """
    return -holdings * layout.at_slots_from_assets(rate * price)


def attribute(
    layout: Layout,
    costs: Costs,
    fills: Fills,
    *,
    orders: Tensor,
    slot_fills: Tensor,
    before: Tensor,
    filled: Tensor,
    mark: Tensor,
    interest: Tensor | None,
    funding: Tensor | None,
    closings: Closings | None,
    exit_costs: Tensor | None,
) -> Attributed:
    """Divide what happened to accounts among agents.

    Trading costs are divided by the size of orders, the borrow fee by the short shares after the fills, what is lost
    by leaving at an episode's end by the size of holdings; an account's agents share interest equally.

    Args:
        layout: Slots, lines and accounts.
        costs: Rates and fees.
        fills: What the accounts traded.
        orders: Order of each slot, [P, B], shares.
        slot_fills: Filled shares of each slot, [P, B].
        before: Value of each slot at the last close, [P, B].
        filled: Shares of each slot after the fills, [P, B].
        mark: Price of each asset at this close, [A, B].
        interest: Received less paid by each account, [K, B]; None where there is none.
        funding: Received less paid by each slot, [P, B]; None where there is none.
        closings: Positions that were closed at this close.
        exit_costs: What each line loses by leaving at this close, [L, B].
    """
    part = _part_of_line(layout, orders.abs())
    line_commission, line_spread = commission(fills.notional, costs), half_spread(fills.notional, costs)
    line_borrow = fills.borrow if fills.borrow is not None else torch.zeros_like(fills.fees)
    slot_commission, spread, impact = (
        part * layout.at_slots_from_lines(x)
        for x in (line_commission, line_spread, fills.shares * (fills.price - fills.mid))
    )
    borrow = _part_of_line(layout, filled.clamp_max(0.0)) * layout.at_slots_from_lines(line_borrow)
    paid = slot_commission + spread + impact + borrow
    if closings is not None:
        paid = paid + closings.haircut
    if exit_costs is not None:
        paid = paid + _part_of_line(layout, filled.abs()) * layout.at_slots_from_lines(exit_costs)
    if funding is None:
        funding = torch.zeros_like(paid)
    if interest is None:
        interest = fills.value.new_zeros(layout.num_accounts, 1).expand(-1, orders.shape[1])
    profit = agent_profit(
        layout,
        before=before,
        after=filled * layout.at_slots_from_assets(mark),
        traded=slot_fills * layout.at_slots_from_lines(fills.mid),
        costs=paid - funding,
        financing=interest,
    )
    return Attributed(
        profit, slot_commission, spread, impact, borrow, line_commission, line_spread, line_borrow, interest, funding
    )


def _part_of_line(layout: Layout, size: Tensor) -> Tensor:
    """Each slot's part of the sum over its line, [P, B] -> [P, B]; 0 where the sum is."""
    total = layout.slots_to_lines(size)
    return size / layout.at_slots_from_lines(torch.where(total != 0, total, 1.0))
