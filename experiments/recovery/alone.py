"""One process at a time writes checkpoints to a folder; one whose training is gone holds nobody up."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE_S = 5.0
"""How long a process whose training is gone may take to see that, and to end by itself."""
PATIENCE_S = 60.0
"""How long another process is waited for; longer than a minute is no wait, but a folder that cannot be written to."""
_EVERY_S, _SELDOM_S = 0.05, 1.0
"""How often it is looked whether the other one has ended: at first, and when all processes are looked through."""


@contextmanager
def alone_in(folder: Path, *, code: str) -> Iterator[None]:
    """Wait for others that write to a folder; the system tells when they have ended, however they end.

    One that outlives its training because it stands still (it was stopped, and the rest was killed) is ended: it would
    do nothing any more.

    Args:
        folder: Made if it is not there.
        code: What such processes run, which is a word of their command; its last word is the process that asks them.

    Raises:
        OSError: if another one does not end; the save has failed, and the next one tries again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        began = time.monotonic()
        while not _is_locked(handle):
            waited = time.monotonic() - began
            if waited > PATIENCE_S:
                raise OSError(errno.EBUSY, f"another process writes checkpoints to {folder} and does not end")
            if waited > GRACE_S:
                _end_orphans(code)
            time.sleep(_EVERY_S if waited <= GRACE_S else _SELDOM_S)
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphans(code: str) -> None:
    """End the processes that run this and have another parent than the one that has started them: it is gone."""
    import psutil  # only here: it is hardly ever wanted, and this process is to start at once

    for process in psutil.process_iter(["cmdline", "ppid"]):
        words = process.info["cmdline"] or []
        if code in words and words[-1] != str(process.info["ppid"]) and _sees_the_same(process.pid):
            with suppress(psutil.Error):
                process.kill()


def _sees_the_same(pid: int) -> bool:
    """Whether numbers of processes mean to it what they mean here: not in a container, which has its own."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return not os.path.exists("/proc/self/ns/pid")
