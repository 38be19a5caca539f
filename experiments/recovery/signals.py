"""Stopping in good order: a signal asks the trainable for a checkpoint, a later one ends the process at once."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

STOP_FILE = "stop_requested"
"""In the run folder; a trainable that sees it writes a checkpoint and ends."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.5
"""Seconds after a signal within which another one is the same request."""


def ask_to_stop(folder: Path, why: str) -> None:
    """Ask the run in a folder to write a checkpoint and end.

    Raises:
        OSError: if the folder cannot be written to, or is not there yet.
    """
    (folder / STOP_FILE).write_text(why, encoding="utf-8")


def forget_request(folder: Path) -> None:
    """Take back what has asked a run to stop."""
    (folder / STOP_FILE).unlink(missing_ok=True)


@contextmanager
def hearing(hear: Callable[[int, int], None]) -> Iterator[None]:
    """While the block runs, let SIGINT and SIGTERM be heard, by the main thread, which this has to be called by.

    Args:
        hear: Called with the signal and how many have asked so far; what comes within ``AGAIN_S`` of one that was heard
            is the same request, for a terminal, a parent and the system may each send it.
    """
    count, last = 0, -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count, last
        now = time.monotonic()
        if now - last >= AGAIN_S:
            count, last = count + 1, now
            hear(number, count)

    before: dict[Any, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signal(folder: Path, *, listens: bool = True) -> Iterator[None]:
    """While the block runs, let SIGINT and SIGTERM ask for a checkpoint first; an older request is forgotten.

    Args:
        folder: The run folder.
        listens: Whether they do; else signals mean what they meant before.
    """
    forget_request(folder)
    if not listens:
        yield
        return

    def hear(number: int, count: int) -> None:
        if count > 1:
            raise KeyboardInterrupt
        try:
            ask_to_stop(folder, signal.Signals(number).name)
        except OSError as error:
            say(f"stopping at once: a checkpoint cannot be asked for ({error.strerror}); the one before is kept")
            raise KeyboardInterrupt from None
        say("stopping: a checkpoint is being written first; once more stops at once")

    try:
        with hearing(hear):
            yield
    finally:
        with suppress(OSError):  # a request that stays is cleared away by the next session
            forget_request(folder)


def say(words: str) -> None:
    """Say something on stderr without a print, which could meet one that the signal has interrupted."""
    with suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
