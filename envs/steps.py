"""ReplicaStep: what environments of many replicas return, but for the trading floor, which tells more."""

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
