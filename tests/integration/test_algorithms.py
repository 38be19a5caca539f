"""Every algorithm, desk and way of scaling, through the one command that a user gives."""

import json

import pytest
from commands import (
    APPO,
    CLOCK,
    IMPALA,
    INDQ,
    MADDPG,
    MAPPO,
    MARKET,
    PPO,
    QMIX,
    SAC,
    TQC,
    checkpoints,
    meta,
    run_here,
    summary,
)

from algos.policy import load_policy
from experiments.backtesting.compare import backtest_models
from experiments.runs.models import find_models

pytestmark = pytest.mark.usefixtures("ray_session")
EPISODES = ["--episodes", "16"]
DQN = [*MARKET, *CLOCK, "--algo", "dqn", "--dqn.learning-starts", "64", "--dqn.num-envs-per-env-runner", "2"]
REMOTE = ["--scaling.num-env-runners", "2", "--scaling.num-learners", "2"]


def check(folder, *, agents):
    found = summary(folder)
    assert found["status"] == "complete"
    assert found["episodes"] >= 16
    assert found["agent_steps"] == agents * found["env_steps"] > 0
    newest = meta(folder / found["latest_checkpoint"])
    assert (newest["episode"], newest["total_steps"]) == (found["episodes"], found["env_steps"])
    report = json.loads((folder / "backtest" / "backtest.json").read_text())
    assert report["strategy"]["final_equity"] > 0
    weights = {meta(path)["weights_sha256"] for path in checkpoints(folder)}
    assert len(weights) == len(checkpoints(folder)) >= 2, "it learns between checkpoints"
    check_figures(folder)
    return newest


def check_figures(folder):
    """What an evaluation says of the newest checkpoint, a backtest over the validation split says too."""
    found = summary(folder)
    models = find_models([folder / found["latest_checkpoint"]])
    tested = backtest_models(models, load=load_policy, split="validation").strategies[0].metrics
    expected = {name: tested[name] for name in ("sharpe", "calmar", "max_drawdown", "num_trades", "turnover")}
    expected |= {"return": tested["total_return"], "total_costs_usd": tested["total_costs"]}
    assert {name: found["metrics"][name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_vdn(tmp_path):
    assert run_here(tmp_path / "vdn", *QMIX, "--algo", "vdn", *EPISODES) == 0
    assert 0 < check(tmp_path / "vdn", agents=3)["epsilon"] < 1


@pytest.mark.slow
def test_indq_of_rivals_by_priority(tmp_path):
    words = ["--indq.prioritised-replay", "True", "--indq.num-quantiles", "4"]
    words += ["--desk.preset", "rivals", "--desk.num-agents", "2"]
    assert run_here(tmp_path / "indq", *INDQ, *words, *EPISODES) == 0
    assert 0 < check(tmp_path / "indq", agents=2)["epsilon"] < 1


def test_ppo_has_no_epsilon(tmp_path):
    assert run_here(tmp_path / "ppo", *PPO, *EPISODES) == 0
    assert check(tmp_path / "ppo", agents=3)["epsilon"] is None


def test_mappo_has_no_epsilon(tmp_path):
    assert run_here(tmp_path / "mappo", *MAPPO, *EPISODES) == 0
    assert check(tmp_path / "mappo", agents=3)["epsilon"] is None


def test_continuous_ippo(tmp_path):
    assert run_here(tmp_path / "ippo", *MAPPO, "--algo", "ippo", "--desk.action", "continuous", *EPISODES) == 0
    check(tmp_path / "ippo", agents=3)


def test_dqn(tmp_path):
    assert run_here(tmp_path / "dqn", *DQN, *EPISODES) == 0
    assert 0 < check(tmp_path / "dqn", agents=3)["epsilon"] < 1


def test_sac_has_no_epsilon(tmp_path):
    assert run_here(tmp_path / "sac", *SAC, *EPISODES) == 0
    assert check(tmp_path / "sac", agents=3)["epsilon"] is None


@pytest.mark.slow
def test_impala_has_no_epsilon(tmp_path):
    assert run_here(tmp_path / "impala", *IMPALA, *EPISODES) == 0
    assert check(tmp_path / "impala", agents=3)["epsilon"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [APPO, [*APPO, "--desk.action", "continuous"], TQC], ids=["appo", "continuous", "tqc"]
)
def test_appo_and_tqc(tmp_path, words):
    assert run_here(tmp_path / "run", *words, *EPISODES) == 0
    check(tmp_path / "run", agents=3)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["impala", "appo"])
def test_impala_obeys_masks_and_takes_every_role(tmp_path, algo):
    words = [*MARKET, *CLOCK, "--algo", algo, "--preset", "roles", "--desk.max-rung-change", "1"]
    assert run_here(tmp_path / "roles", *words, *EPISODES) == 0
    check_figures(tmp_path / "roles")


def test_ppo_sampled_by_rllibs_own_runner(tmp_path):
    assert run_here(tmp_path / "ppo", *PPO, "--runner", "rllib", *EPISODES) == 0
    check(tmp_path / "ppo", agents=3)


@pytest.mark.slow
def test_continuous_ppo(tmp_path):
    assert run_here(tmp_path / "ppo", *PPO, "--desk.action", "continuous", *EPISODES) == 0
    check(tmp_path / "ppo", agents=3)


@pytest.mark.slow
@pytest.mark.parametrize("words", [[*QMIX, "--preset", "roles"], [*PPO, "--preset", "roles"]])
def test_roles(tmp_path, words):
    assert run_here(tmp_path / "roles", *words, *EPISODES) == 0
    check(tmp_path / "roles", agents=5)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["team", "rllib"])
def test_rivals(tmp_path, runner):
    assert run_here(tmp_path / "rivals", *PPO, "--preset", "rivals", "--runner", runner, *EPISODES) == 0
    check(tmp_path / "rivals", agents=len(json.loads((tmp_path / "rivals" / "config.json").read_text())["agents"]))


@pytest.mark.slow
def test_separate_and_recurrent_networks(tmp_path):
    words = ["--qmix.network", "gru", "--qmix.sequence-length", "8", "--qmix.no-use-shared-networks"]
    assert run_here(tmp_path / "gru", *QMIX, *words, *EPISODES) == 0
    check(tmp_path / "gru", agents=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [QMIX, PPO, [*PPO, "--runner", "rllib"], DQN, SAC, TQC, IMPALA, APPO, MAPPO, [*MAPPO, "--algo", "ippo"], MADDPG],
    ids=["qmix", "ppo", "ppo by rllib", "dqn", "sac", "tqc", "impala", "appo", "mappo", "ippo", "maddpg"],
)
def test_two_runners_and_two_learners_and_a_resume(tmp_path, words):
    folder = tmp_path / "scaled"
    assert run_here(folder, *words, *REMOTE, "--episodes", "48") == 0
    check(folder, agents=3)
    before = summary(folder)
    assert run_here(folder, "--episodes", before["episodes"] + 16) == 0
    assert summary(folder)["episodes"] >= before["episodes"] + 16
    assert summary(folder)["env_steps"] > before["env_steps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [PPO, [*PPO, "--runner", "rllib"], DQN, SAC, TQC, IMPALA, APPO, MAPPO, MADDPG],
    ids=["ppo", "ppo by rllib", "dqn", "sac", "tqc", "impala", "appo", "mappo", "maddpg"],
)
def test_resume_counts_on(tmp_path, words):
    folder = tmp_path / "again"
    assert run_here(folder, *words, *EPISODES) == 0
    before = summary(folder)
    assert run_here(folder, "--episodes", before["episodes"] + 16) == 0
    after = summary(folder)
    assert after["episodes"] >= before["episodes"] + 16
    per_episode = before["env_steps"] / before["episodes"]
    assert after["env_steps"] == pytest.approx(per_episode * after["episodes"], rel=0.3)
    assert after["agent_steps"] == 3 * after["env_steps"]


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (DQN, "--dqn.learning-starts"),
        pytest.param(SAC, "--sac.learning-starts", marks=pytest.mark.slow),
        pytest.param(TQC, "--tqc.learning-starts", marks=pytest.mark.slow),
        pytest.param(QMIX, "--qmix.learning-starts", marks=pytest.mark.slow),
        pytest.param([*INDQ, "--indq.prioritised-replay", "True"], "--indq.learning-starts", marks=pytest.mark.slow),
        pytest.param(MADDPG, "--maddpg.learning-starts", marks=pytest.mark.slow),
    ],
    ids=["dqn", "sac", "tqc", "qmix", "indq", "maddpg"],
)
def test_run_that_was_saved_before_it_began_to_learn_ends_as_an_unbroken_one(tmp_path, words, starts):
    words = [*words, starts, 300]  # after some 15 episodes
    assert run_here(tmp_path / "broken", *words, "--episodes", 8) == 0
    begun = summary(tmp_path / "broken")
    assert begun["env_steps"] < 300
    assert run_here(tmp_path / "broken", "--episodes", 32) == 0
    assert run_here(tmp_path / "unbroken", *words, "--episodes", 32) == 0
    ended, wanted = summary(tmp_path / "broken"), summary(tmp_path / "unbroken")
    assert ended["weights_sha256"] == wanted["weights_sha256"] != begun["weights_sha256"]
    assert ended["env_steps"] == wanted["env_steps"]
