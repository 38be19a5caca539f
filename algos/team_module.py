"""TeamModule: what the RLModules of a whole team share."""

from typing import Any, Self

import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor


class TeamModule(TorchRLModule, InferenceOnlyAPI):
    """A base of modules whose policies are ``agents``, with an encoder that may have a memory.

    Attributes:
        num_agents: N.
        agents: The networks that act; all that a runner's copy has.
    """

    framework = "torch"
    num_agents: int
    agents: Any

    def initial_carry(self, num_replicas: int) -> Tensor | None:
        """What is carried from step to step, at rest: empty memory of a GRU, [B, N, H], or None without one."""
        return self.blank_carry(num_replicas, self.agents.encoder.memory)

    def blank_carry(self, num_replicas: int, width: int) -> Tensor | None:
        """Zeros to carry, [B, N, width] float32 where the networks are; None where the width is 0."""
        device = next(self.agents.parameters()).device
        return torch.zeros(num_replicas, self.num_agents, width, device=device) if width else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every part, where it is not what was set last: RLlib asks for it at every gradient step."""
        return self if self.training == mode else super().train(mode)
