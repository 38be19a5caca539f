"""What several seeds have reached: mean, confidence interval, score, distance from the best policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.intervals import interval
from envs.optima.evaluation import score

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


def scored(
    seeds: Sequence[Learned], *, baseline: float, optimum: float | None, reference: float | None = None
) -> dict[str, Any]:
    """Put the seeds' results together, as plain values.

    Args:
        seeds: At least one.
        baseline: Mean objective of the simple policy over agents, in units of reward.
        optimum: The same where all play the best (or equilibrium) policy, where it is known.
        reference: A value in the same units that is published or that of a policy written by hand, where there is one.

    Returns:
        These three; ``learned``, of the greedy policies, and ``score``, as intervals over seeds, the latter None where
        the optimum is not known or no better than the baseline; ``distance``, the root mean square difference from the
        optimal action (or share of other choices), mean over agents, actions and seeds, None where it is not known;
        ``seconds_a_seed``; and of ``seeds`` each its own.
    """
    scores = []
    if optimum is not None and not math.isclose(optimum, baseline):
        scores = [score(one.mean, optimum, baseline) for one in seeds]
    distances = [np.mean(one.distance) for one in seeds if one.distance is not None]
    return {
        "optimum": optimum,
        "reference": reference,
        "baseline": baseline,
        "learned": vars(interval([one.mean for one in seeds])),
        "score": vars(interval(scores)) if scores else None,
        "distance": float(np.mean(distances)) if distances else None,
        "seconds_a_seed": float(np.mean([one.seconds for one in seeds])),
        "seeds": [
            {
                "seed": one.seed,
                "learned": one.mean,
                "standard_error": one.standard_error,
                "of_each_agent": one.of_each_agent,
                "score": scores[i] if scores else None,
                "distance": one.distance,
                "steps": one.steps,
                "curve": one.curve,
                "seconds": one.seconds,
            }
            for i, one in enumerate(seeds)
        ],
    }


def best_of(record: Mapping[str, Any]) -> float | None:
    """What the learned values are held against: the optimum, else the reference."""
    best: float | None = record["reference"] if record["optimum"] is None else record["optimum"]
    return best
