"""What environments of many replicas return: ReplicaStep, and FloorStep of the trading floor, which tells more."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ReplicaStep(NamedTuple):
    """What a step (or reset) returns. Rows that ended hold the first observation of their next episode.

    Attributes:
        obs: [B, N, F] float32.
        state: Global state, [B, S] float32; None unless asked for.
        action_mask: Choices that an agent has, [B, N, K] bool; None where every action is always allowed.
        reward: [B, N] float64; zeros after a reset.
        terminated: The episode is over, [B] bool.
        truncated: Time is over, [B] bool.
        final_obs: Last observation of the episodes that ended, [B, N, F]; valid in their rows; None when none ended.
            ``final_state`` and ``final_mask`` likewise.
        stats: None.
    """

    obs: Tensor
    state: Tensor | None
    action_mask: Tensor | None
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor | None = None
    final_state: Tensor | None = None
    final_mask: Tensor | None = None
    stats: dict[str, Tensor] | None = None


class FloorStep(ReplicaStep):
    """What a step (or reset) of the floor returns. Rows that ended hold the first observation of their next episode.

    Attributes:
        obs: [B, N, F] float32, F as wide as the widest agent, zeros beyond an agent's own width.
        state: Global state, [B, S] float32; None unless asked for.
        action_mask: Rungs that may be taken next, [B, N, R] bool; None where none is ever forbidden.
        reward: [B, N] float64; zeros after a reset.
        terminated: All accounts are ruined, [B] bool; an account that is ruined before others trades no more.
        truncated: The horizon or the end of the split was reached, [B] bool.
        final_obs: Last observation of the episodes that ended, [B, N, F]; valid in their rows; None when none ended.
            ``final_state`` and ``final_mask`` likewise.
        stats: Figures of the episodes that ended, [B] float64 each, valid in their rows, on the CPU; None when none
            ended. ``profit`` (fraction of the initial capital), ``num_trades``, ``total_costs_usd``, and those of
            ``envs.metrics.performance_of_sums`` are what a backtest of the same bars says under these names, an
            episode that ended in ruin counted to its full length; and ``episode_len``, the bars that were traded.
    """

    __slots__ = ()
