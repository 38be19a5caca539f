"""Sampling: agent steps a second of TeamEnvRunner and of RLlib's own MultiAgentEnvRunner, same floor, same network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from algos.runner import TeamEnvRunner
from experiments.benchmarks.timing import measure, one_core, rates
from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig

RLLIB_ENVS = 32
TEAM_ENVS = 1024
TEAM_STEPS = 32
RLLIB_STEPS = 8


def bench_sampling(*, device: str = "cpu", rounds: int = 5) -> list[dict[str, Any]]:
    """Measure both runners in turn on one core.

    Args:
        device: Where the team runner's floor and network are.
        rounds: Timed samples of each.

    Returns:
        One row per runner and one for the ratio.
    """
    run = RunConfig(algo="ppo")
    run = replace(run, desk=replace(run.desk, num_agents=5))
    scaling = replace(run.scaling, floor_device=device)  # type: ignore[arg-type]
    team = algorithm_config(replace(run, scaling=replace(scaling, num_envs_per_env_runner=TEAM_ENVS)))
    stock = algorithm_config(
        replace(run, runner="rllib", scaling=replace(run.scaling, num_envs_per_env_runner=RLLIB_ENVS))
    )
    with one_core():
        ours, theirs = TeamEnvRunner(config=team, worker_index=0), MultiAgentEnvRunner(config=stock, worker_index=0)
        taken = measure(
            {
                "team": lambda: ours.sample(num_timesteps=TEAM_STEPS * TEAM_ENVS),
                "rllib": lambda: theirs.sample(num_timesteps=RLLIB_STEPS * RLLIB_ENVS),
            },
            rounds=rounds,
        )
    num_agents = ours.env.num_agents if ours.env is not None else 0
    rows: list[dict[str, Any]] = [
        {
            "what": label,
            "device": where,
            "replicas": envs,
            "agents": num_agents,
            "network": "64-64 relu",
            **rates("agent_steps", steps * envs * num_agents, taken[name]),
        }
        for name, label, steps, envs, where in (
            ("team", "TeamEnvRunner", TEAM_STEPS, TEAM_ENVS, device),
            ("rllib", "RLlib MultiAgentEnvRunner", RLLIB_STEPS, RLLIB_ENVS, "cpu"),
        )
    ]
    ratio = rows[0]["agent_steps_per_s"] / rows[1]["agent_steps_per_s"]
    return [*rows, {"what": "team / rllib", "ratio": ratio}]
