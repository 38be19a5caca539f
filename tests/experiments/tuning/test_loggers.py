import errno
import os
from pathlib import Path

from trials import lines_of, trial_in

from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.tuning import loggers
from experiments.tuning.loggers import RecordLogger


def test_records_are_written_where_they_stay_each_iteration_once(tmp_path):
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    for number, value in [(1, 0.0), (2, 0.0), (3, 0.0), (2, 1.0), (3, 1.0)]:  # after 3 it was restarted from 1
        logger.log_trial_result(0, trial, {"training_iteration": number, "value": value, "config": {"a": 1}})
    assert [(r["training_iteration"], r["value"]) for r in lines_of(tmp_path / "run")] == [(1, 0), (2, 1), (3, 1)]
    rows = (tmp_path / "run" / "trial_0" / "progress.csv").read_text().splitlines()
    assert rows == ["training_iteration,value", "1,0.0", "2,1.0", "3,1.0"]


def test_settings_that_a_full_disk_does_not_take_do_not_end_the_training(tmp_path, capsys):
    trial = trial_in(tmp_path / "run")
    Path(trial.path).mkdir(parents=True, exist_ok=True)
    (Path(trial.path) / "params.json").symlink_to("/dev/full")
    RecordLogger().log_trial_start(trial)
    assert "params.json ([Errno 28] No space left on device); training goes on\n" in capsys.readouterr().err


def test_records_of_steps_that_are_left_behind_go(tmp_path):
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    for number in (1, 2, 3):
        logger.log_trial_result(0, trial, {"training_iteration": number})
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 2})
    assert [r["training_iteration"] for r in lines_of(tmp_path / "run")] == [1, 2]


def test_records_are_on_the_disk_before_the_checkpoint_that_they_belong_to_has_its_name(tmp_path, monkeypatch):
    settled, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: (settled.append(Path(os.readlink(f"/proc/self/fd/{n}"))), real(n)))
    trial, logger = trial_in(tmp_path / "run"), RecordLogger()
    checkpoints = TrialCheckpoints(Path(trial.path))
    checkpoints.publish(lambda folder: None)  # there are no records yet
    for number in (1, 2):
        logger.log_trial_result(0, trial, {"training_iteration": number, "should_checkpoint": True})
    settled.clear()
    found = []

    def rename(*names):
        found[:] = settled
        real_rename(*names)

    real_rename = os.rename
    monkeypatch.setattr(os, "rename", rename)
    checkpoints.publish(lambda folder: None)
    assert {checkpoints.folder / "result.json", checkpoints.folder / "progress.csv"} <= set(found)


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
        patch.setattr(loggers, "append", full)
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
