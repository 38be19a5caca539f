"""Stopping in good order: a signal asks the trainable for a checkpoint, a second one ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

STOP_FILE = "stop_requested"
"""In the run folder; a trainable that sees it writes a checkpoint and ends."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
def stop_on_signal(folder: Path) -> Iterator[None]:
    """While the block runs, let SIGINT and SIGTERM ask for a checkpoint first.

    Args:
        folder: The run folder.
    """
    has_asked = False
    forget_request(folder)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal has_asked
        if has_asked:
            raise KeyboardInterrupt
        has_asked = True
        try:
            ask_to_stop(folder, signal.Signals(number).name)
        except OSError as error:
            _say(f"stopping at once: a checkpoint cannot be asked for ({error.strerror}); the one before is kept")
            raise KeyboardInterrupt from None
        _say("stopping: a checkpoint is being written first; once more stops at once")

    before: dict[Any, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(OSError):  # a request that stays is cleared away by the next session
            forget_request(folder)


def _say(words: str) -> None:
    """Say something on stderr without a print, which could meet one that the signal has interrupted."""
    with suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
