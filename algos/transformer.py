"""A transformer over the bars of each agent's window: one for all agents, or one each computed side by side."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algos.nets import TeamLinear
from algos.windows import Window
from common.errors import IncompatibleError

_WIDENING = 4
"""How much wider the feed-forward layers are than the tokens (Vaswani et al. 2017, section 3.3)."""


class TeamNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) for N agents, with one scale and shift for all, or one each.

    Args:
        num_agents: N.
        width: Numbers that are normalised together.
        is_shared: One for all agents, or one each.
    """

    def __init__(self, num_agents: int, width: int, *, is_shared: bool) -> None:
        super().__init__()
        count = 1 if is_shared else num_agents
        self.weight = nn.Parameter(torch.ones(count, 1, width))
        self.bias = nn.Parameter(torch.zeros(count, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, ..., width] to the same shape."""
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias, normal.flatten(1, -2), self.weight).view(x.shape)


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each normalised before and added to what it was given.

    The original (Vaswani et al. 2017, section 3.1) normalises after, and then needs its step size warmed up (Xiong et
    al. 2020).

    Args:
        num_agents: N.
        d_model: D, width of a token.
        num_heads: Heads, each of which sees an equal share of D.
        is_shared: One for all agents, or one each.
    """

    def __init__(self, num_agents: int, d_model: int, num_heads: int, *, is_shared: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = TeamNorm(num_agents, d_model, is_shared=is_shared)
        self.query = TeamLinear(num_agents, d_model, d_model, is_shared=is_shared)
        self.key = TeamLinear(num_agents, d_model, d_model, is_shared=is_shared)
        self.value = TeamLinear(num_agents, d_model, d_model, is_shared=is_shared)
        self.merge = TeamLinear(num_agents, d_model, d_model, is_shared=is_shared)
        self.feedforward_norm = TeamNorm(num_agents, d_model, is_shared=is_shared)
        self.widen = TeamLinear(num_agents, d_model, _WIDENING * d_model, is_shared=is_shared)
        self.narrow = TeamLinear(num_agents, _WIDENING * d_model, d_model, is_shared=is_shared)

    def forward(self, tokens: Tensor, num_queries: int) -> Tensor:
        """Let the first tokens attend to all.

        Args:
            tokens: [N, R, L, D] float32.
            num_queries: Q, how many of them are wanted.

        Returns:
            [N, R, Q, D].
        """
        normal = self.attention_norm(tokens)
        query = self._split(self.query(normal[:, :, :num_queries]))
        key, value = self._split(self.key(normal)), self._split(self.value(normal))
        heads = nn.functional.scaled_dot_product_attention(query, key, value)
        seen = heads.transpose(1, 2).flatten(2).view(*tokens.shape[:2], num_queries, tokens.shape[-1])
        x = tokens[:, :, :num_queries] + self.merge(seen)
        fed: Tensor = self.narrow(torch.relu(self.widen(self.feedforward_norm(x))))
        return x + fed

    def _split(self, tokens: Tensor) -> Tensor:
        """[N, R, L, D] to [N * R, heads, L, D / heads]."""
        return tokens.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TransformerEncoder(nn.Module):
    """Agents' observations to features, by attention over the bars of their windows.

    Every bar is a token, told from others by a learned position; so are the numbers that are no bar's, and what this
    token has become after attending to the bars is the result. A shared network may tell agents apart by a learned
    offset of all tokens of each, which is what a one-hot id appended to every token amounts to.

    Args:
        windows: Bars of each agent's observation, N of them.
        widths: Numbers in each agent's observation, N of them.
        d_model: D, width of a token.
        num_heads: Heads of each block.
        num_layers: Blocks.
        is_shared: One network for all agents, or one each.
        has_id: Whether a shared network tells agents apart; else those that observe the same get the same.

    Raises:
        IncompatibleError: if agents see different numbers of bars.
    """

    is_recurrent, memory = False, 0

    def __init__(
        self,
        windows: Sequence[Window],
        widths: Sequence[int],
        *,
        d_model: int,
        num_heads: int,
        num_layers: int,
        is_shared: bool,
        has_id: bool = True,
    ) -> None:
        super().__init__()
        num_agents, lengths = len(windows), {window.num_bars for window in windows}
        if len(lengths) > 1:
            raise IncompatibleError(
                f"a transformer needs windows of equal length, but agents see {sorted(lengths)} bars: use network=mlp"
            )
        self.num_bars, self.out_features = lengths.pop(), d_model
        bars = [
            [[*range(w.lead + i * w.width, w.lead + (i + 1) * w.width)] for i in range(w.num_bars)] for w in windows
        ]
        rest = [
            [[*range(w.lead), *range(w.lead + w.num_bars * w.width, total)]]
            for w, total in zip(windows, widths, strict=True)
        ]
        self.register_buffer("bar_columns", _padded(bars, max(widths)), persistent=False)
        self.register_buffer("own_columns", _padded(rest, max(widths)), persistent=False)
        self.bar_columns: Tensor
        self.own_columns: Tensor
        self.embed_bar = TeamLinear(num_agents, self.bar_columns.shape[-1], d_model, is_shared=is_shared)
        self.embed_own = TeamLinear(num_agents, self.own_columns.shape[-1], d_model, is_shared=is_shared)
        positions = sinusoids(self.num_bars, d_model).expand(1 if is_shared else num_agents, 1, -1, -1)
        self.positions = nn.Parameter(positions.clone())
        offset = torch.zeros(num_agents, 1, 1, d_model)
        self.agent_offset = nn.Parameter(offset) if is_shared and has_id else None
        if self.agent_offset is not None:
            nn.init.normal_(self.agent_offset, std=max(widths) ** -0.5)
        blocks = [Block(num_agents, d_model, num_heads, is_shared=is_shared) for _ in range(num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = TeamNorm(num_agents, d_model, is_shared=is_shared)

    def forward(self, obs: Tensor, memory: Tensor | None = None) -> Tensor:
        """Encode one step.

        Args:
            obs: [N, R, F] float32, zero beyond each agent's own width.
            memory: None.

        Returns:
            [N, R, D]: features.
        """
        padded = nn.functional.pad(obs, (0, 1))  # the last column is what lacks in narrow agents' rows
        bars, own = _columns(padded, self.bar_columns), _columns(padded, self.own_columns)
        tokens = torch.cat([self.embed_own(own), self.embed_bar(bars) + self.positions], 2)
        if self.agent_offset is not None:
            tokens = tokens + self.agent_offset
        for block in self.blocks[:-1]:
            tokens = block(tokens, tokens.shape[2])
        read: Tensor = self.norm(self.blocks[-1](tokens, 1))  # what the bars become is of no use after the last block
        return read.squeeze(2)


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5); [num_positions, width] float32."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(num_positions).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def _padded(columns: Sequence[Sequence[Sequence[int]]], filler: int) -> Tensor:
    """Columns of each agent's rows, [N, L, widest] int64, filled up with one that holds a zero."""
    widest = max(len(row) for rows in columns for row in rows)
    filled = [[[*row, *[filler] * (widest - len(row))] for row in rows] for rows in columns]
    return torch.tensor(filled, dtype=torch.int64).view(len(columns), len(columns[0]), widest)


def _columns(obs: Tensor, columns: Tensor) -> Tensor:
    """Columns [N, L, k] of observations [N, R, F], as [N, R, L, k]."""
    index = columns.flatten(1).unsqueeze(1).expand(-1, obs.shape[1], -1)
    return obs.gather(-1, index).unflatten(-1, columns.shape[1:])
