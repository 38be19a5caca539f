"""Price files: seconds and peak memory of a million minute bars, beside pandas' own reader of the same file."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from envs.bars import load_bars
from experiments.benchmarks.timing import measure, one_core, ratios

NUM_BARS = 1_000_000
READERS: dict[str, Callable[[str], Any]] = {
    "load_bars": load_bars,
    "pandas.read_csv": partial(pd.read_csv, parse_dates=["date"]),
}
"""Ours, which also checks all that it reads, and the field's, which reads numbers and dates alone."""


def bench_files(*, rounds: int = 5, num_bars: int = NUM_BARS) -> list[dict[str, Any]]:
    """Measure both readers in turn on one core, and what memory each takes in a process of its own.

    Args:
        rounds: Timed reads of each.
        num_bars: Bars of the file: a CSV of dates to the minute, open, high, low, close and volume of one asset.

    Returns:
        One row for each reader and one for the ratios, ours over pandas'.
    """
    with one_core(), TemporaryDirectory() as folder:
        path = _written(Path(folder) / "BTC.csv", num_bars)
        taken = measure({name: partial(reader, path) for name, reader in READERS.items()}, rounds=rounds)
        peaks = {name: _peak_of_its_own(name, path) for name in READERS}
        rows: list[dict[str, Any]] = [
            {
                "what": name,
                "bars": num_bars,
                "file_mb": Path(path).stat().st_size / 1e6,
                "load_s": taken[name].wall_s,
                "load_cpu_s": taken[name].cpu_s,
                "peak_mb": peaks[name],
            }
            for name in READERS
        ]
    ours, theirs = READERS
    most, beside = peaks.values()
    ratio = None if most is None or beside is None else most / beside
    both = {"what": f"{ours} / {theirs}", **ratios(taken[ours], taken[theirs]), "ratio_of_peak": ratio}
    return [*rows, both]


def _written(path: Path, num_bars: int) -> str:
    """Write a random walk with four decimals, as exchanges do."""
    close = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 5e-4, num_bars)))
    dates = pd.date_range("2021-01-01", periods=num_bars, freq="1min").strftime("%Y-%m-%d %H:%M:%S")
    bars = pd.DataFrame({"date": dates, "open": close, "high": close * 1.001, "low": close * 0.999, "close": close})
    bars.round(4).assign(volume=5).to_csv(path, index=False)
    return str(path)


def _peak_of_its_own(name: str, path: str) -> float | None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_peak_mb, name, path).result()


def _peak_mb(name: str, path: str) -> float | None:
    """By how much reading the file raises the most memory that this process has ever held; None except on Linux."""
    before = _most_held_mb()
    READERS[name](path)
    after = _most_held_mb()
    return None if before is None or after is None else after - before


def _most_held_mb() -> float | None:
    """Of this process alone: what ``getrusage`` says is its parent's too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    words = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(words["VmHWM"].split()[0]) * 1024 / 1e6
