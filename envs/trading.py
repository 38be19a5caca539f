"""One bar of trading for all replicas: the arithmetic of the floor, a pure function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.accounts import Books, Layout, marked, number, positions
from envs.attribution import Closings, attribute
from envs.execution import Fills, Quotes, clearing_price, cut_openings, execute, liquidation, path_average, share_taken
from envs.mandates import Mandate
from envs.rewards import reward
from envs.settings import FloorConfig

_ROUNDING = 1e-12  # of the orders that cross; a net order below it is a rounding error, and no order


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

    The others are those of ``envs.attribution.Attributed``.
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
    profit: Tensor
    commission: Tensor
    spread: Tensor
    impact: Tensor
    borrow: Tensor
    line_commission: Tensor
    line_spread: Tensor
    line_borrow: Tensor
    interest: Tensor


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
        self._has_impact = config.costs.needs_volume
        self._pays_to_leave = config.reward.mark == "liquidation"
        self._needs_profit = record or any(m.own_share != 0 for m in mandates)
        shares = {(m.team_share, m.own_share) for m in mandates}
        self._pays_team_only = shares == {(1.0, 0.0)}
        self._team_share, self._own_share = (
            torch.tensor([[getattr(m, name)] for m in mandates], dtype=torch.float64, device=device)
            for name in ("team_share", "own_share")
        )

    def step(
        self,
        books: Books,
        tally: Tally,
        quotes: Quotes,
        target: Tensor,
        bar: Tensor,
        *,
        is_last: Tensor,
        ruined: Tensor | None = None,
    ) -> Outcome:
        """Trade toward target exposures and mark the books at the next close.

        Args:
            books: Books at the decision bar's close.
            tally: Figures of the episode so far.
            quotes: The market, [A, B] each.
            target: Target exposure of each slot as a fraction of its account's equity, [P, B].
            bar: Decision bar, [B] int64; only recorded.
            is_last: Whether the episode ends with this bar, [B] bool.
            ruined: Accounts that trade no more, [K, B] bool; None where ruin ends the episode.
        """
        config, layout = self._config, self._layout
        scale = books.offset.exp() if quotes.permanent is not None else None
        mark = quotes.close * scale if scale is not None else quotes.close
        if ruined is not None:
            target = target * ~layout.at_slots_from_accounts(ruined)
        wanted = orders = self._orders(books, layout.at_slots_from_assets(mark), target)
        net = self._net(orders)
        held = positions(layout, books.holdings)
        payable = net
        if quotes.most is not None:
            part, payable = self._taken(books, net, held, mark, quotes.most)
            orders = orders * layout.at_slots_from_lines(part)
            net = net * part
        price, mid, fills = self._fill(books, payable, held, quotes, scale)
        if layout.num_accounts > 1:  # an order that its account cannot pay must not move the price for another
            price, mid, fills = self._fill(books, fills.shares, held, quotes, scale)
        slot_fills = self._slot_fills(orders, net, fills.shares)
        filled = books.holdings + slot_fills
        cash, interest, sums = self._settle(books.cash, fills, ruined)
        offset, next_mark = books.offset, quotes.next_close
        if quotes.permanent is not None:
            offset = offset + layout.lines_to_assets(fills.shares) * quotes.permanent
            next_mark = next_mark * offset.exp()
        closings = exit_costs = None
        held_on = filled
        if quotes.ends is not None:
            cash, held_on, closings = self._delist(cash, filled, quotes, next_mark)
        held_after = held_on if not layout.is_pooled else positions(layout, held_on)
        value = held_after * layout.at_lines_from_assets(next_mark)
        equity, gross = marked(layout, cash, value)
        after = Books(cash, held_on, offset, equity, torch.maximum(books.peak, equity))
        is_ruined = equity <= number(config.ruin_fraction * config.capital)
        if ruined is not None:
            is_ruined = is_ruined | ruined
            after, closings = self._close(after, closings, is_ruined)
            value, gross = value * ~layout.at_lines_from_accounts(is_ruined), gross * ~is_ruined
        if self._record or self._pays_to_leave:
            brought = liquidation(layout, config.costs, positions(layout, after.holdings), next_mark, quotes)
            left = after.cash + layout.lines_to_accounts(brought)
            if self._pays_to_leave:
                ends = is_last | is_ruined.all(0)
                exit_costs = (value - brought) * ends
                after = after._replace(equity=torch.where(ends, left, after.equity))
        slot_value = after.holdings * layout.at_slots_from_assets(next_mark) if layout.is_pooled else value
        shown = Shown(value, slot_value, gross, after.cash, number(1.0) - after.equity / after.peak)
        if exit_costs is not None:
            sold = shown._replace(value=value * ~ends, slot_value=slot_value * ~ends, gross=gross * ~ends)
            shown = sold._replace(cash=torch.where(ends, left, after.cash))
        attributed = detail = None
        if self._needs_profit:
            attributed = attribute(
                layout,
                config.costs,
                fills,
                orders=wanted,
                slot_fills=slot_fills,
                before=books.holdings * layout.at_slots_from_assets(mark),
                filled=filled,
                mark=next_mark,
                interest=interest,
                closings=closings,
                exit_costs=exit_costs,
            )
        if self._record:
            assert attributed is not None
            none = torch.zeros_like(wanted)
            rows = wanted.shape
            detail = Detail(
                bar=bar,
                target=target.expand(rows),
                orders=wanted,
                unfilled=wanted - orders,
                fills=slot_fills,
                price=layout.at_slots_from_lines(price).expand(rows),
                mid=layout.at_slots_from_lines(mid).expand(rows),
                closed=none if closings is None else closings.shares,
                haircut=none if closings is None else closings.haircut,
                exit_costs=torch.zeros_like(value) if exit_costs is None else exit_costs,
                liquidation=left,
                ruined=torch.zeros_like(is_ruined) if ruined is None else ruined,
                before=books,
                after=after,
                mark_before=mark,
                mark_after=next_mark,
                positions=positions(layout, after.holdings),
                line_fills=fills.shares,
                **attributed._asdict(),
            )
        return Outcome(
            after,
            self._rewards(books, after, sums[2], fills, slot_fills, None if attributed is None else attributed.profit),
            is_ruined,
            self._count(tally, books, after, slot_fills, sums, shown.drawdown, closings, exit_costs),
            shown,
            detail,
        )

    def _taken(self, books: Books, net: Tensor, held: Tensor, mark: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """The part of each line's order that the market takes, and what of it is an order that the account may give."""
        layout = self._layout
        part = share_taken(layout.at_lines_from_assets(most), net.abs())
        line_mark = layout.at_lines_from_assets(mark)

        def cut(taken: Tensor) -> Tensor:
            if self._is_all(part):
                return taken
            return cut_openings(layout, net, taken, held, line_mark, books.equity, self._config.max_leverage)

        orders = cut(net * part)
        if layout.num_accounts > 1:
            share = layout.at_lines_from_assets(share_taken(most, layout.lines_to_assets(orders.abs())))
            part = part * share
            orders = cut(orders * share)
        return part, orders

    def _is_all(self, part: Tensor) -> bool:
        """Whether the market takes all orders of all replicas, where it is quicker to look than to cut nothing."""
        return not (torch.compiler.is_compiling() or part.is_cuda or bool((part < 1.0).any()))

    def _fill(
        self, books: Books, orders: Tensor, held: Tensor, quotes: Quotes, scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Fills]:
        """Price of all orders and the price before them, [L, B] each, and what of the orders is filled at it."""
        layout, config = self._layout, self._config
        prices = clearing_price(layout.lines_to_assets(orders), quotes, books.offset, config.costs, scale)
        price, mid = (layout.at_lines_from_assets(p) for p in prices)
        fills = execute(
            layout,
            config.costs,
            orders,
            held,
            books.cash,
            books.equity,
            (price, mid),
            credit=config.max_leverage - 1.0,
            borrow_rate=self._borrow_rate,
        )
        return price, mid, fills

    def _delist(self, cash: Tensor, holdings: Tensor, quotes: Quotes, mark: Tensor) -> tuple[Tensor, Tensor, Closings]:
        """Pay out what trades no more: cash, [K, B], and holdings, [P, B], after it; and what was closed.

        All are paid the average of the prices that their own purchases have moved, or who buys to the last bar would be
        paid for having lifted the last price.
        """
        layout = self._layout
        assert quotes.ends is not None
        closed = holdings * layout.at_slots_from_assets(quotes.ends)
        worth = closed * layout.at_slots_from_assets(mark)
        lost = torch.zeros_like(worth)
        if quotes.permanent is not None:
            down = path_average(-layout.lines_to_assets(positions(layout, holdings)) * quotes.permanent)
            lost = worth * (1.0 - layout.at_slots_from_assets(down))
            worth = worth - lost
        side = layout.slots_to_lines(worth).sign()  # of the account, whose agents all leave at one price
        haircut = worth * layout.at_slots_from_lines(side) * number(self._config.costs.delisting_haircut)
        paid = layout.lines_to_accounts(layout.slots_to_lines(worth - haircut))
        return cash + paid, holdings - closed, Closings(closed, haircut + lost)

    def _close(self, books: Books, closings: Closings | None, is_ruined: Tensor) -> tuple[Books, Closings]:
        """Close all positions of ruined accounts, [K, B], at their marks."""
        closed = books.holdings * self._layout.at_slots_from_accounts(is_ruined)
        if closings is None:
            closings = Closings(torch.zeros_like(closed), torch.zeros_like(closed))
        cash = torch.where(is_ruined, books.equity, books.cash)
        return (
            books._replace(cash=cash, holdings=books.holdings - closed),
            closings._replace(shares=closings.shares + closed),
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

    def _settle(
        self, cash: Tensor, fills: Fills, ruined: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Sequence[Tensor]]:
        """Pay for fills; accounts that were ruined before neither earn nor owe interest.

        Returns:
            Cash after, [K, B]; interest, [K, B], None where there is none; and sums over lines, [K, B] each: value,
            fees (commission, spread and borrow), traded value, and impact where there is some.
        """
        paid = fills.fees if fills.borrow is None else fills.fees + fills.borrow
        rows = [fills.value, paid, fills.notional]
        if self._has_impact:
            rows.append(fills.shares * (fills.price - fills.mid))
        sums = self._layout.lines_to_accounts.each(*rows)
        cash = cash - sums[0] - sums[1]
        interest = None
        if self._cash_rate > 0:
            interest = cash.clamp_min(0.0) * self._cash_rate
        if self._config.max_leverage > 1 and self._borrow_rate > 0:
            loan = cash.clamp_max(0.0) * self._borrow_rate
            interest = loan if interest is None else interest + loan
        if interest is not None and ruined is not None:
            interest = interest * ~ruined
        return (cash if interest is None else cash + interest), interest, sums

    def _rewards(
        self, books: Books, after: Books, traded: Tensor, fills: Fills, slot_fills: Tensor, profit: Tensor | None
    ) -> Tensor:
        """Reward of each agent, [N, B]; one row where one account pays all alike."""
        config, layout = self._config, self._layout
        change = after.equity - books.equity
        team = layout.at_agents_from_accounts(reward(change, books.equity, traded, config.capital, config.reward))
        if self._pays_team_only:
            return team
        result = team * self._team_share
        if profit is not None:
            moved = layout.slots_to_agents(slot_fills.abs() * layout.at_slots_from_lines(fills.price))
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
        closings: Closings | None,
        exit_costs: Tensor | None,
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
        if closings is not None:
            num_fills = num_fills + (closings.shares != number(0.0)).sum(0, keepdim=True, dtype=torch.float64)
            costs = costs + total(closings.haircut)
        if exit_costs is not None:
            costs = costs + total(exit_costs)
        bar = torch.cat((growth, growth * growth, equity, num_fills, sums[2], costs))
        return Tally(tally.sums + bar, peak, torch.maximum(tally.drawdown, drawdown))


def total(x: Tensor) -> Tensor:
    """Sum over accounts in a fixed order, [K, B] -> [1, B]."""
    result = x[:1]
    for row in range(1, x.shape[0]):
        result = result + x[row : row + 1]
    return result
