import errno
import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from runs import SMALL, make_run

from algos.errors import IncompatibleError
from algos.learner import NonFiniteLossError, require_finite
from envs.errors import InputError
from experiments.config import RunConfig, config_from_json, parse_run, run_folder
from experiments.layers import merge, nested
from experiments.recovery import shelf
from experiments.recovery.manifests import seal
from experiments.recovery.shelf import CheckpointShelf
from experiments.recovery.stopping import STOP_FILE
from experiments.settings import settings_of
from experiments.tuning import loggers, resume, trainables
from experiments.tuning import monitor as monitor_module
from experiments.tuning.algorithms import MOST_STEPS, SHARED, algorithm_config
from experiments.tuning.checkpointing import find_module_states
from experiments.tuning.loggers import RecordLogger
from experiments.tuning.monitor import RunMonitor, copy_folder, mend_copy, read_summary, write_summary
from experiments.tuning.spaces import SPACES
from experiments.tuning.trainables import RunTrainable, StalledError

# --- the summary ------------------------------------------------------------------------------------------------------


def test_summary_has_every_field_from_the_start_and_keeps_what_is_not_named(tmp_path):
    first = write_summary(tmp_path, {"status": "running", "algo": "vdn"})
    assert {"episodes", "target_episodes", "env_steps", "agent_steps", "latest_checkpoint"} <= set(first)
    assert {"best_checkpoint", "best_metric", "weights_sha256", "metrics", "seed"} <= set(first)
    write_summary(tmp_path, {"episodes": 7})
    found = read_summary(tmp_path)
    assert (found["status"], found["algo"], found["episodes"]) == ("running", "vdn", 7)


def test_summary_of_a_new_folder_is_empty_and_a_damaged_one_is_refused(tmp_path):
    assert read_summary(tmp_path) == {}
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="holds no status"):
        read_summary(tmp_path)


# --- the copy of the best checkpoint ----------------------------------------------------------------------------------


def folder_of(path, **texts):
    path.mkdir(parents=True)
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def test_copy_replaces_the_whole_folder(tmp_path):
    source, target = folder_of(tmp_path / "new", a="2"), folder_of(tmp_path / "best", a="1", b="1")
    copy_folder(source, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "new"]


@pytest.mark.parametrize("cut", ["copytree", "rename", "rename again"])
def test_copy_that_is_cut_short_leaves_the_old_one(tmp_path, monkeypatch, cut):
    source, target = folder_of(tmp_path / "new", a="2"), folder_of(tmp_path / "best", a="1")
    place, name = (monitor_module.shutil, "copytree") if cut == "copytree" else (monitor_module.os, "rename")
    real, calls = getattr(place, name), []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == (2 if cut == "rename again" else 1):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(KeyboardInterrupt):
            copy_folder(source, target)
    mend_copy(target)
    assert (target / "a").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "new"]
    copy_folder(source, target)
    assert (target / "a").read_text() == "2"


# --- the monitor ------------------------------------------------------------------------------------------------------


def trial_in(folder):
    staging = folder.parent / "staging"
    staging.mkdir(exist_ok=True)
    storage = SimpleNamespace(
        experiment_fs_path=str(folder), trial_fs_path=str(folder / "trial_0"), experiment_driver_staging_path=staging
    )
    return SimpleNamespace(
        trial_id="0", storage=storage, last_result={}, status="RUNNING", path=storage.trial_fs_path, config={}
    )


def report(monitor, trial, number, *, sharpe, is_best):
    """What Tune does when a checkpoint has been written."""
    meta = {
        "episode": 10 * number,
        "total_steps": 100 * number,
        "weights_sha256": f"hash {number}",
        "is_best": is_best,
        "metric_name": "sharpe",
        "metric_value": sharpe,
    }
    path = monitor_module.Path(trial.storage.trial_fs_path) / f"checkpoint_{number:06d}"
    folder_of(path, **{"checkpoint_meta.json": json.dumps(meta)})
    trial.last_result = {
        "episodes": 10 * number,
        "target_episodes": 30,
        "total_steps": 100 * number,
        "agent_steps": 300 * number,
        "profit": 0.1,
        "sharpe": sharpe,
        "max_drawdown": 0.2,
        "num_trades": 3,
        "epsilon": None,
        "should_checkpoint": True,
        "is_best": is_best,
        "episode_return": float("nan"),
    }
    monitor.on_trial_result(1, [trial], trial, trial.last_result)
    monitor.on_checkpoint(1, [trial], trial, SimpleNamespace(path=str(path)))
    return path


def test_monitor_follows_the_checkpoints_and_keeps_the_best(tmp_path, capsys):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    report(monitor, trial, 2, sharpe=0.5, is_best=False)
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
    assert shown[0].endswith("checkpoint (best)")
    assert shown[1].endswith("checkpoint")


def test_monitor_of_a_moved_folder_writes_where_it_now_is(tmp_path):
    monitor = RunMonitor(algo="ppo", seed=4)
    report(monitor, trial_in(tmp_path / "old"), 1, sharpe=1.5, is_best=True)
    monitor = pickle.loads(pickle.dumps(monitor))
    report(monitor, trial_in(tmp_path / "new"), 2, sharpe=0.5, is_best=False)
    assert read_summary(tmp_path / "new")["latest_checkpoint"] == "trial_0/checkpoint_000002"
    assert read_summary(tmp_path / "old")["latest_checkpoint"] == "trial_0/checkpoint_000001"


def test_monitor_keeps_stale_copies_of_our_files_from_being_uploaded(tmp_path):
    trial = trial_in(tmp_path / "run")
    staging = trial.storage.experiment_driver_staging_path
    for name in ("summary.json", "config.json", "experiment_state.json"):
        (staging / name).write_text("{}")
    RunMonitor(algo="ppo", seed=4).on_step_begin(0, [trial])
    assert [path.name for path in staging.iterdir()] == ["experiment_state.json"]


def test_monitor_brings_records_in_line_with_the_newest_whole_checkpoint(tmp_path):
    trial = trial_in(tmp_path / "run")
    folder = tmp_path / "run" / "trial_0"
    for iteration in (2, 4):

        def write(path, iteration=iteration):
            (path / "checkpoint_meta.json").write_text(json.dumps({"is_best": iteration == 2}))
            (path / "run_state.json").write_text(json.dumps({"iteration": iteration}))

        CheckpointShelf(folder).publish(write)
    (folder / "checkpoint_000001" / "checkpoint_meta.json").write_text("")
    (folder / "result.json").write_text("".join(f'{{"training_iteration": {i}}}\n' for i in range(1, 7)))
    RunMonitor(algo="ppo", seed=4).on_step_begin(0, [trial])
    assert [r["training_iteration"] for r in lines_of(tmp_path / "run")] == [1, 2]
    assert json.loads((folder / "best_checkpoint" / "checkpoint_meta.json").read_text())["is_best"]
    assert (folder / "damaged-checkpoint_000001").is_dir()


def test_monitor_of_a_search_leaves_the_summary_alone_and_names_the_trial(tmp_path, capsys):
    folder = tmp_path / "run"
    report(RunMonitor(algo="ppo", seed=4, is_search=True), trial_in(folder), 1, sharpe=1.5, is_best=True)
    assert read_summary(folder) == {}
    assert (folder / "trial_0" / "best_checkpoint").is_dir()
    assert capsys.readouterr().out.startswith("[0]  episodes 10/30")


# --- what may change --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "dow")


def asked(run, **by_hand):
    words = ["--storage", run.storage, "--name", run.name]
    for name, value in by_hand.items():
        words += [
            f"--{name.replace('__', '.').replace('_', '-')}",
            *map(str, value if isinstance(value, list) else [value]),
        ]
    return parse_run(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"episodes": 999},
        {"checkpoint_interval": 3},
        {"evaluation_interval": 3},
        {"capital": 5e6},
        {"keep": 9},
        {"qmix__lr": 5e-4},
        {"desk__ladder": [-1, -0.5, 0, 0.5, 1]},
    ],
)
def test_target_intervals_and_capital_may_change_and_the_rest_may_be_repeated(run, changes):
    resume.check_changes(*asked(run, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qmix__lr": 0.1}, "--qmix.lr was 0.0005 and is now 0.1"),
        ({"seed": 3}, "--seed was 0 and is now 3"),
        ({"desk__ladder": [0, 1]}, r"--desk.ladder was \[.*\] and is now \[0.0, 1.0\]"),
        ({"search__num_trials": 3}, "--search.num-trials was 0 and is now 3"),
        ({"seed": 9, "algo": "vdn"}, "--seed was 0 and is now 9; --algo was qmix and is now vdn"),
    ],
)
def test_other_changes_are_refused_with_what_was_and_what_is(run, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        resume.check_changes(*asked(run, **changes))
    assert f"--load-model {run_folder(run)}" in str(caught.value)


def test_complete_means_that_nothing_is_left_to_train(run):
    folder = run_folder(run)
    for status, episodes, answer in [("complete", 400, True), ("complete", 399, False), ("running", 400, False)]:
        write_summary(folder, {"status": status, "episodes": episodes})
        assert resume.is_complete(run) is answer


def test_named_checkpoint_is_recorded_relative_to_its_run(run):
    folder = run_folder(run)
    seal(folder / "checkpoint_000001")
    found = resume.named_checkpoint(replace(run, resume=str(folder / "checkpoint_000001")))
    again = resume.named_checkpoint(replace(run, resume=str(folder / "checkpoint_000001")))
    assert found["checkpoint"] == "checkpoint_000001"
    assert found != again, "naming it once more goes back to it once more"
    for word in ("auto", "never", str(folder)):
        assert resume.named_checkpoint(replace(run, resume=word)) is None


def test_named_checkpoint_that_is_damaged_is_refused(run):
    checkpoint = run_folder(run) / "checkpoint_000001"
    seal(checkpoint)
    (checkpoint / "checkpoint_meta.json").write_text("{}")
    with pytest.raises(InputError, match=r"is damaged, checkpoint_meta.json: has 2 bytes .*: name another"):
        resume.named_checkpoint(replace(run, resume=str(checkpoint)))


def test_named_checkpoint_of_another_run_is_refused(run, tmp_path):
    other = make_run(tmp_path / "other")
    with pytest.raises(InputError, match=r"names a checkpoint of .*dow, but the run is .*other"):
        resume.named_checkpoint(replace(other, resume=str(run_folder(run) / "checkpoint_000001")))


def test_folder_without_a_plan_and_without_checkpoints_is_started_anew(tmp_path):
    config = config_from_json(SMALL | {"name": "new", "storage": str(tmp_path)})
    folder_of(tmp_path / "new", **{"tuner.pkl": "torn"})
    assert resume.can_restore(config) is False


# --- from settings to RLlib -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", sorted(SPACES))
def test_search_draws_settings_that_exist_for_that_algorithm(algo):
    settings = settings_of(RunConfig)
    for name, domain in SPACES[algo].items():
        assert name in settings
        value = domain.sample()
        config_from_json(merge({"algo": algo}, nested({name: value})))


def config_of(algo, **settings):
    return config_from_json(merge(merge(SMALL, {"algo": algo}), settings))


@pytest.mark.parametrize("preset", ["desk", "roles", "rivals"])
@pytest.mark.parametrize(
    ("algo", "runner"), [("qmix", "team"), ("vdn", "team"), ("ppo", "team"), ("ppo", "rllib"), ("dqn", "team")]
)
def test_every_algorithm_takes_every_desk(algo, runner, preset):
    config = algorithm_config(config_of(algo, runner=runner, desk={"preset": preset}, seed=5))
    config.validate()
    assert config.seed == 5
    assert config.env == "trading-floor"
    assert config.env_config["split"] == "train"
    assert config.evaluation_config["env_config"]["split"] == "validation"
    assert config.evaluation_config["explore"] is False


@pytest.mark.parametrize("algo", ["qmix", "vdn", "dqn"])
def test_continuous_actions_need_ppo(algo):
    with pytest.raises(IncompatibleError, match=f"--algo {algo} chooses among discrete actions"):
        algorithm_config(config_of(algo, desk={"action": "continuous"}))
    algorithm_config(config_of("ppo", desk={"action": "continuous"}))


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_agents_share_a_network_where_they_can(algo):
    assert set(algorithm_config(config_of(algo)).policies) == {SHARED}
    separate = algorithm_config(config_of(algo, **{algo: {"use_shared_networks": False}}))
    assert set(separate.policies) == {"trader_0", "trader_1", "trader_2", "trader_3"}
    assert separate.policy_mapping_fn("trader_2", None) == "trader_2"
    roles = {"desk": {"preset": "roles"}}
    assert len(algorithm_config(config_of(algo, **roles)).policies) == 5
    with pytest.raises(IncompatibleError, match=f"--{algo}.use-shared-networks needs"):
        algorithm_config(config_of(algo, **roles, **{algo: {"use_shared_networks": True}}))


def test_settings_reach_rllib():
    config = algorithm_config(
        config_of("ppo", ppo={"lr": 0.1, "lambda_": 0.7, "hidden": [8]}, scaling={"num_envs_per_env_runner": 3})
    )
    assert (config.lr, config.lambda_, config.num_envs_per_env_runner) == (0.1, 0.7, 3)
    dqn = algorithm_config(config_of("dqn", dqn={"n_step": 3, "target_network_update_freq": 77}))
    assert (dqn.n_step, dqn.target_network_update_freq) == (3, 77)
    scaled = algorithm_config(config_of("qmix", scaling={"num_env_runners": 2, "num_learners": 2}))
    assert (scaled.num_env_runners, scaled.num_learners, scaled.num_gpus_per_learner) == (2, 2, 0)


def test_iterations_of_dqn_are_not_longer_than_a_checkpoint_interval():
    short = algorithm_config(config_of("dqn", checkpoint_interval=3))
    assert short.min_sample_timesteps_per_iteration == 3 * SMALL["floor"]["horizon_bars"]
    assert algorithm_config(config_of("dqn", checkpoint_interval=900)).min_sample_timesteps_per_iteration == MOST_STEPS


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_read_module_by_module(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "learner_group" / "learner" / "rl_module" / name
        folder.mkdir(parents=True)
        (folder / "module_state.pkl").write_bytes(pickle.dumps({"w": np.ones(2)}))
    assert set(find_module_states(tmp_path)) == {"a", "b"}
    with pytest.raises(IncompatibleError, match="holds no weights"):
        find_module_states(tmp_path / "learner_group")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_is_refused_by_module(value):
    with pytest.raises(NonFiniteLossError, match="module 'team'"):
        require_finite(torch.tensor(value), "team")
    require_finite(torch.tensor(1.0), "team")


# --- the clock of a run -----------------------------------------------------------------------------------------------


class Clocked(RunTrainable):
    """The trainable's clock alone: each step ends four episodes, each evaluation takes the next score."""

    def __init__(self, run, scores):
        self.run, self.scores, self.ended = run, list(scores), 0
        self._evaluated_at = self._checkpointed_at = self._iteration = 0
        self._last_metrics, self._best, self._is_best, self._has_loaded = {}, None, False, True
        self._run_folder, self._steps_before = None, 0

    num_episodes = property(lambda self: self.ended)

    def _evaluate_now(self):
        self._last_metrics = {"score": self.scores.pop(0)}
        self._evaluated_at = self.ended

    def _peek(self, name, default=0):
        return 20 * self.ended if name == NUM_ENV_STEPS_SAMPLED_LIFETIME else default

    def _agent_steps(self):
        return 0


@pytest.fixture
def clocked(monkeypatch):
    def step(self):
        self.ended += 4
        return {}

    monkeypatch.setattr(Algorithm, "step", step)
    monkeypatch.setattr(trainables, "flat_weights", lambda algorithm: {})

    def steps(scores, **settings):
        trainable, results = Clocked(config_of("qmix", **settings), scores), []
        while not results or not results[-1]["done"]:
            results.append(trainable.step())
        return results

    return steps


def test_checkpoints_and_evaluations_are_due_by_episodes(clocked):
    results = clocked(range(9), episodes=30, checkpoint_interval=12, evaluation_interval=8)
    saved = [result["episodes"] for result in results if result.get("should_checkpoint")]
    assert saved == [12, 24, 32], "the last one when the target is reached"
    assert [result["score"] for result in results] == [0, 0, 1, 1, 2, 3, 3, 4]


def test_best_is_judged_among_checkpoints_only(clocked):
    results = clocked([9.0, 5.0, 8.0, 4.0, 6.0], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [(r["episodes"], r["score"]) for r in results if r["is_best"]] == [(16, 8.0)]
    results = clocked([9.0, 5.0, 8.0, 4.0, float("nan")], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [r["episodes"] for r in results if r["is_best"]] == [16]


def test_run_that_was_killed_after_its_last_checkpoint_trains_no_more(clocked, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=8), [])
    trainable.ended, trainable._last_metrics = 8, {"score": 1.0}
    trainable._evaluated_at = trainable._checkpointed_at = 8
    result = trainable.step()
    assert (result["done"], result["episodes"], result["is_repeated"]) == (True, 8, True)
    assert "should_checkpoint" not in result


def test_iteration_that_sampled_nothing_is_a_failure(clocked, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=40), [1.0, 2.0])
    trainable.step()
    monkeypatch.setattr(Algorithm, "step", lambda self: {})
    with pytest.raises(StalledError, match="environment steps stand at 80"):
        trainable.step()


def test_request_to_stop_makes_the_iteration_a_checkpoint_and_the_last(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=100), [1.0, 2.0])
    trainable._run_folder = tmp_path
    assert not trainable.step()["done"]
    (tmp_path / STOP_FILE).write_text("SIGTERM")
    result = trainable.step()
    assert (result["done"], result["is_stopped"], result["should_checkpoint"]) == (True, True, True)


# --- what each iteration reported -------------------------------------------------------------------------------------


def lines_of(folder):
    return [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]


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


def test_full_disk_during_a_save_does_not_end_the_training(tmp_path, monkeypatch, capsys):
    trainable = Clocked(config_of("qmix", keep=1), [])
    trainable._shelf = CheckpointShelf(tmp_path)

    def write(folder):
        (monitor_module.Path(folder) / "weights").write_text("x")

    trainable.save_checkpoint = write
    first = trainable.save().checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(shelf, "seal", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        assert trainable.save().checkpoint is None
    assert "training goes on" in capsys.readouterr().err
    assert [str(path) for path in trainable._shelf.published()] == [first.path]
    trainable.save()
    assert [path.name for path in trainable._shelf.published()] == ["checkpoint_000001"], "keep=1 keeps one"


def test_iteration_that_trained_nothing_is_not_recorded(tmp_path):
    trial = trial_in(tmp_path / "run")
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 1})
    RecordLogger().log_trial_result(0, trial, {"training_iteration": 2, "is_repeated": True})
    assert len(lines_of(tmp_path / "run")) == 1


def test_summary_that_a_kill_prevented_is_made_up_for(tmp_path):
    folder = tmp_path / "run"
    trial, monitor = trial_in(folder), RunMonitor(algo="ppo", seed=4)
    report(monitor, trial, 1, sharpe=1.5, is_best=True)
    last = trial.last_result
    (folder / "summary.json").unlink()
    RunMonitor(algo="ppo", seed=4).on_trial_result(1, [trial], trial, {**last, "is_repeated": True})
    assert read_summary(folder)["episodes"] == 10
    assert read_summary(folder)["weights_sha256"] == "hash 1"
