"""Networks for teams: one for all agents, or one each computed side by side in a single batched product."""

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


class TeamLinear(nn.Module):
    """A linear layer for N agents: one weight matrix for all, or N of them multiplied in one ``bmm``.

    Args:
        num_agents: N.
        in_features: Width of the input.
        out_features: Width of the output.
        is_shared: One matrix for all agents, or one each.
    """

    def __init__(self, num_agents: int, in_features: int, out_features: int, *, is_shared: bool) -> None:
        super().__init__()
        count = 1 if is_shared else num_agents
        self.is_shared = is_shared
        self.weight = nn.Parameter(torch.empty(count, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(count, 1, out_features))
        bound = max(1, in_features) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, ..., in] to [N, ..., out]."""
        if self.is_shared:
            rows = torch.addmm(self.bias.squeeze(0), x.flatten(0, -2), self.weight.squeeze(0))
        else:
            rows = torch.baddbmm(self.bias, x.flatten(1, -2), self.weight)
        return rows.view(*x.shape[:-1], rows.shape[-1])  # -1 would be ambiguous where there are no rows


class TeamEncoder(nn.Module):
    """Agents' observations to features, by an MLP or by a GRU that remembers from step to step.

    A shared network may tell agents apart by a learned first-layer offset for each, which is what a one-hot id appended
    to the observation amounts to.

    Args:
        num_agents: N.
        in_features: Width of the widest observation, F.
        hidden: Widths of the layers; a GRU's memory has the last.
        is_recurrent: End in a GRU cell (Cho et al. 2014) instead of a linear layer.
        is_shared: One network for all agents, or one each.
        has_id: Whether a shared network tells agents apart; else those that observe the same get the same.
    """

    def __init__(
        self,
        num_agents: int,
        in_features: int,
        hidden: tuple[int, ...],
        *,
        is_recurrent: bool,
        is_shared: bool,
        has_id: bool = True,
    ) -> None:
        super().__init__()
        self.num_agents, self.is_recurrent = num_agents, is_recurrent
        self.memory = hidden[-1] if is_recurrent else 0
        widths = [in_features, *(hidden[:-1] if is_recurrent else hidden)]
        layers = [TeamLinear(num_agents, a, b, is_shared=is_shared) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(layers)
        first = widths[1] if len(widths) > 1 else 3 * self.memory
        self.agent_offset = nn.Parameter(torch.zeros(num_agents, 1, first)) if is_shared and has_id else None
        if self.agent_offset is not None:
            nn.init.normal_(self.agent_offset, std=in_features**-0.5)
        self.gates_in = (
            TeamLinear(num_agents, widths[-1], 3 * self.memory, is_shared=is_shared) if is_recurrent else None
        )
        self.gates_mem = (
            TeamLinear(num_agents, self.memory, 3 * self.memory, is_shared=is_shared) if is_recurrent else None
        )
        self.out_features = hidden[-1]

    def forward(self, obs: Tensor, memory: Tensor | None = None) -> Tensor:
        """Encode one step.

        Args:
            obs: [N, R, F] float32.
            memory: [N, R, H] float32 for a GRU, else None.

        Returns:
            [N, R, H]: features, which for a GRU are also the new memory.
        """
        x = self._before_memory(obs)
        return x if self.gates_in is None else self._remember(x, cast(Tensor, memory))

    def unroll(self, obs: Tensor, memory: Tensor, ended: Tensor) -> Tensor:
        """Encode consecutive steps by a GRU, which forgets what was before the end of an episode.

        Args:
            obs: [N, T, R, F] float32.
            memory: What is remembered at the first step, [N, R, H] float32.
            ended: Whether an episode ended in a step, [T, R] bool.

        Returns:
            [N, T, R, H]: features of each step.
        """
        gates = self._before_memory(obs.flatten(1, 2)).unflatten(1, obs.shape[1:3])
        features = []
        for t in range(obs.shape[1]):
            features.append(self._remember(gates[:, t], memory))
            memory = features[-1].masked_fill(ended[t].view(1, -1, 1), 0.0)
        return torch.stack(features, 1)

    def _before_memory(self, obs: Tensor) -> Tensor:
        """What does not depend on memory: features of an MLP; of a GRU what its gates get of the observation."""
        x = obs
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 0 and self.agent_offset is not None:
                x = x + self.agent_offset
            x = torch.relu(x)
        if self.gates_in is None:
            return x
        gates: Tensor = self.gates_in(x)
        if not len(self.layers) and self.agent_offset is not None:
            gates = gates + self.agent_offset
        return gates

    def _remember(self, gates: Tensor, memory: Tensor) -> Tensor:
        """One step of the GRU, [N, R, 3 H] and [N, R, H] to [N, R, H]."""
        reset_in, update_in, new_in = gates.chunk(3, -1)
        reset_mem, update_mem, new_mem = cast(TeamLinear, self.gates_mem)(memory).chunk(3, -1)
        update = torch.sigmoid(update_in + update_mem)
        candidate = torch.tanh(new_in + torch.sigmoid(reset_in + reset_mem) * new_mem)
        return candidate + update * (memory - candidate)


@torch.no_grad()
def follow(targets: Iterable[nn.Module], online: Iterable[nn.Module], tau: float) -> None:
    """Move the weights of target networks toward those of the online ones by ``tau``; 1 copies."""
    old: list[Tensor] = [p for module in targets for p in module.parameters()]
    new: list[Tensor] = [p for module in online for p in module.parameters()]
    torch._foreach_lerp_(old, new, tau)
