"""One door to the encoders of observations: which of them a team has is a setting, and nothing else changes."""

from collections.abc import Sequence

import gymnasium as gym

from algos.nets import TeamEncoder
from algos.network_settings import NetworkSettings
from algos.transformer import TransformerEncoder
from algos.windows import width_of, window_of

Encoder = TeamEncoder | TransformerEncoder
"""Both map observations [N, R, F], and a memory where they have one, to features [N, R, ``out_features``]."""


def make_encoder(
    spaces: Sequence[gym.Space],
    settings: NetworkSettings,
    *,
    hidden: tuple[int, ...],
    is_shared: bool,
    has_memory: bool = True,
) -> Encoder:
    """Make the encoder that is set.

    Args:
        spaces: What each agent observes, N of them; one that says nothing of bars (see ``WindowBox``) is a single bar.
        settings: Which network.
        hidden: Widths of the layers of an MLP or a GRU.
        is_shared: One network for all agents, or one each.
        has_memory: False for value functions, which nobody steps along with the environment: beside a GRU they are
            MLPs.

    Raises:
        IncompatibleError: if a transformer is to look at windows of different length.
    """
    widths = [width_of(space) for space in spaces]
    if settings.network == "transformer":
        return TransformerEncoder(
            [window_of(space) for space in spaces],
            widths,
            d_model=settings.d_model,
            num_heads=settings.num_heads,
            num_layers=settings.num_layers,
            is_shared=is_shared,
        )
    is_recurrent = has_memory and settings.network == "gru"
    return TeamEncoder(len(widths), max(widths), hidden, is_recurrent=is_recurrent, is_shared=is_shared)
