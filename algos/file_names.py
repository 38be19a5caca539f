"""Names of files and folders for agents, whatever an environment calls them: ``a/b``, ``..``, ``CON``, ``ü``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import count

from common.errors import IncompatibleError

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
        is_free = name.casefold() not in used and not name.casefold().endswith(tuple(endings) or ("\0",))
        if is_plain(name) and is_free:
            stems[name] = name
            used.add(name.casefold())
    for number, name in enumerate(names, start=1):
        if name not in stems:
            stems[name] = next(s for i in count() if (s := _numbered(number, i)).casefold() not in used)
            used.add(stems[name].casefold())
    return {name: stems[name] for name in names}


def is_plain(name: object) -> bool:
    """Whether every disk takes a name for a file or folder as it is."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and _DEVICE.fullmatch(name) is None


def checked_stems(found: object, *, source: object) -> dict[str, str]:
    """File names by name, as they were read from an export.

    Raises:
        IncompatibleError: if one is no plain name, or two are the same.
    """
    if not isinstance(found, dict) or not all(map(is_plain, found.values())):
        raise IncompatibleError(f"{source} gives agents file names that are none: export it again")
    if len({str(stem).casefold() for stem in found.values()}) < len(found):
        raise IncompatibleError(f"{source} gives two agents one file name: export it again")
    return found


def _numbered(number: int, again: int) -> str:
    return f"agent-{number}" if not again else f"agent-{number}-{again + 1}"
