"""One learner on one market with a known optimum: trained, and valued greedily on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from algos.policy import TeamPolicy, team_layout
from envs.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.evaluation import action_distance, value
from envs.optima.problem import Policy, Problem
from envs.optima.rllib import ENV_NAME, register
from experiments.config import RunConfig
from experiments.scoring.results import Learned
from experiments.threads import one_thread
from experiments.tuning.algorithms import SHARED, bare_config, check_config, map_to_own, map_to_shared

NUM_POINTS = 10
"""Evaluations on the way of a learner."""
CURVE_EPISODES = 256
_VALUED_FROM = 1 << 32
"""Seeds of the episodes that policies are valued on: each its own, for an error that all share would not be seen."""


@one_thread()
def learn(
    run: RunConfig,
    problem: Problem,
    env_config: Mapping[str, Any],
    *,
    steps: int,
    num_episodes: int,
    report: Callable[[int, float], None],
) -> Learned:
    """Train for so many environment steps, and value the greedy policy.

    Args:
        run: Algorithm, its settings and the seed.
        problem: The market, for valuing.
        env_config: The same market, as ``KnownMarketEnv`` takes it.
        steps: Environment steps.
        num_episodes: By which the last policy is valued.
        report: Told steps and value at every evaluation.

    Raises:
        InputError: if the algorithm cannot take the market's actions.
    """
    if run.algo in ("qmix", "vdn") and not problem.num_actions:
        raise InputError(f"--algo {run.algo} chooses among actions, but this market's are numbers: use maddpg or mappo")
    config = bare_config(run)
    register()
    config.environment(ENV_NAME, env_config={**env_config, "seed": run.seed}, disable_env_checking=True)
    config.debugging(seed=run.seed, log_level="ERROR")
    if run.algo == "ppo":
        if run.ppo.use_shared_networks is False:
            config.multi_agent(policies=set(problem.agent_ids), policy_mapping_fn=map_to_own)
        else:
            config.multi_agent(policies={SHARED}, policy_mapping_fn=map_to_shared)
    check_config(config, run.algo)
    algorithm: Any = config.build_algo()
    try:
        found: list[int] = []
        curve: list[float] = []
        taken = 0
        while taken < steps:
            algorithm.train()
            taken = algorithm.env_runner.num_env_steps_sampled_lifetime
            if taken >= steps * (len(found) + 1) / NUM_POINTS:
                mean = value(problem, greedy(algorithm, problem), num_episodes=CURVE_EPISODES).team_mean
                found.append(taken)
                curve.append(mean)
                report(taken, mean)
        policy = greedy(algorithm, problem)
        return Learned(
            seed=run.seed,
            steps=found,
            curve=curve,
            value=value(problem, policy, num_episodes=num_episodes, seed=_VALUED_FROM + run.seed),
            distance=action_distance(problem, policy, num_episodes=CURVE_EPISODES),
            shown=_side_by_side(problem, policy),
        )
    finally:
        algorithm.stop()


def greedy(algorithm: Any, problem: Problem) -> Policy:
    """The greedy policy of an algorithm, which forgets what it remembers whenever an episode of the problem is over."""
    modules = {module_id: algorithm.env_runner.module[module_id] for module_id in algorithm.env_runner.module.keys()}  # noqa: SIM118
    team, calls = TeamPolicy(modules, team_layout(algorithm)), 0

    def act(obs: Tensor) -> Tensor:
        nonlocal calls
        if calls % problem.num_steps == 0:
            team.reset()
        calls += 1
        return team.act(obs.to(torch.float32))

    return act


def _side_by_side(problem: Problem, policy: Policy) -> tuple[list[list[float]], list[list[float]]]:
    """Optimal and chosen actions of the first agent, step by step in a few episodes under the optimal policy."""
    env = OptimaEnv(problem, num_replicas=32, seed=1)
    step = env.reset()
    best: list[list[float]] = []
    chosen: list[list[float]] = []
    for _ in range(problem.num_steps):
        optimal, own = problem.optimal(step.obs), policy(step.obs)
        for rows, actions in ((best, optimal), (chosen, own)):
            rows.extend(actions[:, 0].reshape(len(actions), -1).to(torch.float64).tolist())
        step = env.step(optimal)
    return best, chosen
