"""Copies of checkpoint folders that a reader never finds a part of."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from algos.replay_settings import REPLAY_FOLDER
from common.disk import fill_folder, to_disk

_AT_ONCE = 1 << 20
"""Bytes that are copied at a time."""


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder over another one so that a reader never finds a part of it.

    For an instant between two renames there is neither the old nor the new one; ``mend_copy`` puts the old one back if
    the process was killed just then.
    """
    mend_copy(target)
    staged, old = _copies(target)
    staged.mkdir()
    try:
        copy_into(staged, source)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.rmtree(staged)
        staged.mkdir()
        copy_into(staged, source, links_all=True)  # better a copy that shares its files than none
    if target.is_dir():
        os.rename(target, old)
    os.rename(staged, target)
    to_disk(target.parent)  # what was there before may go only now
    shutil.rmtree(old, ignore_errors=True)


def copy_into(folder: Path, source: Path, *, leave_out: Collection[str] = (), links_all: bool = False) -> None:
    """Copy to the disk itself; the large files that checkpoints share among themselves are linked.

    Args:
        folder: Where it goes; empty.
        source: A folder.
        leave_out: Files that stay behind, by path in it.
        links_all: Whether the other files are linked too.
    """
    files = (path for path in sorted(source.rglob("*")) if path.is_file() and not path.is_symlink())
    found = {path.relative_to(source).as_posix(): path for path in files}
    paths = {name: path for name, path in found.items() if name not in leave_out}
    links = {name: str(path) for name, path in paths.items() if links_all or path.parent.name == REPLAY_FOLDER}
    fill_folder(folder, {name: _parts(path) for name, path in paths.items() if name not in links}, links)
    for below in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        to_disk(below)


def mend_copy(target: Path) -> None:
    """Undo or clear away what an interrupted ``copy_folder`` has left behind."""
    staged, old = _copies(target)
    if old.is_dir() and not target.is_dir():
        os.rename(old, target)
    for leftover in (staged, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _copies(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            yield part
