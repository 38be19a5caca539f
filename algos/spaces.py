"""What the action spaces of a team have in common."""

import math
from collections.abc import Sequence

import gymnasium as gym

from common.errors import IncompatibleError


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
