"""The standing table: which learner is to reach what on which problem (``standing.yaml``), and whether it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.intervals import Interval, interval
from envs.benchmarks.published import PUBLISHED
from envs.optima.evaluation import score

SEEDS = 5
"""Seeds of every row."""
TOLERANCE = 1e-3
"""How near a return of a game must be to be called reached."""


class Measure(NamedTuple):
    """What of a seed is held against a goal.

    Attributes:
        title: Name for people.
        of_seed: From a seed's record and the whole record to a number; larger is better, or the goal says where.
    """

    title: str
    of_seed: Callable[[Mapping[str, Any], Mapping[str, Any]], float]


def _largest_error(seed: Mapping[str, Any], record: Mapping[str, Any]) -> float:
    """Largest relative error of any agent's mean reward from the equilibrium's."""
    return max(
        abs(own / best - 1.0) for own, best in zip(seed["of_each_agent"], record["optimum_of_each"], strict=True)
    )


def _largest_distance(seed: Mapping[str, Any], record: Mapping[str, Any]) -> float:
    """Largest distance of any agent's actions from the best, relative to the size of the best."""
    sizes = record["size_of_best_actions"]
    return max(own[0] / size for own, size in zip(seed["distance"], sizes, strict=True))


MEASURES: Mapping[str, Measure] = {
    "return": Measure("mean return", lambda seed, record: float(seed["learned"])),
    "cost": Measure("mean cost", lambda seed, record: -float(seed["learned"])),
    "score": Measure("score", lambda seed, record: float(seed["score"])),
    "of optimum": Measure("part of the optimum", lambda seed, record: float(seed["learned"] / record["optimum"])),
    "of reference": Measure(
        "part of the hand-written gain",
        lambda seed, record: score(float(seed["learned"]), record["reference"], record["baseline"]),
    ),
    "weight error": Measure("largest error of a weight", _largest_distance),
    "profit error": Measure("largest error of a profit", _largest_error),
}
"""What can be measured, by name."""


@dataclass(frozen=True)
class Goal:
    """What a row is to reach.

    Attributes:
        measure: Name in ``MEASURES``.
        least: The measure is to be at least this, or None.
        most: The measure is to be at most this, or None.
        seeds: How many of the seeds are to do so each by itself; None asks the 95 % interval of their mean to.
    """

    measure: str
    least: float | None = None
    most: float | None = None
    seeds: int | None = None

    def says(self) -> str:
        """The goal in words."""
        ends = [f">= {self.least:g}"] if self.least is not None else []
        ends += [f"<= {self.most:g}"] if self.most is not None else []
        return " and ".join(ends) + (f" in {self.seeds} seeds" if self.seeds else "")

    def is_met_by(self, values: Sequence[float]) -> bool:
        """Whether the seeds' values reach it."""
        low, high = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        if self.seeds is not None:
            return sum(low - TOLERANCE <= v <= high + TOLERANCE for v in values) >= self.seeds
        found = interval(values)
        return low <= found.low and found.high <= high


@dataclass(frozen=True)
class Row:
    """One learner on one problem.

    Attributes:
        problem: Its name for people.
        words: What score.py is asked for.
        goal: What is to be reached; None where the row is there to be seen.
        note: A source or a reason, for people.
    """

    problem: str
    words: tuple[str, ...]
    goal: Goal | None = None
    note: str = ""

    @property
    def algo(self) -> str:
        """The algorithm."""
        return self.words[self.words.index("--algo") + 1]

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return "-".join(f"{self.problem} {self.algo}".lower().replace("=", "").replace(",", "").split())

    @property
    def command(self) -> str:
        """What a reader runs."""
        words = [f"'{word}'" if set(word) & set(" []") else word for word in self.words]
        return f"python experiments/score.py {' '.join(words)} --seeds {SEEDS}"


class Judged(NamedTuple):
    """What became of a row.

    Attributes:
        found: Mean and interval of the measure.
        met: How many seeds meet the goal by themselves, where it asks for that.
        is_met: Whether it is reached; None without a goal.
    """

    measure: str
    found: Interval
    met: int | None
    is_met: bool | None


def judge(row: Row, record: Mapping[str, Any]) -> Judged:
    """Hold a row's record against its goal."""
    goal = row.goal or Goal("return")
    measure = MEASURES[goal.measure]
    values = [measure.of_seed(seed, record) for seed in record["seeds"]]
    met = sum(Goal(goal.measure, goal.least, goal.most, 1).is_met_by([v]) for v in values) if goal.seeds else None
    return Judged(measure.title, interval(values), met, None if row.goal is None else row.goal.is_met_by(values))


def _rows(part: str) -> tuple[Row, ...]:
    """The rows of a part of ``standing.yaml``, of which each entry is a row for each of its algorithms."""
    return tuple(_row(one, algo) for one in _TABLE[part] for algo in one["algos"])


def _row(one: Mapping[str, Any], algo: str) -> Row:
    words, goal, note = one["words"].split(), one.get("goal"), one.get("note", "")
    if goal == "published":
        found = PUBLISHED[words[1], algo]
        goal, note = {"measure": "return", "least": found.value}, found.says()
    return Row(one["problem"], (*words, "--algo", algo), None if goal is None else Goal(**goal), note)


_TABLE = yaml.safe_load(Path(__file__).with_name("standing.yaml").read_text(encoding="utf-8"))
GAMES, KNOWN, BENCHMARKS = map(_rows, ("games", "known", "benchmarks"))
STANDING = (*GAMES, *KNOWN, *BENCHMARKS)
"""Every row, in order."""
