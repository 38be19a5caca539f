"""A team that knows nothing."""

from __future__ import annotations

import gymnasium as gym
import torch
from torch import Tensor

from algos.team_env import TeamEnv
from common.counted import counted_seed

_RANDOM = 1
"""Seed of the draws."""


class RandomTeam:
    """Uniformly random actions; two that are new draw the same.

    Args:
        env: Whose actions.
    """

    def __init__(self, env: TeamEnv) -> None:
        self._spaces = [env.action_spaces[agent] for agent in env.agent_ids]
        self._generator = torch.Generator()
        self._draws = 0

    def reset(self) -> None:
        """Begin another episode."""
        self._generator.manual_seed(counted_seed(_RANDOM, self._draws))
        self._draws += 1

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Draw [B, N] of what is allowed, or [B, N, D] within the bounds."""
        if action_mask is not None:
            allowed = action_mask.reshape(-1, action_mask.shape[-1]).to(torch.float32)
            return torch.multinomial(allowed, 1, generator=self._generator).view(action_mask.shape[:2])
        boxes = [space for space in self._spaces if isinstance(space, gym.spaces.Box)]
        width = max(box.shape[0] for box in boxes)
        drawn = torch.rand(len(obs), len(boxes), width, generator=self._generator)
        for n, box in enumerate(boxes):
            low, high = torch.from_numpy(box.low), torch.from_numpy(box.high)
            drawn[:, n, : len(low)] = low + (high - low) * drawn[:, n, : len(low)]
        return drawn
