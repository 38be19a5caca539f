"""The folder of a local Ray: there is room for it before it starts, and it goes once its session has ended."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from common.errors import InputError
from common.files import check_folder_writable, json_object, write_json

MARK_FILE = "trading-floor.json"
"""Says whose a session's folder is: of which process, on which machine."""
KEPT_S = 86_400.0
"""For how long the logs of a session stay that was killed, or has failed."""
_NEEDED_BYTES = 1 << 23

_kept: set[Path] = set()


def check_ray_folder() -> None:
    """Refuse a folder for temporary files in which Ray could not start: it would say so in other words, or wait.

    Raises:
        InputError: naming the variable that chooses another one.
    """
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "RAY_TMPDIR")
    folder = Path(os.environ.get(named) or "/tmp").absolute()
    try:
        check_folder_writable(folder, setting=f"{named}, Ray's folder for temporary files,")
    except InputError as error:
        raise InputError(f"{error}: let RAY_TMPDIR name another one, by a short path") from None
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if (free := shutil.disk_usage(there).free) < _NEEDED_BYTES:
        raise InputError(
            f"{named}, Ray's folder for temporary files, is {folder}, which has {free / 1e6:.1f} MB free: make room, "
            "or let RAY_TMPDIR name another one, by a short path"
        )


def mark_session(folder: Path) -> None:
    """Note that a session is of this process, and remove what dead ones of ours have left there over a day ago."""
    me = psutil.Process()
    with suppress(OSError):
        write_json(folder / MARK_FILE, {"host": socket.gethostname(), "pid": me.pid, "begun": me.create_time()})
        for other in folder.parent.glob("session_*"):
            if not other.is_symlink() and _is_left_behind(other):
                shutil.rmtree(other, ignore_errors=True)


def keep_session(folder: Path) -> None:
    """Leave the logs of this session for a person to read, and say where they are."""
    if folder not in _kept:
        _kept.add(folder)
        print(f"Ray's logs of this session stay for a day: {folder / 'logs'}", file=sys.stderr, flush=True)


def remove_session(folder: Path) -> None:
    """Remove a session's folder after its end, unless it is kept."""
    if folder in _kept:
        return
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.parent / "session_latest"
    with suppress(OSError):
        if Path(os.readlink(latest)).name == folder.name:
            latest.unlink()


def _is_left_behind(folder: Path) -> bool:
    """Whether a session is ours, of a process of this machine that is dead, and nothing was written there for a day."""
    path = folder / MARK_FILE
    mark = json_object(path.read_bytes()) if path.is_file() else {}
    if mark.get("host") != socket.gethostname():
        return False
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, TypeError, ValueError):
        if psutil.Process(mark.get("pid")).create_time() == mark.get("begun"):
            return False
    written = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time() - written > KEPT_S
