"""Schedules of exploration and of the entropy bonus."""

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


class EntropySettings(Protocol):
    """The settings of an entropy bonus that stays, or falls in a straight line, as MAPPO has them."""

    @property
    def entropy_coeff(self) -> float:
        """Weight of the bonus at the start."""

    @property
    def entropy_decay_steps(self) -> int | None:
        """Environment steps over which it falls to nothing; None: it stays."""


def entropy_coeff_at(settings: EntropySettings, timestep: float) -> float:
    """Weight of the entropy bonus after ``timestep`` environment steps."""
    if settings.entropy_decay_steps is None:
        return settings.entropy_coeff
    return straight_line(settings.entropy_coeff, 0.0, settings.entropy_decay_steps, timestep)


def straight_line(start: float, end: float, decay_steps: int, timestep: float) -> float:
    """Value after ``timestep`` environment steps of what goes from start to end in ``decay_steps``, and stays there."""
    return start + (end - start) * min(1.0, timestep / decay_steps)
