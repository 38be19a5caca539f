"""What agents see: scaled market features from a table, and a few numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.accounts import Books, Layout
from envs.features import Features, Scaler
from envs.mandates import Mandate

PRIVATE_NAMES = (
    "own_exposure",
    "own_gross",
    "net_exposure",
    "gross_exposure",
    "cash_fraction",
    "return",
    "drawdown",
    "time_left",
    "price_offset",
)
"""First columns of every observation: net and gross exposure of the own book over its limit; net and gross exposure,
cash over equity, return since the start and drawdown of the account; share of the episode that is left; mean log-price
offset of the book, times 100."""


def market_columns(
    mandate: Mandate, features: Features, scaled: NDArray[np.float32], assets: Sequence[str]
) -> NDArray[np.float32]:
    """Features of one agent at each bar, averaged over its book or side by side, [T, f] float32."""
    book = [list(assets).index(asset) for asset in mandate.assets]
    mine = scaled[:, book][:, :, features.columns(mandate.feature_groups)]
    return mine.mean(axis=1) if mandate.observe == "book" else mine.reshape(len(mine), -1)


def observation_names(mandate: Mandate, features: Features, window: int) -> tuple[str, ...]:
    """Name of each column of an agent's observation, in order."""
    columns = [features.names[c] for c in features.columns(mandate.feature_groups)]
    if mandate.observe == "each":
        columns = [f"{asset}/{name}" for asset in mandate.assets for name in columns]
    lagged = [f"{name}[-{lag}]" if lag else name for lag in range(window - 1, -1, -1) for name in columns]
    weights = [f"weight/{asset}" for asset in mandate.assets] if mandate.observe == "each" else []
    return (*PRIVATE_NAMES, *lagged, *weights)


class Observer:
    """Writes observations and the global state.

    Columns of an agent's observation: the private numbers (``PRIVATE_NAMES``), then the market features of the last W
    bars, oldest first, then, for an agent that sees its assets side by side, its exposure in each of them over its
    limit; zeros up to the widest agent. The global state is the exposure of each line, five numbers of each account,
    the exposure of each agent, the price offsets, the time left, and the market-wide means of all features.

    Attributes:
        dims: Width of each agent's observation without padding, N of them.
        width: Width of the widest, F.
        state_dim: Width of the global state, S.
    """

    def __init__(
        self,
        mandates: Sequence[Mandate],
        layout: Layout,
        features: Features,
        scaler: Scaler,
        assets: Sequence[str],
        *,
        window: int,
        capital: float,
        device: torch.device,
    ):
        self._layout, self._window, self._capital, self._device = layout, window, capital, device
        scaled = scaler.transform(features)
        tables = [market_columns(m, features, scaled, assets) for m in mandates]
        self._num_private = len(PRIVATE_NAMES)
        self._each = [
            (
                n,
                [p for p, owner in enumerate(layout.slot_agent) if owner == n],
                self._num_private + window * tables[n].shape[1],
            )
            for n, mandate in enumerate(mandates)
            if mandate.observe == "each"
        ]
        weights = {n: len(slots) for n, slots, _ in self._each}
        self.dims = tuple(
            self._num_private + window * table.shape[1] + weights.get(n, 0) for n, table in enumerate(tables)
        )
        self.width = max(self.dims)
        self._groups = self._make_groups(tables)
        self._inverse_limit = torch.tensor([[1.0 / m.limit] for m in mandates], dtype=torch.float64, device=device)
        books = [len(m.assets) for m in mandates]
        self._mean_of_book = torch.tensor([[100.0 / size] for size in books], dtype=torch.float64, device=device)
        self._state_table = torch.tensor(scaled.mean(axis=1), device=device)
        self.state_dim = (
            layout.num_lines
            + 5 * layout.num_accounts
            + layout.num_agents
            + layout.num_assets
            + 1
            + features.num_features
        )
        self._arrange = self._arrangement()

    def _make_groups(self, tables: list[NDArray[np.float32]]) -> list[tuple[list[int], Tensor, Tensor]]:
        """Agents of equal width share a table, read as overlapping windows: (agents, windows, their first rows)."""
        num_bars, window, lead = len(tables[0]), self._window, self._num_private
        if window == 1:  # padding at the end of a row is padding at the end of the observation
            room = self.width - lead
            tables = [np.pad(table, ((0, 0), (0, room - table.shape[1]))) for table in tables]
        groups = []
        for width in dict.fromkeys(table.shape[1] for table in tables):
            agents = [n for n, table in enumerate(tables) if table.shape[1] == width]
            flat = np.concatenate([np.zeros(lead, np.float32), *(tables[n].reshape(-1) for n in agents)])
            data = torch.tensor(flat, device=self._device)
            rows = len(agents) * num_bars - window + 1
            # row r holds `lead` floats of no meaning, overwritten by the private numbers, and then bars r to r + W - 1
            windows = data.as_strided((rows, lead + window * width), (max(width, 1), 1))
            first = torch.arange(len(agents), device=self._device) * num_bars - (window - 1)
            groups.append((agents, windows, first))
        return groups

    def _arrangement(self) -> Tensor:
        """Rows of ``_rows`` that make the private numbers of each agent, agent by agent."""
        layout = self._layout
        N, K = layout.num_agents, layout.num_accounts
        rows = []
        for n, k in enumerate(layout.agent_account):
            account = [2 * N + part * K + k for part in range(5)]
            rows += [n, N + n, *account, 2 * N + 5 * K, 2 * N + 5 * K + 1 + n]
        return torch.tensor(rows, device=self._device)

    def private(
        self, books: Books, value: Tensor, slot_value: Tensor, time_left: Tensor, with_state: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Numbers of the books that observations show.

        Args:
            books: Books at a close.
            value: Value of each line, [L, B].
            slot_value: Value of each slot, [P, B].
            time_left: Share of the episode that is left, [B].
            with_state: Whether the global state is wanted.

        Returns:
            Private numbers, [N * 9, B] float32; exposure of each slot over its agent's limit, [P, B] float32 (no rows
            where nobody sees it); the books' part of the global state, [S', B] float32, or None.
        """
        layout = self._layout
        per_equity = 1.0 / books.equity
        slot = slot_value * layout.at_slots_from_accounts(per_equity)
        own = layout.slots_to_agents(torch.stack((slot, slot.abs()))) * self._inverse_limit
        line = value * layout.at_lines_from_accounts(per_equity)
        account = layout.lines_to_accounts(torch.stack((line, line.abs())))
        offset = layout.at_slots_from_assets(books.offset).expand(layout.num_slots, -1)
        offset = layout.slots_to_agents(offset) * self._mean_of_book
        rows = torch.cat(
            (
                own.flatten(0, 1),
                account.flatten(0, 1),
                books.cash * per_equity,
                books.equity * (1.0 / self._capital) - 1.0,
                1.0 - books.equity / books.peak,
                time_left[None],
                offset,
            )
        ).to(torch.float32)
        weights = slot if self._each else slot[:0]
        if self._each:
            weights = weights * layout.at_slots_from_agents(self._inverse_limit)
        state = None
        if with_state:
            N, K = layout.num_agents, layout.num_accounts
            books_part = rows[2 * N : 2 * N + 5 * K + 1]
            state = torch.cat((line.to(torch.float32), books_part, rows[:N], books.offset.to(torch.float32) * 100.0))
        return rows.index_select(0, self._arrange), weights.to(torch.float32), state

    def observe(self, bar: Tensor, private: Tensor, weights: Tensor) -> Tensor:
        """Observations of all agents.

        Args:
            bar: Bar that is seen, [B] int64.
            private: From ``private``, [N * 9, B] float32.
            weights: From ``private``.

        Returns:
            [B, N, F] float32, zero beyond each agent's own width.
        """
        B, N, lead = bar.shape[0], self._layout.num_agents, self._num_private
        if len(self._groups) == 1 and self._groups[0][1].shape[1] == self.width:
            _, windows, first = self._groups[0]
            obs = windows.index_select(0, (bar[:, None] + first).view(-1)).view(B, N, self.width)
        else:
            obs = torch.zeros(B, N, self.width, device=self._device)
            for agents, windows, first in self._groups:
                seen = windows.index_select(0, (bar[:, None] + first).view(-1)).view(B, len(agents), -1)
                if agents == list(range(agents[0], agents[-1] + 1)):
                    obs[:, agents[0] : agents[-1] + 1, : seen.shape[2]] = seen
                else:
                    obs[:, agents, : seen.shape[2]] = seen
        numbers = torch.empty(B, N * lead, device=self._device).copy_(private.t())
        obs[:, :, :lead] = numbers.view(B, N, lead)
        for n, slots, column in self._each:
            obs[:, n, column : column + len(slots)] = weights[slots[0] : slots[-1] + 1].t()
        return obs

    def state(self, bar: Tensor, books_part: Tensor) -> Tensor:
        """Global state: the books' part and the market-wide features of the bar, [B, S] float32."""
        return torch.cat((books_part.t(), self._state_table.index_select(0, bar)), 1)
