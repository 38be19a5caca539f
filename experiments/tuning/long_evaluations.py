"""Evaluations that take minutes: they tell how far they are, and a run that is asked to stop does not wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.pace import Pace

EVALUATION_FILE = ".evaluation"
"""In a trial's folder, while it evaluates: how far that is, in words. With a dot in front it is no part of a run."""
PATIENCE_S = 10.0
"""An evaluation that ends within so many seconds is waited for, also by a run that is asked to stop."""
_LOOK_EVERY_S = 0.5


class EvaluationLeftError(Exception):
    """An evaluation was left because the run is asked to stop."""


@contextmanager
def watched_evaluation(
    runner: Any, total: int, unit: str, *, folder: Path | None, is_asked_to_stop: Callable[[], bool]
) -> Iterator[None]:
    """Follow an evaluation in the block step by step.

    Args:
        runner: Who steps it, a ``TeamEnvRunner``.
        total: How many bars or episodes it passes through.
        unit: Which of them: ``"bars"`` or ``"episodes"``.
        folder: The trial's, for who follows it from another process; None outside Tune.
        is_asked_to_stop: Whether the run is to end soon.

    Raises:
        EvaluationLeftError: once the run is asked to stop, unless the evaluation is about to end.
    """
    pace, looked_at = Pace("evaluation", total, unit), time.monotonic()
    path = None if folder is None else folder / EVALUATION_FILE

    def on_step(steps: int, ended: int) -> None:
        nonlocal looked_at
        done = ended if unit == "episodes" else steps
        if (now := time.monotonic()) - looked_at < _LOOK_EVERY_S:
            return
        looked_at = now
        if is_asked_to_stop() and pace.left_s(done) > PATIENCE_S:
            raise EvaluationLeftError
        words = pace.words(done)
        if words is not None and path is not None:
            with suppress(OSError):  # a disk that is full
                path.write_text(words, encoding="utf-8")

    runner.on_step = on_step
    try:
        yield
    finally:
        runner.on_step = None
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)


class EvaluationTeller:
    """Prints what evaluations in other processes say of how far they are."""

    def __init__(self) -> None:
        self._since, self._looked_at = time.time(), 0.0
        self._told: dict[Path, float] = {}

    def look(self, folders: dict[str, Path], *, named: bool) -> None:
        """Look for news, at most every few seconds.

        Args:
            folders: Of the trials that run, by their names.
            named: Whether lines name the trial.
        """
        if (now := time.monotonic()) - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        for name, folder in folders.items():
            path = folder / EVALUATION_FILE
            with suppress(OSError):  # it ends just now, or there is none
                written = path.stat().st_mtime
                if written > self._told.get(path, self._since):  # not what a session that was killed has left
                    words = path.read_text(encoding="utf-8")
                    self._told[path] = written
                    print(f"[{name}]  {words}" if named else words, flush=True)
