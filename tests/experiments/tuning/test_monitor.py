import errno
import json
import os
import pickle
from types import SimpleNamespace

import pytest
from trials import folder_of, go_on, lines_of, report, trial_in

from common import pace
from common.files import WriteError
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.runs import repair
from experiments.runs.repair import keep_best
from experiments.runs.summary import read_summary
from experiments.tuning import monitor as monitor_module
from experiments.tuning.monitor import RunMonitor


def test_monitor_follows_the_checkpoints_and_keeps_the_best(tmp_path, capsys):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    report(monitor, trial, 2, sharpe=0.5, is_best=False)
    go_on(monitor, trial)
    found = read_summary(folder)
    assert (found["status"], found["algo"], found["seed"]) == ("running", "ppo", 4)
    assert (found["episodes"], found["target_episodes"]) == (20, 30)
    assert (found["env_steps"], found["agent_steps"]) == (200, 600)
    assert (found["latest_checkpoint"], found["weights_sha256"]) == ("trial_0/checkpoint_000002", "hash 2")
    assert (found["best_checkpoint"], found["best_metric"]) == (
        "trial_0/best_checkpoint",
        {"name": "sharpe", "value": 1.5},
    )
    assert found["metrics"]["sharpe"] == 0.5
    assert json.loads((folder / "trial_0/best_checkpoint/checkpoint_meta.json").read_text())["episode"] == 10
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("episodes 10/30  steps 100  validation: profit +10.00%, sharpe +1.50")
    assert shown[0].endswith("saving a checkpoint (best)")
    assert shown[1].endswith("saving a checkpoint")


def test_progress_tells_the_time_that_is_left_the_loss_and_no_more_than_was_done(tmp_path, capsys, monkeypatch):
    now = 100.0
    for module in (monitor_module.time, pace.time):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="qmix", seed=4)
    learners = {"team": {"total_loss": 0.25}, "other": {"total_loss": 0.75}, "__all_modules__": {"num_steps": 3}}
    result = {"total_steps": 100, "target_episodes": 40, "episode_return": float("nan")}
    for done, learned in ((8, {}), (16, {"learners": learners}), (48, {"learners": learners})):
        monitor.on_trial_result(1, [trial], trial, result | learned | {"episodes": done})
        now += 60.0
    assert capsys.readouterr().out.splitlines() == [
        "episodes  8/40  steps 100",
        "episodes 16/40  steps 100  0 steps/s  about 3 min left  loss 0.5",
        "episodes 48/48  steps 100  0 steps/s  loss 0.5",
    ]
    monitor.on_trial_start(2, [trial], trial)  # begun again: the time between is not counted
    now += 3600.0
    for done in (20, 30):
        monitor.on_trial_result(1, [trial], trial, result | {"episodes": done})
        now += 60.0
    assert "about 60 s left" in capsys.readouterr().out.splitlines()[1]


def test_monitor_of_a_moved_folder_writes_where_it_now_is(tmp_path):
    monitor = RunMonitor(algo="ppo", seed=4)
    for name, number in (("old", 1), ("new", 2)):
        trial = trial_in(tmp_path / name)
        report(monitor, trial, number, sharpe=1.5, is_best=number == 1)
        go_on(monitor, trial)
        monitor = pickle.loads(pickle.dumps(monitor))
    assert read_summary(tmp_path / "new")["latest_checkpoint"] == "trial_0/checkpoint_000002"
    assert read_summary(tmp_path / "old")["latest_checkpoint"] == "trial_0/checkpoint_000001"


def test_monitor_keeps_stale_copies_of_our_files_from_being_uploaded(tmp_path):
    trial = trial_in(tmp_path / "run")
    staging = trial.storage.experiment_driver_staging_path
    kept = ("damaged-search.json",)
    for name in ("summary.json", "config.json", "experiment_state.json", *kept):
        (staging / name).write_text("{}")
    RunMonitor(algo="ppo", seed=4).on_step_begin(0, [trial])
    assert [path.name for path in staging.iterdir()] == ["experiment_state.json"]


def test_failures_of_earlier_sessions_do_not_count(tmp_path):
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4)
    trial.run_metadata.num_failures = 3
    monitor.on_step_begin(0, [trial])
    assert trial.run_metadata.num_failures == 0
    trial.run_metadata.num_failures = 1
    monitor.on_step_begin(1, [trial])
    assert trial.run_metadata.num_failures == 1


def test_monitor_brings_records_in_line_with_the_newest_whole_checkpoint(tmp_path):
    trial = trial_in(tmp_path / "run")
    folder = tmp_path / "run" / "trial_0"
    for iteration in (2, 4):

        def write(path, iteration=iteration):
            (path / "checkpoint_meta.json").write_text(json.dumps({"is_best": iteration == 2}))
            (path / "run_state.json").write_text(json.dumps({"iteration": iteration}))

        TrialCheckpoints(folder).publish(write)
    (folder / "checkpoint_000001" / "checkpoint_meta.json").write_text("")
    (folder / "result.json").write_text("".join(f'{{"training_iteration": {i}}}\n' for i in range(1, 7)))
    RunMonitor(algo="ppo", seed=4).on_step_begin(0, [trial])
    assert [r["training_iteration"] for r in lines_of(tmp_path / "run")] == [1, 2]
    assert json.loads((folder / "best_checkpoint" / "checkpoint_meta.json").read_text())["is_best"]
    assert (folder / "damaged-checkpoint_000001").is_dir()


def test_summary_that_a_kill_prevented_is_made_up_for(tmp_path):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    last = trial.last_result
    assert not (folder / "summary.json").exists()

    class TrialOfTune(SimpleNamespace):
        """Tune alone says what a trial's last result is; of a repeated one it has not heard when callbacks do."""

        last_result = property(lambda self: {})

    of_tune = TrialOfTune(storage=trial.storage, trial_id=trial.trial_id)
    RunMonitor(algo="ppo", seed=4).on_trial_result(1, [of_tune], of_tune, {**last, "is_repeated": True})
    assert read_summary(folder)["episodes"] == 10
    assert read_summary(folder)["metrics"]["sharpe"] == 1.5
    assert read_summary(folder)["weights_sha256"] == "hash 1"


def test_monitor_says_why_a_checkpoint_could_not_be_saved(tmp_path, capsys):
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4)
    result = {"episodes": 10, "target_episodes": 30, "total_steps": 100}
    monitor.on_trial_result(1, [trial], trial, {**result, "save_error": "could not save a checkpoint (full)"})
    assert capsys.readouterr().err == "could not save a checkpoint (full); training goes on\n"
    monitor.on_trial_result(2, [trial], trial, result)
    assert capsys.readouterr().err == ""


def test_checkpoint_that_is_still_being_published_is_followed_when_it_is_there(tmp_path):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    late, first = folder / "trial_0" / "checkpoint_000002", trial.last_result
    aside = late.with_name("aside")
    report(monitor, trial, 2, sharpe=2.5, is_best=True, before=lambda: os.rename(late, aside))
    assert read_summary(folder)["latest_checkpoint"] == "trial_0/checkpoint_000001"
    of_second = trial.last_result
    os.rename(aside, late)
    monitor.on_trial_result(3, [trial], trial, {**of_second, "episodes": 99, "agent_steps": 999, "sharpe": 9.0})
    found = read_summary(folder)
    assert (found["latest_checkpoint"], found["episodes"]) == ("trial_0/checkpoint_000002", 20)
    assert (found["agent_steps"], found["best_metric"]["value"]) == (of_second["agent_steps"], 2.5)
    assert first is not of_second


def test_trial_does_not_wait_for_what_is_noted_of_its_checkpoint(tmp_path):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    monitor.on_step_end(1, [trial])
    assert read_summary(folder) == {}, "it may be in the middle of being published"
    monitor.on_trial_result(2, [trial], trial, {**trial.last_result, "should_checkpoint": False})
    assert read_summary(folder) == {}, "Tune asks for the next iteration only when this has returned"
    monitor.on_step_end(2, [trial])
    assert read_summary(folder)["latest_checkpoint"] == "trial_0/checkpoint_000001"
    assert (folder / "trial_0" / "best_checkpoint").is_dir()


@pytest.mark.parametrize("what", ["should_checkpoint", "done"])
def test_checkpoint_is_noted_before_the_next_one_may_take_its_place(tmp_path, what):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    monitor.on_trial_result(2, [trial], trial, {**trial.last_result, "should_checkpoint": False, what: True})
    assert read_summary(folder)["latest_checkpoint"] == "trial_0/checkpoint_000001"
    assert (folder / "trial_0" / "best_checkpoint").is_dir()


@pytest.mark.parametrize("failing", ["copy_folder", "write_summary"])
def test_disk_that_takes_no_note_of_a_checkpoint_does_not_end_training(tmp_path, monkeypatch, capsys, failing):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)

    def full(*_):
        raise WriteError(errno.ENOSPC, "cannot write it: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repair if failing == "copy_folder" else monitor_module, failing, full)
        report(monitor, trial, 1, sharpe=1.5, is_best=True)
        monitor.on_trial_result(2, [trial], trial, trial.last_result)
    told = "could not note checkpoint_000001 (cannot write it: No space left on device); training goes on\n"
    assert capsys.readouterr().err == told, "once"
    monitor.on_trial_result(3, [trial], trial, trial.last_result)
    assert read_summary(folder)["latest_checkpoint"] == "trial_0/checkpoint_000001"
    assert read_summary(folder)["best_metric"]["value"] == 1.5


def test_best_that_could_not_be_copied_is_copied_later_and_stays_until_then(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    checkpoints = TrialCheckpoints(folder / "trial_0")
    report(monitor, trial, 1, sharpe=0.5, is_best=True)
    go_on(monitor, trial)
    with monkeypatch.context() as patch:
        patch.setattr(repair, "copy_folder", refuse)
        report(monitor, trial, 2, sharpe=1.5, is_best=True)
        report(monitor, trial, 3, sharpe=0.7, is_best=False)
        go_on(monitor, trial)
    found = read_summary(folder)
    assert (found["latest_checkpoint"], found["best_metric"]["value"]) == ("trial_0/checkpoint_000003", 0.5)
    checkpoints.prune(1)
    assert [path.name for path in checkpoints.published()] == ["checkpoint_000002", "checkpoint_000003"]
    go_on(monitor, trial)
    assert read_summary(folder)["best_metric"]["value"] == 1.5
    checkpoints.prune(1)
    assert [path.name for path in checkpoints.published()] == ["checkpoint_000003"]


@pytest.mark.parametrize("is_damaged", [True, False])
def test_owed_best_takes_the_place_of_a_whole_one_only_if_it_is_whole(tmp_path, is_damaged):
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4)
    checkpoints = TrialCheckpoints(tmp_path / "run" / "trial_0")
    report(monitor, trial, 1, sharpe=0.5, is_best=True)
    go_on(monitor, trial)
    owed = report(monitor, trial, 2, sharpe=1.5, is_best=True)
    monitor = pickle.loads(pickle.dumps(monitor))  # a new process, which awaits nothing
    newest = report(monitor, trial, 3, sharpe=0.7, is_best=False)
    if is_damaged:
        (owed / "more").write_text("")
    keep_best(newest)
    kept = json.loads((checkpoints.folder / "best_checkpoint" / "checkpoint_meta.json").read_text())
    assert kept["metric_value"] == (0.5 if is_damaged else 1.5)


class FakeMirror:
    """A mirror that notes when it was asked for what."""

    def __init__(self, address, folder):
        self.pushed = []

    def push_checkpoint(self, path):
        self.pushed.append(path.name)

    def push_files(self):
        self.pushed.append("records")


@pytest.mark.parametrize(("is_done", "is_search"), [(False, False), (True, False), (False, True)])
def test_store_is_written_to_by_one_of_the_two_at_a_time(tmp_path, monkeypatch, is_done, is_search):
    monkeypatch.setattr(monitor_module, "Mirror", FakeMirror)
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4, address="s3://b/results/run")
    monitor.is_search = is_search
    report(monitor, trial, 1, sharpe=1.5, is_best=True, before=lambda: trial.last_result.update(done=is_done))
    at_once = read_summary(tmp_path / "run")
    assert bool(at_once) == (is_done or is_search), "else the trainable may be bringing the checkpoint there just now"
    monitor.on_trial_result(2, [trial], trial, {**trial.last_result, "episodes": 20})
    assert read_summary(tmp_path / "run")["latest_checkpoint"] == "trial_0/checkpoint_000001"
    assert monitor._mirror.pushed == ["best_checkpoint", "records"], "once"


@pytest.mark.parametrize("error", [OSError("no answer"), None])
def test_store_that_does_not_answer_is_told_and_asked_again(tmp_path, monkeypatch, capsys, error):
    def push_files(self):
        if error is not None:
            raise error

    monkeypatch.setattr(FakeMirror, "push_files", push_files)
    monkeypatch.setattr(monitor_module, "Mirror", FakeMirror)
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4, address="s3://b/results/run")
    report(monitor, trial, 1, sharpe=1.5, is_best=False, before=lambda: trial.last_result.update(done=True))
    wanted = "not brought to the store (no answer); training goes on\n" if error is not None else ""
    assert capsys.readouterr().err == wanted
    assert read_summary(tmp_path / "run")["episodes"] == 10


def test_validation_is_shown_where_it_is_new(tmp_path, capsys):
    trial, monitor = trial_in(tmp_path / "run"), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    assert "validation: " in capsys.readouterr().out
    monitor.on_trial_result(2, [trial], trial, {**trial.last_result, "is_evaluated": False})
    assert "validation: " not in capsys.readouterr().out


# --- copies of Tune's own files ---------------------------------------------------------------------------------------


def test_first_result_of_a_session_keeps_copies_of_what_tune_has_written(tmp_path):
    folder = folder_of(tmp_path / "run", **{"config.json": "{}"})
    (folder / "tuner.pkl").write_bytes(pickle.dumps({}))  # Tune writes it there itself
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4, plan={"algo": "ppo"})
    shown = {"episodes": 1, "target_episodes": 3, "total_steps": 8}
    monitor.on_trial_result(0, [trial], trial, shown)
    assert not (folder / "tune_copies.zip").exists(), "there is no account yet"
    staging = trial.storage.experiment_driver_staging_path
    (staging / "experiment_state-1.json").write_text(json.dumps({"trial_data": [['{"status": "RUNNING"}', "{}"]]}))
    (staging / "basic-variant-state-1.json").write_bytes(pickle.dumps({}))
    monitor.on_trial_result(0, [trial], trial, shown)
    assert (folder / "tune_copies.zip").is_file()


def test_trainer_that_has_died_is_told_in_one_line_and_whole_in_the_log(tmp_path, capsys):
    reason = """Failure # 1 (occurred at 2026-11-30)
The actor died unexpectedly before finishing this task.
\tclass_name: FloorQMIX
\tactor_id: 4a6cb5b4
\tpid: 4711
\tnamespace: e012880f
\tip: 192.0.2.7
The actor is dead. Worker exit detail: the node was lost. Some common causes include: (1) that.
"""
    (tmp_path / "error.txt").write_text(reason)
    trial = SimpleNamespace(
        trial_id="a",
        error_file=str(tmp_path / "error.txt"),
        run_metadata=SimpleNamespace(num_failures=1),
        max_failures=2,
        storage=SimpleNamespace(experiment_fs_path=str(tmp_path)),
    )
    RunMonitor(algo="qmix", seed=0).on_trial_recover(1, [trial], trial)
    assert capsys.readouterr().err == (
        "training failed (trainer 4711 on 192.0.2.7 has died: the node was lost): "
        "it goes on from its newest checkpoint (1 of 2 times)\n"
    )
    assert "\tactor_id: 4a6cb5b4" in (tmp_path / "train.log").read_text()
