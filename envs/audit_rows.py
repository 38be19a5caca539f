"""What an audit says: a row for each property of a floor, with what was tried and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from envs.identities import Array

EQUAL = ("numbers compared", "equal to the last bit", "largest difference {worst:.1e}")
"""Looked at; found where it held; found where it did not: for checks that two numbers are equal."""
WORDS = {
    "orders fill at prices not seen when deciding": (
        "fill prices",
        "every one moved with the future",
        "some of them known when deciding",
    ),
    "the perturbation is visible one bar later": (
        "perturbed bars",
        "every one seen a bar later",
        "some of them not seen a bar later",
    ),
    "impact never favours the side that causes it": (
        "prices after impact",
        "none better than before it (beyond rounding)",
        "some better by up to ${worst:,.2f} of a bar's orders",
    ),
    "nothing is bought on credit without leverage": ("cash balances", "none below zero", "as low as $-{worst:,.2f}"),
    "cash is never negative where nobody can owe": ("cash balances", "none below zero", "as low as $-{worst:,.2f}"),
    "the market takes no more than it trades, and nothing where it is closed": (
        "flows",
        "none above it",
        "some above it by a factor of up to {worst:.1e}",
    ),
    "closing all positions brings no more than their marks": (
        "accounts",
        "none brings more",
        "some bring up to ${worst:,.2f} more",
    ),
    "no path of trades earns at prices that stand still": (
        "paths",
        "none earned",
        "some earned up to {worst:.1e} of their capital",
    ),
    "nothing is short where shorts are not allowed": ("holdings", "none below zero", "as low as -{worst:g} shares"),
}
"""The same for the other checks."""


@dataclass
class AuditRow:
    """One property and how it fared.

    Attributes:
        check: The property, in words.
        tried: Numbers compared.
        worst: Largest error found; 0 means equal to the last bit.
        passed: Whether every comparison held.
        first_failure: Where it first failed, or empty.
    """

    check: str
    tried: int = 0
    worst: float = 0.0
    passed: bool = True
    first_failure: str = ""

    def compare(self, error: Tensor | Array, tolerance: float, where: Callable[[], str]) -> None:
        """Take in the errors of one comparison; NaN is a failure."""
        errors = np.asarray(error, dtype=np.float64)
        if errors.size == 0:
            return
        self.tried += errors.size
        worst = float(np.max(np.abs(errors)))
        if not worst <= tolerance:
            self.first_failure = self.first_failure or where()
            self.passed = False
        self.worst = max(self.worst, worst) if np.isfinite(worst) else float("inf")

    def says(self) -> str:
        """What was looked at, and what was found, in words that are true of the check."""
        if not self.tried:
            return "never tried"
        looked, held, failed = WORDS.get(self.check, EQUAL)
        if self.check not in WORDS and self.worst > 0:
            held = failed
        found = f"{self.tried:,} {looked}, {(held if self.passed else failed).format(worst=self.worst)}"
        return f"{found}; first at {self.first_failure}" if self.first_failure else found


@dataclass
class AuditResult:
    """What an audit found.

    Attributes:
        name: Which audit.
        rows: A row for each property.
    """

    name: str
    rows: list[AuditRow] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every property held and was tried at least once."""
        return all(row.passed and row.tried > 0 for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, for printing or ``--json``."""
        return {"name": self.name, "passed": self.passed, "rows": [dataclasses.asdict(row) for row in self.rows]}
