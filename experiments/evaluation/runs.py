"""The runs of a walk-forward: one of experiments/run.py for each fold and seed, each carried on by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from common.errors import InputError
from envs.folds import Fold
from experiments.command_line import BAD_INPUT, DONE, INTERRUPTED
from experiments.recovery.names import LOG_FILE, RESULT_FILE
from experiments.recovery.records import read_line
from experiments.recovery.signals import hearing, say
from experiments.search.search import TRIALS_FILE
from experiments.settings.fields import hyphens

VERB = Path(__file__).parents[1] / "run.py"
_STOPPED_WITH_US = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which outlives execv
if os.getppid() != int(sys.argv[1]):
    sys.exit(130)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""A run whose walk-forward is killed is asked to stop (on Linux, which may ask more than once within milliseconds)."""
_WORDS = (
    "stopping: checkpoints are being written first; once more stops at once",
    "stopping at once; once more kills what does not stop",
    "killing what does not stop",
)


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
        """Its command line: what the user has asked for, and what the fold sets itself."""
        place = ["--storage", str(self.folder.parent), "--name", self.folder.name, "--seed", str(self.seed)]
        data = []
        for name, value in self.fold.data.items():
            data += [f"--data.{hyphens(name)}", *map(str, value if isinstance(value, tuple) else (value,))]
        return [*asked, *place, *data]


def jobs(folder: Path, folds: Sequence[Fold], seeds: Sequence[int]) -> list[Job]:
    """Every run, fold by fold."""
    return [Job(fold, seed, folder / f"fold-{fold.number}-seed-{seed}") for fold in folds for seed in seeds]


def run_jobs(todo: Sequence[Job], asked: Sequence[str], *, at_once: int) -> Iterator[tuple[Job, float]]:
    """Train and backtest, so many runs at once, each in a process of its own; what is complete is not done again.

    Where one ends badly, or the caller has enough, no further one is started, and those under way are waited for.
    SIGINT and SIGTERM are passed on to those: the first one lets them write a checkpoint, a second one stops them at
    once, a third one kills them. They are heard by the main thread, which this has to be called by.

    Yields:
        Each run that is done, and how many seconds it took, as they come.

    Raises:
        InputError: if a run refuses the settings.
        RunFailedError: if one fails.
        KeyboardInterrupt: if they were interrupted; the same command carries on.
    """
    processes = _Processes()
    with hearing(processes.stop), ThreadPoolExecutor(at_once) as pool:
        under_way = {pool.submit(_run, job, asked, processes): job for job in todo}
        try:
            for done in as_completed(under_way):
                yield under_way[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Processes:
    """Runs under way, each in a session of its own: a terminal's signal reaches them through this one alone."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.RLock()  # one signal may interrupt what another one does

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Run Python with these words; returns its exit code and what it has said on stderr.

        Raises:
            KeyboardInterrupt: if no further one is to be started.
        """
        command = [sys.executable, "-IS", "-c", _STOPPED_WITH_US, str(os.getpid()), *words]
        with self._lock:
            if self.is_stopping:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
            )
            self._running.add(process)
        try:
            _, said = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, said

    def stop(self, number: int, count: int) -> None:
        """Pass a signal on to all runs, kill them at the third one, and let no further one start."""
        say(_WORDS[min(count, len(_WORDS)) - 1])
        with self._lock:
            self.is_stopping = True
            for process in self._running:
                process.send_signal(number if count < len(_WORDS) else signal.SIGKILL)


def _run(job: Job, asked: Sequence[str], processes: _Processes) -> float:
    """Run one; see ``run_jobs``. Returns how many seconds it took."""
    start = time.monotonic()
    code, said = processes.run([str(VERB), *job.words(asked)])
    died_of_signal = code < 0 or code == signal.SIGTERM  # which is what Ray makes of it
    if code == INTERRUPTED or (processes.is_stopping and died_of_signal):
        raise KeyboardInterrupt
    lines = said.strip().splitlines() or ["it said nothing"]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    last = " ".join(lines[errors[-1] if errors else -1 :]).removeprefix("error: ")
    if code == BAD_INPUT:
        raise InputError(f"fold {job.fold.number}: {last}")
    if code != DONE:
        raise RunFailedError(f"fold {job.fold.number}, seed {job.seed} failed: {last}", job.folder / LOG_FILE)
    return time.monotonic() - start


def trial_sharpes(job: Job) -> list[float]:
    """Validation Sharpe ratios of all that a finished search chose among: of every evaluation of every trial.

    Empty for a run without a search.
    """
    if not (job.folder / TRIALS_FILE).is_file():
        return []
    lines = [line for path in job.folder.glob(f"trial_*/{RESULT_FILE}") for line in path.read_bytes().splitlines()]
    found = [result for line in lines if (result := read_line(line)) is not None and result["is_evaluated"]]
    return [float(result["sharpe"]) for result in found]
