"""Importing what is large."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Let Python's garbage collector rest while the imports in the block run, and pass over what they have made after.

    torch and RLlib make hundreds of thousands of objects that live as long as the process; looking through them again
    and again takes a fifth of the import. Where all of it had been imported, nothing more is passed over: that would be
    whatever the process has worked with and let go of.
    """
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()
