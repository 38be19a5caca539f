"""The trading floor: agent steps a second, beside what the memory of the machine would allow; and one TradingEnv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from envs.floor import TradingFloor, build_floor
from envs.market import spec_to_json
from envs.rllib import TradingEnv
from envs.settings import DeskConfig, FloorConfig, FloorSpec
from experiments.benchmarks.timing import measure, one_core

Row = dict[str, Any]

REPLICAS = (1_024, 16_384)
AGENT_STEPS = 1_000_000  # in one timed round
ENV_STEPS = 1_000
COPIED_BYTES = 1 << 28

SPEC = FloorSpec(
    desk=DeskConfig(feature_groups=("momentum", "trend", "mean_reversion", "volume", "risk")),
    floor=FloorConfig(horizon_bars=128),
)
"""5 agents of one account, 8 assets of the built-in market, 32 numbers an agent, all default costs."""


def bench_floor(*, device: str = "cpu", rounds: int = 5) -> list[Row]:
    """Measure the floor eager and compiled at each number of replicas, and one replica through ``TradingEnv``.

    Args:
        device: Where the floor is stepped; ``TradingEnv`` and compilation are measured on the CPU only.
        rounds: Timed rounds of each; compilation and the first round are not timed.

    Returns:
        One row for each floor, then one for ``TradingEnv``.
    """
    with one_core():
        bandwidth = copy_bandwidth(device=device, rounds=rounds)
        rows = [
            floor_speed(replicas, use_compile=use_compile, bandwidth=bandwidth, device=device, rounds=rounds)
            for replicas in REPLICAS
            for use_compile in ((False, True) if device == "cpu" else (False,))
        ]
        return [*rows, env_speed(rounds=rounds)]


def copy_bandwidth(*, device: str = "cpu", rounds: int = 5) -> float:
    """Bytes read and written in a second when torch copies an array larger than any cache."""
    source = torch.zeros(COPIED_BYTES // 8, dtype=torch.float64, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        float(target[0])  # waits for the device

    return 2 * COPIED_BYTES / measure({"copy": copy}, rounds=rounds)["copy"].wall_s


def bytes_per_step(floor: TradingFloor) -> int:
    """Bytes that a step cannot do without.

    Books are read and written, actions and market data read, observations, rewards and ends written. Market data count
    as often as they are gathered, though a cache may serve them.
    """
    books = sum(value.nbytes for name, value in floor.get_state().items() if name != "seed")
    B, N = floor.num_replicas, floor.num_agents
    observations = 2 * B * N * max(floor.obs_dims) * 4
    return 2 * books + floor.tape_rows * B * 8 + observations + B * N * (8 + 8) + 2 * B


def floor_speed(
    num_replicas: int,
    *,
    use_compile: bool,
    bandwidth: float,
    device: str = "cpu",
    rounds: int = 5,
    spec: FloorSpec = SPEC,
) -> Row:
    """Time steps of a floor under random rungs.

    Args:
        num_replicas: B.
        use_compile: Step by torch.compile.
        bandwidth: From ``copy_bandwidth``.
        device: Where the floor is stepped.
        rounds: Timed rounds.
        spec: The floor; every agent picks rungs.
    """
    floor = build_floor(spec, num_replicas=num_replicas, use_compile=use_compile, device=device)
    shape = (num_replicas, floor.num_agents)
    rungs = [torch.randint(0, min(floor.num_rungs), shape, device=device) for _ in range(16)]
    num_steps = max(8, AGENT_STEPS // (num_replicas * floor.num_agents))
    kept: list[object] = [None]

    def steps() -> None:
        for i in range(num_steps):
            kept[0] = floor.step(rungs[i % len(rungs)])  # kept until the next, as a runner keeps what it acts on

    seconds = _seconds(steps, rounds) / num_steps
    moved = bytes_per_step(floor)
    return {
        "what": "floor, compiled" if use_compile else "floor, eager",
        "device": device,
        "replicas": num_replicas,
        "agents": floor.num_agents,
        "assets": floor.layout.num_assets,
        "features": max(floor.obs_dims),
        "agent_steps_per_s": num_replicas * floor.num_agents / seconds,
        "bytes_per_step": moved,
        "copy_bytes_per_s": bandwidth,
        "share_of_bandwidth_bound": moved / bandwidth / seconds,
    }


def env_speed(*, rounds: int = 5, spec: FloorSpec = SPEC) -> Row:
    """Time steps of one ``TradingEnv``: dicts in, dicts out, resets included."""
    env = TradingEnv({"spec": spec_to_json(spec)})
    env.reset()
    actions = [{agent: env.action_spaces[agent].sample() for agent in env.possible_agents} for _ in range(64)]

    def steps() -> None:
        for i in range(ENV_STEPS):
            _, _, terminateds, truncateds, _ = env.step(actions[i % len(actions)])
            if terminateds["__all__"] or truncateds["__all__"]:
                env.reset()

    seconds = _seconds(steps, rounds) / ENV_STEPS
    return {
        "what": "TradingEnv",
        "device": "cpu",
        "replicas": 1,
        "agents": len(env.possible_agents),
        "env_steps_per_s": 1 / seconds,
        "agent_steps_per_s": len(env.possible_agents) / seconds,
    }


def _seconds(call: Callable[[], None], rounds: int) -> float:
    return measure({"call": call}, rounds=rounds)["call"].wall_s
