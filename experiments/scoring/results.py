"""What several seeds have reached: mean, confidence interval, score, distance from the best policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.optima.evaluation import score
from experiments.reporting.intervals import Interval, interval

Shown = tuple[list[list[float]], list[list[float]]]
"""Optimal and chosen actions of the first agent, rows of each."""


@dataclass(frozen=True)
class Learned:
    """What one seed has learned.

    Attributes:
        seed: Of the learner.
        steps: Environment steps at each evaluation.
        curve: Mean objective over agents under the greedy policy, at each evaluation.
        of_each_agent: Mean objective of each agent under the policy that is scored, [N].
        standard_error: Of the mean over agents.
        distance: From the optimal actions, [N][D], as ``action_distance`` measures it; None where they are not known.
        shown: Optimal and learned actions of the first agent on states that the optimal policy visits, two lists of
            rows; None where they are not known.
        seconds: How long learning and valuing took.
    """

    seed: int
    steps: list[int]
    curve: list[float]
    of_each_agent: list[float]
    standard_error: float
    distance: list[list[float]] | None
    shown: Shown | None
    seconds: float

    @property
    def mean(self) -> float:
        """Mean objective over agents: what a score is made of."""
        return float(np.mean(self.of_each_agent))

    @property
    def mean_distance(self) -> float | None:
        """Distance from the optimal actions, mean over agents and actions."""
        return None if self.distance is None else float(np.mean(self.distance))


@dataclass(frozen=True)
class Scored:
    """A learner's result on a market.

    Attributes:
        optimum: Mean objective over agents where all play the best (or equilibrium) policy, in units of reward; None
            where it is not known.
        reference: A value in the same units that is published or that of a policy written by hand, or None.
        baseline: The same of the simple policy.
        learned: Of the greedy policies, over seeds.
        scores: Of each seed; empty where the optimum is not known or no better than the baseline.
        score: Over seeds, None where there is none.
        distance: Root mean square difference from the optimal action (or share of other choices), mean over agents,
            actions and seeds; None where it is not known.
        seeds: What each has learned.
    """

    optimum: float | None
    reference: float | None
    baseline: float
    learned: Interval
    scores: list[float]
    score: Interval | None
    distance: float | None
    seeds: list[Learned]

    @property
    def best(self) -> float | None:
        """What the learned values are held against: the optimum, else the reference."""
        return self.reference if self.optimum is None else self.optimum


def scored(
    seeds: Sequence[Learned], *, baseline: float, optimum: float | None, reference: float | None = None
) -> Scored:
    """Put the seeds' results together.

    Args:
        seeds: At least one.
        baseline: Mean objective of the simple policy over agents.
        optimum: The same of the best policy, where it is known.
        reference: Another value to hold them against, where there is one.
    """
    values = [one.mean for one in seeds]
    scores = []
    if optimum is not None and not math.isclose(optimum, baseline):
        scores = [score(v, optimum, baseline) for v in values]
    distances = [one.mean_distance for one in seeds if one.mean_distance is not None]
    return Scored(
        optimum=optimum,
        reference=reference,
        baseline=baseline,
        learned=interval(values),
        scores=scores,
        score=interval(scores) if scores else None,
        distance=float(np.mean(distances)) if distances else None,
        seeds=list(seeds),
    )


def as_json(result: Scored) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "optimum": result.optimum,
        "reference": result.reference,
        "baseline": result.baseline,
        "learned": vars(result.learned),
        "score": None if result.score is None else vars(result.score),
        "distance": result.distance,
        "seconds_a_seed": float(np.mean([one.seconds for one in result.seeds])),
        "seeds": [
            {
                "seed": one.seed,
                "learned": one.mean,
                "standard_error": one.standard_error,
                "of_each_agent": one.of_each_agent,
                "score": None if result.score is None else result.scores[i],
                "distance": one.distance,
                "steps": one.steps,
                "curve": one.curve,
                "seconds": one.seconds,
            }
            for i, one in enumerate(result.seeds)
        ],
    }
