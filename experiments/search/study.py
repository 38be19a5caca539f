"""Study: the Optuna study of a search, from which settings are drawn; a view of the search's record.

The record is the truth. A row that a kill has left behind, or a file that is damaged, is mended by writing the study
anew from it. What is drawn depends on the seed, the trial's number and the trials before it, and not on when the
process was started: a search that was killed draws what an unbroken one would have.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch
from sqlalchemy.exc import SQLAlchemyError

from common.counted import counted_seed
from common.disk import to_disk
from common.files import WriteError
from common.store import first_line
from experiments.recovery.checkpoints import rename_aside
from experiments.search.record import COMPLETE, FAIL, PRUNED, RUNNING, SearchRecord, TrialRecord
from experiments.settings.metric_names import BEST_SCORE, SEARCH_SCORE, clock_of

STUDY_FILE = "optuna.db"
MIN_STARTUP_TRIALS = 4
_JOURNALS = ("-journal", "-wal", "-shm")
_STAGED = ".optuna.new.db"


class Study:
    """The study in a run folder.

    Args:
        folder: The run folder; the study has its name.
        space: What is drawn, as Tune's domains by dotted name.
        seed: The run's seed.
        num_trials: Trials of the whole search; the first quarter is drawn at random.
    """

    def __init__(self, folder: Path, space: Mapping[str, Any], *, seed: int, num_trials: int) -> None:
        self.path, self.name, self.seed = folder / STUDY_FILE, folder.name, seed
        self._distributions = OptunaSearch.convert_search_space(dict(space))
        self._num_startup = max(MIN_STARTUP_TRIALS, num_trials // 4)
        optuna.logging.set_verbosity(optuna.logging.ERROR)

    def draw(self, record: SearchRecord) -> dict[str, Any]:
        """Draw the settings of the next trial, by dotted name; from the record, whatever the file now holds."""
        seed = counted_seed(self.seed, len(record.trials)) % 2**32
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._num_startup)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.add_trials([self._row(trial) for trial in record.trials])
        drawn = study.ask(fixed_distributions=self._distributions).params
        return {name: drawn[name] for name in self._distributions}

    def sync(self, record: SearchRecord) -> None:
        """Make the study say what the record says; where it does already, nothing is written.

        What is new is entered where it stands. A study that says something else, as of a trial that never began, is
        written anew; a damaged one is set aside.

        Raises:
            WriteError: if it cannot be written.
        """
        wanted = [self._row(trial) for trial in record.trials]
        with self._writing():
            if not (self.path.is_file() and self._follow(wanted)):
                self._write(wanted)

    def try_sync(self, record: SearchRecord) -> None:
        """Do so where the search can go on without: nothing is drawn from the file, and the next change enters all."""
        try:
            self.sync(record)
        except WriteError as error:
            print(f"{error}; the search goes on", file=sys.stderr, flush=True)

    def _follow(self, wanted: list[FrozenTrial]) -> bool:
        """Enter trials that have begun or ended; False where the study has to be written anew instead."""
        try:
            study = optuna.load_study(study_name=self.name, storage=_storage(self.path))
            found = study.get_trials(deepcopy=False)
        except KeyError:  # of a folder that had another name
            return False
        except Exception as error:  # a damaged database can raise anything
            if "database is locked" in str(error):  # by a program that looks at it
                raise
            aside = rename_aside(self.path)
            print(f"{self.path.name} is damaged ({type(error).__name__}): set aside as {aside.name}, written anew")
            return False
        try:
            if len(found) > len(wanted) or not all(map(_may_become, found, wanted)):
                return False
            for was, row in zip(found, wanted, strict=False):
                if _facts(was) != _facts(row):
                    for step, value in row.intermediate_values.items():
                        study._storage.set_trial_intermediate_value(was._trial_id, step, value)
                    study.tell(was.number, row.values if row.state == TrialState.COMPLETE else None, state=row.state)
            study.add_trials(wanted[len(found) :])
            return True
        finally:
            _dispose(study)

    def _write(self, rows: list[FrozenTrial]) -> None:
        staged = self.path.with_name(_STAGED)
        for name in (staged.name, *(f"{file}{end}" for file in (staged.name, self.path.name) for end in _JOURNALS)):
            self.path.with_name(name).unlink(missing_ok=True)  # SQLite would replay an old journal on the new file
        study = optuna.create_study(storage=_storage(staged), study_name=self.name, direction="maximize")
        study.add_trials(rows)
        _dispose(study)
        to_disk(staged)
        os.replace(staged, self.path)
        to_disk(self.path.parent)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say in one line that the study cannot be written, whichever layer says so."""
        try:
            yield
        except (OSError, SQLAlchemyError, StorageInternalError) as error:
            raise WriteError(errno.EIO, f"cannot write {self.path}: {_reason(error)}") from error

    def _row(self, trial: TrialRecord) -> FrozenTrial:
        """The row that a trial should have.

        A trial that was stopped early is PRUNED, with its score at its last episode; one without a score is FAIL,
        since Optuna takes no number for it.
        """
        figures = trial.result or {}
        value = figures.get(SEARCH_SCORE) if figures.get(BEST_SCORE) is None else figures[BEST_SCORE]
        is_usable = isinstance(value, (int, float)) and not math.isnan(value)
        state = trial.state if trial.state in (RUNNING, FAIL) or is_usable else FAIL
        is_pruned = state == PRUNED
        row = optuna.trial.create_trial(
            state=TrialState[state],
            params=trial.drawn,
            distributions={name: self._distributions[name] for name in trial.drawn},
            value=value if state in (COMPLETE, PRUNED) else None,
            intermediate_values={clock_of(figures): float(value)} if is_pruned and value is not None else None,
        )
        row.datetime_start = _local_time(trial.started)
        row.datetime_complete = _local_time(trial.ended) if trial.ended else None
        return row


def _reason(error: BaseException) -> str:
    """What SQLite or the disk has answered; what is raised of it says other things."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{path}")


def _dispose(study: optuna.Study) -> None:
    storage: Any = study._storage
    storage.remove_session()
    getattr(storage, "_backend", storage).engine.dispose()


def _facts(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.state, trial.params, trial.values, trial.intermediate_values


def _may_become(found: FrozenTrial, wanted: FrozenTrial) -> bool:
    """Whether a row of the study is the one that is wanted, or was before its trial ended."""
    is_under_way = found.state == TrialState.RUNNING and found.params == wanted.params
    return is_under_way or _facts(found) == _facts(wanted)


def _local_time(text: str) -> datetime:
    """Optuna's times are local and carry no zone."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)
