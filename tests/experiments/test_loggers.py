import errno
import os

from trials import lines_of, trial_in

from experiments.tuning import loggers
from experiments.tuning.loggers import RecordLogger


def test_records_are_written_where_they_stay_each_iteration_once(tmp_path):
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    for number, value in [(1, 0.0), (2, 0.0), (3, 0.0), (2, 1.0), (3, 1.0)]:  # after 3 it was restarted from 1
        logger.log_trial_result(0, trial, {"training_iteration": number, "value": value, "config": {"a": 1}})
    assert [(r["training_iteration"], r["value"]) for r in lines_of(tmp_path / "run")] == [(1, 0), (2, 1), (3, 1)]
    rows = (tmp_path / "run" / "trial_0" / "progress.csv").read_text().splitlines()
    assert rows == ["training_iteration,value", "1,0.0", "2,1.0", "3,1.0"]


def test_records_of_steps_that_are_left_behind_go(tmp_path):
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    for number in (1, 2, 3):
        logger.log_trial_result(0, trial, {"training_iteration": number})
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 2})
    assert [r["training_iteration"] for r in lines_of(tmp_path / "run")] == [1, 2]


def test_records_are_on_the_disk_before_the_checkpoint_that_they_belong_to(tmp_path, monkeypatch):
    settled = []
    monkeypatch.setattr(loggers.os, "fsync", lambda number: settled.append(os.readlink(f"/proc/self/fd/{number}")))
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    logger.log_trial_result(0, trial, {"training_iteration": 1})
    assert settled == []
    logger.log_trial_result(0, trial, {"training_iteration": 2, "should_checkpoint": True})
    assert settled == [str(tmp_path / "run" / "trial_0" / name) for name in ("result.json", "progress.csv")]


def test_records_go_on_under_their_old_columns(tmp_path):
    trial = trial_in(tmp_path / "run")
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 1, "value": 0.5})
    RecordLogger().log_trial_result(0, trial, {"other": 7, "value": 1.5, "training_iteration": 2})
    rows = (tmp_path / "run" / "trial_0" / "progress.csv").read_text().splitlines()
    assert rows == ["training_iteration,value", "1,0.5", "2,1.5"]


def test_records_that_a_full_disk_refused_follow_when_there_is_room(tmp_path, monkeypatch, capsys):
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    logger.log_trial_result(0, trial, {"training_iteration": 1})

    def full(path, text, **_):
        with path.open("a") as file:
            file.write(text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loggers, "_append", full)
        for number in (2, 3):
            logger.log_trial_result(0, trial, {"training_iteration": number})
    assert capsys.readouterr().err.count("No space left on device") == 2
    logger.log_trial_result(0, trial, {"training_iteration": 4})
    assert [r["training_iteration"] for r in lines_of(tmp_path / "run")] == [1, 2, 3, 4]


def test_iteration_that_trained_nothing_is_not_recorded(tmp_path):
    trial = trial_in(tmp_path / "run")
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 1})
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 2, "is_repeated": True})
    assert len(lines_of(tmp_path / "run")) == 1
