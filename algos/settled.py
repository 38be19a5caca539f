"""Files written once, through to the disk itself, and what they should hold."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple


class Settled(NamedTuple):
    """What a file should hold that has been brought to the disk."""

    num_bytes: int
    sha256: str


def write_through(path: Path, content: bytes) -> Settled:
    """Write a new file to the disk itself.

    Args:
        path: Where nothing is yet.
        content: All of it.

    Returns:
        What the file should hold: of the memory, not read back.

    Raises:
        OSError: if it cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return Settled(len(content), hashlib.sha256(content).hexdigest())
