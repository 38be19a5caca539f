"""Returns that others have published for the benchmarks, in the units of ``envs.benchmarks.rllib``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_PAPER = "Papoudakis et al. 2021, arXiv:2006.07869, table 3 (maximum returns, parameter sharing)"
_STEPS_OF_EPISODE = 25


class Published(NamedTuple):
    """A published return of simple_spread.

    Attributes:
        printed: As it stands in the paper.
        steps: Environment steps that it took.
    """

    printed: str
    steps: int

    @property
    def value(self) -> float:
        """In the units of mpe2.

        The older environment that was measured pays each of 3 agents the whole distance and a whole -1 for a collision,
        where mpe2 pays one half of each, and it finds each agent in collision with itself at each of 25 steps.
        """
        return (float(self.printed) + 3 * _STEPS_OF_EPISODE) / 2

    def says(self) -> str:
        """Where the value comes from, for people."""
        return f"{self.printed}, here {self.value:g} after {self.steps / 1e6:g} M steps: {_PAPER}"


PUBLISHED: Mapping[tuple[str, str], Published] = MappingProxyType(
    {
        ("mpe:simple_spread", algo): Published(printed, steps)
        for algo, printed, steps in (
            ("qmix", "-126.62", 2_000_000),
            ("indq", "-132.63", 2_000_000),
            ("vdn", "-131.03", 2_000_000),
            ("maddpg", "-141.70", 2_000_000),
            ("mappo", "-133.54", 20_000_000),
            ("ippo", "-133.86", 20_000_000),
        )
    }
)
"""By market and algorithm, with the packages' own settings. Of the paper's other tasks, none can be checked here."""
