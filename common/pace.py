"""How long a long pass will take, how far it is, and how much time is left, said now and then."""

from __future__ import annotations

import math
import time

TELL_EVERY_S = 10.0
"""Seconds between two words; a pass that ends sooner is not spoken of."""
FORETELL_AFTER_S = 2.0
"""Seconds after which it is said how long a pass will take; its first steps are slower than the others."""


class Pace:
    """The pace of one pass through many bars, or episodes.

    Args:
        what: Name of the pass.
        total: Bars in it.
        unit: What ``total`` counts.
    """

    def __init__(self, what: str, total: int, unit: str = "bars") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._begun = self._told = time.monotonic()
        self._is_foretold = False

    def left_s(self, done: int) -> float:
        """Seconds that the rest will take at the pace so far; infinite before the first is done."""
        return (time.monotonic() - self._begun) / done * (self._total - done) if done else math.inf

    def left_words(self, done: int) -> str:
        """The same in words, for one who knows that something is done: ``about 3 min left``."""
        return f"about {_in_words(self.left_s(done))} left"

    def words(self, done: int) -> str | None:
        """How long the pass will take, once, or how far it is after ``done`` bars, where it is time to say so."""
        now = time.monotonic()
        if done < 1:
            return None
        if not self._is_foretold and now - self._begun >= FORETELL_AFTER_S:
            self._is_foretold = True
            if self.left_s(done) >= TELL_EVERY_S:
                self._told = now
                return f"{self._what}: {self._total:,} {self._unit}, about {_in_words(self.left_s(done))}"
        if now - self._told < TELL_EVERY_S:
            return None
        self._told = now
        return f"{self._what}: {done:,} of {self._total:,} {self._unit}, {self.left_words(done)}"


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
