"""A run that is carried on with another number of env runners counts on exactly, and keeps what it has learned."""

import json

import numpy as np
import pytest
from commands import MARKET, QMIX, SAC, checkpoints, run_here, summary

from algos.policy import flat_weights
from experiments.runs.run import read_run_config
from experiments.settings.run_config import config_to_json
from experiments.tuning.run_trainable import algorithm_class

pytestmark = pytest.mark.usefixtures("ray_session")
PPO = [*MARKET, "--algo", "ppo", "--runner", "rllib", "--checkpoint-interval", "8", "--evaluation-interval", "8"]
PPO += ["--keep", "2", "--checkpoint-interval-s", "0", "--ppo.num-envs-per-env-runner", "2", "--ppo.num-epochs", "1"]
PPO += ["--ppo.train-batch-size-per-learner", "128", "--ppo.minibatch-size", "64"]
RUNS = {"qmix": QMIX, "sac": SAC, "ppo by rllib": PPO}


def results(folder):
    return [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]


def optimizer_steps(algorithm):
    """How often each weight has been stepped, by optimizer."""
    (state,) = (
        r.get() for r in algorithm.learner_group.foreach_learner(lambda learner: learner._get_optimizer_state())
    )
    return {name: [float(s["step"]) for s in o["state"]["state"].values()] for name, o in state.items()}


def replay_size(algorithm):
    buffer = getattr(algorithm, "replay", None) or algorithm.local_replay_buffer
    return None if buffer is None else (len(buffer) if hasattr(algorithm, "replay") else buffer.get_num_timesteps())


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("qmix", 0, 2),
        pytest.param("ppo by rllib", 2, 3, marks=pytest.mark.slow),
        pytest.param("sac", 2, 0, marks=pytest.mark.slow),
        pytest.param("qmix", 2, 1, marks=pytest.mark.slow),
        pytest.param("sac", 0, 2, marks=pytest.mark.slow),
        pytest.param("qmix", 2, 0, marks=pytest.mark.slow),
    ],
)
def test_number_of_env_runners_may_change_on_resume(tmp_path, capsys, name, before, after):
    folder = tmp_path / "run"
    assert run_here(folder, *RUNS[name], "--scaling.num-env-runners", before, "--episodes", 32) == 0
    old = summary(folder)
    first = len(results(folder))
    capsys.readouterr()
    target = old["episodes"] + 32
    assert run_here(folder, "--scaling.num-env-runners", after, "--episodes", target) == 0
    told = f"--scaling.num-env-runners was {before} and is now {after}: episodes under way begin anew"
    assert capsys.readouterr().out.count(told) == 1
    new, lines = summary(folder), results(folder)
    assert (new["status"], new["episodes"] >= target) == ("complete", True)
    assert [line["training_iteration"] for line in lines] == list(range(1, len(lines) + 1))
    for earlier, later in zip(lines[first - 1 :], lines[first:], strict=False):
        sampled = later["env_runners"]
        ended = sampled.get("num_episodes")
        assert later["total_steps"] == earlier["total_steps"] + sampled["num_env_steps_sampled"]
        assert later["episodes"] == earlier["episodes"] + (ended if ended == ended and ended is not None else 0)
        assert later["agent_steps"] == 3 * later["total_steps"]
    assert (lines[first - 1]["total_steps"], lines[first - 1]["episodes"]) == (old["env_steps"], old["episodes"])
    assert run_here(folder, "--episodes", target) == 0, "and is then as complete as any run"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("qmix", 0, 2),
        pytest.param("sac", 0, 2, marks=pytest.mark.slow),
        pytest.param("sac", 2, 0, marks=pytest.mark.slow),
        pytest.param("qmix", 2, 3, marks=pytest.mark.slow),
    ],
)
def test_weights_optimizers_and_replay_come_back_for_any_number_of_env_runners(tmp_path, name, before, after):
    folder = tmp_path / "run"
    words = ["--scaling.num-env-runners", before, "--episodes", 16]
    assert run_here(folder, *RUNS[name], *words) == 0
    run, made = read_run_config(folder), []
    for count in (before, after):
        algorithm = algorithm_class(run)({"run": config_to_json(run), "overrides": {"scaling.num_env_runners": count}})
        algorithm.load_checkpoint(str(checkpoints(folder)[-1]))
        made.append((flat_weights(algorithm), optimizer_steps(algorithm), replay_size(algorithm)))
        algorithm.stop()
    (weights, steps, size), (same, same_steps, same_size) = made
    assert all(np.array_equal(weights[n], same[n]) for n in weights)
    assert steps == same_steps
    assert max(max(s, default=0) for s in steps.values()) > 0
    assert size == same_size
    assert size > 0
