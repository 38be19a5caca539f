"""Ctrl-C while a verb's imports still run, which take seconds: one word and exit code 130 instead of a traceback.

A verb imports this module first, and ``experiments.command_line`` takes over when its imports are done. What takes
seconds, such as torch, a verb imports only when the work begins, in ``leaving_at_once``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from common.imports import quick_imports

EXIT_CODE = 130


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: an import that is interrupted leaves modules half made, and nothing else has begun."""
    os.write(2, b"interrupted\n")
    os._exit(EXIT_CODE)


def end_of_imports() -> None:
    """Let an interrupt be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Import quickly in the block; end at once on an interrupt there, where it is a KeyboardInterrupt otherwise."""
    is_ours = _is_verb and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _leave)
    try:
        with quick_imports():
            yield
    finally:
        if is_ours:
            end_of_imports()


_started = getattr(sys.modules.get("__main__"), "__file__", None)
_is_verb = _started is not None and Path(_started).resolve().parent == Path(__file__).resolve().parent
if _is_verb and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
