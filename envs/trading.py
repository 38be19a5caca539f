"""One bar of trading for all replicas: the arithmetic of the floor, a pure function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from envs.accounts import Books, Layout, marked, number, positions
from envs.attribution import attribute, funding_received
from envs.closings import Closings, close_delisted, close_ruined
from envs.costs import Costs
from envs.execution import Fills, Quotes, clearing_price, cut_openings, execute, is_all_taken, liquidation, share_taken
from envs.mandates import Mandate
from envs.outcomes import Detail, Outcome, Shown, Tally
from envs.rewards import reward
from envs.settings import FloorConfig

_ROUNDING = 1e-12  # of the orders that cross; a net order below it is a rounding error, and no order


class Trading:
    """The rules of one floor, ready to be applied to tensors.

    Args:
        config: Capital, rewards.
        costs: What orders and positions of each line cost.
        mandates: The agents; their reward shares, and whether anyone may be short.
        layout: Slots, lines and accounts.
        periods_per_year: Bars in a year, which rates are divided by.
        record: Whether ``Outcome.detail`` is wanted.
        device: Where the tensors live.
    """

    def __init__(
        self,
        config: FloorConfig,
        costs: Costs,
        mandates: Sequence[Mandate],
        layout: Layout,
        periods_per_year: float,
        *,
        record: bool,
        device: torch.device,
    ):
        self._config, self._costs, self._layout, self._record = config, costs, layout, record
        self._can_borrow = any(m.allow_short for m in mandates) or config.max_leverage > 1
        self._periods = periods_per_year
        self._loan_rate = config.costs.loan_rate_annual / periods_per_year
        self._cash_rate = config.costs.cash_rate_annual / periods_per_year
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
        held, costs = positions(layout, books.holdings), self._costs_at(quotes)
        payable = net
        if quotes.most is not None and not self._is_all_taken(net, quotes.most):
            part, payable = self._taken(books, net, held, mark, quotes.most)
            orders = orders * layout.at_slots_from_lines(part)
            net = net * part
        price, mid, fills = self._fill(costs, books, payable, held, quotes, scale)
        if layout.num_accounts > 1:  # an order that its account cannot pay must not move the price for another
            price, mid, fills = self._fill(costs, books, fills.shares, held, quotes, scale)
        slot_fills = self._slot_fills(orders, net, fills.shares)
        filled = books.holdings + slot_fills
        cash, interest, sums = self._settle(books.cash, fills, ruined, quotes)
        funding = None
        if quotes.funding is not None:
            funding = funding_received(layout, filled, quotes.funding, quotes.next_close)
            cash = cash + layout.lines_to_accounts(layout.slots_to_lines(funding))
        offset, next_mark = books.offset, quotes.next_close
        if quotes.permanent is not None:
            offset = offset + layout.lines_to_assets(fills.shares) * quotes.permanent
            next_mark = next_mark * offset.exp()
        closings = exit_costs = None
        held_on = filled
        if quotes.ends is not None:
            cash, held_on, closings = close_delisted(layout, cash, filled, quotes, next_mark, costs.delisting_haircut)
        held_after = held_on if not layout.is_pooled else positions(layout, held_on)
        value = held_after * layout.at_lines_from_assets(next_mark)
        equity, gross = marked(layout, cash, value)
        waiting = books.waiting
        if config.costs.carry_orders:
            waiting = torch.stack((target.expand_as(wanted), wanted - orders))
        after = Books(cash, held_on, offset, equity, torch.maximum(books.peak, equity), waiting)
        is_ruined = equity <= number(config.ruin_fraction * config.capital)
        if ruined is not None:
            is_ruined = is_ruined | ruined
            after, closings = close_ruined(layout, after, closings, is_ruined)
            value, gross = value * ~layout.at_lines_from_accounts(is_ruined), gross * ~is_ruined
        if self._record or self._pays_to_leave:
            brought = liquidation(layout, costs, positions(layout, after.holdings), next_mark, quotes)
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
                costs,
                fills,
                orders=wanted,
                slot_fills=slot_fills,
                before=books.holdings * layout.at_slots_from_assets(mark),
                filled=filled,
                mark=next_mark,
                interest=interest,
                funding=funding,
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
                attributed=attributed,
            )
        return Outcome(
            after,
            self._rewards(books, after, sums[2], fills, slot_fills, None if attributed is None else attributed.profit),
            is_ruined,
            self._count(tally, books, after, slot_fills, sums, shown.drawdown, closings, exit_costs),
            shown,
            detail,
        )

    def _costs_at(self, quotes: Quotes) -> Costs:
        """What lines cost at a bar; what differs from bar to bar is that of the decision, the newest that is known."""
        if not quotes.costs:
            return self._costs
        own: dict[str, Any] = {name: self._layout.at_lines_from_assets(rate) for name, rate in quotes.costs.items()}
        return self._costs._replace(**own)

    def _is_all_taken(self, net: Tensor, most: Tensor) -> bool:
        """Whether the market takes all orders of all replicas, where it is quicker to look than to cut nothing."""
        if torch.compiler.is_compiling() or net.is_cuda:
            return False
        return bool(is_all_taken(most, self._layout.lines_to_assets(net.abs())).all())

    def _taken(self, books: Books, net: Tensor, held: Tensor, mark: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """The part of each line's order that the market takes, and what of it is an order that the account may give."""
        layout = self._layout
        part = share_taken(layout.at_lines_from_assets(most), net.abs())
        line_mark = layout.at_lines_from_assets(mark)

        def cut(taken: Tensor) -> Tensor:
            return cut_openings(layout, net, taken, held, line_mark, books.equity, self._config.max_leverage)

        orders = cut(net * part)
        if layout.num_accounts > 1:
            share = layout.at_lines_from_assets(share_taken(most, layout.lines_to_assets(orders.abs())))
            part = part * share
            orders = cut(orders * share)
        return part, orders

    def _fill(
        self, costs: Costs, books: Books, orders: Tensor, held: Tensor, quotes: Quotes, scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Fills]:
        """Price of all orders and the price before them, [L, B] each, and what of the orders is filled at it."""
        layout, config = self._layout, self._config
        prices = clearing_price(layout.lines_to_assets(orders), quotes, books.offset, costs, scale)
        price, mid = (layout.at_lines_from_assets(p) for p in prices)
        fills = execute(
            layout,
            costs,
            orders,
            held,
            books.cash,
            books.equity,
            (price, mid),
            credit=config.max_leverage - 1.0,
            borrow_rate=costs.borrow_rate_annual / self._periods if self._can_borrow else 0.0,
        )
        return price, mid, fills

    def _orders(self, books: Books, mark: Tensor, target: Tensor) -> Tensor:
        """Shares that each slot wants to buy, [P, B]; nothing where it is not worth an order."""
        layout, config = self._layout, self._config
        per_exposure = layout.at_slots_from_accounts(books.equity) / mark  # shares for an exposure of one
        orders = target * per_exposure - books.holdings
        if config.min_order > 0:
            orders = orders * (orders.abs() >= per_exposure * number(config.min_order))
        if config.costs.carry_orders:
            asked, left = books.waiting
            most = torch.where((left != 0) & (asked == target), left.abs(), torch.inf)
            orders = orders.clamp(-most, most)
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
        self, cash: Tensor, fills: Fills, ruined: Tensor | None, quotes: Quotes
    ) -> tuple[Tensor, Tensor | None, Sequence[Tensor]]:
        """Pay for fills; accounts that were ruined before neither earn nor owe interest.

        Returns:
            Cash after, [K, B]; interest, [K, B], None where there is none; and sums over lines, [K, B] each: value,
            fees (commission, spread and borrow), traded value, and impact where there is some.
        """
        paid = fills.fees if fills.borrow is None else fills.fees + fills.borrow
        rows = [fills.value, paid, fills.notional]
        if quotes.temporary is not None or quotes.permanent is not None:
            rows.append(fills.shares * (fills.price - fills.mid))
        sums = self._layout.lines_to_accounts.each(*rows)
        cash = cash - sums[0] - sums[1]
        interest = None
        if self._cash_rate > 0:
            interest = cash.clamp_min(0.0) * self._cash_rate
        is_paid = quotes.funding is not None or quotes.ends is not None  # without an order, and beyond the cash
        can_owe = self._config.max_leverage > 1 or is_paid
        if can_owe and self._loan_rate > 0:
            loan = cash.clamp_max(0.0) * self._loan_rate
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
