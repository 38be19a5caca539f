"""Speed of the trading floor on one core, beside what the memory of the machine would allow."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


from envs.floor import FloorConfig, TradingFloor
from envs.mandates import DeskConfig
from envs.market import FloorSpec, build_floor, spec_to_json
from envs.rllib import TradingEnv

Row = dict[str, Any]

REPEATS = 5
"""Every figure is the median of this many measurements."""

SPEC = FloorSpec(
    desk=DeskConfig(feature_groups=("momentum", "trend", "mean_reversion", "volume", "risk")),
    floor=FloorConfig(horizon_bars=512),
)
"""5 agents of one account, 8 assets of the built-in market, 32 numbers an agent, all default costs."""


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep torch to one thread for a while."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _median_seconds(run: Callable[[], None], num_runs: int) -> float:
    """Seconds of one run, the median over REPEATS rounds of ``num_runs``."""
    run()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(num_runs):
            run()
        seconds.append((time.perf_counter() - start) / num_runs)
    return statistics.median(seconds)


def copy_bandwidth(num_bytes: int = 1 << 28) -> float:
    """Bytes read and written a second when torch copies a large array on one core."""
    with one_core():
        source = torch.zeros(num_bytes // 8, dtype=torch.float64)
        target = torch.empty_like(source)
        return 2 * num_bytes / _median_seconds(lambda: _discard(target.copy_(source)), 3)


def _discard(_: object) -> None:
    """Forget a result."""


def bytes_per_step(floor: TradingFloor) -> int:
    """Bytes that a step must move: books read and written, actions and market data read, observations and rewards written.

    Market data are counted as often as they are gathered, though a cache may serve them.
    """
    state = sum(value.nbytes for name, value in floor.get_state().items() if name != "seed")
    B, N = floor.num_replicas, floor.num_agents
    tape = floor.tape_rows * B * 8
    observations = 2 * B * N * max(floor.obs_dims) * 4
    return 2 * state + tape + observations + B * N * (8 + 8) + 2 * B


def floor_speed(
    num_replicas: int, *, use_compile: bool, bandwidth: float, spec: FloorSpec = SPEC, num_steps: int | None = None
) -> Row:
    """Agent-steps a second of a floor under random rungs, on one core.

    Args:
        num_replicas: B.
        use_compile: Step by torch.compile; its compilation is not timed.
        bandwidth: From ``copy_bandwidth``.
        spec: The floor.
        num_steps: Steps in each of the five rounds; None: about a quarter of a million agent-steps.
    """
    with one_core():
        floor = build_floor(spec, num_replicas=num_replicas, use_compile=use_compile)
        rungs = [torch.randint(0, min(floor.num_rungs), (num_replicas, floor.num_agents)) for _ in range(16)]
        count = 0
        last: list[object] = [None]

        def step() -> None:
            nonlocal count
            last[0] = floor.step(rungs[count % len(rungs)])  # kept, as a runner keeps the observation it acts on
            count += 1

        for _ in range(5):
            step()
        seconds = _median_seconds(step, num_steps or max(5, 250_000 // (num_replicas * floor.num_agents)))
    moved = bytes_per_step(floor)
    return {
        "what": "floor, compiled" if use_compile else "floor, eager",
        "replicas": num_replicas,
        "agents": floor.num_agents,
        "assets": floor.layout.num_assets,
        "features": max(floor.obs_dims),
        "agent_steps_per_s": num_replicas * floor.num_agents / seconds,
        "env_steps_per_s": num_replicas / seconds,
        "bytes_per_step": moved,
        "bandwidth_bytes_per_s": bandwidth,
        "share_of_bandwidth_bound": moved / bandwidth / seconds,
    }


def env_speed(*, spec: FloorSpec = SPEC, num_steps: int = 1_000) -> Row:
    """Steps a second of one ``TradingEnv``, dicts in and out, on one core."""
    with one_core():
        env = TradingEnv({"spec": spec_to_json(spec)})
        env.reset()
        actions = [{agent: env.action_spaces[agent].sample() for agent in env.possible_agents} for _ in range(64)]
        count = 0

        def step() -> None:
            nonlocal count
            _, _, terminateds, truncateds, _ = env.step(actions[count % len(actions)])
            count += 1
            if terminateds["__all__"] or truncateds["__all__"]:
                env.reset()

        seconds = _median_seconds(step, num_steps)
    return {
        "what": "TradingEnv",
        "replicas": 1,
        "agents": len(env.possible_agents),
        "assets": env.floor.layout.num_assets,
        "features": max(env.floor.obs_dims),
        "agent_steps_per_s": len(env.possible_agents) / seconds,
        "env_steps_per_s": 1 / seconds,
    }


def measure(replicas: Sequence[int] = (1_024, 16_384), *, with_compile: bool = True) -> list[Row]:
    """All figures of the floor: eager and compiled at each number of replicas, then one replica through ``TradingEnv``."""
    bandwidth = copy_bandwidth()
    rows = []
    for use_compile in (False, True) if with_compile else (False,):
        rows += [floor_speed(count, use_compile=use_compile, bandwidth=bandwidth) for count in replicas]
    return [*rows, env_speed()]
