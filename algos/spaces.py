"""What the action spaces of a team have in common; spaces as JSON, which RLlib would read back by pickle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from algos.windows import WindowBox
from common.arrays import as_count
from common.errors import IncompatibleError

_MOST_NUMBERS = 1 << 24
"""Observations and actions of more numbers are nobody's."""


def is_team_of_choices(spaces: Sequence[gym.Space]) -> tuple[bool, list[int]]:
    """Whether agents choose or set numbers, and how many choices or numbers each has.

    Raises:
        IncompatibleError: if some choose and others set numbers, or they act in other spaces.
    """
    kinds = {type(s) for s in spaces}
    if len(kinds) > 1 or not kinds <= {gym.spaces.Discrete, gym.spaces.Box}:
        named = ", ".join(map(str, spaces))
        raise IncompatibleError(f"a team must act all in Discrete or all in Box spaces, but it has {named}")
    widths = [int(s.n) if isinstance(s, gym.spaces.Discrete) else math.prod(s.shape) for s in spaces]  # type: ignore[arg-type]
    return kinds == {gym.spaces.Discrete}, widths


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """Write down a Box, a Discrete or a Dict of them; infinite bounds become text.

    Raises:
        IncompatibleError: for another kind of space.
    """
    if isinstance(space, gym.spaces.Dict):
        return {"dict": [[name, space_to_json(part)] for name, part in space.spaces.items()]}
    if isinstance(space, gym.spaces.Discrete):
        return {"discrete": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        low, high = ([str(float(v)) for v in bound.flatten()] for bound in (space.low, space.high))
        low, high = (bound[:1] if len(set(bound)) == 1 else bound for bound in (low, high))
        box = {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
        return {"box": {**box, "window": list(space.window)} if isinstance(space, WindowBox) else box}
    raise IncompatibleError(f"a space of kind {type(space).__name__} cannot be exported")


def space_from_json(content: Mapping[str, Any]) -> gym.Space:
    """Build the space that ``space_to_json`` wrote down.

    Raises:
        ValueError: if it is none, or so large that nobody has written it.
    """
    if "dict" in content:
        # An iterable of pairs keeps the agents' order; gymnasium would sort a plain dict by name.
        return gym.spaces.Dict([(str(name), space_from_json(part)) for name, part in content["dict"]])
    if "discrete" in content:
        return gym.spaces.Discrete(as_count(content["discrete"], most=_MOST_NUMBERS))
    box = content["box"]
    dtype, shape = np.dtype(str(box["dtype"])), tuple(as_count(n, most=_MOST_NUMBERS) for n in box["shape"])
    if dtype.kind not in "fiub" or math.prod(shape) > _MOST_NUMBERS:
        raise ValueError(f"no space holds {shape} numbers of {dtype}")
    low, high = (np.array([float(v) for v in box[key]], dtype) for key in ("low", "high"))
    low, high = (np.full(shape, v[0]) if len(v) == 1 else v.reshape(shape) for v in (low, high))
    if not (low <= high).all():
        raise ValueError("a space ends below where it begins")
    plain = gym.spaces.Box(low, high, shape, dtype)  # type: ignore[arg-type]
    if "window" not in box:
        return plain
    lead, num_bars, width = (as_count(n, most=_MOST_NUMBERS) for n in box["window"])
    if lead + num_bars * width > math.prod(shape):
        raise ValueError(f"a window of {num_bars} bars does not fit into {shape}")
    return WindowBox(plain, (lead, num_bars, width))
