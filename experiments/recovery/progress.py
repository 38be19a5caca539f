"""Progress: what a run's own clock goes on from, as every checkpoint holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from common.errors import InputError
from common.files import plain, read_json
from common.strict import first_fault
from experiments.recovery.names import STATE_FILE


@dataclass(config=ConfigDict(extra="forbid", strict=True))
class Progress:
    """How far a run is, and how well it has done.

    Attributes:
        evaluated_at: Episodes at the last evaluation.
        checkpointed_at: Episodes when a checkpoint was last due, whether or not it was passed over.
        last_metrics: Figures of the last evaluation, by name.
        best: Score of the best checkpoint so far, higher is better; None where there is none.
        recent_return: Mean return of recent training episodes; None where none has ended.
        last_value: What the last evaluation was worth by the metric that the user chose.
        iteration: Iterations done.
        time_total_s: Seconds that they took.
        floor: Settings of the floor that was trained on.
        resume_from: The checkpoint that the user has named to go back to.
        hooks: States of the hooks, by name.
        owes_evaluation: Whether the evaluation that was due was left, because the run was asked to stop.
    """

    evaluated_at: int = 0
    checkpointed_at: int = 0
    last_metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    recent_return: float | None = None
    last_value: float | None = None
    iteration: int = 0
    time_total_s: float = 0.0
    floor: dict[str, Any] | None = None
    resume_from: dict[str, str] | None = None
    hooks: dict[str, Any] = field(default_factory=dict)
    owes_evaluation: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, in which a figure that is no number is null."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Progress:
        """Read what ``to_json`` gave.

        Raises:
            pydantic.ValidationError: if it is something else.
        """
        metrics = state.get("last_metrics")
        if isinstance(metrics, Mapping):
            state = {**state, "last_metrics": {n: math.nan if v is None else v for n, v in metrics.items()}}
        return cls(**state)


def read_progress(checkpoint: Path) -> Progress:
    """Read how far a run was at a checkpoint.

    Raises:
        InputError: if the checkpoint does not say so.
    """
    path = checkpoint / STATE_FILE
    try:
        return Progress.from_json(read_json(path))
    except ValidationError as error:
        raise InputError(f"{path} does not say how far the run was: {first_fault(error)}") from None
    except (AttributeError, TypeError):
        raise InputError(f"{path} does not say how far the run was") from None
