"""Hooks of a run: found by name, exact under resume, and without a trace in what is trained."""

import json
import os

import pytest
from clocked import Clocked
from commands import QMIX, ROOT, Started, checkpoints, run_command, summary
from ray.rllib.algorithms.algorithm import Algorithm
from sample_runs import config_of

from algos.hooks import HOOKS, Hooks
from algos.policy import flat_weights, weights_sha256
from common.errors import InputError
from experiments.recovery.progress import Progress
from experiments.settings.run_config import config_to_json
from experiments.tuning.hooks import hooks_of
from experiments.tuning.run_trainable import algorithm_class

COUNTER, STEPS = "counting_hooks:Counter", "counting_hooks:StepCounter"
QUICK = {"checkpoint_interval": 4, "evaluation_interval": 4, "episodes": 1000}
ALGORITHMS = {
    "qmix": {"qmix": {"num_envs_per_env_runner": 3, "rollout_fragment_length": 9, "learning_starts": 32}},
    "ppo": {"ppo": {"num_envs_per_env_runner": 3, "train_batch_size_per_learner": 90, "minibatch_size": 45}},
    "dqn": {"dqn": {"num_envs_per_env_runner": 2, "rollout_fragment_length": 4, "learning_starts": 32}},
}


def run_of(algo, *hooks, **settings):
    return config_of(algo, hooks=list(hooks), **{**QUICK, **ALGORITHMS[algo], **settings})


def made(run):
    return algorithm_class(run)({"run": config_to_json(run)})


def trained(run, count, *, save=None, load=None):
    """Train some iterations, from a checkpoint or the start; returns weights and the states of hooks."""
    trainable = made(run)
    try:
        if load is not None:
            trainable.load_checkpoint(str(load))
        for _ in range(count):
            assert "fatal" not in trainable.train()
        if save is not None:
            save.mkdir()
            trainable.save_checkpoint(str(save))
        return weights_sha256(flat_weights(trainable)), trainable._hooks.get_state()
    finally:
        trainable.stop()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("algo", "hook"), [("qmix", STEPS), ("ppo", STEPS), ("dqn", COUNTER)])
def test_each_thing_is_seen_once_after_a_restore_and_training_is_what_it_was(algo, hook, tmp_path):
    run = run_of(algo, hook)
    unbroken, states = trained(run, 6)
    seen = states[hook]
    assert [i for i, *_ in seen["iterations"]] == [1, 2, 3, 4, 5, 6]
    assert seen["evaluations"]
    assert len({tuple(row[:3]) for row in seen["rows"]}) == len(seen["rows"]) > 4
    assert {row[3] for row in seen["rows"]} == {20}
    trained(run, 3, save=tmp_path / "half")
    assert trained(run, 3, load=tmp_path / "half") == (unbroken, states)
    assert trained(run_of(algo), 6)[0] == unbroken, "hooks leave no trace in the weights"


@pytest.mark.usefixtures("ray_session")
def test_runners_of_their_own_processes_are_asked_too():
    run = run_of("qmix", STEPS, scaling={"num_env_runners": 2})
    seen = trained(run, 4)[1][STEPS]
    assert {row[0] for row in seen["rows"]} == {1, 2}
    assert seen["steps"] == seen["iterations"][-1][1]


@pytest.mark.usefixtures("ray_session")
def test_hook_that_others_go_on_without_is_dropped_and_a_new_one_begins_anew(tmp_path):
    trained(run_of("qmix", COUNTER), 2, save=tmp_path / "half")
    _, states = trained(run_of("qmix", "counting_hooks:Silent"), 1, load=tmp_path / "half")
    assert states == {"counting_hooks:Silent": None}


def test_hook_that_fails_ends_the_run_with_its_name(monkeypatch):
    def step(self):
        self.ended += 4
        return {}

    monkeypatch.setattr(Algorithm, "step", step)
    trainable = Clocked(config_of("qmix", episodes=100), [1.0] * 9)
    trainable._hooks, trainable._checkpoints = hooks_of(run_of("qmix", "counting_hooks:Failing")), None
    assert not trainable.step()["done"]
    trainable._iteration = 1
    result = trainable.step()
    assert result["done"]
    assert "hook counting_hooks:Failing failed in on_iteration: KeyError: 'no such figure'" in result["fatal"]


@pytest.mark.parametrize(
    ("name", "algo", "message"),
    [
        ("recorder", "qmix", "--hooks recorder is unknown.*did you mean 'records'.*module:object"),
        ("counting_hooks:Cuonter", "qmix", "--hooks counting_hooks:Cuonter cannot be imported"),
        ("counting_hooks:not_a_hook", "qmix", "makes int: name a subclass of algos.hooks.Hook"),
        (STEPS, "dqn", "StepCounter watches steps, which RLlib's own runners of --algo dqn do not give"),
    ],
)
def test_hook_that_cannot_be_is_one_line(name, algo, message, monkeypatch):
    monkeypatch.setitem(HOOKS, "records", object)
    with pytest.raises(InputError, match=message):
        hooks_of(run_of(algo, name))


def test_progress_of_before_hooks_still_loads():
    old = Progress(iteration=3).to_json()
    del old["hooks"]
    assert Progress.from_json(old) == Progress(iteration=3)


def test_without_hooks_nothing_is_collected():
    trainable = Clocked(config_of("qmix"), [])
    assert isinstance(trainable._hooks, Hooks)
    assert trainable.on_rollout is None
    assert hooks_of(run_of("qmix", "counting_hooks:Silent")).wanting("on_episode") == []


@pytest.mark.slow
def test_run_that_was_killed_has_seen_what_an_unbroken_one_has(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "experiments")]))
    words = [*QMIX, "--hooks", STEPS, "--episodes"]
    folder = tmp_path / "killed"
    with Started(folder, *words, 400) as started:
        started.wait_for_episodes(24)
        started.kill()
    target = summary(folder)["episodes"] + 40
    done = run_command(folder, *words, target)
    assert done.returncode == 0, done.stderr
    whole = run_command(tmp_path / "whole", *words, target)
    assert whole.returncode == 0, whole.stderr
    last = [json.loads((checkpoints(f)[-1] / "run_state.json").read_text()) for f in (folder, tmp_path / "whole")]
    assert last[0]["hooks"] == last[1]["hooks"]
    assert last[0]["hooks"][STEPS]["checkpoints"][-1][1] == checkpoints(folder)[-1].name
