"""What a policy is worth in a problem with a known optimum: its value with an error, its score, its distance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.problem import Policy, Problem
from envs.steps import ReplicaStep

_MOST_REPLICAS = 8192


class Value(NamedTuple):
    """Objectives that a policy reached, one row an episode.

    Attributes:
        returns: [E, N] float64: for each agent the sum of its rewards, discounted if the problem says so.
    """

    returns: Tensor

    @property
    def mean(self) -> Tensor:
        """Of each agent, [N]."""
        return self.returns.mean(0)

    @property
    def standard_error(self) -> Tensor:
        """Of each agent's mean, [N]."""
        return self.returns.std(0) / math.sqrt(len(self.returns))

    @property
    def team_mean(self) -> float:
        """Mean over agents: what a score is made of."""
        return float(self.returns.mean())

    @property
    def team_standard_error(self) -> float:
        """Of the mean over agents, whose returns are not independent."""
        return float(self.returns.mean(1).std()) / math.sqrt(len(self.returns))


def value(problem: Problem, policy: Policy, *, num_episodes: int, seed: int = 0) -> Value:
    """Simulate a policy from the start of ``num_episodes`` episodes.

    Two policies that are valued with the same seed meet the same chance, so that their difference has less noise than
    either.

    Args:
        problem: The problem.
        policy: Maps observations to actions.
        num_episodes: How many, at least 2.
        seed: Of the draws.

    Raises:
        InputError: if there are fewer than two episodes.
    """
    if num_episodes < 2:
        raise InputError(f"num_episodes is {num_episodes}: an error bar needs at least 2")
    num_replicas = min(num_episodes, _MOST_REPLICAS)
    env = OptimaEnv(problem, num_replicas=num_replicas, seed=seed)
    step = env.reset()
    rounds = []
    for _ in range(math.ceil(num_episodes / num_replicas)):
        total = torch.zeros_like(step.reward)
        for t in range(problem.num_steps):
            step = env.step(policy(step.obs))
            total = total + problem.discount**t * step.reward
        rounds.append(total)
    return Value(torch.cat(rounds)[:num_episodes])


def score(learned: float, optimum: float, baseline: float) -> float:
    """Part of the way from the baseline to the optimum: 0 at the baseline, 1 at the optimum.

    Raises:
        InputError: if optimum and baseline are equal.
    """
    if optimum == baseline:
        raise InputError(f"optimum and baseline are both {optimum}: there is nothing to score")
    return (learned - baseline) / (optimum - baseline)


def action_distance(problem: Problem, policy: Policy, *, num_episodes: int, seed: int = 0) -> Tensor:
    """Root mean square difference from the optimal action, on the states that the optimal policy visits.

    Returns:
        [N, D] float64 in units of the box; for choices [N, 1], the share of steps with another choice.
    """
    square: list[Tensor] = []
    for step, best in _visited(problem, num_episodes, seed):
        chosen = policy(step.obs)
        if problem.num_actions:
            square.append((chosen != best).to(torch.float64).mean(0)[:, None])
        else:
            square.append((chosen.to(torch.float64) - best).square().mean(0))
    mean = torch.stack(square).mean(0)
    return mean if problem.num_actions else mean.sqrt()


def best_action_size(problem: Problem, *, num_episodes: int = 256) -> list[float]:
    """Root mean square of each agent's optimal action, on the states that the optimal policy visits, [N]."""
    sizes = [
        best.to(torch.float64).square().reshape(num_episodes, problem.num_agents, -1).mean((0, 2))
        for _, best in _visited(problem, num_episodes, 0)
    ]
    return torch.stack(sizes).mean(0).sqrt().tolist()


def _visited(problem: Problem, num_episodes: int, seed: int) -> Iterator[tuple[ReplicaStep, Tensor]]:
    """Steps of one episode in each of ``num_episodes`` replicas under the optimal policy, with its actions."""
    env = OptimaEnv(problem, num_replicas=num_episodes, seed=seed)
    step = env.reset()
    for _ in range(problem.num_steps):
        best = problem.optimal(step.obs)
        yield step, best
        step = env.step(best)
