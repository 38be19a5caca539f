"""Training end to end: PPO on both runners, and one QMIX update taken apart."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from ray.rllib.algorithms.ppo import PPO

from algos.ppo.algorithm import TeamPPO
from algos.qmix.algorithm import QMIX
from algos.replay import TeamReplay
from algos.runner import TEAM_MODULE
from experiments.benchmarks.sampling import RLLIB_ENVS
from experiments.benchmarks.timing import measure, one_core, stopwatch
from experiments.config import RunConfig
from experiments.tuning.algorithms import algorithm_config

BATCH_AGENT_STEPS = 20_000
MINIBATCH = 1_024
EPOCHS = 4
TEAM_ENVS = 250
QMIX_ROUNDS = 20


def bench_training(*, device: str = "cpu", rounds: int = 5) -> list[dict[str, Any]]:
    """Measure PPO iterations of both paths in turn, then QMIX.

    Args:
        device: Where ours learns and steps its floor.
        rounds: Timed iterations of each.

    Returns:
        Rows: PPO on each runner, their ratio, QMIX and the parts of its update.
    """
    with one_core():
        return [*_bench_ppo(device, rounds), *_bench_qmix(device, rounds)]


def _on(run: RunConfig, device: str, envs: int) -> RunConfig:
    gpus = 1.0 if device == "cuda" else 0.0
    scaling = replace(run.scaling, num_envs_per_env_runner=envs, num_gpus_per_learner=gpus)
    return replace(run, scaling=scaling)


def _bench_ppo(device: str, rounds: int) -> list[dict[str, Any]]:
    run = RunConfig(algo="ppo")
    run = replace(
        run,
        desk=replace(run.desk, num_agents=5),
        ppo=replace(
            run.ppo,
            train_batch_size_per_learner=BATCH_AGENT_STEPS // 5,
            minibatch_size=MINIBATCH,
            num_epochs=EPOCHS,
        ),
    )
    team = TeamPPO(algorithm_config(_on(run, device, TEAM_ENVS)))
    stock = PPO(algorithm_config(_on(replace(run, runner="rllib"), "cpu", RLLIB_ENVS)))
    taken = measure({"team": team.train, "rllib": stock.train}, rounds=rounds)
    rows: list[dict[str, Any]] = [
        {
            "what": label,
            "device": where,
            "replicas": envs,
            "batch": f"{BATCH_AGENT_STEPS:,} agent steps, minibatch {MINIBATCH}, {EPOCHS} epochs, 64-64",
            "iteration_s": taken[name].wall_s,
            "agent_steps_per_s": BATCH_AGENT_STEPS / taken[name].wall_s,
            "agent_steps_per_cpu_s": BATCH_AGENT_STEPS / taken[name].cpu_s,
        }
        for name, label, where, envs in (
            ("team", "PPO, team runner", device, TEAM_ENVS),
            ("rllib", "PPO, RLlib's runner", "cpu", RLLIB_ENVS),
        )
    ]
    rows.append({"what": "PPO team / rllib", "ratio": taken["rllib"].wall_s / taken["team"].wall_s})
    team.stop()
    stock.stop()
    return rows


def _bench_qmix(device: str, rounds: int) -> list[dict[str, Any]]:
    """Rates of whole training steps, and the wall time of one update in parts."""
    run = RunConfig(algo="qmix")
    run = replace(run, desk=replace(run.desk, num_agents=5))
    algo = QMIX(algorithm_config(_on(run, device, run.qmix.num_envs_per_env_runner)))
    while len(algo.replay) < max(run.qmix.learning_starts, 4 * run.qmix.train_batch_size):
        algo.train()
    learner = algo.learner_group._learner
    module, optimizer = learner.module[TEAM_MODULE].unwrapped(), learner.get_optimizer(TEAM_MODULE)
    steps = run.qmix.rollout_fragment_length * run.qmix.num_envs_per_env_runner
    updates = run.qmix.num_updates

    def train() -> None:
        for _ in range(QMIX_ROUNDS):
            algo.training_step()

    taken = measure({"qmix": train}, rounds=rounds)["qmix"]
    places = {
        "sampling": (algo.env_runner, "sample"),
        "data": (TeamReplay, "sample"),
        "forward": (module, "_forward_train"),
        "backward": (torch.Tensor, "backward"),
        "optimiser": (optimizer, "step"),
        "learn": (learner, "learn"),
    }
    start = time.perf_counter()
    with stopwatch(places) as spent:
        train()
    whole = time.perf_counter() - start
    algo.stop()
    rows: list[dict[str, Any]] = [
        {
            "what": "QMIX, whole training steps",
            "device": device,
            "replicas": run.qmix.num_envs_per_env_runner,
            "batch": f"batch {run.qmix.train_batch_size}, {updates} updates per {steps} env steps, {run.qmix.hidden}",
            "env_steps_per_s": QMIX_ROUNDS * steps / taken.wall_s,
            "updates_per_s": QMIX_ROUNDS * updates / taken.wall_s,
        }
    ]
    count = QMIX_ROUNDS * updates
    spent["rest of the update"] = spent.pop("learn") - spent["forward"] - spent["backward"] - spent["optimiser"]
    spent["rest of the step"] = whole - sum(spent.values())
    rows.extend(
        {"what": f"QMIX, one update: {name}", "ms": 1e3 * seconds / count, "share": seconds / whole}
        for name, seconds in spent.items()
    )
    return rows
