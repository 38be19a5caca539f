"""The runs of a walk-forward: one of experiments/run.py for each fold and seed, each carried on by itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
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


def run_job(job: Job, asked: Sequence[str]) -> bool:
    """Train and backtest one fold with one seed, in a process of its own; what is complete is not done again.

    Returns:
        False where it was interrupted; the same command carries on.

    Raises:
        InputError: if it refuses the settings.
        RunFailedError: if it fails.
    """
    command = [sys.executable, str(VERB), *job.words(asked)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:  # the run has heard it too, and saves a checkpoint first
        process.communicate()
        return False
    if process.returncode == INTERRUPTED:
        return False
    last = (said.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
    if process.returncode == BAD_INPUT:
        raise InputError(f"fold {job.fold.number}: {last}")
    if process.returncode != DONE:
        raise RunFailedError(f"fold {job.fold.number}, seed {job.seed} failed: {last}", job.folder / LOG_FILE)
    return True


def equity_table(job: Job) -> pd.DataFrame:
    """Equity of the strategy and of every baseline over the test of a finished run."""
    return pd.read_parquet(job.folder / OWN / "equity.parquet")


def trial_sharpes(job: Job) -> list[float]:
    """Validation Sharpe ratios of all trials of a finished search; empty for a run without one."""
    path = job.folder / TRIALS_FILE
    if not path.is_file():
        return []
    return [float(row["score"]) for row in read_json(path) if row["score"] is not None]
