import json
import math

import numpy as np
import pytest

from common.files import WriteError
from experiments.recovery.names import SEARCH_FILE
from experiments.search.record import Exploit, Rung, SearchRecord, TrialRecord, plain_figures


@pytest.fixture
def record(tmp_path):
    record = SearchRecord(tmp_path)
    record.drawn_names = ["ppo.lr"]
    for lr in (0.1, 0.2):
        record.trials.append(TrialRecord(record.next_id(), {"ppo.lr": lr}, {"ppo.lr": lr, "x": [-math.inf, lr]}))
    record.end(
        record.trials[0],
        {"episodes": 8, "target_episodes": 8, "best_score": math.inf, "x": math.nan, "xs": [-math.inf, 1]},
    )
    record.rungs.append(Rung(16, "00000", 24, -math.inf, True))
    record.exploits.append(Exploit(24, "00000", -0.5, "00001", 0.5, "checkpoint_000001", "checkpoint_000002", {}))
    record.boundary, record.num_pending = 24, 1
    return record


def test_record_comes_back_as_it_was_saved(record, tmp_path):
    record.save()
    found = SearchRecord.read(tmp_path)
    assert math.isnan(found.trials[0].result.pop("x"))
    assert math.isnan(record.trials[0].result.pop("x"))
    assert vars(found) == vars(record)


def test_record_is_plain_json(record, tmp_path):
    record.save()
    json.loads((tmp_path / SEARCH_FILE).read_text(), parse_constant=pytest.fail)


def test_no_record_is_an_empty_one(tmp_path):
    assert SearchRecord.read(tmp_path).trials == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 9, "trials": []}'])
def test_damaged_record_is_set_aside(tmp_path, capsys, text):
    (tmp_path / SEARCH_FILE).write_text(text)
    assert SearchRecord.read(tmp_path).trials == []
    assert (tmp_path / f"damaged-{SEARCH_FILE}").read_text() == text
    assert capsys.readouterr().out.count("\n") == 1


def test_record_that_cannot_be_written_is_owed(record, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise WriteError(28, "cannot write search.json: No space left on device")

    monkeypatch.setattr("experiments.search.record.write_json", fail)
    record.try_save()
    assert "No space left on device; the search goes on" in capsys.readouterr().err
    with pytest.raises(WriteError):
        record.save()


def test_ids_are_counted_and_never_given_twice(record):
    assert [trial.trial_id for trial in record.trials] == ["00000", "00001"]
    record.trials.append(TrialRecord("00002", {}, {}))
    record.trials.append(TrialRecord("00005", {}, {}))
    assert record.next_id() == "00004"
    record.trials.append(TrialRecord("00004", {}, {}))
    assert record.next_id() == "00006"


@pytest.mark.parametrize(
    ("result", "is_failed", "state"),
    [
        ({"episodes": 8, "target_episodes": 8}, False, "COMPLETE"),
        ({"episodes": 7, "target_episodes": 8}, False, "PRUNED"),
        ({"episodes": 8, "target_episodes": 8, "fatal": "NaN"}, False, "FAIL"),
        ({"episodes": 8, "target_episodes": 8}, True, "FAIL"),
        (None, True, "FAIL"),
    ],
)
def test_how_a_trial_ended(record, result, is_failed, state):
    record.end(record.trials[1], result, is_failed=is_failed)
    assert record.trials[1].state == state


def test_only_figures_of_a_result_are_kept():
    result = {"a": 1, "b": np.float32(0.5), "c": {"d": 1}, "e/f": 2, "g": [1], "h": None, "i": True}
    assert plain_figures(result) == {"a": 1, "b": 0.5, "h": None, "i": True}
