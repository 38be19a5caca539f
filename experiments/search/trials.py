"""RecordedSearch: hands Tune the trials of a search, those of earlier processes first, each exactly once."""

from __future__ import annotations

import copy
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search.search_algorithm import SearchAlgorithm

from experiments.recovery.signals import STOP_FILE
from experiments.runs.repair import tidy
from experiments.runs.summary import why_unsaved
from experiments.search.reconcile import last_result
from experiments.search.record import FAIL, SearchRecord, TrialRecord
from experiments.search.study import Study
from experiments.settings.metric_names import clock_of
from experiments.settings.run_config import SearchConfig
from experiments.tuning.ray_internals import trial_from_spec


class RecordedSearch(SearchAlgorithm):
    """A search algorithm whose state is the search's record, so that Tune is always started anew.

    A trial is written into the record before Tune hears of it. One that has ended is handed over as such and not run
    again; one that has not is handed over with its id and settings, and its trainable carries on from its own newest
    checkpoint.

    Args:
        record: The search's record, reconciled with the run folder.
        study: Draws settings; in line with the record.
        search: How many trials there are, and how many may be under way; those of a population all exist from the
            start, and wait to be chosen by the scheduler.
    """

    def __init__(self, record: SearchRecord, study: Study, search: SearchConfig) -> None:
        self._record, self._study, self._search = record, study, search
        self._is_population = search.scheduler == "pbt"
        self._experiment: Any = None
        self._handed: set[str] = set()
        self._live: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Travel as a search that is over: whoever restores Tune's own files gets the trials that Tune knows."""
        return {**self.__dict__, "_finished": True, "_experiment": None}

    @property
    def total_samples(self) -> int:
        """Trials of the whole search."""
        return max(self._search.num_trials, len(self._record.trials))

    def add_configurations(self, experiments: Any) -> None:
        """Keep what all trials share."""
        self._experiment = experiments[0] if isinstance(experiments, list) else experiments

    def is_finished(self) -> bool:
        """Whether no more trials are to come; after a signal none are."""
        return self._finished or len(self._handed) >= self.total_samples or self._is_asked_to_stop()

    def next_trial(self) -> Any:
        """Give the next trial, if one may start now.

        Raises:
            WriteError: if a new one cannot be written into the record; it has not begun then.
        """
        if self.is_finished():
            return None
        known = next((t for t in self._record.trials if t.trial_id not in self._handed), None)
        if known is not None and known.has_ended:
            return self._hand_over(known)
        if len(self._live) >= self._search.max_concurrent and not self._is_population:
            return None
        if known is None:
            drawn = self._study.draw(self._record)
            known = TrialRecord(self._record.next_id(), drawn, dict(drawn))
            self._record.trials.append(known)
            self._record.save()
            self._study.try_sync(self._record)
        else:
            tidy(self._record.folder / known.folder_name)
        self._live.add(known.trial_id)
        return self._hand_over(known)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a trial ended: in the record first, then in the study.

        One that a signal has stopped, or whose last checkpoint could not be saved, has not ended: the same command
        carries it on.
        """
        self._live.discard(trial_id)
        trial = self._record.find(trial_id)
        if trial is None or trial.has_ended or (result is None and not error):
            return
        folder = self._record.folder / trial.folder_name
        if not error and result is not None and "fatal" not in result:
            is_due = bool(result.get("should_checkpoint"))
            if result.get("is_stopped") or (is_due and why_unsaved(folder, clock_of(result)) is not None):
                return
        self._record.end(trial, result or last_result(folder), is_failed=error)
        self._record.try_save()
        self._study.try_sync(self._record)

    def _is_asked_to_stop(self) -> bool:
        return (self._record.folder / STOP_FILE).exists()

    def _hand_over(self, known: TrialRecord) -> Any:
        self._handed.add(known.trial_id)
        spec = copy.deepcopy(self._experiment.spec)
        spec["config"] = {**spec["config"], "overrides": dict(known.overrides)}
        trial = trial_from_spec(
            spec,
            evaluated_params=dict(known.overrides),
            experiment_tag=known.trial_id,
            trial_id=known.trial_id,
        )
        trial.init_local_path()  # else it has no folder before it runs, and Tune's results ask for one
        if known.has_ended:
            trial.update_last_result({**(known.result or {}), "config": {"overrides": dict(known.overrides)}})
            trial.set_status(Trial.ERROR if known.state == FAIL else Trial.TERMINATED)
        elif self._is_population:
            trial.set_status(Trial.PAUSED)
        return trial
