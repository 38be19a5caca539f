"""Paths that a user wrote, and names read from a file, marker, archive or bucket: these lead into their folder."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from common.errors import InputError, shown

MOST_BYTES = 255
"""Longest name of a file or folder, as file systems take it."""
_MOST_BYTES_IN_ALL = 1024
_DRIVE = re.compile(r"^[A-Za-z]:")


def home_path(path: str | Path) -> Path:
    """The path that a user wrote; a leading ``~`` or ``~name`` is the home that it stands for, where there is one."""
    return Path(os.path.expanduser(path))


def checked_name(name: Any, *, source: str | Path) -> str:
    """A path in a folder as it was read from somewhere: relative, in its normal form, and of plain characters.

    Args:
        name: What was read.
        source: Where it was read, for the message.

    Raises:
        InputError: saying what is wrong with it.
    """
    if (wrong := _wrong_with(name)) is not None:
        raise InputError(
            f"{source} names {shown(name)}, which is no path in its folder: {wrong}; nothing there is touched"
        )
    return str(name)


def path_in(folder: Path, name: Any, *, source: str | Path) -> Path:
    """The path in a folder that a name means which was read from somewhere; no link on the way leads out of it.

    Args:
        folder: Which may be a link itself, and need not be there.
        name: What was read (see ``checked_name``).
        source: Where it was read, for the message.

    Raises:
        InputError: if the name, or a link, leads out of the folder.
    """
    path = folder / checked_name(name, source=source)
    if path.is_symlink() or path.parent != folder:
        check_inside(folder, path, source=source)
    return path


def check_inside(folder: Path, path: Path, *, source: str | Path) -> None:
    """Refuse a path that a link leads out of its folder.

    Raises:
        InputError: saying so.
    """
    whole = os.path.realpath(folder)
    if os.path.commonpath([whole, os.path.realpath(path)]) != whole:
        raise InputError(f"{source} names {path}, where a link leads out of {folder}: it is not followed")


def check_tree(folder: Path) -> None:
    """Refuse a folder in which something is no file and no folder, or a link that leads out of it.

    What a person has sent may hold links to any file of this machine, and pipes that nobody writes to. The folder
    itself may be a link, or lie on a mount; what cannot be listed is left to whoever needs it.

    Raises:
        InputError: naming the first such thing.
    """
    unread = [str(folder)]
    while unread:
        try:
            with os.scandir(unread.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        unread.append(entry.path)
                    elif entry.is_symlink():
                        check_inside(folder, Path(entry.path), source=folder)
                    elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                        raise InputError(f"{entry.path} is neither a file nor a folder: delete it first")
        except OSError:
            continue


def _wrong_with(name: Any) -> str | None:
    """What keeps a name from being a path in a folder; None where nothing does."""
    if not isinstance(name, str):
        return "it is no text"
    if not name:
        return "it is empty"
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError:
        return "it is no UTF-8"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "it holds a control character"
    if name.startswith("/") or _DRIVE.match(name):
        return "it is absolute"
    if "\\" in name:
        return "it holds a backslash"
    if b".." in parts:
        return "it leads out"
    if posixpath.normpath(name) != name or name == ".":
        return "it is not in its normal form"
    if max(map(len, parts)) > MOST_BYTES or len(name.encode()) > _MOST_BYTES_IN_ALL:
        return "it is too long"
    return None
