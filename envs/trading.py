"""One bar of trading for all replicas: the arithmetic of the floor, a pure function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.accounts import Books, Layout, agent_profit, marked, number, positions
from envs.execution import Fills, Quotes, clearing_price, commission, execute, half_spread, permanent_impact
from envs.mandates import Mandate
from envs.rewards import reward
from envs.settings import FloorConfig

_ROUNDING = 1e-12  # of the orders that cross; a net order below it is a rounding error, and no order


class Tally(NamedTuple):
    """Running figures of the episodes, float64.

    Attributes:
        sums: Sums since the start, [6, B]: bar returns of all accounts together, their squares, their equity, fills,
            traded value, and commission, spread, impact and borrow fees; the last two and equity in US dollars. The
            figures that are made of them are defined in ``envs.metrics``.
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
        fills: Filled shares of each slot, [P, B].
        price: Clearing price of each slot's asset, [P, B], impact included, spread not.
        mid: The same before the impact of this bar's flow, [P, B].
        commission: Attributed to each slot, [P, B], US dollars; likewise ``spread``, ``impact`` and ``borrow``.
        before: Books at the decision bar's close, and ``after`` at the next close.
        mark_before: Price of each asset at the decision bar's close, [A, B], and ``mark_after`` at the next.
        positions: Shares of each line after the fills, [L, B].
        line_fills: Filled shares of each line, [L, B]; ``line_commission``, ``line_spread``, ``line_borrow`` its costs.
        interest: Interest of each account, received less paid, [K, B].
        profit: Profit of each agent's own book, [N, B], US dollars.
    """

    bar: Tensor
    target: Tensor
    orders: Tensor
    fills: Tensor
    price: Tensor
    mid: Tensor
    commission: Tensor
    spread: Tensor
    impact: Tensor
    borrow: Tensor
    before: Books
    after: Books
    mark_before: Tensor
    mark_after: Tensor
    positions: Tensor
    line_fills: Tensor
    line_commission: Tensor
    line_spread: Tensor
    line_borrow: Tensor
    interest: Tensor
    profit: Tensor


class Shown(NamedTuple):
    """Figures of the books at a close that observations show, float64.

    Attributes:
        value: Value of each line, [L, B].
        slot_value: Value of each slot, [P, B].
        gross: Gross value of each account's positions, [K, B].
        drawdown: Fall of each account from its peak, as a fraction, [K, B].
    """

    value: Tensor
    slot_value: Tensor
    gross: Tensor
    drawdown: Tensor


class Outcome(NamedTuple):
    """What one bar of trading leads to.

    Attributes:
        books: Books at the next close.
        reward: [N, B] float64 (one row where all agents are paid the same).
        ruined: Whether some account fell to its ruin level, [B] bool.
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


class Trading:
    """The rules of one floor, ready to be applied to tensors.

    Args:
        config: Capital, costs, rewards.
        mandates: The agents; their reward shares, and whether anyone may be short.
        layout: Slots, lines and accounts.
        periods_per_year: Bars in a year, which rates are divided by.
        record: Whether ``Outcome.detail`` is wanted.
        device: Where the tensors live.
    """

    def __init__(
        self,
        config: FloorConfig,
        mandates: Sequence[Mandate],
        layout: Layout,
        periods_per_year: float,
        *,
        record: bool,
        device: torch.device,
    ):
        self._config, self._layout, self._record = config, layout, record
        can_borrow = any(m.allow_short for m in mandates) or config.max_leverage > 1
        self._borrow_rate = config.costs.borrow_rate_annual / periods_per_year if can_borrow else 0.0
        self._cash_rate = config.costs.cash_rate_annual / periods_per_year
        self._needs_profit = record or any(m.own_share != 0 for m in mandates)
        shares = {(m.team_share, m.own_share) for m in mandates}
        self._pays_team_only = shares == {(1.0, 0.0)}
        self._team_share, self._own_share = (
            torch.tensor([[getattr(m, name)] for m in mandates], dtype=torch.float64, device=device)
            for name in ("team_share", "own_share")
        )

    def step(self, books: Books, tally: Tally, quotes: Quotes, target: Tensor, bar: Tensor) -> Outcome:
        """Trade toward target exposures and mark the books at the next close.

        Args:
            books: Books at the decision bar's close.
            tally: Figures of the episode so far.
            quotes: The market, [A, B] each.
            target: Target exposure of each slot as a fraction of its account's equity, [P, B].
            bar: Decision bar, [B] int64; only recorded.
        """
        config, layout = self._config, self._layout
        has_offset = quotes.permanent is not None
        scale = books.offset.exp() if has_offset else None
        mark = quotes.close * scale if scale is not None else quotes.close
        orders = self._orders(books, layout.at_slots_from_assets(mark), target)
        net = self._net(orders)
        held = positions(layout, books.holdings)
        prices = clearing_price(layout.lines_to_assets(net), quotes, books.offset, config.costs, scale)
        price, mid = (layout.at_lines_from_assets(p) for p in prices)
        fills = execute(
            layout,
            config.costs,
            net,
            held,
            books.cash,
            books.equity,
            (price, mid),
            credit=config.max_leverage - 1.0,
            borrow_rate=self._borrow_rate,
        )
        slot_fills = self._slot_fills(orders, net, fills.shares)
        holdings = books.holdings + slot_fills
        cash, interest, sums = self._settle(books.cash, fills)
        offset = books.offset
        if quotes.permanent is not None:
            offset = offset + permanent_impact(layout.lines_to_assets(fills.shares), quotes.permanent)
        next_mark = quotes.next_close * offset.exp() if has_offset else quotes.next_close
        held_after = holdings if not layout.is_pooled else positions(layout, holdings)
        value = held_after * layout.at_lines_from_assets(next_mark)
        equity, gross = marked(layout, cash, value)
        after = Books(cash, holdings, offset, equity, torch.maximum(books.peak, equity))
        drawdown = number(1.0) - equity / after.peak
        slot_value = holdings * layout.at_slots_from_assets(next_mark) if layout.is_pooled else value
        profit = detail = None
        if self._needs_profit:
            profit, detail = self._attribute(
                books, after, fills, orders, slot_fills, slot_value, mark, next_mark, interest, target, bar, held_after
            )
        least = equity if layout.num_accounts == 1 else equity.amin(0, keepdim=True)
        return Outcome(
            after,
            self._rewards(books, after, sums[2], fills, profit),
            least[0] <= number(config.ruin_fraction * config.capital),
            self._count(tally, books, after, slot_fills, sums, drawdown),
            Shown(value, slot_value, gross, drawdown),
            detail,
        )

    def _orders(self, books: Books, mark: Tensor, target: Tensor) -> Tensor:
        """Shares that each slot wants to buy, [P, B]; nothing where it is not worth an order."""
        layout, config = self._layout, self._config
        per_exposure = layout.at_slots_from_accounts(books.equity) / mark  # shares for an exposure of one
        orders = target * per_exposure - books.holdings
        if config.min_order > 0:
            orders = orders * (orders.abs() >= per_exposure * number(config.min_order))
        return orders

    def _net(self, orders: Tensor) -> Tensor:
        """Net order of each line, [L, B]: what is left after its agents' orders have crossed, but for rounding."""
        if not self._layout.is_pooled:
            return orders
        net, size = self._layout.slots_to_lines.each(orders, orders.abs())
        return torch.where(net.abs() > size * _ROUNDING, net, 0.0)

    def _slot_fills(self, orders: Tensor, net: Tensor, shares: Tensor) -> Tensor:
        """Divide each line's fill among its slots, [P, B]: the same part of every order as of the net order."""
        if not self._layout.is_pooled:
            return shares
        part = torch.where(net != 0, shares / torch.where(net != 0, net, 1.0), 1.0).clamp_max(1.0)
        return orders * self._layout.at_slots_from_lines(part)

    def _settle(self, cash: Tensor, fills: Fills) -> tuple[Tensor, Tensor | None, Sequence[Tensor]]:
        """Pay for fills.

        Returns:
            Cash after, [K, B]; interest, [K, B], None where there is none; and sums over lines, [K, B] each: value,
            fees (commission, spread and borrow), traded value, and impact where there is some.
        """
        paid = fills.fees if fills.borrow is None else fills.fees + fills.borrow
        rows = [fills.value, paid, fills.notional]
        if fills.price is not fills.mid:
            rows.append(fills.shares * (fills.price - fills.mid))
        sums = self._layout.lines_to_accounts.each(*rows)
        cash = cash - sums[0] - sums[1]
        interest = None
        if self._cash_rate > 0:
            interest = cash.clamp_min(0.0) * self._cash_rate
        if self._config.max_leverage > 1 and self._borrow_rate > 0:
            loan = cash.clamp_max(0.0) * self._borrow_rate
            interest = loan if interest is None else interest + loan
        return (cash if interest is None else cash + interest), interest, sums

    def _attribute(
        self,
        books: Books,
        after: Books,
        fills: Fills,
        orders: Tensor,
        slot_fills: Tensor,
        slot_value: Tensor,
        mark: Tensor,
        next_mark: Tensor,
        interest: Tensor | None,
        target: Tensor,
        bar: Tensor,
        held_after: Tensor,
    ) -> tuple[Tensor, Detail | None]:
        """Profit of each agent, [N, B]: trading costs by the size of orders, the borrow fee by short shares."""
        layout = self._layout
        mid, price = layout.at_slots_from_lines(fills.mid), layout.at_slots_from_lines(fills.price)
        size = orders.abs()
        all_sizes = layout.slots_to_lines(size)
        part = size / layout.at_slots_from_lines(torch.where(all_sizes > 0, all_sizes, 1.0))
        shorts = after.holdings.clamp_max(0.0)
        all_shorts = layout.slots_to_lines(shorts)
        short_part = shorts / layout.at_slots_from_lines(torch.where(all_shorts < 0, all_shorts, 1.0))
        borrow = fills.borrow if fills.borrow is not None else torch.zeros_like(fills.fees)
        line_commission = commission(fills.notional, self._config.costs)
        line_spread = half_spread(fills.notional, self._config.costs)
        impact = part * layout.at_slots_from_lines(fills.shares * (fills.price - fills.mid))
        slot_commission, spread = (part * layout.at_slots_from_lines(x) for x in (line_commission, line_spread))
        slot_borrow = short_part * layout.at_slots_from_lines(borrow)
        financing = interest if interest is not None else torch.zeros_like(after.cash)
        profit = agent_profit(
            layout,
            before=books.holdings * layout.at_slots_from_assets(mark),
            after=slot_value,
            traded=slot_fills * mid,
            costs=slot_commission + spread + impact + slot_borrow,
            financing=financing,
        )
        if not self._record:
            return profit, None
        rows = (layout.num_slots, orders.shape[1])
        detail = Detail(
            bar, target.expand(rows), orders, slot_fills, price.expand(rows), mid.expand(rows), slot_commission, spread,
            impact, slot_borrow, books, after, mark, next_mark, held_after, fills.shares, line_commission, line_spread,
            borrow, financing, profit,
        )  # fmt: skip
        return profit, detail

    def _rewards(self, books: Books, after: Books, traded: Tensor, fills: Fills, profit: Tensor | None) -> Tensor:
        """Reward of each agent, [N, B]; one row where one account pays all alike."""
        config, layout = self._config, self._layout
        change = after.equity - books.equity
        team = layout.at_agents_from_accounts(reward(change, books.equity, traded, config.capital, config.reward))
        if self._pays_team_only:
            return team
        result = team * self._team_share
        if profit is not None:
            moved = layout.slots_to_agents(
                (after.holdings - books.holdings).abs() * layout.at_slots_from_lines(fills.price)
            )
            equity = layout.at_agents_from_accounts(books.equity)
            result = result + reward(profit, equity, moved, config.capital, config.reward) * self._own_share
        return result

    def _count(
        self,
        tally: Tally,
        books: Books,
        after: Books,
        slot_fills: Tensor,
        sums: Sequence[Tensor],
        drawdown: Tensor,
    ) -> Tally:
        """Add one bar to the figures of the episodes."""
        before, equity, peak = books.equity, after.equity, after.peak
        if self._layout.num_accounts > 1:
            before, equity, sums = total(before), total(equity), [total(x) for x in sums]
            peak = torch.maximum(tally.peak, equity)
            drawdown = 1.0 - equity / peak
        growth = equity / before - number(1.0)
        costs = sums[1] if len(sums) == 3 else sums[1] + sums[3]
        num_fills = (slot_fills != number(0.0)).sum(0, keepdim=True, dtype=torch.float64)
        bar = torch.cat((growth, growth * growth, equity, num_fills, sums[2], costs))
        return Tally(tally.sums + bar, peak, torch.maximum(tally.drawdown, drawdown))


def total(x: Tensor) -> Tensor:
    """Sum over accounts in a fixed order, [K, B] -> [1, B]."""
    result = x[:1]
    for row in range(1, x.shape[0]):
        result = result + x[row : row + 1]
    return result
