"""What summary.json holds of a search: its best trial so far, in the words of a run's summary, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.recovery.checkpoints import TrialCheckpoints, read_meta, score_of
from experiments.recovery.names import BEST_FOLDER
from experiments.runs.summary import says_what_it_is, summary_of
from experiments.search.reconcile import last_result
from experiments.search.record import FAIL, SearchRecord, TrialRecord
from experiments.tuning.monitor import RunMonitor


class SearchMonitor(RunMonitor):
    """Follows the trials of a search, and writes the summary at every checkpoint of any of them."""

    is_search = True

    def __init__(self, record: SearchRecord, *, num_trials: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._record, self._num_trials = record, num_trials

    def _summary(self, trial: Any, path: Path, trials: Any, result: Mapping[str, Any]) -> dict[str, Any]:
        results = {known.trial_id: known.last_result for known in trials if known.last_result}
        return describe_search(self._record, num_trials=self._num_trials, results=results)


def describe_search(
    record: SearchRecord, *, num_trials: int, results: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What the summary says of a search: of its best trial what it says of a run, and how many trials there are.

    Args:
        record: The search's record.
        num_trials: Trials of the whole search.
        results: Last results of trials that have not ended, by trial id; those that are missing are read.
    """
    best = best_trial(record)
    counts = {"num_trials": num_trials, "num_begun": len(record.trials)}
    counts["num_ended"] = sum(trial.has_ended for trial in record.trials)
    found: dict[str, Any] = {"search": counts | {"best_trial": None if best is None else best.trial_id}}
    for trial in record.trials if best is None else [best]:  # without a score, the first that has a checkpoint
        folder = record.folder / trial.folder_name
        kept = [folder / BEST_FOLDER, *TrialCheckpoints(folder).published()]
        newest = next((path for path in reversed(kept) if says_what_it_is(read_meta(path))), None)
        if newest is not None:
            result = trial.result or (results or {}).get(trial.trial_id) or last_result(folder) or {}
            return found | summary_of(record.folder, newest, result)
    return found


def best_trial(record: SearchRecord) -> TrialRecord | None:
    """The trial whose best checkpoint reached most, the first of equals; None where none has one and has not failed."""
    scores = [
        (score, trial)
        for trial in record.trials
        if trial.state != FAIL
        and (score := score_of(read_meta(record.folder / trial.folder_name / BEST_FOLDER))) is not None
    ]
    return max(scores, key=lambda item: item[0])[1] if scores else None
