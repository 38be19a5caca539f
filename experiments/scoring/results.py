"""What several seeds have reached: mean, confidence interval, score, distance from the best policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from envs.optima.evaluation import Value, score
from experiments.intervals import Interval, interval

Shown = tuple[list[list[float]], list[list[float]]]
"""Optimal and chosen actions of the first agent, rows of each."""


@dataclass(frozen=True)
class Learned:
    """What one seed has learned.

    Attributes:
        seed: Of the learner.
        steps: Environment steps at each evaluation.
        curve: Mean objective over agents under the greedy policy, at each evaluation.
        value: Of the policy that is scored.
        distance: From the optimal actions, [N, D], as ``action_distance`` measures it; None where they are not known.
        shown: Optimal and learned actions of the first agent on states that the optimal policy visits, two lists of
            rows; None where they are not known.
    """

    seed: int
    steps: list[int]
    curve: list[float]
    value: Value
    distance: Tensor | None
    shown: Shown | None


@dataclass(frozen=True)
class Scored:
    """A learner's result on a market.

    Attributes:
        optimum: Mean objective over agents where all play the best (or equilibrium) policy, in units of reward; None
            where it is not known.
        reference: A published value in the same units, or None.
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
        """What the learned values are held against: the optimum, else the published value."""
        return self.reference if self.optimum is None else self.optimum


def scored(
    seeds: Sequence[Learned], *, baseline: float, optimum: float | None, reference: float | None = None
) -> Scored:
    """Put the seeds' results together.

    Args:
        seeds: At least one.
        baseline: Mean objective of the simple policy over agents.
        optimum: The same of the best policy, where it is known.
        reference: A published value, where there is one.
    """
    values = [one.value.team_mean for one in seeds]
    scores = []
    if optimum is not None and not math.isclose(optimum, baseline):
        scores = [score(v, optimum, baseline) for v in values]
    distances = [float(one.distance.mean()) for one in seeds if one.distance is not None]
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
        "seeds": [
            {
                "seed": one.seed,
                "learned": one.value.team_mean,
                "standard_error": one.value.team_standard_error,
                "of_each_agent": one.value.mean.tolist(),
                "score": None if result.score is None else result.scores[i],
                "distance": None if one.distance is None else one.distance.tolist(),
                "steps": one.steps,
                "curve": one.curve,
            }
            for i, one in enumerate(result.seeds)
        ],
    }
