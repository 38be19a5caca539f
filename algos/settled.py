"""Files written once, through to the disk itself, and what they should hold."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_AT_ONCE = 64
"""Files that are open at the same time."""
_PARTS_AT_ONCE = 512
"""Parts of a file that the system takes in one call."""
_SMALL = 1 << 16
"""Bytes up to which parts that follow one another are joined: a copy is cheaper than to hand Python over to the thread
that trains, and to wait for it again, around every call."""


class Settled(NamedTuple):
    """What a file should hold that has been brought to the disk."""

    num_bytes: int
    sha256: str


def write_files(folder: Path, contents: Mapping[str, Sequence[bytes | memoryview]]) -> dict[str, Settled]:
    """Write new files to the disk itself.

    They are written first and waited for afterwards: what the file system has to put into its journal for all of them
    it then puts there once.

    Args:
        folder: Where they go, with the folders that they lie in.
        contents: By path in the folder, where nothing is yet: all of it, in parts that follow one another. Large parts
            are not copied.

    Returns:
        What each file should hold: of the memory, not read back.

    Raises:
        OSError: if one cannot be written, or is not as long on the disk as it was written.
    """
    settled = {}
    names = iter(contents)
    while some := list(islice(names, _AT_ONCE)):
        with ExitStack() as stack:
            handles = {}
            for name in some:
                handles[name] = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                stack.callback(os.close, handles[name])
                settled[name] = _write(handles[name], contents[name])
            for name, handle in handles.items():
                os.fsync(handle)
                if os.fstat(handle).st_size != settled[name].num_bytes:
                    raise OSError(errno.EIO, f"the disk does not hold what was written: {folder / name}")
    return settled


def _write(handle: int, parts: Sequence[bytes | memoryview]) -> Settled:
    digest, num_bytes = hashlib.sha256(), 0
    left = list(_joined(parts))
    for part in left:
        digest.update(part)
        num_bytes += len(part)
    while left:
        taken = os.writev(handle, left[:_PARTS_AT_ONCE])
        while left and taken >= len(left[0]):
            taken -= len(left.pop(0))
        if taken:
            left[0] = left[0][taken:]
    return Settled(num_bytes, digest.hexdigest())


def _joined(parts: Sequence[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in fewer parts: small ones that follow one another become one, up to a bound."""
    small: list[bytes | memoryview] = []
    for part in parts:
        if sum(map(len, small)) + len(part) <= _SMALL:
            small.append(part)
            continue
        if any(map(len, small)):
            yield memoryview(b"".join(small))
        small = []
        if len(part) <= _SMALL:
            small.append(part)
        else:
            yield memoryview(part)
    if any(map(len, small)):
        yield memoryview(b"".join(small))
