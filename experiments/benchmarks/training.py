"""Training end to end: PPO and MAPPO beside RLlib's PPO, and one update of QMIX and of MADDPG taken apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from ray.rllib.algorithms.ppo import PPO

from algos.maddpg.algorithm import MADDPG
from algos.mappo.algorithm import MAPPO
from algos.mappo.config import MAPPOSettings
from algos.ppo.algorithm import TeamPPO
from algos.ppo.config import PPOSettings
from algos.qmix.algorithm import QMIX
from algos.replay import TeamReplay
from algos.runner import TEAM_MODULE
from experiments.benchmarks.bare import bare_update
from experiments.benchmarks.benchmarl import bench_benchmarl
from experiments.benchmarks.sampling import RLLIB_ENVS
from experiments.benchmarks.timing import learner_gpus, measure, one_core, rates, ratios, stopwatch
from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig

BATCH_AGENT_STEPS = 20_000
AGENTS = 5
MINIBATCH = 1_024
EPOCHS = 4
TEAM_ENVS = 250
TRAIN_BATCH = 128
UPDATE_ROUNDS = 20
OFF_POLICY: dict[str, Any] = {"qmix": QMIX, "maddpg": MADDPG}


def bench_training(*, device: str = "cpu", rounds: int = 5, benchmarl: str | None = None) -> list[dict[str, Any]]:
    """Measure iterations of PPO and MAPPO in turn, then QMIX and MADDPG.

    Args:
        device: Where ours learns and steps its floor.
        rounds: Timed iterations of each.
        benchmarl: Folder of BenchMARL's virtual environment; None leaves BenchMARL out.

    Returns:
        Rows: PPO on each runner and MAPPO, their ratios; QMIX and MADDPG, the parts of their updates, and these beside
        bare torch; both beside BenchMARL.
    """
    with one_core():
        rows = [
            *_bench_ppo(device, rounds),
            *(row for algo in OFF_POLICY for row in _bench_off_policy(algo, device, rounds)),
        ]
        return rows if benchmarl is None else [*rows, *bench_benchmarl(benchmarl, device=device, rounds=rounds)]


def _on(run: RunConfig, device: str, envs: int) -> RunConfig:
    scaling = replace(run.scaling, num_envs_per_env_runner=envs, num_gpus_per_learner=learner_gpus(device))
    return replace(run, scaling=scaling)


def _bench_ppo(device: str, rounds: int) -> list[dict[str, Any]]:
    """PPO on both runners and MAPPO: as many agent steps in a batch and in a minibatch, and as many epochs."""
    run = RunConfig(algo="ppo")
    batch: dict[str, Any] = {"train_batch_size_per_learner": BATCH_AGENT_STEPS // AGENTS, "num_epochs": EPOCHS}
    groups: dict[str, Any] = {
        "ppo": PPOSettings(minibatch_size=MINIBATCH, **batch),
        "mappo": MAPPOSettings(minibatch_size=-(-MINIBATCH // AGENTS), **batch),  # of steps with all their agents
    }
    run = replace(run, desk=replace(run.desk, num_agents=AGENTS), **groups)
    algos = {
        "team": TeamPPO(algorithm_config(_on(run, device, TEAM_ENVS))),
        "mappo": MAPPO(algorithm_config(_on(replace(run, algo="mappo"), device, TEAM_ENVS))),
        "rllib": PPO(algorithm_config(_on(replace(run, runner="rllib"), "cpu", RLLIB_ENVS))),
    }
    taken = measure({name: algo.train for name, algo in algos.items()}, rounds=rounds)
    rows: list[dict[str, Any]] = [
        {
            "what": label,
            "device": where,
            "replicas": envs,
            "batch": f"{BATCH_AGENT_STEPS:,} agent steps, minibatch {MINIBATCH}, {EPOCHS} epochs, 64-64",
            "iteration_s": taken[name].wall_s,
            **rates("agent_steps", BATCH_AGENT_STEPS, taken[name]),
        }
        for name, label, where, envs in (
            ("team", "PPO, team runner", device, TEAM_ENVS),
            ("mappo", "MAPPO, team runner", device, TEAM_ENVS),
            ("rllib", "PPO, RLlib's runner", "cpu", RLLIB_ENVS),
        )
    ]
    for name, label in (("team", "PPO team / rllib"), ("mappo", "MAPPO team / PPO rllib")):
        rows.append({"what": label, **ratios(taken["rllib"], taken[name])})
    for algo in algos.values():
        algo.stop()
    return rows


def _bench_off_policy(algo: str, device: str, rounds: int) -> list[dict[str, Any]]:
    """Rates of whole training steps, the wall time of one update in parts, and what bare torch would take for it."""
    run = RunConfig(algo=algo)  # type: ignore[arg-type]
    run = replace(run, desk=replace(run.desk, num_agents=AGENTS))
    run = replace(run, **{algo: replace(getattr(run, algo), train_batch_size=TRAIN_BATCH)})
    settings = getattr(run, algo)
    trained = OFF_POLICY[algo](algorithm_config(_on(run, device, settings.num_envs_per_env_runner)))
    while len(trained.replay) < max(settings.learning_starts, 4 * settings.train_batch_size):
        trained.train()
    learner = trained.learner_group._learner
    module = learner.module[TEAM_MODULE].unwrapped()
    joint = learner.transfer(trained._draw()[0])
    draws = torch.Generator(device=joint.obs.device)
    noise = module.draw_noise(joint.discounts.numel(), draws) if hasattr(module, "draw_noise") else None
    bare, _ = bare_update(module, joint, noise)
    steps = settings.rollout_fragment_length * settings.num_envs_per_env_runner
    count = UPDATE_ROUNDS * settings.num_updates

    def train() -> None:
        for _ in range(UPDATE_ROUNDS):
            trained.training_step()

    def updates() -> None:
        for _ in range(UPDATE_ROUNDS):
            trained._learn()

    def bare_updates() -> None:
        for _ in range(count):
            loss = bare()
        float(loss)  # waits for the device

    taken = measure({"train": train, "updates": updates, "bare": bare_updates}, rounds=rounds)
    spent = _parts(trained, learner, module, train)
    trained.stop()
    name = algo.upper()
    rows: list[dict[str, Any]] = [
        {
            "what": f"{name}, whole training steps",
            "device": device,
            "replicas": settings.num_envs_per_env_runner,
            "batch": f"batch {settings.train_batch_size}, {settings.num_updates} updates per {steps} env steps, "
            f"{settings.hidden}",
            "env_steps_per_s": UPDATE_ROUNDS * steps / taken["train"].wall_s,
            "updates_per_s": count / taken["train"].wall_s,
        }
    ]
    whole = sum(spent.values())
    rows.extend(
        {"what": f"{name}, one update: {part}", "ms": 1e3 * seconds / count, "share": seconds / whole}
        for part, seconds in spent.items()
    )
    # from the draw of its batch to its targets, beside bare torch on a batch that is there
    ours, theirs = taken["updates"], taken["bare"]
    beside = {"what": f"{name}, one update / bare torch", "ms": 1e3 * ours.wall_s / count}
    beside |= {"bare_torch_ms": 1e3 * theirs.wall_s / count}
    return [*rows, beside | ratios(ours, theirs)]


def _parts(trained: Any, learner: Any, module: Any, train: Callable[[], None]) -> dict[str, float]:
    """Wall time of the parts of ``train``, which sum to all of it."""
    optimizers = {f"step {i}": (o, "step") for i, o in enumerate(learner._optimizer_parameters)}
    places = {
        "sampling": (trained.env_runner, "sample"),
        "data": (TeamReplay, "sample"),
        "transfer": (learner, "transfer"),
        "forward": (module, "_forward_train"),
        "backward": (torch.Tensor, "backward"),
        **optimizers,
        "targets": (module, "update_targets"),
        "learn": (learner, "learn"),
    }
    start = time.perf_counter()
    with stopwatch(places) as spent:
        train()
    whole = time.perf_counter() - start
    spent["optimiser"] = sum(spent.pop(name) for name in optimizers)
    inside = ("transfer", "forward", "backward", "optimiser", "targets")
    spent["rest of the update"] = spent.pop("learn") - sum(spent[name] for name in inside)
    spent["rest of the step"] = whole - sum(spent.values())
    return spent
