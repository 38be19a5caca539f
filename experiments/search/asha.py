"""RecordedASHA: Tune's asynchronous successive halving, whose rungs outlive the process (Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from experiments.search.record import Rung, SearchRecord
from experiments.settings.metric_names import CLOCK, SEARCH_SCORE, clock_of

TIME_ATTR = CLOCK


class RecordedASHA(ASHAScheduler):
    """ASHA whose comparisons are written into the search's record before they are acted on.

    Args:
        record: The search's record, with the rungs of earlier processes.
        limits: Tune's ``max_t`` and ``grace_period``, in episodes, and ``reduction_factor``.
    """

    def __init__(self, record: SearchRecord, **limits: int) -> None:
        super().__init__(time_attr=TIME_ATTR, metric=SEARCH_SCORE, mode="max", **limits)
        self._record = record
        for rung in record.rungs:
            self._scores()[rung.milestone][rung.trial_id] = rung.score

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Metric and mode are known already."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Compare, and write what was compared and decided; a trial that was told to stop before is told again."""
        if any(rung.is_stopped and rung.trial_id == trial.trial_id for rung in self._record.rungs):
            return str(TrialScheduler.STOP)
        action = str(super().on_trial_result(tune_controller, trial, result))
        if self._note(trial.trial_id, result, is_stopped=action == TrialScheduler.STOP):
            self._record.try_save()
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let the last score count; the search saves it together with how the trial ended."""
        self._trial_info.pop(trial.trial_id, None)
        self.count_last(trial.trial_id, result)

    def count_last(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Compare others with the last score of a trial that has ended, also where another process ended it."""
        result = {**result, TIME_ATTR: clock_of(result)}  # one of an earlier version does not say it by that name
        is_comparable = result.get(SEARCH_SCORE) is not None
        if is_comparable and not result.get("is_stopped"):
            self._brackets[0].on_result(
                SimpleNamespace(trial_id=trial_id), result[TIME_ATTR], float(result[SEARCH_SCORE])
            )
            self._note(trial_id, result, is_stopped=False)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial that waits and is taken away leaves nothing behind."""
        self._trial_info.pop(trial.trial_id, None)

    def _scores(self) -> dict[float, dict[str, float]]:
        """Scores by trial, by the rung's episodes."""
        return dict(self._brackets[0]._rungs)

    def _note(self, trial_id: str, result: Mapping[str, Any], *, is_stopped: bool) -> bool:
        """Add what Tune has just compared to the record; says whether there was anything."""
        known = {rung.milestone for rung in self._record.rungs if rung.trial_id == trial_id}
        new = [
            Rung(milestone, trial_id, int(result[TIME_ATTR]), float(scores[trial_id]), is_stopped)
            for milestone, scores in self._scores().items()
            if trial_id in scores and milestone not in known
        ]
        self._record.rungs.extend(new)
        return bool(new)
