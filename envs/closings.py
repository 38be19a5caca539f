"""Positions that are closed without an order: their asset trades no more, or their account is ruined."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from envs.accounts import Books, Layout, number, positions
from envs.costs import Rate
from envs.execution import Quotes, path_average


class Closings(NamedTuple):
    """Positions that were closed at a close's price, without an order, since nobody can trade them any more.

    Attributes:
        shares: Closed shares of each slot, [P, B]; negative where a short was closed.
        haircut: What was lost on them, [P, B], US dollars; negative for agents whose account was on the other side.
    """

    shares: Tensor
    haircut: Tensor


def close_delisted(
    layout: Layout, cash: Tensor, holdings: Tensor, quotes: Quotes, mark: Tensor, haircut: Rate
) -> tuple[Tensor, Tensor, Closings]:
    """Pay out what trades no more.

    All are paid the average of the prices that their own purchases have moved, or who buys to the last bar would be
    paid for having lifted the last price.

    Args:
        layout: Slots, lines and accounts.
        cash: Cash of each account, [K, B].
        holdings: Shares of each slot, [P, B].
        quotes: The market, which says what ends.
        mark: Price of each asset at this close, [A, B].
        haircut: Part of it that each line loses.

    Returns:
        Cash and holdings after it, and what was closed.
    """
    assert quotes.ends is not None
    closed = holdings * layout.at_slots_from_assets(quotes.ends)
    worth = closed * layout.at_slots_from_assets(mark)
    lost = torch.zeros_like(worth)
    if quotes.permanent is not None:
        down = path_average(-layout.lines_to_assets(positions(layout, holdings)) * quotes.permanent)
        lost = worth * (1.0 - layout.at_slots_from_assets(down))
        worth = worth - lost
    side = layout.slots_to_lines(worth).sign()  # of the account, whose agents all leave at one price
    cut = worth * layout.at_slots_from_lines(side * number(haircut))
    paid = layout.lines_to_accounts(layout.slots_to_lines(worth - cut))
    return cash + paid, holdings - closed, Closings(closed, cut + lost)


def close_ruined(layout: Layout, books: Books, closings: Closings | None, is_ruined: Tensor) -> tuple[Books, Closings]:
    """Close all positions of ruined accounts, [K, B], at their marks; what was closed before counts too."""
    closed = books.holdings * layout.at_slots_from_accounts(is_ruined)
    if closings is None:
        closings = Closings(torch.zeros_like(closed), torch.zeros_like(closed))
    cash = torch.where(is_ruined, books.equity, books.cash)
    return (
        books._replace(cash=cash, holdings=books.holdings - closed),
        closings._replace(shares=closings.shares + closed),
    )
