"""Benchmark games: steps a second of all replicas at once, and of the packages' own environments one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from algos.team_env import MultiAgentTeamEnv, TeamEnv, make_team_env
from envs.benchmarks.rllib import BenchmarkEnv
from experiments.benchmarks.timing import measure, one_core, rates

GAMES = ("mpe:simple_spread", "mpe:simple_speaker_listener", "lbf:5x5-2p-1f-coop", "lbf:8x8-2p-2f-coop")
REPLICAS = 128
BATCH_STEPS = 200
"""All at once, in one timed round: several episodes, so that first states are drawn as often as in use."""
PACKAGE_STEPS = 50
"""One by one: an episode of foraging, two of particles."""


def bench_games(*, device: str = "cpu", rounds: int = 5) -> list[dict[str, Any]]:
    """Measure each game both ways in turn, on one core, under the same random actions.

    Args:
        device: Where observations of the batch go; the rules of these games are computed on the CPU.
        rounds: Timed rounds of each.

    Returns:
        Two rows and a ratio for each game; a step of a game is one joint action of one replica.
    """
    with one_core():
        return [row for market in GAMES for row in _bench_game(market, device, rounds)]


def _bench_game(market: str, device: str, rounds: int) -> list[dict[str, Any]]:
    make = partial(BenchmarkEnv, {"market": market})
    sides: dict[str, tuple[TeamEnv, int]] = {
        "all at once": (make_team_env(make, REPLICAS, device=device, seed=0, with_state=False), BATCH_STEPS),
        "one by one": (MultiAgentTeamEnv([make() for _ in range(REPLICAS)], device=device), PACKAGE_STEPS),
    }
    taken = measure({name: _stepping(*side) for name, side in sides.items()}, rounds=rounds)
    rows: list[dict[str, Any]] = [
        {
            "what": f"{market}, {name}",
            "device": device,
            "replicas": REPLICAS,
            "agents": env.num_agents,
            **rates("steps", steps * REPLICAS, taken[name]),
        }
        for name, (env, steps) in sides.items()
    ]
    ratio = rows[0]["steps_per_s"] / rows[1]["steps_per_s"]
    return [*rows, {"what": f"{market}, all at once / one by one", "ratio": ratio}]


def _stepping(env: TeamEnv, num_steps: int) -> Callable[[], None]:
    env.reset()
    sizes = torch.tensor([space.n for space in env.action_spaces.values()])  # type: ignore[attr-defined]
    draws = torch.Generator().manual_seed(0)
    shape = (16, env.num_replicas, env.num_agents)
    actions = (torch.rand(shape, generator=draws) * sizes).long()

    def steps() -> None:
        for i in range(num_steps):
            env.step(actions[i % len(actions)])

    return steps
