import json
import math
import pickle
from types import SimpleNamespace

import pytest
from trials import report, trial_in

from experiments.runs.summary import read_summary
from experiments.search.record import SearchRecord, TrialRecord
from experiments.search.summary import SearchMonitor, best_trial, describe_search


@pytest.fixture
def search(tmp_path):
    """A search of five of which three have begun, and what follows it."""
    record = SearchRecord(tmp_path / "search")
    record.trials = [TrialRecord(f"0000{i}", {}, {}) for i in range(3)]
    monitor = SearchMonitor(record, num_trials=5, algo="ppo", seed=4)
    trials = []
    for known in record.trials:
        trial = trial_in(record.folder)
        storage = SimpleNamespace(**vars(trial.storage) | {"trial_fs_path": str(record.folder / known.folder_name)})
        trials.append(SimpleNamespace(**vars(trial) | {"trial_id": known.trial_id, "storage": storage}))
    return record, monitor, trials


def end(record, trial, *, is_failed=False):
    record.end(record.find(trial.trial_id), trial.last_result | {"best_score": 0.0}, is_failed=is_failed)


def shown(record):
    found = read_summary(record.folder)
    return found["search"]["best_trial"], found["episodes"], found["weights_sha256"]


def test_summary_of_a_search_is_written_at_every_checkpoint_and_is_of_the_best_trial_so_far(search, capsys):
    record, monitor, (first, second, _) = search
    report(monitor, first, 1, sharpe=0.5, is_best=True)
    assert shown(record) == ("00000", 10, "hash 1")
    report(monitor, first, 2, sharpe=0.25, is_best=False)
    assert shown(record) == ("00000", 20, "hash 2")
    end(record, first)
    report(monitor, second, 3, sharpe=0.4, is_best=True)
    assert shown(record) == ("00000", 20, "hash 2")
    report(monitor, second, 4, sharpe=0.6, is_best=True)
    found = read_summary(record.folder)
    assert found["search"] == {"num_trials": 5, "num_begun": 3, "num_ended": 1, "best_trial": "00001"}
    assert (found["status"], found["algo"], found["seed"]) == ("running", "ppo", 4)
    assert (found["episodes"], found["target_episodes"]) == (40, 30)
    assert (found["env_steps"], found["agent_steps"]) == (400, 1200)
    assert (found["latest_checkpoint"], found["weights_sha256"]) == ("trial_00001/checkpoint_000004", "hash 4")
    assert found["best_checkpoint"] == "trial_00001/best_checkpoint"
    assert found["best_metric"] == {"name": "sharpe", "value": 0.6}
    assert found["metrics"]["sharpe"] == 0.6
    assert capsys.readouterr().out.startswith("[00000]  episodes 10/30")


def test_trial_that_has_failed_is_not_the_best(search):
    record, monitor, (first, second, _) = search
    report(monitor, first, 1, sharpe=2.0, is_best=True)
    report(monitor, second, 1, sharpe=0.5, is_best=True)
    assert shown(record)[0] == "00000"
    end(record, first, is_failed=True)
    report(monitor, second, 2, sharpe=0.25, is_best=False)
    assert shown(record) == ("00001", 20, "hash 2")


def test_damaged_checkpoints_of_a_trial_that_has_ended_do_not_end_the_search(search):
    record, monitor, (first, second, _) = search
    report(monitor, first, 1, sharpe=2.0, is_best=True)
    newest = report(monitor, first, 2, sharpe=0.5, is_best=False)
    end(record, first)
    (newest / "checkpoint_meta.json").write_text("{")
    report(monitor, second, 1, sharpe=0.5, is_best=True)
    assert shown(record) == ("00000", 10, "hash 1")
    (newest.parent / "best_checkpoint" / "checkpoint_meta.json").unlink()
    report(monitor, second, 2, sharpe=0.5, is_best=False)
    assert shown(record) == ("00001", 20, "hash 2")


def test_first_of_equal_trials_is_the_best(search):
    record, monitor, trials = search
    for trial in reversed(trials):
        report(monitor, trial, 1, sharpe=0.5, is_best=True)
    assert best_trial(record).trial_id == "00000"


def test_search_without_a_best_trial_names_the_checkpoint_that_there_is(search):
    record, monitor, (_, second, _) = search
    assert describe_search(record, num_trials=5)["search"]["num_ended"] == 0
    assert "latest_checkpoint" not in describe_search(record, num_trials=5)
    report(monitor, second, 1, sharpe=math.nan, is_best=False)
    found = read_summary(record.folder)
    assert (found["search"]["best_trial"], found["best_checkpoint"], found["best_metric"]) == (None, None, None)
    assert found["latest_checkpoint"] == "trial_00001/checkpoint_000001"


def test_search_that_is_carried_on_says_the_same_of_a_trial_that_has_not_reported_yet(search):
    record, monitor, (first, second, _) = search
    report(monitor, first, 1, sharpe=0.5, is_best=True)
    reported = {name: value for name, value in first.last_result.items() if name != "episode_return"}
    line = json.dumps(reported | {"training_iteration": 1})
    (record.folder / "trial_00000" / "result.json").write_text(line + "\n")
    before = read_summary(record.folder)
    monitor = pickle.loads(pickle.dumps(monitor))
    report(monitor, second, 1, sharpe=0.25, is_best=True)
    after = read_summary(record.folder)
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
