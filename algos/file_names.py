"""Names of files: for agents, whatever an environment calls them (``a/b``, ``..``, ``CON``, ``ü``), and of old ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import count

OLD_STATE_FILE = "algorithm_state.pkl"
"""What only a checkpoint of an earlier version holds."""
_PLAIN = re.compile(r"\w(?:[\w .+=@-]{0,98}[\w+=@-])?", re.ASCII)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""What Windows takes for a device, with any ending."""


def file_stems(names: Iterable[str], *, taken: Collection[str] = (), endings: Collection[str] = ()) -> dict[str, str]:
    """Give each name one that every disk takes for a file, and that no other has there, be it in capitals.

    Args:
        names: Of agents, each once.
        taken: File names that others have.
        endings: What others add to their file names, so that none may end so.

    Returns:
        The file name by name: the name itself where it is plain, else ``agent-`` and a number.
    """
    names = list(names)
    used = {name.casefold() for name in taken}
    stems: dict[str, str] = {}
    for name in names:
        is_free = name.casefold() not in used and not name.casefold().endswith(tuple(endings))
        if _is_plain(name) and is_free:
            stems[name] = name
            used.add(name.casefold())
    for number, name in enumerate(names, start=1):
        if name not in stems:
            stems[name] = next(s for i in count() if (s := _numbered(number, i)).casefold() not in used)
            used.add(stems[name].casefold())
    return {name: stems[name] for name in names}


def _is_plain(name: str) -> bool:
    """Whether every disk takes a name for a file or folder as it is."""
    return _PLAIN.fullmatch(name) is not None and _DEVICE.fullmatch(name) is None


def _numbered(number: int, again: int) -> str:
    return f"agent-{number}" if not again else f"agent-{number}-{again + 1}"
