"""Locks: one writer for one run folder; the system releases them when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from common.errors import InputError
from common.paths import check_tree
from common.provenance import utc_now

LOCK_FILE = "run.lock"


@contextmanager
def file_lock(path: Path, *, waits: bool = True) -> Iterator[TextIO]:
    """Hold a file while the block runs; the system lets go of it when its process ends, however that ends.

    Args:
        path: The file; made, with its folder, where it is missing.
        waits: Whether to hold it after whoever holds it now, or not at all.

    Returns:
        The open file, with what the last one to hold it has left there.

    Raises:
        BlockingIOError: if another one holds it.
        OSError: if it cannot be opened, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        yield file


@contextmanager
def leaving(file: TextIO, text: str) -> Iterator[None]:
    """Let a file that is held say something while the block runs; where its process is killed, it still does."""
    file.truncate(0)
    file.write(text)
    file.flush()
    try:
        yield
    finally:
        file.truncate(0)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder, which is made where it is missing, while the block runs; a dead owner never blocks a run.

    Raises:
        InputError: if another process holds it, saying which; it cannot be held; or a link in it leads out of it.
    """
    path = folder / LOCK_FILE
    check_tree(folder)
    with ExitStack() as hold:
        try:
            file = hold.enter_context(file_lock(path, waits=False))
        except BlockingIOError:
            raise InputError(f"{folder} is being written by {_owner(path)}: wait for it, or stop it first") from None
        except OSError as error:  # of a file's name where it cannot be opened
            what, which = ("written to", "") if error.filename else ("locked", ", on a file system with locks")
            raise InputError(f"{folder} cannot be {what} ({error.strerror}): choose another --storage{which}") from None
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": utc_now()}
        hold.enter_context(leaving(file, json.dumps(owner)))
        yield


def lock_if_there(folder: Path) -> AbstractContextManager[None]:
    """Hold a run folder while the block runs (see ``run_lock``); where there is none, nothing."""
    return run_lock(folder) if folder.exists() else nullcontext()


def is_held_by_another(folder: Path) -> bool:
    """Whether a process other than this one holds a run folder."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            owner = json.loads(file.read() or b"{}").get("pid")
            if not isinstance(owner, int) or owner == os.getpid() or not Path(f"/proc/{owner}").exists():
                return False  # nobody, this one, or one that has died: only else is the lock itself asked
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return False


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, since {owner['started']}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another process"
