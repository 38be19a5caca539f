"""Values of agents by attention over each other (Iqbal and Sha 2019)."""

import torch
from torch import Tensor, nn

from algos.nets import TeamLinear
from common.errors import IncompatibleError


class AgentAttention(nn.Module):
    """Value of each agent, of its own token and of what it attends to of the others' (Iqbal and Sha 2019, eq. 5).

    Queries, keys and values are made alike for all agents, so that they share one space; what an agent makes of them is
    its own matter where networks are not shared.

    Args:
        num_agents: N.
        width: E, of a token.
        num_heads: Heads, each of which sees an equal share of E.
        is_shared: One read-out for all agents, or one each.

    Raises:
        IncompatibleError: if tokens cannot be shared out among the heads.
    """

    def __init__(self, num_agents: int, width: int, num_heads: int, *, is_shared: bool) -> None:
        super().__init__()
        if width % num_heads:
            raise IncompatibleError(
                f"critic=attention needs tokens that its heads share out equally, but num_heads {num_heads} does not "
                f"divide {width}, the last width of the encoder (hidden)"
            )
        self.num_agents, self.num_heads = num_agents, num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.join = TeamLinear(num_agents, 2 * width, width, is_shared=is_shared)
        self.head = TeamLinear(num_agents, width, 1, is_shared=is_shared)
        self.register_buffer("others", ~torch.eye(num_agents, dtype=torch.bool), persistent=False)
        self.others: Tensor

    def forward(self, own: Tensor, tokens: Tensor) -> Tensor:
        """Value every agent.

        Args:
            own: Each agent's own token, [N, R, E] float32.
            tokens: Those of all agents as each agent is to see them, [N, R, N, E] float32, or as all see them,
                [1, R, N, E]; its own is left out.

        Returns:
            [R, N] float32.
        """
        seen = torch.zeros_like(own)
        if self.num_agents > 1:  # an agent that is alone has nobody to attend to
            query = self.query(own).unflatten(-1, (self.num_heads, 1, -1))
            key, value = self._split(self.key(tokens)), self._split(torch.relu(self.value(tokens)))
            mask = self.others.view(self.num_agents, 1, 1, 1, self.num_agents)
            seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).flatten(2)
        values: Tensor = self.head(torch.relu(self.join(torch.cat([own, seen], -1))))
        return values.squeeze(-1).T

    def _split(self, tokens: Tensor) -> Tensor:
        """[N or 1, R, N, E] to [N, R, heads, N, E / heads]."""
        heads = tokens.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)
        return heads.expand(self.num_agents, -1, -1, -1, -1)
