"""What fits into the memory of this machine."""

import psutil

from common.errors import InputError


def total_bytes() -> int:
    """All memory of this machine."""
    return int(psutil.virtual_memory().total)


def check_memory(num_bytes: float, what: str) -> None:
    """Refuse what is larger than the machine, before any of it is made.

    Args:
        num_bytes: What it takes, roughly.
        what: What is asked for, and which settings ask for it.

    Raises:
        InputError: saying how much is too much.
    """
    there = total_bytes()
    if num_bytes > there:
        raise InputError(
            f"{what} takes about {num_bytes / 1e9:.3g} GB of memory, and this machine has {there / 1e9:.3g}"
        )
