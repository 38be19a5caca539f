"""What one bar of trading leads to: books, rewards, running figures, and all of it where it is recorded."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from envs.accounts import Books
from envs.attribution import Attributed


class Tally(NamedTuple):
    """Running figures of the episodes, float64.

    Attributes:
        sums: Sums since the start, [6, B]: bar returns of all accounts together, their squares, their equity, fills,
            traded value, and all costs; the last two and equity in US dollars. The figures that are made of them are
            defined in ``envs.metrics``.
        peak: Highest total equity, [1, B].
        drawdown: Deepest fall from it, as a fraction, [1, B].
    """

    sums: Tensor
    peak: Tensor
    drawdown: Tensor


class Detail(NamedTuple):
    """Everything that happened to the books in one bar; float64, rows and replicas as in ``envs.accounts``.

    Attributes:
        bar: Decision bar, [B] int64; fills and marks are those of the bar after it.
        target: Target exposure of each slot, [P, B].
        orders: Order of each slot, [P, B], shares.
        unfilled: What the market did not take of it, [P, B], shares.
        fills: Filled shares of each slot, [P, B].
        price: Clearing price of each slot's asset, [P, B], impact included, spread not.
        mid: The same before the impact of this bar's flow, [P, B].
        closed: Shares of each slot that were closed at the next close, [P, B]: their asset trades no more, or their
            account is ruined.
        haircut: What was lost on them, [P, B], US dollars.
        exit_costs: What each line loses where an episode ends at the value of its liquidation, [L, B], US dollars.
        liquidation: What each account would have if it closed its positions at the next close, [K, B], US dollars.
        ruined: Accounts that have traded no more since an earlier bar, [K, B] bool.
        before: Books at the decision bar's close, and ``after`` at the next close.
        mark_before: Price of each asset at the decision bar's close, [A, B], and ``mark_after`` at the next.
        positions: Shares of each line after fills and closings, [L, B].
        line_fills: Filled shares of each line, [L, B].
        attributed: Costs and profits, and whose they are.
    """

    bar: Tensor
    target: Tensor
    orders: Tensor
    unfilled: Tensor
    fills: Tensor
    price: Tensor
    mid: Tensor
    closed: Tensor
    haircut: Tensor
    exit_costs: Tensor
    liquidation: Tensor
    ruined: Tensor
    before: Books
    after: Books
    mark_before: Tensor
    mark_after: Tensor
    positions: Tensor
    line_fills: Tensor
    attributed: Attributed


class Shown(NamedTuple):
    """Figures of the books at a close that observations show, float64.

    Where an episode ends at the value of its liquidation, all positions are shown as sold, for what that brings.

    Attributes:
        value: Value of each line, [L, B].
        slot_value: Value of each slot, [P, B].
        gross: Gross value of each account's positions, [K, B].
        cash: Of each account, [K, B].
        drawdown: Fall of each account from its peak, as a fraction, [K, B].
    """

    value: Tensor
    slot_value: Tensor
    gross: Tensor
    cash: Tensor
    drawdown: Tensor


class Outcome(NamedTuple):
    """What one bar of trading leads to.

    Attributes:
        books: Books at the next close.
        reward: [N, B] float64 (one row where all agents are paid the same).
        ruined: Which accounts have fallen to their ruin level, [K, B] bool.
        tally: Running figures, this bar included.
        shown: What observations show of the books.
        detail: All of it, where it is recorded.
    """

    books: Books
    reward: Tensor
    ruined: Tensor
    tally: Tally
    shown: Shown
    detail: Detail | None
