"""Q-networks of all agents of a team, which may learn the mean of each action's value or its quantiles."""

from collections.abc import Sequence
from typing import cast

import gymnasium as gym
import torch
from torch import Tensor, nn

from algos.encoders import make_encoder
from algos.nets import TeamLinear
from algos.q_settings import TeamQSettings


class AgentNetworks(nn.Module):
    """Q-values of every agent: [N, R, F] and memory to [N, R, K] and new memory; with quantiles [N, R, K * Q].

    Args:
        spaces: Observation space of each agent, N of them.
        num_actions: How many actions each agent has, [N]; the largest is K.
        settings: What all algorithms share.
        num_quantiles: Q; 0 where each action has one value.
    """

    def __init__(
        self, spaces: Sequence[gym.Space], num_actions: Sequence[int], settings: TeamQSettings, num_quantiles: int = 0
    ) -> None:
        super().__init__()
        self.num_quantiles = max(1, num_quantiles)
        is_shared = settings.use_shared_networks
        num_agents = len(spaces)
        self.encoder = make_encoder(spaces, settings, hidden=settings.hidden)
        width, outputs = max(num_actions), self.num_quantiles
        self.head = TeamLinear(num_agents, self.encoder.out_features, width * outputs, is_shared=is_shared)
        self.value_head = (
            TeamLinear(num_agents, self.encoder.out_features, outputs, is_shared=is_shared)
            if settings.dueling
            else None
        )
        counts = torch.tensor(num_actions).view(-1, 1, 1, 1)
        share = (torch.arange(width).unsqueeze(-1) < counts) / counts  # of an agent's own actions in their mean
        self.register_buffer("share", share, persistent=False)

    def forward(self, obs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Q-values of one step, and what a GRU remembers of it."""
        features = self.encoder(obs, memory)
        values = self.head(features)
        if self.value_head is not None:
            values = self._dueling(values, self.value_head(features))
        return values, features if self.encoder.is_recurrent else None

    def _dueling(self, advantages: Tensor, values: Tensor) -> Tensor:
        """V + A - mean A, over the actions that an agent has (Wang et al. 2016, eq. 9)."""
        by_action = advantages.unflatten(-1, (-1, self.num_quantiles))
        mean = (by_action * cast(Tensor, self.share)).sum(-2, keepdim=True)
        return (values.unsqueeze(-2) + by_action - mean).flatten(-2)
