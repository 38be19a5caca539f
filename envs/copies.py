"""A stream of episodes of its own for each copy of an environment that RLlib makes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray.rllib.env.env_context import EnvContext

from common.counted import counted_seed


def seeds_of_copy(config: Mapping[str, Any] | None) -> Callable[[int | None], int]:
    """How a copy of an environment seeds its stream of episodes.

    RLlib seeds the copies of a runner by consecutive numbers and begins those of the next runner one later, so most
    streams would be there several times; without a seed all copies would have the same.

    Args:
        config: What the environment is made with. RLlib's ``EnvContext`` says of which runner it is; all copies of one
            runner are given the same, and counted here.

    Returns:
        A function from the seed that was given to the stream's own. None gives 0, or under RLlib a new one each time.
    """
    if not isinstance(config, EnvContext):
        return _seed_of_the_only_one
    number = config.vector_index + vars(config).get("num_copies", 0)
    config.num_copies = vars(config).get("num_copies", 0) + 1
    return partial(_seed_of_one_among_others, config.worker_index, number)


def _seed_of_the_only_one(seed: int | None) -> int:
    return int(seed or 0)


def _seed_of_one_among_others(worker_index: int, number: int, seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(63)
    is_first = worker_index == number == 0
    return int(seed) if is_first else counted_seed(int(seed), worker_index, number)
