"""SearchRecord: what a search has drawn, decided and reached, in one file that is always whole.

Tune's own files follow what happens at a distance, are not written atomically and leave the scheduler out. This one is
written before a trial is handed to Tune and at every change after that, so a search is carried on from it alone; Tune's
files and the Optuna study are views of it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from common.errors import InputError
from common.files import WriteError, read_json, write_json
from common.paths import checked_name
from common.provenance import utc_now
from experiments.recovery.checkpoints import rename_aside
from experiments.recovery.names import SEARCH_FILE
from experiments.settings.metric_names import clock_of

T = TypeVar("T")
FORMAT = 1
RUNNING, COMPLETE, PRUNED, FAIL = "RUNNING", "COMPLETE", "PRUNED", "FAIL"
"""States of a trial, by Optuna's names. RUNNING is whatever has not ended, whether a process works on it or not."""
_STATES = (RUNNING, COMPLETE, PRUNED, FAIL)
_DAMAGES = (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a damaged record can raise."""
_NOTHING_ELSE = ConfigDict(extra="forbid")
_NON_FINITE = ("nan", "inf", "-inf")


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        trial_id: Tune's; the trial's folder is named after it.
        drawn: Settings that were drawn for it, by dotted name; these never change.
        overrides: Settings that it trains with now; population-based training changes them.
        state: ``RUNNING``, ``COMPLETE``, ``PRUNED`` (stopped early) or ``FAIL``.
        result: Plain figures of the last result, once it has ended; None where it never reported any.
        started: When it was drawn, UTC.
        ended: When it ended, UTC.
    """

    __pydantic_config__ = _NOTHING_ELSE

    trial_id: str
    drawn: dict[str, Any]
    overrides: dict[str, Any]
    state: str = RUNNING
    result: dict[str, Any] | None = None
    started: str = field(default_factory=utc_now)
    ended: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.state != RUNNING

    @property
    def folder_name(self) -> str:
        """Name of its folder in the run folder."""
        return f"trial_{self.trial_id}"


@dataclass
class Rung:
    """A score that the early stopper compares others with.

    Attributes:
        milestone: Episodes of the rung.
        trial_id: Whose score.
        episodes: Episodes at which it was reported, at least ``milestone``.
        score: What was compared, higher is better.
        is_stopped: Whether the trial was told to stop.
    """

    __pydantic_config__ = _NOTHING_ELSE

    milestone: float
    trial_id: str
    episodes: int
    score: float
    is_stopped: bool


@dataclass
class Exploit:
    """A member of a population that goes on from a better one.

    Attributes:
        episodes: Episodes at which the population was compared.
        trial_id: The member.
        score: Its score then.
        source: The better member's trial id.
        source_score: That one's score.
        source_checkpoint: Name of that one's checkpoint.
        checkpoint: Name that the copy has among the member's own checkpoints.
        overrides: Settings that the member goes on with.
    """

    __pydantic_config__ = _NOTHING_ELSE

    episodes: int
    trial_id: str
    score: float
    source: str
    source_score: float
    source_checkpoint: str
    checkpoint: str
    overrides: dict[str, Any]


class SearchRecord:
    """What is known of a search.

    Args:
        folder: The run folder.

    Attributes:
        drawn_names: Dotted names of the settings that are drawn; empty before the search has begun.
        trials: In the order in which they were drawn; a trial's place is its number in the study.
        rungs: The early stopper's comparisons, in order.
        boundary: Episodes at which a population was last compared; 0 before the first time.
        exploits: What followed from comparing it, in order.
        num_pending: How many of the last exploits still wait for their copy of a checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn_names: list[str] = []
        self.trials: list[TrialRecord] = []
        self.rungs: list[Rung] = []
        self.boundary = 0
        self.exploits: list[Exploit] = []
        self.num_pending = 0

    @classmethod
    def read(cls, folder: Path) -> SearchRecord:
        """Read a run folder's record; a damaged one is set aside, which is told, and an empty one returned."""
        record, path = cls(folder), folder / SEARCH_FILE
        if not path.is_file():
            return record
        try:
            record._fill(read_json(path))
        except _DAMAGES as error:
            aside = rename_aside(path)
            print(f"{path.name} is damaged ({type(error).__name__}): set aside as {aside.name}")
            return cls(folder)
        return record

    def _fill(self, content: Mapping[str, Any]) -> None:
        if content["format"] != FORMAT:
            raise InputError(f"{SEARCH_FILE} has format {content['format']!r}, but this version reads format {FORMAT}")
        self.drawn_names = [str(name) for name in content["drawn_names"]]
        self.trials = _entries(TrialRecord, content["trials"])
        self.rungs = _entries(Rung, content["rungs"])
        self.boundary = int(content["population"]["boundary"])
        self.exploits = _entries(Exploit, content["population"]["exploits"])
        self.num_pending = int(content["population"]["num_pending"])

    def save(self) -> None:
        """Write the record whole.

        Raises:
            WriteError: if it cannot be written; what was there stays.
        """
        write_json(
            self.folder / SEARCH_FILE,
            {
                "format": FORMAT,
                "drawn_names": self.drawn_names,
                "trials": [_encode(asdict(trial)) for trial in self.trials],
                "rungs": [_encode(asdict(rung)) for rung in self.rungs],
                "population": {
                    "boundary": self.boundary,
                    "exploits": [_encode(asdict(exploit)) for exploit in self.exploits],
                    "num_pending": self.num_pending,
                },
            },
        )

    def try_save(self) -> None:
        """Write the record where training can go on without: the next change writes this one too."""
        try:
            self.save()
        except WriteError as error:
            print(f"{error}; the search goes on", file=sys.stderr, flush=True)

    def rename(self, name_of_today: Callable[[str], str]) -> None:
        """Call what was drawn by the names that settings have now; not saved yet.

        Args:
            name_of_today: From a dotted name as it was recorded.
        """

        def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
            return {name_of_today(name): value for name, value in settings.items()}

        self.drawn_names = [name_of_today(name) for name in self.drawn_names]
        for trial in self.trials:
            trial.drawn, trial.overrides = renamed(trial.drawn), renamed(trial.overrides)
        for exploit in self.exploits:
            exploit.overrides = renamed(exploit.overrides)

    def find(self, trial_id: str) -> TrialRecord | None:
        """The trial of that id."""
        return next((trial for trial in self.trials if trial.trial_id == trial_id), None)

    def number(self, trial_id: str) -> int:
        """A trial's place in the order of draws."""
        return [trial.trial_id for trial in self.trials].index(trial_id)

    def next_id(self) -> str:
        """An id that no trial has; a search that is repeated gives the same ids."""
        taken = {trial.trial_id for trial in self.trials}
        number = len(self.trials)
        while f"{number:05d}" in taken:
            number += 1
        return f"{number:05d}"

    def end(self, trial: TrialRecord, result: Mapping[str, Any] | None, *, is_failed: bool = False) -> None:
        """Note how a trial ended, by its last result or by an error; not saved yet."""
        trial.result = plain_figures(result) if result else None
        figures = trial.result or {}
        if is_failed or "fatal" in figures or not figures:
            trial.state = FAIL
        else:
            trial.state = COMPLETE if clock_of(figures) >= figures["target_episodes"] else PRUNED
        trial.ended = utc_now()


def plain_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level numbers and words of a result, which is all that is asked of a trial that has ended."""
    return {
        str(name): value.item() if isinstance(value, np.generic) else value
        for name, value in result.items()
        if "/" not in str(name) and isinstance(value, (bool, int, float, str, type(None), np.generic))
    }


def _entries(kind: type[T], entries: Any) -> list[T]:
    """Read what a record lists; ids and names of checkpoints become folders, so each must be the name of one.

    Raises:
        ValueError: if something is missing, is of another type, or has another name than a folder can have.
    """
    found = [TypeAdapter(kind).validate_python(_decode(entry)) for entry in entries]
    for entry in found:
        for name in ("trial_id", "source", "source_checkpoint", "checkpoint"):
            if "/" in checked_name(getattr(entry, name, "x"), source=SEARCH_FILE):
                raise InputError(f"{SEARCH_FILE} names {getattr(entry, name)}, which is no folder's own name")
        if getattr(entry, "state", RUNNING) not in _STATES:
            raise InputError(f"{SEARCH_FILE} names a state that there is not")
    return found


def _encode(value: Any) -> Any:
    """JSON has no words for numbers that are not finite; here they must come back as what they were."""
    if isinstance(value, dict):
        return {name: _encode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return float(value) if value in _NON_FINITE else value
