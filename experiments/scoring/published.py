"""Returns that others have published for the benchmarks, in the units of ``envs.benchmarks.rllib``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_PAPER = "Papoudakis et al. 2021, arXiv:2006.07869, table 3 (maximum returns, parameter sharing)"
_OFF_POLICY, _ON_POLICY = 2_000_000, 20_000_000
_STEPS = 25
_SPREAD = "mpe:simple_spread"


class Published(NamedTuple):
    """A published return.

    Attributes:
        value: In units of the environment here.
        printed: As it stands in the paper.
        steps: Environment steps that it took.
        source: Paper and table.
    """

    value: float
    printed: str
    steps: int
    source: str

    def says(self) -> str:
        """Where the value comes from, for people."""
        unit = "" if float(self.printed) == self.value else f", here {self.value:g}"
        return f"{self.printed}{unit} after {self.steps / 1e6:g} M steps: {self.source}"


def _spread(printed: float) -> float:
    """A published return of simple_spread in the units of mpe2.

    The older environment that was measured pays each of 3 agents the whole distance and a whole -1 for a collision,
    where mpe2 pays one half of each, and it finds each agent in collision with itself at each of 25 steps.
    """
    return (printed + 3 * _STEPS) / 2


def _all() -> dict[tuple[str, str], Published]:
    printed = {  # of the paper's other tasks, only what can be checked against it belongs here
        (_SPREAD, "qmix"): "-126.62",
        (_SPREAD, "indq"): "-132.63",
        (_SPREAD, "vdn"): "-131.03",
        (_SPREAD, "maddpg"): "-141.70",
        (_SPREAD, "mappo"): "-133.54",
        (_SPREAD, "ippo"): "-133.86",
    }
    return {
        (market, algo): Published(
            _spread(float(text)) if market == _SPREAD else float(text),
            text,
            _ON_POLICY if algo in ("mappo", "ippo") else _OFF_POLICY,
            _PAPER,
        )
        for (market, algo), text in printed.items()
    }


PUBLISHED: Mapping[tuple[str, str], Published] = MappingProxyType(_all())
"""By market and algorithm, with the packages' own settings."""
