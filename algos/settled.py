"""Files written once, through to the disk itself, and what they should hold."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple


class Settled(NamedTuple):
    """What a file should hold that has been brought to the disk."""

    num_bytes: int
    sha256: str


def write_through(path: Path, *parts: bytes | memoryview) -> Settled:
    """Write a new file to the disk itself.

    Args:
        path: Where nothing is yet.
        parts: All of it, in pieces that follow one another; none of them is copied.

    Returns:
        What the file should hold: of the memory, not read back.

    Raises:
        OSError: if it cannot be written.
    """
    digest, num_bytes = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            left = memoryview(part)
            digest.update(left)
            num_bytes += len(left)
            while left:
                left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return Settled(num_bytes, digest.hexdigest())
