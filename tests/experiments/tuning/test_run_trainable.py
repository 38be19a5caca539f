from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clocked import Clocked
from ray.rllib.algorithms.algorithm import Algorithm
from sample_runs import config_of

from algos.learner import NonFiniteLossError, require_finite
from experiments.recovery.signals import STOP_FILE
from experiments.settings.run_config import config_to_json
from experiments.tuning import run_trainable
from experiments.tuning.run_trainable import StalledError

# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_is_refused_by_module(value):
    with pytest.raises(NonFiniteLossError, match="module 'team'"):
        require_finite(torch.tensor(value), "team")
    require_finite(torch.tensor(1.0), "team")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_that_is_no_number_ends_the_run_before_it_is_saved(clocked, monkeypatch, value):
    weights = {"team/a": np.ones(2), "team/b": np.ones(2)}
    monkeypatch.setattr(run_trainable, "flat_weights", lambda algorithm: weights)
    trainable = Clocked(config_of("qmix", episodes=40, checkpoint_interval=8), [1.0] * 9)
    assert not trainable.step()["done"]
    assert trainable.step()["should_checkpoint"]
    weights["team/b"] = np.array([1.0, value])
    trainable.step()
    result = trainable.step()
    assert result["done"]
    assert "should_checkpoint" not in result
    assert "1 weights are NaN or infinite, the first of them team/b" in result["fatal"]


# --- the clock of a run -----------------------------------------------------------------------------------------------


def test_checkpoints_and_evaluations_are_due_by_episodes(clocked):
    results = clocked(range(9), episodes=30, checkpoint_interval=12, evaluation_interval=8)
    saved = [result["episodes"] for result in results if result.get("should_checkpoint")]
    assert saved == [12, 24, 32], "the last one when the target is reached"
    assert [result["score"] for result in results] == [0, 0, 1, 1, 2, 3, 3, 4]


def test_best_is_by_any_metric_of_a_result_and_by_its_smallest_value_where_asked(clocked, monkeypatch):
    losses = [None, 3.0, 2.0, 5.0, 1.0]

    def step(self):
        self.ended += 4
        loss = losses.pop(0)
        return {"learners": {} if loss is None else {"team": {"total_loss": loss, "is_new": True}}}

    monkeypatch.setattr(Algorithm, "step", step)
    settings = {"checkpoint_metric": "learners/team/total_loss", "checkpoint_mode": "min"}
    trainable = Clocked(config_of("qmix", episodes=20, checkpoint_interval=4, **settings), [1.0] * 9)
    results = [trainable.step() for _ in range(5)]
    assert [r["is_best"] for r in results] == [False, True, True, False, True]
    assert [r["score"] for r in results[1:]] == [-3.0, -2.0, -5.0, -1.0]
    assert trainable._progress.last_value == 1.0, "as it is, for people"


def test_metric_that_no_result_has_ends_the_run_with_the_nearest_names(clocked, monkeypatch):
    def step(self):
        self.ended += 4
        return {"learners": {"team": {"total_loss": 1.0, "vf_loss": 1.0}}, "env_runners": {"episode_len_mean": 9.0}}

    monkeypatch.setattr(Algorithm, "step", step)
    trainable = Clocked(config_of("qmix", checkpoint_metric="learners/team/totalloss"), [1.0] * 9)
    result = trainable.step()
    assert result["done"]
    assert result["is_input_error"]
    assert "learners/team/totalloss is in none of the" in result["fatal"]
    assert "the nearest are learners/team/total_loss" in result["fatal"]


def test_recent_return_is_that_of_the_last_episodes_that_ended(clocked, monkeypatch):
    trainable, returns = Clocked(config_of("qmix", episodes=40), [1.0] * 9), [None, 0.5, None, float("nan"), 0.25]

    def step(self):
        self.ended += 4
        found = returns.pop(0)
        return {"env_runners": {} if found is None else {"episode_return_mean": found}}

    monkeypatch.setattr(Algorithm, "step", step)
    assert [repr(trainable.step()["episode_return"]) for _ in range(5)] == ["nan", "0.5", "0.5", "0.5", "0.25"]


def test_best_is_judged_among_checkpoints_only(clocked):
    results = clocked([9.0, 5.0, 8.0, 4.0, 6.0], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [(r["episodes"], r["score"]) for r in results if r["is_best"]] == [(16, 8.0)]
    results = clocked([9.0, 5.0, 8.0, 4.0, float("nan")], episodes=32, checkpoint_interval=16, evaluation_interval=8)
    assert [r["episodes"] for r in results if r["is_best"]] == [16]


def test_population_is_compared_by_fresh_checkpoints(clocked):
    search = {"num_trials": 2, "scheduler": "pbt", "perturbation_interval": 10}
    intervals = {"episodes": 40, "checkpoint_interval": 100, "evaluation_interval": 100}
    results = clocked(range(9), **intervals, search=search)
    assert [r["episodes"] for r in results if r.get("should_checkpoint")] == [12, 20, 32, 40]
    assert [r["score"] for r in results if r.get("should_checkpoint")] == [1, 2, 3, 4]
    alone = clocked(range(9), **intervals, search={**search, "scheduler": "none"})
    assert [r["episodes"] for r in alone if r.get("should_checkpoint")] == [40]


def test_run_that_was_killed_after_its_last_checkpoint_trains_no_more(clocked, monkeypatch):
    trainable = Clocked(config_of("qmix", episodes=8), [])
    trainable.ended, trainable._progress.last_metrics = 8, {"score": 1.0}
    trainable._progress.evaluated_at = trainable._progress.checkpointed_at = 8
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


def test_clock_of_checkpoints_counts_from_the_one_that_a_signal_has_asked_for(clocked, tmp_path):
    trainable = Clocked(config_of("qmix", episodes=400, checkpoint_interval=12), [1.0] * 9)
    trainable._run_folder = tmp_path
    trainable.step()
    (tmp_path / STOP_FILE).touch()
    trainable.step()
    (tmp_path / STOP_FILE).unlink()  # the same command again
    later = [trainable.step() for _ in range(3)]
    assert [result["episodes"] for result in later if result.get("should_checkpoint")] == [20], "and not 12"


def test_runners_that_sample_nothing_within_an_iteration_are_a_failure(clocked, monkeypatch):
    """As RLlib's own algorithms, which go on with an iteration until what is due has been sampled."""
    clock, ended = SimpleNamespace(now=0.0), [4, 4, 0, 4, 0, 0, 0, 0, 4]
    clock.monotonic, clock.perf_counter = (lambda: clock.now), (lambda: clock.now)
    monkeypatch.setattr(run_trainable, "time", clock)
    monkeypatch.setattr(run_trainable, "IDLE_LIMIT_S", 250.0)

    def train_once(self):
        clock.now += 100.0
        self.ended += ended.pop(0)

    def step(self):
        for _ in range(2):
            self.training_step()
        while ended[0] == 0:
            self.training_step()
        return {}

    monkeypatch.setattr(Algorithm, "training_step", train_once)
    monkeypatch.setattr(Algorithm, "step", step)
    trainable = Clocked(config_of("dqn", episodes=400, checkpoint_interval=4), [1.0] * 9)
    trainable.step()
    clock.now += 1e6  # between two iterations a checkpoint may take its time
    with pytest.raises(StalledError, match="nothing was sampled for 250 s: environment steps stand at 240"):
        trainable.step()
    assert ended == [0, 4]


@pytest.mark.parametrize(
    ("asked", "found", "used"), [(None, 1.0, 1.0), (0.5, 1.0, 0.5), (0.0, 1.0, 0.0), (None, None, None)]
)
def test_devices_are_those_of_the_session_unless_the_run_asks_for_some(asked, found, used):
    record, plan = (
        config_to_json(config_of("qmix", seed=seed, scaling={"num_gpus_per_learner": gpus}))
        for seed, gpus in ((3, asked), (4, found))
    )
    settings = run_trainable._settings({"config": record}, {"run": plan})
    assert (settings["seed"], settings["scaling"]["num_gpus_per_learner"]) == (3, used)
    assert run_trainable._settings({}, {"run": plan})["seed"] == 4
