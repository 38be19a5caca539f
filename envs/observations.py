"""What agents see: scaled market features from a table, and a few numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.accounts import Books, Layout, number
from envs.features import Features, Scaler
from envs.mandates import Mandate
from envs.outcomes import Shown

_OF_BOOKS = ("own_exposure", "own_gross", "net_exposure", "gross_exposure", "cash_fraction")
_OF_EPISODE = ("return", "drawdown", "time_left")


def private_names(observe_episode: bool) -> tuple[str, ...]:
    """First columns of every observation.

    Net and gross exposure of the own book over its limit; net and gross exposure of the account and its cash, over its
    equity; where asked for, its return since the start and drawdown, and the share of the episode that is left; mean
    log-price offset of the book, times 100.
    """
    return (*_OF_BOOKS, *(_OF_EPISODE if observe_episode else ()), "price_offset")


def market_columns(
    mandate: Mandate,
    features: Features,
    scaled: NDArray[np.float32],
    assets: Sequence[str],
    alive: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Features of one agent at each bar, averaged over what is listed of its book or side by side, [T, f] float32."""
    book = [list(assets).index(asset) for asset in mandate.assets]
    mine = scaled[:, book][:, :, features.columns(mandate.feature_groups)]
    return _mean_of_listed(mine, alive[:, book]) if mandate.observe == "book" else mine.reshape(len(mine), -1)


def _mean_of_listed(values: NDArray[np.float32], alive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over assets, [T, A, f] -> [T, f], where those that are not listed have zeros; 0 where none is."""
    if alive.all():
        return values.mean(axis=1)
    return (values.sum(axis=1) / np.maximum(alive.sum(axis=1), 1)[:, None]).astype(np.float32)


def observation_names(
    mandate: Mandate, features: Features, window: int, *, observe_episode: bool = False
) -> tuple[str, ...]:
    """Name of each column of an agent's observation, in order."""
    columns = [features.names[c] for c in features.columns(mandate.feature_groups)]
    if mandate.observe == "each":
        columns = [f"{asset}/{name}" for asset in mandate.assets for name in columns]
    lagged = [f"{name}[-{lag}]" if lag else name for lag in range(window - 1, -1, -1) for name in columns]
    weights = [f"weight/{asset}" for asset in mandate.assets] if mandate.observe == "each" else []
    return (*private_names(observe_episode), *lagged, *weights)


class Observer:
    """Writes observations and the global state.

    Columns of an agent's observation: the private numbers (``private_names``), then the market features of the last W
    bars, oldest first, then, for an agent that sees its assets side by side, its exposure in each of them over its
    limit; zeros up to the widest agent. The global state is the exposure of each line, the numbers of each account, the
    time left where it is seen, the exposure of each agent, price offsets, and the market-wide means of all features.

    Attributes:
        dims: Width of each agent's observation without padding, N of them.
        width: Width of the widest, F.
        windows: Numbers before the first bar, bars, and features of each, N of them.
        state_dim: Width of the global state, S.
    """

    def __init__(
        self,
        mandates: Sequence[Mandate],
        layout: Layout,
        features: Features,
        scaler: Scaler,
        assets: Sequence[str],
        alive: NDArray[np.bool_],
        *,
        window: int,
        capital: float,
        has_offset: bool,
        observe_episode: bool,
        device: torch.device,
    ):
        self._layout, self._window, self._capital, self._device = layout, window, capital, device
        scaled = scaler.transform(features)
        tables = [market_columns(m, features, scaled, assets, alive) for m in mandates]
        self._observe_episode = observe_episode
        self._num_private = len(private_names(observe_episode))
        self._num_of_account = 5 if observe_episode else 3
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
        self.windows = tuple((self._num_private, window, table.shape[1]) for table in tables)
        self._groups = self._make_groups(tables)
        scale = [1.0 / m.limit for m in mandates] * 2 + [100.0 / len(m.assets) for m in mandates]
        rows = scale if has_offset else scale[: 2 * len(mandates)]
        self._agent_scale = torch.tensor(rows, dtype=torch.float64, device=device)[:, None]
        self._has_offset = has_offset
        self._state_table = torch.tensor(_mean_of_listed(scaled, alive), device=device)
        self.state_dim = (
            layout.num_lines
            + self._num_of_account * layout.num_accounts
            + layout.num_agents
            + layout.num_assets
            + int(observe_episode)
            + features.num_features
        )
        self._arrange = self._arrangement()
        self._no_weights = torch.zeros(0, device=device)

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
        """Which rows of those that ``private`` puts together make the private numbers of each agent, agent by agent."""
        N, K, parts = self._layout.num_agents, self._layout.num_accounts, self._num_of_account
        accounts = (3 if self._has_offset else 2) * N
        time = accounts + parts * K
        rows = []
        for n, k in enumerate(self._layout.agent_account):
            offset = 2 * N + n if self._has_offset else time + self._observe_episode
            own = [n, N + n, *(accounts + part * K + k for part in range(parts))]
            rows += [*own, *([time] if self._observe_episode else []), offset]
        return torch.tensor(rows, device=self._device)

    def private(
        self, books: Books, shown: Shown, time_left: Tensor, with_state: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Numbers of the books that observations show.

        Args:
            books: Equity and price offsets at a close.
            shown: Positions and cash that make up the equity.
            time_left: Share of the episode that is left, [B].
            with_state: Whether the global state is wanted.

        Returns:
            Private numbers, agent by agent, [N * P', B] float32; exposure of each slot over its agent's limit, [P, B]
            float32 (empty where nobody sees it); the books' part of the global state, [S', B] float32, or None.
        """
        layout = self._layout
        N, K = layout.num_agents, layout.num_accounts
        per_equity = books.equity.reciprocal()
        slot = shown.slot_value * layout.at_slots_from_accounts(per_equity)
        slots = [slot, slot.abs()]
        if self._has_offset:
            slots.append(layout.at_slots_from_assets(books.offset).expand(layout.num_slots, -1))
        agents = torch.cat(tuple(layout.slots_to_agents.each(*slots))) * self._agent_scale
        cash = shown.cash * per_equity
        one = number(1.0)
        own = [agents, one - cash, shown.gross * per_equity, cash]
        if self._observe_episode:
            own += [books.equity * number(1.0 / self._capital) - one, shown.drawdown, time_left[None]]
        rows = torch.cat(own).to(torch.float32)
        weights = self._no_weights
        if self._each:
            weights = (slot * layout.at_slots_from_agents(self._agent_scale[:N])).to(torch.float32)
        state = None
        if with_state:
            line = shown.value * layout.at_lines_from_accounts(per_equity)
            offset = books.offset.to(torch.float32) * 100.0
            start = rows.shape[0] - self._num_of_account * K - self._observe_episode
            state = torch.cat((line.to(torch.float32), rows[start:], rows[:N], offset))
        if not self._has_offset:
            rows = torch.cat((rows, torch.zeros_like(rows[:1])))
        return rows.index_select(0, self._arrange), weights, state

    def observe(self, bar: Tensor, private: Tensor, weights: Tensor) -> Tensor:
        """Observations of all agents.

        Args:
            bar: Bar that is seen, [B] int64.
            private: From ``private``, [N * P', B] float32.
            weights: From ``private``.

        Returns:
            [B, N, F] float32, zero beyond each agent's own width.
        """
        B, N, lead = bar.shape[0], self._layout.num_agents, self._num_private
        if len(self._groups) == 1 and self._groups[0][1].shape[1] == self.width:
            _, windows, first = self._groups[0]
            obs = windows.index_select(0, _rows(bar, first)).view(B, N, self.width)
        else:
            obs = torch.zeros(B, N, self.width, device=self._device)
            for agents, windows, first in self._groups:
                seen = windows.index_select(0, _rows(bar, first)).view(B, len(agents), -1)
                if agents == list(range(agents[0], agents[-1] + 1)):
                    obs[:, agents[0] : agents[-1] + 1, : seen.shape[2]] = seen
                else:
                    obs[:, agents, : seen.shape[2]] = seen
        obs[:, :, :lead] = private.t().contiguous().view(B, N, lead)
        for n, slots, column in self._each:
            obs[:, n, column : column + len(slots)] = weights[slots[0] : slots[-1] + 1].t()
        return obs

    def state(self, bar: Tensor, books_part: Tensor) -> Tensor:
        """Global state: the books' part and the market-wide features of the bar, [B, S] float32."""
        return torch.cat((books_part.t(), self._state_table.index_select(0, bar)), 1)


def _rows(bar: Tensor, first: Tensor) -> Tensor:
    """Row of each replica and agent in their table, [B * n] int64."""
    return bar + first if bar.shape[0] == 1 else (bar[:, None] + first).view(-1)
