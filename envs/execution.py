"""Orders -> fills and costs: one clearing price for each asset of a replica, costs on each account's net order.

Commission and half spread are charged once per side. The market takes no more of all orders for an asset than a part
of the volume of their bar, and nothing where the asset does not trade. Temporary impact moves the clearing price of the
bar by ``coefficient * sigma * participation ** (1/2 or 1)`` (square root law: Almgren, Thum, Hauptmann and Li 2005;
Toth et al. 2011). Permanent impact moves the log price linearly in the executed flow and equally at all times, the only
form that allows no profitable round trip (Huberman and Stanzl 2004); an order pays the average of the prices that it
moves through, so that the money of a round trip does not depend on the pieces in which it is traded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from envs.accounts import Layout, number
from envs.costs import Costs, Rate, is_charged

MAX_IMPACT = 0.5
"""Largest temporary impact, so that prices stay above zero."""
MAX_MOVE = 0.1
"""Largest permanent move of the log price by one bar's flow. What is more of the flow stays unfilled: an impact that
stopped growing would pay those who buy in pieces and sell at once."""
_TINY = 1e-300
_MARGIN = 1e-12  # of purchases, kept back so that rounding cannot take cash below zero
_LOT_ERROR, _LOT_ROUNDING = 1e-9, 1e-14  # of a lot, and of all lots of an order


class Quotes(NamedTuple):
    """Market data that one step needs, for each asset and replica, [A, B] float64.

    Attributes:
        close: Recorded close of the decision bar.
        fill: Recorded price at which orders fill, before impact.
        next_close: Recorded close at which the books are marked.
        most: Shares of all orders that the market takes; None where it takes any number.
        temporary: Price concession of an order of one share (to the power of the law); None where there is none.
        ends: 1 where the asset trades no more after the decision bar, else 0; None where none ever ends.
        permanent: Log-price move by a flow of one share, at all times the same, [A, 1]; None where there is none.
        funding: Part of its value that a long position pays at the next close, and a short one receives; None where
            there is no funding.
        costs: Fields of ``Costs`` that differ from bar to bar, as the decision bar's row has them.
    """

    close: Tensor
    fill: Tensor
    next_close: Tensor
    most: Tensor | None
    temporary: Tensor | None
    ends: Tensor | None
    permanent: Tensor | None
    funding: Tensor | None = None
    costs: Mapping[str, Tensor] = MappingProxyType({})


class Fills(NamedTuple):
    """What was traded by each account, and what it cost, [L, B] float64.

    Attributes:
        shares: Bought; negative is sold.
        value: ``shares`` at the clearing price, US dollars.
        notional: Its size, >= 0.
        price: Clearing price of the line's asset, impact included, spread not.
        mid: Price before the impact of this bar's flow.
        fees: Commission and half spread, US dollars, >= 0.
        borrow: Fee for the short position held after the fill, US dollars, >= 0; None where nothing can be short.
    """

    shares: Tensor
    value: Tensor
    notional: Tensor
    price: Tensor
    mid: Tensor
    fees: Tensor
    borrow: Tensor | None


def commission(notional: Tensor, costs: Costs) -> Tensor:
    """Commission of orders: basis points with a minimum, plus a fixed fee for every order that is not empty.

    Args:
        notional: Traded value of each line, >= 0, [L, B], US dollars.
        costs: Rates and fees.
    """
    fee = notional * number(costs.commission_bps * 1e-4)
    if not costs.has_order_fee:
        return fee
    return torch.where(notional > 0, fee.clamp_min(costs.commission_min_usd) + costs.commission_fixed_usd, 0.0)


def half_spread(notional: Tensor, costs: Costs) -> Tensor:
    """Half spread that orders pay, like ``commission``."""
    return notional * number(costs.half_spread_bps * 1e-4)


def fees(notional: Tensor, costs: Costs) -> Tensor:
    """Commission and half spread together, in one multiplication where both are proportional."""
    if costs.has_order_fee:
        return commission(notional, costs) + half_spread(notional, costs)
    return notional * number(costs.proportional)


def temporary_impact(flow: Tensor, coefficient: Tensor, law: str) -> Tensor:
    """Relative move of the clearing price by the net flow of a bar.

    Args:
        flow: Requested net flow of all accounts, [A, B], shares.
        coefficient: ``temporary_impact * sigma / adv ** (1/2 or 1)``, [A, B].
        law: ``"square_root"`` or ``"linear"``.

    Returns:
        [A, B] in [-MAX_IMPACT, MAX_IMPACT], of the sign of the flow.
    """
    size = flow.abs()
    if law == "square_root":
        size = size.sqrt()
    return torch.copysign((size * coefficient).clamp_max(MAX_IMPACT), flow)


def average_move(move: Tensor) -> Tensor:
    """Average of the price on the way of a log move, as a multiple of the price before: ``(exp(m) - 1) / m``.

    Args:
        move: Within MAX_MOVE, where the series of ``sinh(m / 2) / (m / 2)`` ends below the last bit of a float64;
            torch's own functions lose digits of small moves, or round otherwise for one replica than for many.
    """
    half = move * number(0.5)
    y = half * half
    series = ((y * number(1 / 5040) + number(1 / 120)) * y + number(1 / 6)) * y + number(1.0)
    return half.exp() * series


def path_average(move: Tensor) -> Tensor:
    """``average_move`` of moves of any size, with the rounding of torch's own functions beyond MAX_MOVE."""
    return torch.where(move.abs() < MAX_MOVE, average_move(move), move.expm1() / move)


def share_taken(most: Tensor, size: Tensor) -> Tensor:
    """The part of orders that the market takes, of the shape of both, in [0, 1].

    Args:
        most: Shares that it takes, >= 0.
        size: Shares of all orders, bought and sold, >= 0.
    """
    return (most / size.clamp_min(_TINY)).clamp_max(1.0)


def is_all_taken(most: Tensor, size: Tensor) -> Tensor:
    """Where ``share_taken`` is 1, which it is not of no order for what does not trade: agents' orders may cross."""
    return size.clamp_min(_TINY) <= most


def cut_openings(
    layout: Layout, net: Tensor, taken: Tensor, held: Tensor, mark: Tensor, equity: Tensor, max_leverage: float
) -> Tensor:
    """Cut what accounts open, so that orders which the market does not take never raise their gross exposure.

    Targets are within the leverage of an account; but what stays of a position that it cannot close is held beside
    what it opens. All that it opens is cut by one factor, until the gross exposure is within its leverage, or no more
    than it would have been had the market taken all. What it could not hold moves no price and takes no volume.

    Args:
        layout: Slots, lines and accounts.
        net: Net order of each line, [L, B], shares.
        taken: What the market takes of it.
        held: Shares of each line before, [L, B].
        mark: Price of each line's asset at the decision, [L, B].
        equity: Equity of each account at the decision, [K, B].
        max_leverage: Largest gross exposure, as a multiple of equity.

    Returns:
        [L, B]; what is taken, to the last bit, where the market takes all.
    """
    after = held + taken
    kept = torch.minimum(torch.maximum(after, held.clamp_max(0.0)), held.clamp_min(0.0))
    opened = after - kept
    gross, gross_kept, gross_opened = layout.lines_to_accounts.each(
        *(x.abs() * mark for x in (held + net, kept, opened))
    )
    room = torch.maximum(equity * max_leverage, gross) - gross_kept
    part = share_taken(room.clamp_min(0.0), gross_opened * (1.0 - _MARGIN))
    return taken - opened * layout.at_lines_from_accounts(1.0 - part)


def clearing_price(
    flow: Tensor, quotes: Quotes, offset: Tensor, costs: Costs, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Price at which all accounts trade, and the price before this bar's flow.

    Args:
        flow: Requested net flow of all accounts, [A, B], shares.
        quotes: The market.
        offset: Log-price offset so far, [A, B].
        costs: Impact law.
        scale: ``exp(offset)`` where the caller has it, [A, B].

    Returns:
        Clearing price and mid, [A, B] each.
    """
    mid = quotes.fill
    price = mid
    if quotes.permanent is not None:
        mid = quotes.fill * (offset.exp() if scale is None else scale)
        price = mid * average_move(flow * quotes.permanent)
    if quotes.temporary is not None:
        price = price + price * temporary_impact(flow, quotes.temporary, costs.impact_law)
    return price, mid


def liquidation(layout: Layout, costs: Costs, held: Tensor, mark: Tensor, quotes: Quotes) -> Tensor:
    """Money that positions bring when an account closes them at once, as if it were alone: [L, B], US dollars.

    Args:
        layout: Slots, lines and accounts.
        costs: Impact law, rates and fees.
        held: Shares of each line, [L, B].
        mark: Price of each asset now, [A, B].
        quotes: Impact of orders now.
    """
    price = layout.at_lines_from_assets(mark)
    if quotes.permanent is not None:
        price = price * path_average(-held * layout.at_lines_from_assets(quotes.permanent))
    if quotes.temporary is not None:
        coefficient = layout.at_lines_from_assets(quotes.temporary)
        price = price + price * temporary_impact(-held, coefficient, costs.impact_law)
    value = held * price
    return value - fees(value.abs(), costs)


def whole_lots(shares: Tensor, lot_size: Rate, *, is_exact: bool = False) -> Tensor:
    """Round orders toward zero to whole lots; a lot of 0 leaves them as they are.

    What rounding errors have left just short of a lot counts as one, or positions of whole lots could not be closed;
    but for ``is_exact``, of orders that would else be more than can be paid.
    """
    if not is_charged(lot_size):
        return shares
    lots = shares / lot_size
    if not is_exact:
        lots = lots + torch.copysign(lots.abs() * _LOT_ROUNDING + _LOT_ERROR, lots)
    rounded = lots.trunc() * lot_size
    return torch.where(lot_size > 0, rounded, shares) if isinstance(lot_size, Tensor) else rounded


def execute(
    layout: Layout,
    costs: Costs,
    orders: Tensor,
    held: Tensor,
    cash: Tensor,
    equity: Tensor,
    prices: tuple[Tensor, Tensor],
    *,
    credit: float,
    borrow_rate: Rate,
) -> Fills:
    """Fill what each account can pay for.

    Sales fill in full, except that a sale whose fee exceeds its proceeds is dropped. Purchases of an account are cut
    by one factor, so that cash after them, with every fee at its upper bound and the borrow fee set aside, is at least
    ``-credit * equity``.

    Args:
        layout: Slots, lines and accounts.
        costs: Rates and fees.
        orders: Net order of each line, [L, B], shares.
        held: Shares of each line before, [L, B].
        cash: Cash of each account before, [K, B].
        equity: Equity of each account at the decision, [K, B], > 0.
        prices: Clearing price and mid of each line, [L, B] each.
        credit: Cash that an account may borrow, as a fraction of equity, >= 0.
        borrow_rate: Fee on short value for one bar; 0 where nothing can be short.

    Returns:
        The fills.
    """
    price, mid = prices
    shares = whole_lots(orders, costs.lot_size)
    value = shares * price
    if costs.has_order_fee:
        notional = value.abs()
        pays = notional > fees(notional, costs)
        shares = torch.where((value >= 0) | pays, shares, 0.0)
        value = shares * price
    shares = _cut_purchases(
        layout, costs, shares, value, held, cash, equity, price, credit=credit, borrow_rate=borrow_rate
    )
    value = shares * price
    notional = value.abs()
    borrow = (held + shares).clamp_max(0.0) * price * number(-borrow_rate) if is_charged(borrow_rate) else None
    return Fills(shares, value, notional, price, mid, fees(notional, costs), borrow)


def _cut_purchases(
    layout: Layout,
    costs: Costs,
    shares: Tensor,
    value: Tensor,
    held: Tensor,
    cash: Tensor,
    equity: Tensor,
    price: Tensor,
    *,
    credit: float,
    borrow_rate: Rate,
) -> Tensor:
    rows = [value.clamp_min(0.0), value.clamp_max(0.0)]
    rates = [(1.0 + costs.proportional) * (1.0 + _MARGIN), 1.0 - costs.proportional]
    if is_charged(borrow_rate):
        rows.append((held + shares.clamp_max(0.0)).clamp_max(0.0) * price)
        rates.append(borrow_rate)
    spent, sold, *borrowed = _charged(layout, rows, rates)
    budget = cash - sold
    if credit != 0:
        budget = budget + equity * number(credit)
    if borrowed:
        budget = budget + borrowed[0]
    if costs.has_order_fee:
        sales = (-value).clamp_min(0.0)
        excess = commission(sales, costs) - sales * (costs.commission_bps * 1e-4)
        at_most = (value > 0).to(value.dtype) * (costs.commission_min_usd + costs.commission_fixed_usd)
        budget = budget - layout.lines_to_accounts(excess + at_most)
    factor = (budget / spent).clamp(0.0, 1.0)  # nothing is multiplied by the 0 / 0 of an account that pays nothing
    factor = layout.at_lines_from_accounts(factor)
    cut = shares * factor
    if is_charged(costs.lot_size):
        cut = torch.where(factor < 1, whole_lots(cut, costs.lot_size, is_exact=True), shares)
    return torch.where(value > number(0.0), cut, shares)


def _charged(layout: Layout, rows: Sequence[Tensor], rates: Sequence[Rate]) -> list[Tensor]:
    """Sum of each row times its rate over the lines of each account, [L, B] -> [K, B]."""
    own = [row * rate if isinstance(rate, Tensor) else row for row, rate in zip(rows, rates, strict=True)]
    sums = layout.lines_to_accounts.each(*own)
    return [x if isinstance(rate, Tensor) else x * number(rate) for x, rate in zip(sums, rates, strict=True)]
