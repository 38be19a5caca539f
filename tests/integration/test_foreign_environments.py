"""Any environment trains through the same run: same checkpoints, same resume, same search."""

import json
from functools import partial

import pytest
from commands import checkpoints, meta, run_here, summary

from experiments.backtest import run as backtest
from experiments.command_line import exit_code
from experiments.run import run

pytestmark = pytest.mark.usefixtures("ray_session")
CLOCK = ["--checkpoint-interval", "8", "--evaluation-interval", "8", "--checkpoint-interval-s", "0", "--keep", "9"]
WALK = [*CLOCK, "--evaluation-episodes", "2"]
QMIX = ["--qmix.num-envs-per-env-runner", "4", "--qmix.learning-starts", "16"]
PPO = ["--algo", "ppo", "--ppo.num-envs-per-env-runner", "4", "--ppo.train-batch-size-per-learner", "64"]
PPO += ["--ppo.minibatch-size", "32", "--ppo.num-epochs", "1"]
DQN = ["--algo", "dqn", "--dqn.num-envs-per-env-runner", "1", "--dqn.learning-starts", "4", "--clock", "steps"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GymWalk", PPO),
        ("GymWalk", DQN),
        ("ParallelWalk", QMIX),
        ("MultiAgentWalk", [*QMIX, "--algo", "vdn"]),
        ("BatchedWalk", QMIX),
    ],
)
def test_environment_trains_and_carries_on(tmp_path, kind, words, capsys):
    folder, env = tmp_path / "walk", ["--env", f"foreign_envs:{kind}", "--env-settings", "pay=2"]
    assert run_here(folder, *env, *words, *WALK, "--episodes", 8) == 0
    assert "best return: " in capsys.readouterr().out
    assert run_here(folder, "--trust", "--episodes", 24) == 0
    assert "carrying on" in capsys.readouterr().out
    found = summary(folder)
    assert found["status"] == "complete"
    assert found["clock"] >= 24
    assert -20 <= found["best_metric"]["value"] <= 20
    assert found["best_metric"]["name"] == "return"
    lines = [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]
    assert [line["training_iteration"] for line in lines] == list(range(1, len(lines) + 1))


def test_run_that_was_carried_on_is_the_unbroken_one(tmp_path):
    words = ["--env", "foreign_envs:BatchedWalk", *QMIX, *WALK]
    assert run_here(tmp_path / "one", *words, "--episodes", 24) == 0
    for episodes in (8, 24):
        assert run_here(tmp_path / "two", *words, "--episodes", episodes) == 0
    one, two = (summary(tmp_path / name)["weights_sha256"] for name in ("one", "two"))
    assert one == two


def test_first_checkpoint_says_what_in_an_environment_is_no_data_and_where(tmp_path, capsys):
    words = ["--env", "foreign_envs:UnsavableWalk", *QMIX, *WALK, "--max-failures", 0]
    assert run_here(tmp_path / "run", *words, "--episodes", 24) == 2
    assert "env_state/env/made is a builtins.object" in capsys.readouterr().err
    assert checkpoints(tmp_path / "run") == []


@pytest.mark.parametrize(("unit", "target"), [("steps", 200), ("updates", 6)])
def test_the_clock_counts_what_it_is_told(tmp_path, unit, target, capsys):
    words = ["--env", "foreign_envs:BatchedWalk", *QMIX, *WALK, "--clock", unit]
    words[words.index("--checkpoint-interval") + 1] = str(target // 2)
    assert run_here(tmp_path / "run", *words, "--episodes", target) == 0
    assert f"{target} {unit}" in capsys.readouterr().out
    moments = [meta(path)["clock"] for path in checkpoints(tmp_path / "run")]
    assert moments == sorted(moments)
    assert moments[-1] >= target
    assert len(moments) == 2
    assert run_here(tmp_path / "run", "--trust") == 0
    assert f"training already complete: {tmp_path / 'run'} has {moments[-1]} {unit}" in capsys.readouterr().out


def test_search_by_return_ends_well(tmp_path):
    words = [
        "--env",
        "foreign_envs:ParallelWalk",
        *PPO,
        *WALK,
        "--search.num-trials",
        "2",
        "--search.scheduler",
        "none",
    ]
    assert run_here(tmp_path / "found", *words, "--episodes", 8) == 0
    assert [row["state"] for row in json.loads((tmp_path / "found" / "trials.json").read_text())] == ["done", "done"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--env", "foreign_envs"], "--env is 'foreign_envs': give module:object"),
        (["--env", "no_such_module:Env"], "--env no_such_module:Env cannot be imported"),
        (["--env", "foreign_envs:Walk"], "--env foreign_envs:Walk cannot be imported"),
        (["--env", "foreign_envs:NOT_CALLABLE"], "name a class or a function"),
        (
            ["--env", "foreign_envs:GymWalk", "--env-settings", "pays=2"],
            "--env-settings do not fit foreign_envs:GymWalk",
        ),
        (["--env", "foreign_envs:GymWalk", "--floor.capital", "5"], "--floor.capital has no effect with --env"),
        (["--env", "foreign_envs:GymWalk", "--checkpoint-metric", "sharpe"], "which foreign_envs:GymWalk has not"),
        (
            ["--env", "foreign_envs:GymWalk", "--algo", "sac"],
            "--algo sac sets numbers, but the actions of foreign_envs",
        ),
        (["--env-settings", "pay=2"], "--env-settings has no effect without an environment of your own"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, words, complaint, capsys):
    assert exit_code(run, ["--storage", str(tmp_path), "--name", "x", *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_there_is_nothing_to_backtest_without_prices(tmp_path, capsys):
    train = partial(run_here, tmp_path / "walk", "--env", "foreign_envs:GymWalk", *PPO, *WALK)
    assert train("--episodes", 8) == 0
    assert exit_code(backtest, ["--model", str(tmp_path / "walk")]) == 2
    assert "walk was trained in foreign_envs:GymWalk, which has no prices" in capsys.readouterr().err


def test_returns_that_are_longer_than_every_episode_are_refused_when_they_are_first_drawn(tmp_path, capsys):
    """Nobody knows how long the user's episodes are before they have been seen."""
    words = ["--env", "foreign_envs:GymWalk", *DQN, *WALK, "--dqn.n-step", 6, "--episodes", 64]
    assert run_here(tmp_path / "run", *words) == 2
    shown = capsys.readouterr()
    assert "no episode of 'shared' in the replay buffer has the 6 steps of n_step" in shown.err
    assert "Traceback" not in shown.err + shown.out
    assert run_here(tmp_path / "run", *words, "--dqn.n-step", 5) == 0
