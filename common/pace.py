"""How far a long pass is, and how much time is left, said now and then."""

from __future__ import annotations

import time

TELL_EVERY_S = 10.0
"""Seconds between two words; a pass that ends sooner is not spoken of."""


class Pace:
    """The pace of one pass through many bars.

    Args:
        what: Name of the pass.
        total: Bars in it.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._begun = self._told = time.monotonic()

    def left_s(self, done: int) -> float:
        """Seconds that the rest will take at the pace so far; ``done`` is at least 1."""
        return (time.monotonic() - self._begun) / done * (self._total - done)

    def words(self, done: int) -> str | None:
        """How far the pass is after ``done`` bars, where it is time to say so."""
        now = time.monotonic()
        if done < 1 or now - self._told < TELL_EVERY_S:
            return None
        self._told = now
        return f"{self._what}: {done:,} of {self._total:,} bars, about {_in_words(self.left_s(done))} left"


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
