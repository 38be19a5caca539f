"""Actions -> target exposures of slots: ladders, weights, limits and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import told
from envs.accounts import Layout
from envs.mandates import Mandate

_TINY = 1e-300
_WHOLE = {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)} | {torch.bool}
_WEIGHTS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
"""Types of numbers that actions are taken in: rungs, and weights."""


class ActionRules:
    """What the mandates make of actions.

    A discrete agent's action is a rung of its ladder; a continuous agent's is a weight for each asset of its book. In
    a mixed team both stand in one float tensor, with the rung in column 0.

    Attributes:
        has_discrete: Whether some agent picks rungs.
        is_discrete: Whether all do, so that actions are int64 [B, N].
        num_rungs: Rungs of each agent's ladder; 0 for a continuous agent.
        most_rungs: Width of the action mask.
        widest_book: Width of continuous actions, D.
        has_masks: Whether some rung is ever forbidden.
        remembers_rung: Whether the last rung limits the next.
    """

    def __init__(self, mandates: Sequence[Mandate], layout: Layout, max_leverage: float, device: torch.device):
        self._layout = layout
        self.names = tuple(mandate.name for mandate in mandates)
        discrete = [mandate.is_discrete for mandate in mandates]
        self.has_discrete, self.is_discrete = any(discrete), all(discrete)
        self.num_rungs = tuple(len(m.ladder) if m.is_discrete else 0 for m in mandates)
        self.most_rungs = max(self.num_rungs)
        self.widest_book = max(len(mandate.assets) for mandate in mandates)

        def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.tensor(list(values), dtype=dtype, device=device)[:, None]

        ladders = [list(m.ladder) if m.is_discrete else [0.0] for m in mandates]
        width = max(map(len, ladders))
        has_weights = any(m.book_rule == "inverse_volatility" and m.is_discrete for m in mandates)
        levels = []
        for n in layout.slot_agent:
            step = mandates[n].limit / (1 if has_weights else len(mandates[n].assets))
            levels.append([step * rung for rung in ladders[n] + ladders[n][-1:] * (width - len(ladders[n]))])
        self._levels = torch.tensor(levels, dtype=torch.float64, device=device)  # exposure of each slot, [P, R]
        first = [
            0 if m.allow_short else [r >= 0 for r in row].index(True) for m, row in zip(mandates, ladders, strict=True)
        ]
        last = [len(row) - 1 for row in ladders]
        self._first, self._last = column(first, torch.int64), column(last, torch.int64)
        self.start_rung = column([row.index(0.0) for row in ladders], torch.int64)  # [N, 1]
        steps = [m.max_rung_change if m.is_discrete else None for m in mandates]
        self.remembers_rung = any(step is not None for step in steps)
        self._steps = column([width if step is None else step for step in steps], torch.int64)
        self._clamps = any(first)
        self.has_masks = self.remembers_rung or self._clamps or len(set(self.num_rungs)) > 1
        self._rungs = torch.arange(max(self.most_rungs, 1), device=device)[:, None, None]
        self._is_continuous = column([not flag for flag in discrete], torch.bool)
        self._constant_mask = (
            self._mask(self._first, self._last) if self.has_masks and not self.remembers_rung else None
        )

        books = [len(m.assets) for m in mandates]
        agents = layout.slot_agent
        self._slot_discrete = column([discrete[n] for n in agents], torch.bool)
        self._slot_limit = column([mandates[n].limit for n in agents])
        self._slot_low = column([-1.0 if mandates[n].allow_short else 0.0 for n in agents])
        self._agent_limit = column([m.limit for m in mandates])
        self._caps_books = max(books) > 1
        firsts = [agents.index(n) for n in range(len(mandates))]
        self._slot_column = torch.tensor(
            [n * self.widest_book + p - firsts[n] for p, n in enumerate(agents)], device=device
        )
        on_account = [sum(m.limit for m in mandates if m.account == k) for k in {m.account for m in mandates}]
        self._max_leverage = max_leverage
        self._caps_accounts = max(on_account) > max_leverage * (1 + 1e-12)

    def checked(self, actions: Tensor | np.ndarray[Any, Any], num_replicas: int) -> Tensor:
        """Actions as a tensor of the rules' own device: [B, N] int64 where all pick rungs, else [B, N, D].

        Args:
            actions: What somebody gave.
            num_replicas: B.

        Raises:
            ValueError: if they are no numbers, or of another shape or type; or mean nothing: a non-finite action, or a
                rung that its ladder lacks, of which agent and replica are named.
        """
        shape: tuple[int, ...] = (num_replicas, len(self.names))
        if not self.is_discrete:
            shape = (*shape, self.widest_book)
        if not isinstance(actions, Tensor) or actions.device != self._levels.device:
            try:
                actions = torch.as_tensor(actions, device=self._levels.device)
            except (TypeError, ValueError, RuntimeError) as error:  # torch has an error for each kind of nonsense
                raise ValueError(f"actions are no numbers, but a {type(actions).__name__}: {told(error)}") from None
        if actions.shape != shape:
            raise ValueError(f"actions have shape {tuple(actions.shape)}, expected {shape}")
        if self.is_discrete and actions.dtype != torch.int64:
            if actions.dtype not in _WHOLE:
                raise ValueError(f"actions are {actions.dtype}, expected int64: every agent picks a rung of its ladder")
            actions = actions.to(torch.int64)
        elif not self.is_discrete and actions.dtype not in _WEIGHTS:
            raise ValueError(f"actions are {actions.dtype}, expected float64 or float32: weights of assets")
        self._check(actions)
        return actions

    def _check(self, actions: Tensor) -> None:
        """Refuse actions that mean nothing; one or two reductions where all is well."""
        if self.is_discrete:
            low, high = actions.aminmax()
            if int(low) < 0 or int(high) >= min(self.num_rungs):
                self._refuse(actions[..., None], (actions < 0) | (actions > self._last[:, 0]))
        elif not bool(torch.isfinite(actions.sum())) or self.has_discrete:
            bad = ~torch.isfinite(actions)
            books = torch.bincount(torch.tensor(self._layout.slot_agent), minlength=len(self.names)).to(actions.device)
            bad &= torch.arange(actions.shape[-1], device=actions.device) < books[:, None]
            rung = actions[..., 0]
            wrong = (rung < 0) | (rung > self._last[:, 0]) | (rung != rung.round())
            self._refuse(actions, bad.any(-1) | (wrong & ~self._is_continuous[:, 0]))

    def _refuse(self, actions: Tensor, bad: Tensor) -> None:
        if not bool(bad.any()):
            return
        replica, agent = (int(i) for i in bad.nonzero()[0])
        action = actions[replica, agent].tolist()
        rungs = self.num_rungs[agent]
        wanted = f"a rung from 0 to {rungs - 1}" if rungs else "finite weights"
        raise ValueError(f"action of agent {self.names[agent]!r} in replica {replica} is {action}: expected {wanted}")

    def rungs(self, actions: Tensor, last_rung: Tensor | None) -> Tensor | None:
        """Rungs that will be taken: a forbidden one is moved to the nearest allowed one.

        Args:
            actions: [B, N] int64, or [B, N, D] float in a mixed team.
            last_rung: Rung of the bar before, [N, B] int64, where rungs are remembered.

        Returns:
            [N, B] int64, or None where nobody picks rungs.
        """
        if not self.has_discrete:
            return None
        rung = actions.t() if self.is_discrete else actions[..., 0].t().to(torch.int64).clamp_min(0)
        if last_rung is not None:
            low, high = self._range(last_rung)
            return torch.minimum(torch.maximum(rung, low), high)
        if self._clamps or not self.is_discrete:
            return torch.minimum(torch.maximum(rung, self._first), self._last)
        return rung

    def exposures(self, actions: Tensor, rung: Tensor | None, weights: Tensor | None) -> Tensor:
        """Target exposure of each slot, as a fraction of its account's equity.

        Args:
            actions: As given to the floor; read for continuous agents only.
            rung: What ``rungs`` returned.
            weights: Weights of the slots in their books, [P, B]; None for equal weights.

        Returns:
            [P, B] float64; the gross exposure of an account is at most the maximum leverage.
        """
        layout = self._layout
        target = None
        if rung is not None:
            target = self._levels.gather(1, layout.at_slots_from_agents(rung).expand(layout.num_slots, -1))
            if weights is not None:
                target = target * weights
        if not self.is_discrete:
            weight = actions.reshape(actions.shape[0], -1).t().index_select(0, self._slot_column).to(torch.float64)
            weight = torch.maximum(weight, self._slot_low).clamp_max(1.0) * self._slot_limit
            if self._caps_books:
                gross = layout.slots_to_agents(weight.abs())
                weight = weight * layout.at_slots_from_agents(
                    self._agent_limit / torch.maximum(gross, self._agent_limit)
                )
            target = weight if target is None else torch.where(self._slot_discrete, target, weight)
        assert target is not None
        if self._caps_accounts:
            gross = layout.lines_to_accounts(layout.slots_to_lines(target).abs())
            target = target * layout.at_slots_from_accounts(
                (self._max_leverage / gross.clamp_min(_TINY)).clamp_max(1.0)
            )
        return target

    def mask(self, last_rung: Tensor | None, num_replicas: int) -> Tensor | None:
        """Rungs that each agent may take next.

        Args:
            last_rung: Rung of the bar before, [N, B] int64, where rungs are remembered.
            num_replicas: B.

        Returns:
            [B, N, R] bool, True is allowed (all of a continuous agent's row); None where no rung is ever forbidden.
        """
        if not self.has_masks or not self.has_discrete:
            return None
        if last_rung is None:
            assert self._constant_mask is not None
            return self._constant_mask.expand(num_replicas, -1, -1).clone()
        return self._mask(*self._range(last_rung))

    def _range(self, rung: Tensor) -> tuple[Tensor, Tensor]:
        return torch.maximum(rung - self._steps, self._first), torch.minimum(rung + self._steps, self._last)

    def _mask(self, low: Tensor, high: Tensor) -> Tensor:
        allowed = (self._rungs >= low) & (self._rungs <= high) | self._is_continuous
        return allowed.permute(2, 1, 0).contiguous()
