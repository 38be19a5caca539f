"""What several seeds have reached: mean, confidence interval, score, distance from the best policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from envs.optima.evaluation import Value, score, value
from envs.optima.problem import Problem
from experiments.intervals import Interval, interval


@dataclass(frozen=True)
class Learned:
    """What one seed has learned.

    Attributes:
        seed: Of the learner.
        steps: Environment steps at each evaluation.
        curve: Mean objective over agents under the greedy policy, at each evaluation.
        value: Of the last policy.
        distance: From the optimal actions, [N, D], as ``action_distance`` measures it.
        shown: Optimal and learned actions of the first agent on states that the optimal policy visits, two lists of
            rows.
    """

    seed: int
    steps: list[int]
    curve: list[float]
    value: Value
    distance: Tensor
    shown: tuple[list[list[float]], list[list[float]]]


@dataclass(frozen=True)
class Scored:
    """A learner's result on a market.

    Attributes:
        optimum: Mean objective over agents where all play the best (or equilibrium) policy, in units of reward.
        baseline: The same of the simple policy.
        learned: Of the greedy policies, over seeds.
        scores: Of each seed; empty where baseline and optimum are equal.
        score: Over seeds, None where there is none.
        distance: Root mean square difference from the optimal action (or share of other choices), mean over agents,
            actions and seeds.
        seeds: What each has learned.
    """

    optimum: float
    baseline: float
    learned: Interval
    scores: list[float]
    score: Interval | None
    distance: float
    seeds: list[Learned]


def scored(problem: Problem, seeds: Sequence[Learned], *, baseline: float) -> Scored:
    """Put the seeds' results together.

    Args:
        problem: The market.
        seeds: At least one.
        baseline: Mean objective of the simple policy over agents.
    """
    optimum, values = float(problem.optimal_value.mean()), [one.value.team_mean for one in seeds]
    scores = [] if math.isclose(optimum, baseline) else [score(v, optimum, baseline) for v in values]
    return Scored(
        optimum=optimum,
        baseline=baseline,
        learned=interval(values),
        scores=scores,
        score=interval(scores) if scores else None,
        distance=float(np.mean([float(one.distance.mean()) for one in seeds])),
        seeds=list(seeds),
    )


def baseline_value(problem: Problem, num_episodes: int) -> float:
    """Mean objective of the simple policy over agents: exact, or where only that tells, simulated."""
    exact = problem.baseline_value
    if exact is not None:
        return float(exact.mean())
    return value(problem, problem.baseline, num_episodes=num_episodes).team_mean


def as_json(result: Scored) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "optimum": result.optimum,
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
                "distance": one.distance.tolist(),
                "steps": one.steps,
                "curve": one.curve,
            }
            for i, one in enumerate(result.seeds)
        ],
    }
