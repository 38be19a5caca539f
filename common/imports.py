"""Importing what is large."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Let Python's garbage collector rest while the imports in the block run, and pass over what they have made after.

    torch and RLlib make a million objects that live as long as the process; looking through them again and again takes
    a fifth of the import. What is passed over is chosen once in a process: later it would be whatever its work has
    left behind.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if was_on:
            gc.enable()
