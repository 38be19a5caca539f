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
    done = min(1.0, timestep / settings.epsilon_decay_steps)
    return settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * done
