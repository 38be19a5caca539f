"""Step sizes that stay, or fall in a straight line."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from common.strict import STRICT

LEAST_SHARE = 0.01
"""Of a step size, after its decay: a run that is given more episodes than planned still learns."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StepSizeSettings:
    """How step sizes change over a run."""

    lr_decay_steps: int | None = Field(default=None, gt=0)
    """Environment steps over which all step sizes fall in a straight line to a hundredth; None keeps them."""


def step_size_schedule(lr: float, settings: StepSizeSettings) -> float | list[list[float]]:
    """A step size as RLlib takes it: a number, or a piecewise line over environment steps.

    Args:
        lr: At the start.
        settings: Say whether, and how fast, it falls.
    """
    if settings.lr_decay_steps is None:
        return lr
    return [[0, lr], [settings.lr_decay_steps, LEAST_SHARE * lr]]
