"""Schedules of exploration."""

from typing import Protocol


class EpsilonSettings(Protocol):
    """The settings of an epsilon that falls in a straight line, as QMIX's and DQN's have them."""

    @property
    def epsilon_start(self) -> float:
        """Chance of a random action at the start."""

    @property
    def epsilon_end(self) -> float:
        """Chance of a random action after the decay."""

    @property
    def epsilon_decay_steps(self) -> int:
        """Environment steps of the decay."""


def epsilon_at(settings: EpsilonSettings, timestep: float) -> float:
    """Chance of a random action after ``timestep`` environment steps; RLlib's piecewise schedule gives the same."""
    return straight_line(settings.epsilon_start, settings.epsilon_end, settings.epsilon_decay_steps, timestep)


def straight_line(start: float, end: float, decay_steps: int, timestep: float) -> float:
    """Value after ``timestep`` environment steps of what goes from start to end in ``decay_steps``, and stays there."""
    return start + (end - start) * min(1.0, timestep / decay_steps)
