"""The standing table: which learner is to reach what on which problem, and whether it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envs.optima.evaluation import score
from experiments.reporting.intervals import Interval, interval
from experiments.scoring.published import PUBLISHED

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


def _row(problem: str, market: str, algo: str, goal: Goal | None, *words: str, note: str = "") -> Row:
    return Row(problem, ("--market", market, *words, "--algo", algo), goal, note)


def _selected(problem: str, market: str, algo: str, goal: Goal | None, *words: str, note: str = "") -> Row:
    """A row where what did best on the way is scored: where all agents want the same, that is no worse a policy."""
    return _row(problem, market, algo, goal, *words, "--select", "best", note=note)


_FIVE = ("--settings", "drift=[.05,.06,.07,.08,.09]", "volatility=[.2,.2,.2,.2,.2]", "correlation=.2")
_TEAM = ("--agents", "4", "--settings", "reward=team")
_LADDER = (*_TEAM, "actions=ladder")
_STATIONARY = ("--settings", "use_discounted_rewards=false")

_ALONE = "one agent, for which IPPO is PPO with a normalised value function"
_SUMS = "value factorisation is known to fail here (Son et al. 2019; Papoudakis et al. 2021)"

GAMES = (
    _row("two-step game", "two-step", "qmix", Goal("return", 8.0, None, 5), note="Rashid et al. 2018"),
    _row("two-step game", "two-step", "vdn", Goal("return", 7.0, 7.0, 5), note="what a sum of values can represent"),
    *(
        _row("climbing", "climbing", algo, goal, note=note)
        for algo, goal, note in (
            ("indq", Goal("return", 275.0, None, 4), "optimistic agents (Matignon et al. 2007)"),
            ("qmix", None, _SUMS),
            ("vdn", None, _SUMS),
        )
    ),
    *(
        _row(f"penalty, k = {k}", "penalty", algo, goal, "--settings", f"penalty={k}", note=note)
        for k in (0, -25, -50, -75, -100)
        for algo, goal, note in (
            ("indq", Goal("return", 250.0, None, 4), "optimistic agents (Matignon et al. 2007)"),
            ("vdn", None, _SUMS),
        )
    ),
)
KNOWN = (
    _selected("Merton, 1 asset", "merton", "ppo", Goal("score", 0.99)),
    _selected("Merton, 1 asset", "merton", "maddpg", Goal("score", 0.99)),
    _selected("Merton, 5 assets", "merton", "ppo", Goal("score", 0.99), *_FIVE),
    _selected("Merton, 5 assets", "merton", "maddpg", Goal("score", 0.99), *_FIVE),
    *(
        _selected(f"Merton on the trading floor, {name}", "floor:merton", algo, Goal("score", 0.95), *words)
        for name, words in (("1 asset", ()), ("3 assets", ("--agents", "3", "--settings", "correlation=.2")))
        for algo in ("ippo", "maddpg")
    ),
    _row("Merton, relative concerns", "merton-relative", "ippo", Goal("weight error", None, 0.05)),
    _selected("Garleanu-Pedersen", "garleanu-pedersen", "ippo", Goal("of optimum", 0.95), *_STATIONARY, note=_ALONE),
    _selected(
        "Garleanu-Pedersen", "garleanu-pedersen", "maddpg", Goal("of optimum", 0.95), *_STATIONARY, "action=positions"
    ),
    _selected("Almgren-Chriss, one seller", "almgren-chriss", "ppo", Goal("score", 0.98)),
    _selected("Almgren-Chriss, one seller", "almgren-chriss", "maddpg", Goal("score", 0.98)),
    *(
        _selected("Almgren-Chriss, team of 4", "almgren-chriss", algo, Goal("cost", None, 2.45), *words)
        for algo, words in (("qmix", _LADDER), ("vdn", _LADDER), ("maddpg", _TEAM), ("mappo", _TEAM))
    ),
    _row("Almgren-Chriss, 4 rivals", "almgren-chriss", "ippo", Goal("cost", 3.1, 3.3), "--agents", "4"),
    *(_row(f"Kyle, N = {n}", "kyle", "ippo", Goal("profit error", None, 0.05), "--agents", str(n)) for n in (2, 3, 5)),
    _selected("Cartea-Jaimungal", "market-making", "ppo", Goal("score", 0.95)),
    _selected("Cartea-Jaimungal", "market-making", "ippo", Goal("score", 0.95), note=_ALONE),
)


_ALL_FOOD = 0.99
"""Of level-based foraging, where 1 is all food eaten: nobody can have published more than that."""
_NEARLY_BY_HAND = 0.98
"""Of what a speaker and a listener written by hand gain over random ones."""
_BY_HAND = (
    "no published value at hand; 0 is random, 1 a pair written by hand that has agreed on its words beforehand "
    "(envs/benchmarks/handwritten.py)"
)


def _benchmark(problem: str, market: str, algo: str) -> Row:
    """A row whose goal is what others have published, with no more steps; else nearly what is possible."""
    found = PUBLISHED.get((market, algo))
    if found is not None:
        return _selected(problem, market, algo, Goal("return", found.value), note=found.says())
    if market.startswith("lbf:"):
        note = "no published value at hand; none can be above 1, which is all food eaten"
        return _selected(problem, market, algo, Goal("return", _ALL_FOOD), note=note)
    return _selected(problem, market, algo, Goal("of reference", _NEARLY_BY_HAND), note=_BY_HAND)


BENCHMARKS = (
    *(_benchmark("LBF 5x5-2p-1f-coop", "lbf:5x5-2p-1f-coop", algo) for algo in ("qmix", "mappo")),
    *(_benchmark("LBF 8x8-2p-2f-coop", "lbf:8x8-2p-2f-coop", algo) for algo in ("qmix", "mappo")),
    *(
        _benchmark(f"MPE {name.replace('_', ' ')}", f"mpe:{name}", algo)
        for name in ("simple_speaker_listener", "simple_spread")
        for algo in ("maddpg", "qmix", "mappo")
    ),
)
STANDING = (*GAMES, *KNOWN, *BENCHMARKS)
"""Every row, in order."""
