"""What environments have in common when they are told to carry on from a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def require_same_parts(state: Mapping[str, Any], own: Mapping[str, Any], *, of: str) -> None:
    """Refuse a state that is not of an environment like this one; parts beyond its own are let pass.

    Args:
        state: What an environment is to carry on from: arrays and numbers by name.
        own: What ``get_state`` of this environment returns now.
        of: What kind of environment it is, for the message.

    Raises:
        ValueError: if a part is missing or has another shape.
    """
    for name, value in own.items():
        if name not in state:
            raise ValueError(f"{of} state lacks {name!r}: it was saved by another kind of {of}")
        found, wanted = np.shape(state[name]), np.shape(value)
        if found != wanted:
            raise ValueError(
                f"{of} state {name!r} has shape {found}, this {of} has {wanted}: replicas, agents or the market differ"
            )
