"""Files written once, through to the disk itself, and what they should hold."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

Parts = Iterable[bytes | memoryview]
"""Bytes in pieces that follow one another."""
_AT_ONCE = 64
"""Files that are open at the same time."""
SMALL = 1 << 16
"""Bytes up to which parts that follow one another are joined: a copy is cheaper than a call of the system."""
BLOCK = 1 << 12
"""Bytes of which disks and memory are made: what begins at a multiple of it can go from one to the other."""
_PAST_CACHE = getattr(os, "O_DIRECT", 0)
"""Flag of a file that is written without a copy in the system's memory; 0 where the system has none."""


class Written(NamedTuple):
    """What a file should hold that has been brought to the disk."""

    num_bytes: int
    sha256: str


def fill_folder(folder: Path, contents: Mapping[str, Parts], links: Mapping[str, str]) -> dict[str, Written]:
    """Write all that an empty folder is to hold.

    Args:
        folder: Where it goes.
        contents: New files by path in the folder (see ``write_files``), taken in this order.
        links: Files that are there already, by path in the folder. A file system without hard links gets copies.

    Returns:
        What the new files should hold, which are on the disk itself; by path in the folder.

    Raises:
        OSError: if something cannot be written.
    """
    for below in sorted({name[:i] for name in (*contents, *links) for i, c in enumerate(name) if c == "/"}):
        os.mkdir(f"{folder}/{below}")
    for name, source in links.items():
        _link(source, f"{folder}/{name}")
    return write_files(folder, contents)


def write_files(folder: Path, contents: Mapping[str, Parts]) -> dict[str, Written]:
    """Write new files to the disk itself.

    They are written first and waited for afterwards: what the file system has to put into its journal for all of them
    it then puts there once.

    Args:
        folder: Where they go, with the folders that they lie in.
        contents: By path in the folder, where nothing is yet: all of it. Large parts are not copied, and those that
            lie at a multiple of ``BLOCK`` in memory, as in their file, not even by the system, where it can. A part of
            more than ``SMALL`` bytes is written before the next one is asked for; smaller ones must stay what they are.

    Returns:
        What each file should hold: of the memory, not read back.

    Raises:
        OSError: if one cannot be written, or is not as long on the disk as it was written.
    """
    written = {}
    names = iter(contents)
    while some := list(islice(names, _AT_ONCE)):
        with ExitStack() as stack:
            handles = {}
            for name in some:
                handles[name] = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                stack.callback(os.close, handles[name])
                written[name] = _write(handles[name], contents[name])
            for name, handle in handles.items():
                os.fsync(handle)
                if os.fstat(handle).st_size != written[name].num_bytes:
                    raise OSError(errno.EIO, f"the disk does not hold what was written: {folder / name}")
    return written


def to_disk(path: str | Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, parts: Parts) -> Written:
    digest, num_bytes = hashlib.sha256(), 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal num_bytes
        for part in parts:
            digest.update(part)
            num_bytes += len(part)
            yield part

    for part in _joined(counted()):
        rest = part[_write_past_cache(handle, part) :]
        while rest:
            rest = rest[os.writev(handle, [rest]) :]
    return Written(num_bytes, digest.hexdigest())


def _write_past_cache(handle: int, part: memoryview) -> int:
    """Write the whole blocks of a large part to the disk without a copy in the system's memory.

    Nobody reads a checkpoint soon, and pages for the copy cost more than all else: memory of a virtual machine that
    has not been touched before is not there yet.

    Returns:
        How many bytes are written; 0 where the file system, or where the part lies, does not allow it.

    Raises:
        OSError: if they cannot be written.
    """
    whole, written = len(part) // BLOCK * BLOCK, 0
    if not _PAST_CACHE or len(part) <= SMALL:
        return 0
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | _PAST_CACHE)
        while written < whole:
            written += os.write(handle, part[written:whole])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags)
    return written


def _joined(parts: Parts) -> Iterator[memoryview]:
    """The same bytes in fewer parts: small ones that follow one another become one, up to a bound."""
    small: list[bytes | memoryview] = []
    num_bytes = 0
    for part in parts:
        if small and num_bytes + len(part) > SMALL:
            yield memoryview(b"".join(small))
            small, num_bytes = [], 0
        if len(part) > SMALL:
            yield memoryview(part)
        elif len(part):
            small.append(part)
            num_bytes += len(part)
    if small:
        yield memoryview(b"".join(small))


def _link(source: str, target: str) -> None:
    """Give a file a second name."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # no links on this file system, or none to there
        shutil.copyfile(source, target)
        to_disk(target)
