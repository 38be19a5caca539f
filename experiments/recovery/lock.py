"""Locks: one writer for one run folder; the system releases them when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from common.errors import InputError
from common.provenance import utc_now

LOCK_FILE = "run.lock"


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a file while the block runs, after whoever holds it now.

    Args:
        path: The file; made, with its folder, where it is missing.

    Raises:
        OSError: if it cannot be opened, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder while the block runs.

    The system releases the lock when its process ends, however it ends, so a dead owner never blocks a run.

    Args:
        folder: The run folder; made where it is missing.

    Raises:
        InputError: if another process holds it, saying which; or its file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    try:
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --storage") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being written by {_owner(path)}: wait for it, or stop it first") from None
        except OSError as error:
            raise InputError(
                f"{folder} cannot be locked ({error.strerror}): choose another --storage, on a file system with locks"
            ) from None
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "started": utc_now()}, file)
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


def lock_if_there(folder: Path) -> AbstractContextManager[None]:
    """Hold a run folder while the block runs (see ``run_lock``); where there is none, nothing."""
    return run_lock(folder) if folder.exists() else nullcontext()


def is_held_by_another(folder: Path) -> bool:
    """Whether a process other than this one holds a run folder."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            owner = json.loads(file.read() or b"{}").get("pid")
            if owner in (None, os.getpid()) or not Path(f"/proc/{owner}").exists():
                return False  # nobody, this one, or one that has died: only else is the lock itself asked
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError, AttributeError):
        return False
    return False


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, since {owner['started']}"
    except (OSError, ValueError, KeyError):
        return "another process"
