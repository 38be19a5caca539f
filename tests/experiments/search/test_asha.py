from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler

from experiments.search.asha import RecordedASHA
from experiments.search.record import SearchRecord
from experiments.settings.metric_names import CLOCK, SEARCH_SCORE

LIMITS = {"max_t": 64, "grace_period": 4, "reduction_factor": 2}


def trial(number):
    return SimpleNamespace(trial_id=f"{number:05d}")


def results(number, *, steps=(4, 8, 16, 32)):
    rng = np.random.default_rng(number)
    return [{CLOCK: episodes, SEARCH_SCORE: float(rng.normal())} for episodes in steps]


def play(scheduler, number, given):
    """Hand results to a scheduler until it stops the trial."""
    scheduler.on_trial_add(None, trial(number))
    actions = []
    for result in given:
        actions.append(scheduler.on_trial_result(None, trial(number), result))
        if actions[-1] == "STOP":
            break
    scheduler.on_trial_complete(None, trial(number), result)
    return actions


@pytest.mark.parametrize("steps", [(4, 8, 16, 32), (3, 9, 21, 40, 63), (20, 40, 60)])
def test_decides_as_tune_does_whoever_asks_and_however_often_it_is_restarted(tmp_path, steps):
    tunes = ASHAScheduler(time_attr=CLOCK, metric=SEARCH_SCORE, mode="max", **LIMITS)
    record = SearchRecord(tmp_path)
    for number in range(12):
        ours = RecordedASHA(record, **LIMITS)
        assert play(ours, number, results(number, steps=steps)) == play(tunes, number, results(number, steps=steps))
        record.save()
        record = SearchRecord.read(tmp_path)
    assert any(rung.is_stopped for rung in record.rungs)


def test_comparison_is_on_disk_before_it_is_acted_on(tmp_path):
    record = SearchRecord(tmp_path)
    scheduler = RecordedASHA(record, **LIMITS)
    scheduler.on_trial_add(None, trial(0))
    scheduler.on_trial_result(None, trial(0), {CLOCK: 5, SEARCH_SCORE: 0.5})
    (rung,) = SearchRecord.read(tmp_path).rungs
    assert (rung.milestone, rung.trial_id, rung.episodes, rung.score, rung.is_stopped) == (4, "00000", 5, 0.5, False)


def test_trial_that_was_told_to_stop_is_told_again(tmp_path):
    record = SearchRecord(tmp_path)
    scheduler = RecordedASHA(record, **LIMITS)
    for number, score in ((0, 1.0), (1, -1.0)):
        scheduler.on_trial_add(None, trial(number))
        action = scheduler.on_trial_result(None, trial(number), {CLOCK: 4, SEARCH_SCORE: score})
    assert action == "STOP"
    again = RecordedASHA(SearchRecord.read(tmp_path), **LIMITS)
    for number in (0, 1):
        again.on_trial_add(None, trial(number))
    assert again.on_trial_result(None, trial(1), {CLOCK: 6, SEARCH_SCORE: 9.0}) == "STOP"
    assert again.on_trial_result(None, trial(0), {CLOCK: 6, SEARCH_SCORE: 1.0}) == "CONTINUE"


def test_trial_that_a_signal_ended_is_not_compared(tmp_path):
    record = SearchRecord(tmp_path)
    RecordedASHA(record, **LIMITS).count_last("00000", {CLOCK: 9, SEARCH_SCORE: 0.5, "is_stopped": True})
    RecordedASHA(record, **LIMITS).count_last("00001", {"fatal": "NaN", CLOCK: 9})
    assert record.rungs == []
