"""Masks of forbidden actions, as RLlib's modules meet them: beside the observations, or in a Dict with them."""

from typing import Any

import gymnasium as gym
from ray.rllib.core.columns import Columns
from torch import Tensor

OBSERVATIONS, ACTION_MASK = "observations", "action_mask"
"""Keys of a Dict observation with a mask, by RLlib's convention."""
MASKED_LOGIT = -1e9
"""Logit of a forbidden action: exp() of it is zero, yet it stays finite in losses."""


class MaskedObservations:
    """A mixin before an RLModule, whose networks then see the observations without their mask.

    The mask of a batch is its ``action_mask`` column (the team path), or stands in Dict observations
    ``{"observations": [R, F], "action_mask": [R, K]}``, as an environment on RLlib's own path gives them. The networks
    are the same either way, so that weights go from one path to the other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "observation_space" in kwargs:
            kwargs["observation_space"] = bare_space(kwargs["observation_space"])
        super().__init__(*args, **kwargs)

    @staticmethod
    def split_mask(batch: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
        """Separate a batch from its mask.

        Args:
            batch: With observations in column ``obs``; left as it is.

        Returns:
            The batch with bare observations, and the mask, bool, True where an action is allowed; None without one.
        """
        obs = batch[Columns.OBS]
        if isinstance(obs, dict):
            return {**batch, Columns.OBS: obs[OBSERVATIONS]}, obs[ACTION_MASK].bool()
        return batch, batch.get(ACTION_MASK)


def masked_logits(out: dict[str, Any], mask: Tensor | None, *, key: str = Columns.ACTION_DIST_INPUTS) -> dict[str, Any]:
    """Make forbidden actions of a forward pass impossible; a mask of None forbids nothing.

    Args:
        out: What the pass gave, with logits [R, K] under ``key``; changed in place.
        mask: [R, K] bool, True where an action is allowed.
        key: Where the logits stand.
    """
    if mask is not None:
        out[key] = out[key].masked_fill(~mask, MASKED_LOGIT)
    return out


def bare_space(space: Any) -> Any:
    """The space of observations without their mask."""
    if isinstance(space, gym.spaces.Dict) and set(space.spaces) == {OBSERVATIONS, ACTION_MASK}:
        return space[OBSERVATIONS]
    return space
