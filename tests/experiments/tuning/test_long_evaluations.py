"""Evaluations that take minutes: what they tell, and that a run which is asked to stop does not wait for them."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
from clocked import Clocked
from sample_runs import config_of

from common import pace
from experiments.recovery.progress import Progress
from experiments.tuning import long_evaluations
from experiments.tuning.long_evaluations import (
    EVALUATION_FILE,
    EvaluationLeftError,
    EvaluationTeller,
    watched_evaluation,
)
from experiments.tuning.run_trainable import RunTrainable


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(long_evaluations.time, "monotonic", lambda: now.s)
    assert pace.time is long_evaluations.time
    return now


def walk(runner, clock, *, bars, seconds_each=1.0):
    for done in range(1, bars + 1):
        clock.s += seconds_each
        runner.on_step(done, done // 20)


def test_an_evaluation_tells_how_far_it_is_and_leaves_nothing_behind(tmp_path, clock, capsys):
    runner, teller = SimpleNamespace(on_step=None), EvaluationTeller()
    with watched_evaluation(runner, 200, "bars", folder=tmp_path, is_asked_to_stop=lambda: False):
        for bars in (2, 11):
            walk(runner, clock, bars=bars)
            teller.look({"trial_0": tmp_path}, named=False)
    assert capsys.readouterr().out == (
        "evaluation: 200 bars, about 3 min\nevaluation: 10 of 200 bars, about 4 min left\n"
    )
    assert runner.on_step is None
    assert not (tmp_path / EVALUATION_FILE).exists()


def test_an_evaluation_in_an_environment_of_ones_own_is_told_in_episodes(tmp_path, clock):
    runner = SimpleNamespace(on_step=None)
    with watched_evaluation(runner, 32, "episodes", folder=tmp_path, is_asked_to_stop=lambda: False):
        walk(runner, clock, bars=19)
        assert not (tmp_path / EVALUATION_FILE).exists(), "none has ended: nothing is known of how long they take"
        walk(runner, clock, bars=20)
        assert (tmp_path / EVALUATION_FILE).read_text() == "evaluation: 32 episodes, about 20 min"


def test_what_a_killed_session_has_left_is_not_told(tmp_path, capsys):
    (tmp_path / EVALUATION_FILE).write_text("long ago")
    EvaluationTeller().look({"trial_0": tmp_path}, named=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("bars", "is_left"), [(200, True), (20, False)], ids=["long", "about to end"])
def test_a_long_evaluation_is_left_when_the_run_is_asked_to_stop(tmp_path, clock, bars, is_left):
    runner, done = SimpleNamespace(on_step=None), []

    def evaluate():
        with watched_evaluation(runner, bars, "bars", folder=tmp_path, is_asked_to_stop=lambda: clock.s > 1011):
            walk(runner, clock, bars=bars)
            done.append(True)

    if is_left:
        with pytest.raises(EvaluationLeftError):
            evaluate()
        assert clock.s == 1012
    else:
        evaluate()
    assert bool(done) != is_left


@pytest.mark.parametrize("num_trials", [0, 2], ids=["run", "search"])
def test_a_run_and_a_trial_of_a_search_leave_a_long_evaluation(clock, num_trials):
    class Long(RunTrainable):
        """The trainable's evaluation alone, which takes a second a bar."""

        num_episodes = 0
        eval_env_runner = SimpleNamespace(on_step=None)

        def __init__(self):
            self.run, self._progress = config_of("qmix", search={"num_trials": num_trials}), Progress()
            self._checkpoints, bars = None, (200, "bars")
            walked = partial(walk, self.eval_env_runner, clock, bars=200)
            self.environment = SimpleNamespace(evaluation_size=bars, evaluate=lambda algorithm: walked())

        def _is_asked_to_stop(self):
            return clock.s > 1011

    with pytest.raises(EvaluationLeftError):
        Long()._evaluate_now()
    assert clock.s == 1012


class Slow(Clocked):
    """A run whose evaluations take as long as the test says."""

    left: bool = False

    def _evaluate_now(self):
        if self.left:
            raise EvaluationLeftError
        self._progress.owes_evaluation = False
        super()._evaluate_now()


def test_a_run_that_has_left_an_evaluation_saves_first_and_makes_up_for_it_before_it_trains_on(clocked, monkeypatch):
    run = config_of("qmix", episodes=40, checkpoint_interval=8, evaluation_interval=8)
    whole = Slow(run, [1.0, 2.0, 3.0])
    unbroken = [whole.step() for _ in range(5)]
    first = Slow(run, [1.0])
    first.step()
    first.left = True
    result = first.step()
    assert (result["episodes"], result["done"], result["is_stopped"], result["should_checkpoint"]) == (8,) + (True,) * 3
    assert (result["is_evaluated"], result["is_best"], result["owes_evaluation"]) == (False, False, True)
    assert math.isnan(result["score"])
    assert first._progress.last_value is None

    again = Slow(run, [2.0, 3.0])
    again.ended, again._progress = first.ended, Progress.from_json(first._progress.to_json())
    made_up = again.step()
    assert (made_up["episodes"], made_up["score"], made_up["is_best"]) == (8, 2.0, True)
    assert made_up["should_checkpoint"]
    assert not made_up["owes_evaluation"]
    assert "is_repeated" not in made_up
    later = [again.step() for _ in range(2)]
    for name in ("episodes", "score", "is_best", "is_evaluated"):
        assert [row[name] for row in (made_up, *later)] == [row[name] for row in unbroken[1:4]], name


def test_a_run_that_has_left_its_last_evaluation_is_not_complete(clocked):
    run = config_of("qmix", episodes=8, checkpoint_interval=8)
    trainable = Slow(run, [1.0, 2.0])
    trainable.step()
    trainable.left = True
    result = trainable.step()
    assert (result["done"], result["is_stopped"]) == (True, True)
    trainable.left = False
    result = trainable.step()
    assert (result["done"], result["is_stopped"], result["score"]) == (True, False, 2.0)
    assert result["should_checkpoint"]
