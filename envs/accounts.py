"""Cash, positions and equity of every account, and the sums that hold them together.

Books are kept at three levels. A *slot* is an asset in the book of an agent; a *line* is an asset in an account, and
pools the slots of all agents that trade the asset through the account; an *account* pools lines and cash. Tensors have
the level in front and replicas behind, ``[P, B]``, ``[L, B]`` and ``[K, B]`` float64, so that arithmetic runs over
contiguous replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.mandates import Mandate

_NUMBERS: dict[float, Tensor] = {}
_SCAN_REPLICAS = 64  # below this one scan is quicker than a chain of additions; both add in the same order


def number(value: float | Tensor) -> Tensor | float:
    """A number to calculate with: as a tensor, since torch makes one of every Python number first.

    With a single replica that would take longer than the arithmetic. A compiled step has its numbers in the code.
    """
    if isinstance(value, Tensor) or torch.compiler.is_compiling():
        return value
    found = _NUMBERS.get(value)
    if found is None:
        found = _NUMBERS[value] = torch.tensor(value, dtype=torch.float64)
    return found


class RowSum:
    """Sums rows of a tensor by group, always in the order of the rows.

    The order does not depend on the number of replicas, as that of ``Tensor.sum`` does, so a floor of one replica and a
    floor of thousands agree to the last bit.
    """

    def __init__(self, groups: Sequence[Sequence[int]], num_rows: int, device: torch.device):
        self._most = max(len(group) for group in groups)
        self._is_identity = [list(group) for group in groups] == [[i] for i in range(num_rows)]
        self._is_total = len(groups) == 1 and list(groups[0]) == list(range(num_rows))
        padded = [list(group) + [num_rows] * (self._most - len(group)) for group in groups]
        self._groups = [list(group) for group in groups]
        rows = torch.tensor(padded, device=device).reshape(-1)  # groups padded to the longest
        self._flat = rows % num_rows
        self._kept = (rows < num_rows).to(torch.float64)[:, None] if bool((rows == num_rows).any()) else None

    def __call__(self, x: Tensor) -> Tensor:
        """Sum groups of rows.

        Args:
            x: Rows to add, [R, B].

        Returns:
            One row for each group, [G, B].
        """
        if self._is_identity:
            return x
        if x.shape[-1] < _SCAN_REPLICAS and not torch.compiler.is_compiling():
            return self._scan(x)
        rows = x.unbind(0)
        totals = []
        for first, *others in self._groups:
            total = rows[first] + rows[others[0]] if others else rows[first]
            for row in others[1:]:
                total += rows[row]
            totals.append(total)
        return totals[0][None] if len(totals) == 1 else torch.stack(totals)

    def each(self, *xs: Tensor) -> Sequence[Tensor]:
        """Sum groups of rows of several tensors of one shape; for few replicas in one go."""
        if self._is_identity:
            return xs
        if xs[0].shape[-1] < _SCAN_REPLICAS and not torch.compiler.is_compiling():
            return self._scan(torch.stack(xs)).unbind(0)
        return [self(x) for x in xs]

    def _scan(self, x: Tensor) -> Tensor:
        """The same sums, [..., R, B] -> [..., G, B], with fewer and slower operations."""
        if self._is_total:
            return x.cumsum(-2)[..., -1:, :]
        picked = x.index_select(-2, self._flat)
        if self._kept is not None:
            picked = picked * self._kept
        shape = (*x.shape[:-2], len(self._groups), self._most, x.shape[-1])
        return picked.view(shape).cumsum(-2)[..., -1, :]


class RowPick:
    """Repeats rows: row i of the result is row ``rows[i]`` of the input. One row is left to broadcasting."""

    def __init__(self, rows: Sequence[int], num_rows: int, device: torch.device):
        self._is_identity = num_rows == 1 or list(rows) == list(range(num_rows))
        self._rows = torch.tensor(list(rows), device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Pick rows of ``x``, [R, B] -> [R', B]; where there is one row only, it is returned as it is."""
        return x if self._is_identity else x.index_select(-2, self._rows)


class Layout:
    """Which slot belongs to which agent, line and account; made once from the mandates.

    Attributes:
        assets: Names of the traded assets, A of them.
        num_agents: N.
        num_accounts: K.
        slot_agent: Agent of each slot, P of them, rising.
        slot_asset: Asset of each slot.
        slot_line: Line of each slot.
        line_account: Account of each line, L of them, rising.
        line_asset: Asset of each line.
        is_pooled: Whether some line pools several slots; otherwise slots and lines are the same rows.
    """

    def __init__(self, mandates: Sequence[Mandate], assets: Sequence[str], device: torch.device | str = "cpu"):
        device = torch.device(device)
        traded = {asset for mandate in mandates for asset in mandate.assets}
        self.assets = tuple(asset for asset in assets if asset in traded)
        place = {asset: i for i, asset in enumerate(self.assets)}
        slots = [(n, place[asset]) for n, mandate in enumerate(mandates) for asset in mandate.assets]
        lines = sorted({(mandates[n].account, a) for n, a in slots})
        accounts = sorted({mandate.account for mandate in mandates})
        self.num_agents, self.num_accounts = len(mandates), len(accounts)
        self.num_slots, self.num_lines, self.num_assets = len(slots), len(lines), len(self.assets)
        self.agent_account = tuple(accounts.index(mandate.account) for mandate in mandates)
        self.slot_agent = tuple(n for n, _ in slots)
        self.slot_asset = tuple(a for _, a in slots)
        self.slot_line = tuple(lines.index((mandates[n].account, a)) for n, a in slots)
        self.line_account = tuple(accounts.index(account) for account, _ in lines)
        self.line_asset = tuple(a for _, a in lines)
        slot_account = [self.line_account[line] for line in self.slot_line]
        self.is_pooled = self.slot_line != tuple(range(self.num_lines))

        def total(owner: Sequence[int], num_groups: int) -> RowSum:
            groups = [[row for row, group in enumerate(owner) if group == g] for g in range(num_groups)]
            return RowSum(groups, len(owner), device)

        self.slots_to_lines = total(self.slot_line, self.num_lines)
        self.slots_to_agents = total(self.slot_agent, self.num_agents)
        self.lines_to_accounts = total(self.line_account, self.num_accounts)
        self.lines_to_assets = total(self.line_asset, self.num_assets)
        self.at_slots_from_lines = RowPick(self.slot_line, self.num_lines, device)
        self.at_slots_from_accounts = RowPick(slot_account, self.num_accounts, device)
        self.at_slots_from_agents = RowPick(self.slot_agent, self.num_agents, device)
        self.at_slots_from_assets = RowPick(self.slot_asset, self.num_assets, device)
        self.at_lines_from_accounts = RowPick(self.line_account, self.num_accounts, device)
        self.at_lines_from_assets = RowPick(self.line_asset, self.num_assets, device)
        self.at_agents_from_accounts = RowPick(self.agent_account, self.num_accounts, device)
        agents = [self.agent_account.count(k) for k in self.agent_account]
        self.agent_part = torch.tensor(
            [[1.0 / n] for n in agents], dtype=torch.float64, device=device
        )  # of its account


class Books(NamedTuple):
    """What every replica owns at a close.

    Attributes:
        cash: Cash of each account, [K, B] float64, US dollars (or the currency of the prices).
        holdings: Shares that each agent holds of each asset of its book, [P, B] float64; negative is short.
        offset: Log of the price over the recorded price, moved by permanent impact, [A, B] float64.
        equity: Cash plus positions at the close, [K, B] float64.
        peak: Highest equity of the episode, [K, B] float64.
        waiting: The target of each slot's last order, and what of the order the market has not taken, in shares,
            [2, P, B] float64; [2, 0, B] where orders are not carried over.
    """

    cash: Tensor
    holdings: Tensor
    offset: Tensor
    equity: Tensor
    peak: Tensor
    waiting: Tensor


def open_books(
    layout: Layout,
    capital: float,
    num_replicas: int,
    device: torch.device | str = "cpu",
    *,
    carry_orders: bool = False,
) -> Books:
    """Books of replicas that have not traded: all capital in cash.

    Args:
        layout: Slots, lines and accounts.
        capital: Cash of each account, > 0.
        num_replicas: B.
        device: Where the tensors live.
        carry_orders: Whether orders wait for the market.
    """

    def full(rows: int, value: float) -> Tensor:
        return torch.full((rows, num_replicas), value, dtype=torch.float64, device=device)

    accounts = layout.num_accounts
    return Books(
        full(accounts, capital),
        full(layout.num_slots, 0.0),
        full(layout.num_assets, 0.0),
        full(accounts, capital),
        full(accounts, capital),
        full(2 * layout.num_slots * carry_orders, 0.0).view(2, -1, num_replicas),
    )


def positions(layout: Layout, holdings: Tensor) -> Tensor:
    """Shares of each account in each asset, the sum over its agents: [P, B] -> [L, B]."""
    return layout.slots_to_lines(holdings)


def marked(layout: Layout, cash: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Equity of each account, which is cash plus what its positions are worth; and the gross worth of the positions.

    Args:
        layout: Slots, lines and accounts.
        cash: [K, B].
        value: Value of each line at the marking price, [L, B].

    Returns:
        Equity and gross value, [K, B] float64 each.
    """
    net, gross = layout.lines_to_accounts.each(value, value.abs())
    return cash + net, gross


def agent_profit(
    layout: Layout, *, before: Tensor, after: Tensor, traded: Tensor, costs: Tensor, financing: Tensor
) -> Tensor:
    """Profit of each agent's own book over a bar; over the agents of an account it sums to the change of equity.

    Args:
        layout: Slots, lines and accounts.
        before: Value of each slot at the last close, [P, B].
        after: Value of each slot at this close, [P, B].
        traded: What each slot bought (negative: sold) at the price before impact, [P, B].
        costs: Commission, spread, impact, borrow fee and funding attributed to each slot, [P, B].
        financing: Interest received less interest paid by each account, [K, B]; its agents share it equally.

    Returns:
        [N, B] float64, US dollars.
    """
    own = layout.slots_to_agents(after - before - traded - costs)
    return own + layout.at_agents_from_accounts(financing) * layout.agent_part
