"""The runs of a walk-forward: one of experiments/run.py for each fold and seed, each carried on by itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from envs.errors import InputError
from experiments.backtesting.places import OWN
from experiments.cli import BAD_INPUT, DONE, INTERRUPTED
from experiments.evaluation.folds import Fold
from experiments.reporting.files import read_json
from experiments.run_files import LOG_FILE
from experiments.tuning.search import TRIALS_FILE

VERB = Path(__file__).parents[1] / "run.py"


class RunFailedError(RuntimeError):
    """A run of the walk-forward has failed; what it said is in the message.

    Args:
        message: Which one, and what it said.
        log_path: Where it has written all that it said, its traceback too.
    """

    def __init__(self, message: str, log_path: Path) -> None:
        super().__init__(message)
        self.log_path = log_path


class Job(NamedTuple):
    """One run.

    Attributes:
        fold: Which part of history.
        seed: Of the run.
        folder: The run folder.
    """

    fold: Fold
    seed: int
    folder: Path

    def words(self, asked: Sequence[str]) -> list[str]:
        """Its command line: what the user has asked for, and what the walk-forward sets itself."""
        end = [] if self.fold.end is None else ["--data.end", self.fold.end]
        dates = ["--data.validation-start", self.fold.validation_start, "--data.test-start", self.fold.test_start]
        place = ["--storage", str(self.folder.parent), "--name", self.folder.name, "--seed", str(self.seed)]
        return [*asked, *place, *dates, *end]


def jobs(folder: Path, folds: Sequence[Fold], seeds: Sequence[int]) -> list[Job]:
    """Every run, fold by fold."""
    return [Job(fold, seed, folder / f"fold-{fold.number}-seed-{seed}") for fold in folds for seed in seeds]


def run_jobs(todo: Sequence[Job], asked: Sequence[str], *, at_once: int) -> Iterator[tuple[Job, float]]:
    """Train and backtest, so many runs at once, each in a process of its own; what is complete is not done again.

    Where one ends badly, or the caller has enough, no further one is started, and those under way are waited for.

    Yields:
        Each run that is done, and how many seconds it took, as they come.

    Raises:
        InputError: if a run refuses the settings.
        RunFailedError: if one fails.
        KeyboardInterrupt: if one was interrupted; the same command carries on.
    """
    with ThreadPoolExecutor(at_once) as pool:
        under_way = {pool.submit(_run, job, asked): job for job in todo}
        try:
            for done in as_completed(under_way):
                yield under_way[done], done.result()
        finally:  # where it is Ctrl-C, the runs have heard it too, and save a checkpoint first
            pool.shutdown(wait=False, cancel_futures=True)


def _run(job: Job, asked: Sequence[str]) -> float:
    """Run one; see ``run_jobs``. Returns how many seconds it took."""
    start = time.monotonic()
    command = [sys.executable, str(VERB), *job.words(asked)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
    if done.returncode == BAD_INPUT:
        raise InputError(f"fold {job.fold.number}: {last}")
    if done.returncode != DONE:
        raise RunFailedError(f"fold {job.fold.number}, seed {job.seed} failed: {last}", job.folder / LOG_FILE)
    return time.monotonic() - start


def equity_table(job: Job) -> pd.DataFrame:
    """Equity of the strategy and of every baseline over the test of a finished run."""
    return pd.read_parquet(job.folder / OWN / "equity.parquet")


def trial_sharpes(job: Job) -> list[float]:
    """Validation Sharpe ratios of all trials of a finished search; empty for a run without one."""
    path = job.folder / TRIALS_FILE
    if not path.is_file():
        return []
    return [float(row["score"]) for row in read_json(path) if row["score"] is not None]
