"""Measure speed on this machine: ``python experiments/bench.py floor|games|files|sampling|training|checkpoint``."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # before what takes seconds to import
from common.errors import InputError, nearest
from common.strict import STRICT
from experiments.command_line import DONE, check_json_flag, write_json_flag
from experiments.reporting.tables import rows_table, show
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.help import asks_for_help, print_help

SUBJECTS = ("floor", "games", "files", "sampling", "training", "checkpoint")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BenchConfig:
    """What to measure and where."""

    subject: Literal["floor", "games", "files", "sampling", "training", "checkpoint"] = "floor"
    """floor: the market alone. games: public benchmarks, all replicas at once. files: a million bars, beside pandas.
    sampling: runners. training: whole iterations, an update in parts, and BenchMARL. checkpoint: saves, restores and
    restarts."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where ours runs, and BenchMARL; RLlib, which ours is compared with, always runs on the CPU."""
    rounds: int = Field(default=5, gt=0)
    """Timed rounds; medians are shown."""
    use_benchmarl: bool = True
    """training: train BenchMARL too, in a virtual environment of its own, which the first time downloads about 1 GB."""
    benchmarl_folder: str = "build/benchmarl"
    """Where that virtual environment is, or is made."""
    json: str | None = None
    """File for what is printed, as plain JSON."""


def run(argv: Sequence[str]) -> int:
    """Measure one subject and print its rows."""
    words = list(argv)
    if asks_for_help(words):
        about = __doc__ or ""
        print_help(BenchConfig, words, prog="experiments/bench.py", description=about, words="|".join(SUBJECTS))
        return DONE
    if words and not words[0].startswith("-"):
        if words[0] not in SUBJECTS:
            raise InputError(f"{words[0]!r} cannot be measured{nearest(words[0], SUBJECTS)}: {', '.join(SUBJECTS)}")
        words[:1] = ["--subject", words[0]]
    config = parse_flags(BenchConfig, scan_flags(BenchConfig, words), base={})
    check_json_flag(config.json)
    _require(config.device)
    print(f"measuring {config.subject} on {config.device}, medians of {config.rounds} rounds, one core", flush=True)
    rows = _measure(config)
    for _, group in groupby(rows, key=list):  # neighbours with the same columns share a table
        show(rows_table(list(group), title=""))
    write_json_flag(config.json, {"subject": config.subject, "device": config.device, "rows": rows})
    return DONE


def _measure(config: BenchConfig) -> list[dict[str, Any]]:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if config.subject == "floor":
        from experiments.benchmarks.floor import bench_floor

        return bench_floor(device=config.device, rounds=config.rounds)
    if config.subject == "games":
        from experiments.benchmarks.games import bench_games

        return bench_games(device=config.device, rounds=config.rounds)
    if config.subject == "files":
        from experiments.benchmarks.files import bench_files

        return bench_files(rounds=config.rounds)
    from experiments.benchmarks.checkpoint import bench_checkpoint
    from experiments.benchmarks.sampling import bench_sampling
    from experiments.benchmarks.training import bench_training
    from experiments.tuning.local_ray import start_local_ray, stop_local_ray

    warnings.simplefilter("ignore")
    start_local_ray(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        if config.subject == "training":
            folder = config.benchmarl_folder if config.use_benchmarl else None
            return bench_training(device=config.device, rounds=config.rounds, benchmarl=folder)
        benches = {"sampling": bench_sampling, "checkpoint": bench_checkpoint}
        return benches[config.subject](device=config.device, rounds=config.rounds)
    finally:
        stop_local_ray()


def _require(device: str) -> None:
    with experiments.interrupts.leaving_at_once():  # only now: torch takes seconds to import
        import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU on this machine; leave the flag out")


if __name__ == "__main__":
    from experiments.command_line import main

    main(run)
