"""Errors that a person caused and a person can mend, each one clear line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_MOST_TOLD, _MOST_SHOWN = 600, 80


class _OneLineError(ValueError):
    """An error whose message is one line, whatever names and words of the user's stand in it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_printable(str(message)))


class InputError(_OneLineError):
    """Bad input from the user: a file, a table, a setting, a name.

    The message is one clear line that names the file, row, column or setting and says what to do. Command-line verbs
    print it without a traceback and exit with code 2; every other exception is a fault of the program.
    """


class FaultsError(InputError):
    """Several mistakes of the user's, each a line of the message, as in a file with many faults."""

    def __init__(self, message: object = "") -> None:
        ValueError.__init__(self, "\n".join(map(_printable, str(message).split("\n"))))


class IncompatibleError(_OneLineError):
    """A checkpoint, environment or setting does not fit the algorithm; the message says what differs and what to do."""


def _printable(text: str) -> str:
    """A text in which what cannot be seen, as a line break of a name, is written as in code; tabs become spaces."""
    return "".join(c if c.isprintable() else " " if c == "\t" else repr(c)[1:-1] for c in text)


def told(error: BaseException) -> str:
    """What any error says, in one line of bearable length: its kind first, unless it was written for a person."""
    said = " ".join(str(error).split())
    said = said if len(said) <= _MOST_TOLD else f"{said[:_MOST_TOLD]}..."
    if isinstance(error, (InputError, IncompatibleError)):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def shown(value: Any) -> str:
    """What somebody gave, as code, in one line of bearable length."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, as the end of an error message.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        ``" (did you mean 'close'?)"`` where a known name is near, ignoring case, else an empty string.
    """
    by_lower = {item.lower(): item for item in known}
    word = name.lower()
    alike = [  # not floor for foo, but 5min for 5m
        item
        for item in by_lower
        if abs(len(item) - len(word)) <= max(1, len(word) // 3) or (word and item.startswith(word))
    ]
    found = difflib.get_close_matches(word, alike, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[found[0]]!r}?)" if found else ""
