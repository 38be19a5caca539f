"""Fair timing: both sides in one process, interleaved, medians of several rounds, wall and CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from common.threads import one_thread


@dataclass(frozen=True)
class Measured:
    """Median seconds of one call.

    Attributes:
        wall_s: By the clock.
        cpu_s: Of this process.
    """

    wall_s: float
    cpu_s: float


def rates(name: str, count: float, taken: Measured) -> dict[str, float]:
    """How many of something a second, by the clock and by the processor, as columns of a row."""
    return {f"{name}_per_s": count / taken.wall_s, f"{name}_per_cpu_s": count / taken.cpu_s}


def ratios(of: Measured, to: Measured) -> dict[str, float]:
    """How many times as long one took as the other, by the clock and by the processor, as columns of a row."""
    return {"ratio": of.wall_s / to.wall_s, "ratio_of_cpu": of.cpu_s / to.cpu_s}


def measure(calls: Mapping[str, Callable[[], Any]], *, rounds: int = 5) -> dict[str, Measured]:
    """Time several calls in turn, A B A B, so that a machine whose speed drifts treats all alike.

    Args:
        calls: What to time, by name.
        rounds: Timed calls of each, after one that is not; the median counts.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for i in range(1 + rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if i:
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {n: Measured(median(t[0] for t in v), median(t[1] for t in v)) for n, v in taken.items()}


@contextmanager
def one_core() -> Iterator[None]:
    """Run on one core: one torch thread, and where the system allows it, this process held to one processor."""
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if processors:
        os.sched_setaffinity(0, {max(processors)})
    try:
        with one_thread():
            yield
    finally:
        if processors:
            os.sched_setaffinity(0, processors)


@contextmanager
def stopwatch(places: Mapping[str, tuple[Any, str]]) -> Iterator[dict[str, float]]:
    """Add up the wall time spent in some methods while the block runs.

    Args:
        places: For each name in the result, an object or class and the name of its method.
    """
    spent = dict.fromkeys(places, 0.0)
    kept = {name: getattr(owner, method) for name, (owner, method) in places.items()}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    for name, (owner, method) in places.items():
        setattr(owner, method, timed(name, kept[name]))
    try:
        yield spent
    finally:
        for name, (owner, method) in places.items():
            setattr(owner, method, kept[name])


def learner_gpus(device: str) -> float:
    """How many GPUs a learner on this device takes."""
    return 1.0 if device == "cuda" else 0.0
