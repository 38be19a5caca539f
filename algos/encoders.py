"""One door to the encoders of observations: which of them a team has is a setting, and nothing else changes."""

from collections.abc import Sequence

import gymnasium as gym

from algos.nets import TeamEncoder
from algos.network_settings import TeamNetworkSettings
from algos.transformer import TransformerEncoder
from algos.windows import width_of, window_of
from common.errors import IncompatibleError

Encoder = TeamEncoder | TransformerEncoder
"""Both map observations [N, R, F], and a memory where they have one, to features [N, R, ``out_features``]."""


def make_encoder(
    spaces: Sequence[gym.Space],
    settings: TeamNetworkSettings,
    *,
    hidden: tuple[int, ...],
    has_memory: bool = True,
) -> Encoder:
    """Make the encoder that is set.

    Args:
        spaces: What each agent observes, N of them; one that says nothing of bars (see ``WindowBox``) is a single bar.
        settings: Which network, and whether it is one for all agents.
        hidden: Widths of the layers of an MLP or a GRU.
        has_memory: False for value functions, which nobody steps along with the environment: beside a GRU they are
            MLPs.

    Raises:
        IncompatibleError: if a transformer is to look at windows of different length, or agents that observe different
            things are to be alike.
    """
    widths = [width_of(space) for space in spaces]
    is_shared, has_id = settings.use_shared_networks, settings.has_agent_id
    if is_shared and not has_id and len({(width_of(space), window_of(space)) for space in spaces}) > 1:
        raise IncompatibleError(
            f"use_agent_id=False makes agents alike, but these observe different things (widths {widths}): leave it out"
        )
    if settings.network == "transformer":
        return TransformerEncoder(
            [window_of(space) for space in spaces],
            widths,
            d_model=settings.d_model,
            num_heads=settings.num_heads,
            num_layers=settings.num_layers,
            is_shared=is_shared,
            has_id=has_id,
        )
    is_recurrent = has_memory and settings.network == "gru"
    return TeamEncoder(len(widths), max(widths), hidden, is_recurrent=is_recurrent, is_shared=is_shared, has_id=has_id)
