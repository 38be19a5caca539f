"""The score verb: what it prints and writes, what it refuses, and what its figures mean."""

import dataclasses
import json
import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import ray
import torch

from common.errors import InputError
from envs.optima.catalog import CATALOG, make_problem
from envs.optima.evaluation import Value
from envs.optima.evaluation import score as score_of
from envs.optima.kyle import KyleConfig
from experiments import score
from experiments.builders.algorithms import algorithm_config
from experiments.command_line import exit_code
from experiments.scoring import learning, settings, yardsticks
from experiments.scoring import seeds as keeping
from experiments.scoring.recipes import SCORED
from experiments.scoring.results import Learned, scored
from experiments.scoring.seeds import code_digest, keep, kept
from experiments.scoring.training import finished_record
from experiments.settings.arguments import named_values
from experiments.settings.run_config import MOST_SEED, RunConfig

pytestmark = pytest.mark.usefixtures("ray_session")

QUICK = {
    "maddpg": ["--maddpg.learning-starts", "64", "--maddpg.train-batch-size", "32", "--maddpg.num-updates", "2"],
    "mappo": ["--mappo.train-batch-size-per-learner", "256", "--mappo.minibatch-size", "128"],
    "ppo": ["--ppo.train-batch-size-per-learner", "256", "--ppo.minibatch-size", "128"],
    "indq": ["--indq.learning-starts", "64", "--indq.num-updates", "2", "--indq.prioritised-replay", "True"],
    "qmix": ["--qmix.learning-starts", "64", "--qmix.num-updates", "2", "--qmix.network", "gru"],
}
SHORT = ["--steps", "600", "--num-episodes", "64"]
SEED_9 = json.dumps(dataclasses.asdict(Learned(9, [1], [0.1], [0.1], 0.0, None, None, 2.5)))


def asked(tmp_path, *words):
    tmp_path.mkdir(exist_ok=True)
    return score.run([*map(str, words), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "score.json")])


def figures(tmp_path):
    """What score.json says of each seed, but for the time that it took."""
    seeds = json.loads((tmp_path / "out" / "score.json").read_text())["seeds"]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in seeds]


@pytest.mark.parametrize(
    ("market", "algo"),
    [("two-step", "qmix"), ("climbing", "indq"), ("merton", "maddpg"), ("kyle", "mappo"), ("almgren-chriss", "ppo")],
)
def test_seeds_are_trained_valued_and_shown(tmp_path, capsys, market, algo):
    agents = ["--agents", "3"] if market == "almgren-chriss" else []
    assert (
        asked(tmp_path, "--market", market, *agents, "--algo", algo, "--seeds", 2, "--seed", 4, *SHORT, *QUICK[algo])
        == 0
    )
    found = json.loads((tmp_path / "score.json").read_text())
    assert found == json.loads((tmp_path / "out" / "score.json").read_text())
    assert (tmp_path / "out" / "score.png").stat().st_size > 10_000
    problem = make_problem(market, num_agents=3 if agents else None)
    assert [one["seed"] for one in found["seeds"]] == [4, 5]
    assert found["agents"] == problem.num_agents
    assert found["optimum"] == pytest.approx(float(problem.optimal_value.mean()))
    learned = [one["learned"] for one in found["seeds"]]
    assert found["learned"]["mean"] == pytest.approx(np.mean(learned))
    for one in found["seeds"]:
        assert one["score"] == pytest.approx(score_of(one["learned"], found["optimum"], found["baseline"]))
        assert one["learned"] == pytest.approx(np.mean(one["of_each_agent"]))
        assert len(one["distance"]) == problem.num_agents
        assert one["steps"] == sorted(one["steps"])
        assert one["steps"][-1] >= 600
    printed = capsys.readouterr().out
    assert f"{algo} on {market}, {problem.num_agents} agent" in printed
    assert f"{found['score']['mean']:.4f}" in printed
    assert ("equilibrium" if problem.is_nash else "optimum") in printed
    assert f"{found['score']['low']:.4f} to {found['score']['high']:.4f}" in printed


def test_same_seed_gives_the_same_figures_and_another_one_others(tmp_path):
    words = ["--market", "merton", "--algo", "maddpg", "--seeds", "1", *SHORT, *QUICK["maddpg"]]
    found = []
    for i, seed in enumerate((3, 3, 9)):
        assert asked(tmp_path / str(i), *words, "--seed", seed) == 0
        found.append(figures(tmp_path / str(i))[0]["of_each_agent"])
    assert found[0] == found[1] != found[2]


def test_settings_of_the_market_and_of_the_learner_reach_both(tmp_path):
    words = ["--market", "kyle", "--settings", "reward=team", "num-rounds=4", "--algo", "mappo", "--seeds", "1"]
    assert asked(tmp_path, *words, *SHORT, *QUICK["mappo"], "--mappo.lr", "0.002", "--mappo.hidden", "8") == 0
    found = json.loads((tmp_path / "score.json").read_text())
    assert found["market_settings"] == dataclasses.asdict(KyleConfig(reward="team", num_rounds=4))
    assert (found["algo_settings"]["lr"], found["algo_settings"]["hidden"]) == (0.002, [8])
    assert found["algo_settings"]["gamma"] == 1.0, "of the recipe"
    problem = make_problem("kyle", settings={"reward": "team", "num_rounds": 4})
    assert found["optimum"] == pytest.approx(float(problem.optimal_value.mean()))


def test_team_of_sellers_is_scored_from_the_equilibrium_to_what_it_could_save(tmp_path):
    words = ["--market", "almgren-chriss", "--agents", "4", "--settings", "reward=team", "--algo", "mappo"]
    assert asked(tmp_path, *words, "--seeds", "1", *SHORT, *QUICK["mappo"]) == 0
    found = json.loads((tmp_path / "score.json").read_text())
    assert (found["optimum"], found["baseline"]) == pytest.approx((-2.4, -3.2049), abs=1e-4)
    assert found["score"]["mean"] == found["seeds"][0]["score"]


def test_lists_reach_the_market_and_separate_networks_ppo(tmp_path):
    words = ["--market", "merton", "--settings", "drift=[0.05,0.1]", "volatility=[0.2, 0.3]", "agents=per_asset"]
    words += ["--algo", "ppo", "--ppo.use-shared-networks", "False", "--seeds", "1"]
    assert asked(tmp_path, *words, *SHORT, *QUICK["ppo"]) == 0
    found = json.loads((tmp_path / "score.json").read_text())
    assert found["market_settings"]["volatility"] == [0.2, 0.3]
    assert found["agents"] == 2
    assert found["algo_settings"]["use_shared_networks"] is False


def test_each_seed_is_valued_on_episodes_of_its_own(tmp_path, monkeypatch):
    asked_for = []
    real = yardsticks.value
    monkeypatch.setattr(yardsticks, "value", lambda *a, **k: (asked_for.append(k.get("seed")), real(*a, **k))[1])
    assert asked(tmp_path, "--market", "kyle", "--seeds", 2, "--seed", 7, *SHORT, *QUICK["mappo"]) == 0
    own = [seed for seed in asked_for if seed]
    assert len(own) == len(set(own)) == 2


@pytest.mark.parametrize(("select", "found", "chosen"), [("last", -1.0, -1), ("best", -1.0, 0), ("best", 0.0, -1)])
def test_scored_policy_is_the_one_that_was_asked_for(tmp_path, monkeypatch, select, found, chosen):
    """Where every evaluation finds less than the one before, the best policy is the first; where all find the same, it
    is the one that has learned longest."""
    seen, scored_on = [], []

    def value(market, team, *, num_episodes, seed=0):
        act = team.act(torch.zeros(1, 1, 2)).tolist()
        (scored_on if seed else seen).append(act)
        return Value(torch.full((num_episodes, 1), found * len(seen), dtype=torch.float64))

    monkeypatch.setattr(yardsticks.KnownMarket, "value", value)
    words = ["--market", "merton", "--algo", "mappo", "--seeds", 1, "--select", select, "--mappo.lr", "0.002"]
    assert asked(tmp_path, *words, *SHORT, *QUICK["mappo"]) == 0
    assert json.loads((tmp_path / "score.json").read_text())["select"] == select
    assert len({str(act) for act in seen}) == len(seen) > 1, "it learns from one evaluation to the next"
    assert scored_on == [seen[chosen]]


def test_evaluations_on_the_way_take_as_many_episodes_as_are_asked_for(tmp_path, monkeypatch, capsys):
    taken, real = [], yardsticks.KnownMarket.value

    def value(*args, num_episodes, **kwargs):
        taken.append(num_episodes)
        return real(*args, num_episodes=num_episodes, **kwargs)

    monkeypatch.setattr(yardsticks.KnownMarket, "value", value)
    words = ["--market", "merton", "--algo", "mappo", "--seeds", 1, *SHORT, *QUICK["mappo"]]
    assert asked(tmp_path, *words, "--num-evaluation-episodes", 24) == 0
    assert json.loads((tmp_path / "score.json").read_text())["num_evaluation_episodes"] == 24
    assert (set(taken[:-1]), taken[-1]) == ({24}, 64)
    taken.clear()
    assert asked(tmp_path, *words) == 0
    assert set(taken) == {64}, "what was found with fewer episodes is not taken for this"
    assert json.loads((tmp_path / "score.json").read_text())["num_evaluation_episodes"] == 64
    words = [*map(str, words), "--num-evaluation-episodes", "65", "--out", str(tmp_path / "out")]
    assert exit_code(score.run, words) == 2
    assert "--num-evaluation-episodes 65 is more than the 64 episodes" in capsys.readouterr().err


def test_equilibrium_has_no_best_policy_on_the_way(tmp_path, capsys):
    assert exit_code(score.run, ["--market", "kyle", "--select", "best", "--out", str(tmp_path / "out")]) == 2
    assert "--select best: these agents play against each other" in capsys.readouterr().err


def interrupted(monkeypatch, seed):
    """Ctrl-C after this seed's first evaluation; returns the seeds that learn in this process, as they begin."""
    real, started = learning.learn, []

    def learn(run, *args, **kwargs):
        started.append(run.seed)
        for one in real(run, *args, **kwargs):
            yield one
            if run.seed == seed and started.count(seed) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(learning, "learn", learn)
    return started


def test_interrupted_score_carries_on_with_the_seeds_that_are_not_done(tmp_path, monkeypatch, capsys):
    """With the figures and the picture of one that was never interrupted; several at once change nothing either."""
    words = ["--market", "kyle", "--seeds", 3, *SHORT, *QUICK["mappo"]]
    assert asked(tmp_path / "unbroken", *words) == 0
    started = interrupted(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        asked(tmp_path, *words)
    assert figures(tmp_path) == figures(tmp_path / "unbroken")[:1]
    assert not finished_record(settings.parse_score(list(map(str, words))), tmp_path / "out")
    capsys.readouterr()
    assert asked(tmp_path, *words, "--jobs", 2) == 0
    assert started == [0, 1], "the others have learned in processes of their own"
    assert figures(tmp_path) == figures(tmp_path / "unbroken")
    assert (tmp_path / "out" / "score.png").read_bytes() == (tmp_path / "unbroken" / "out" / "score.png").read_bytes()
    assert finished_record(settings.parse_score(list(map(str, words))), tmp_path / "out")
    printed = capsys.readouterr().out
    assert "done before: seed 0 (in" in printed
    assert {line.split()[1] for line in printed.splitlines() if line.startswith("seed ")} == {"1", "2"}
    assert asked(tmp_path, *words, "--mappo.lr", "0.002", "--seeds", "1") == 0
    assert started == [0, 1, 0], "what was learned with other settings does not count"


@pytest.mark.slow
def test_networks_of_their_own_learn_the_same_in_every_process(tmp_path):
    """Each process has an order of its own for sets of names, and networks are drawn one after another."""
    words = ["--market", "almgren-chriss", "--agents", 4, "--algo", "ppo", "--ppo.use-shared-networks", "False"]
    words += [*QUICK["ppo"], "--steps", 256, "--num-episodes", 64, "--seeds", 2]
    for jobs in (1, 2):
        assert asked(tmp_path / str(jobs), *words, "--jobs", jobs) == 0
    assert figures(tmp_path / "1") == figures(tmp_path / "2")


@pytest.mark.parametrize("algo", SCORED)
def test_a_seed_samples_in_the_process_that_it_learns_in(algo):
    yardstick = yardsticks.make_yardstick("almgren-chriss", algo, num_agents=2, settings={"actions": "ladder"})
    environment = learning.YardstickEnvironment(yardstick, num_episodes=64)
    config = algorithm_config(RunConfig(algo=algo), environment)
    assert (config.num_env_runners, config.num_learners) == (0, 0)


def test_seeds_whose_command_has_ended_do_not_learn_on(tmp_path):
    config = settings.parse_score(["--market", "kyle", "--mappo.train-batch-size-per-learner", "16384"])
    runs = [RunConfig(seed=seed, algo="mappo", mappo=config.mappo) for seed in (0, 1)]
    make = partial(yardsticks.make_yardstick, "kyle", "mappo", num_agents=None, settings={})
    free = ray.available_resources()["CPU"]
    found = learning.learn_seeds(
        runs, make, tmp_path, jobs=2, steps=20 * 16_384, num_episodes=64, num_evaluation_episodes=64
    )
    assert next(found).steps == 16_384, "the first of twenty evaluations"
    assert ray.available_resources()["CPU"] < free
    found.close()
    deadline = time.monotonic() + 30
    while ray.available_resources()["CPU"] < free:
        assert time.monotonic() < deadline, "a seed learns on"
        time.sleep(0.2)


def test_a_seed_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    """What it had learned is not learned again, and its figures are those of one that never stopped."""
    config = settings.parse_score(["--market", "kyle", *QUICK["mappo"]])
    run = replace(RunConfig(seed=3, algo="mappo", mappo=config.mappo), checkpoint_interval_s=0.0)
    yardstick = yardsticks.make_yardstick("kyle", "mappo", num_agents=None, settings={})
    wanted = {"steps": 6_000, "num_episodes": 64, "num_evaluation_episodes": 64, "takes_best": False}
    *_, unbroken = learning.learn(run, yardstick, tmp_path / "one", **wanted)
    killed = learning.learn(run, yardstick, tmp_path / "two", **wanted)
    reached = [next(killed).steps for _ in range(3)]
    killed.close()
    *way, found = learning.learn(run, yardstick, tmp_path / "two", **wanted)
    assert way[0].steps >= reached[-2], "the last one reported may have had no checkpoint yet"
    same = {"seconds": 0.0}
    assert replace(found, **same) == replace(unbroken, **same)


def test_seeds_beside_one_whose_process_dies_learn_to_their_end(tmp_path):
    config = settings.parse_score(["--market", "kyle", *QUICK["mappo"]])
    runs = [RunConfig(seed=seed, algo="mappo", mappo=config.mappo) for seed in (0, 1)]

    def make():
        with suppress(FileExistsError):
            (tmp_path / "has died").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
        return yardsticks.make_yardstick("kyle", "mappo", num_agents=None, settings={})

    wanted = {"steps": 600, "num_episodes": 64, "num_evaluation_episodes": 64}
    found, ended = learning.learn_seeds(runs, make, tmp_path, jobs=2, **wanted), []
    with pytest.raises(learning.SeedFailedError, match="its process died") as failed:
        ended.extend(one.seed for one in found if isinstance(one, Learned))
    assert len(ended) == 1
    assert f"seed {1 - ended[0]}:" in str(failed.value)


def test_seed_that_the_machine_has_no_memory_for_is_told_in_one_line(capsys):
    def verb(argv):
        raise learning._reason(ray.exceptions.OutOfMemoryError("killed"), 3)

    assert exit_code(verb, []) == 1
    said = "error: too little memory on this machine (seed 3: its process was ended): ask for less\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("number", [0.1, math.nan, math.inf])
def test_what_a_seed_has_learned_is_known_again_number_for_number(tmp_path, number):
    one = Learned(3, [1, 2], [1 / 3, number], [number, 0.5], number, [[0.1], [0.2]], ([[number]], [[1.0]]), 2.5)
    keep(tmp_path, {"lr": 0.1}, one)
    again = kept(tmp_path, {"lr": 0.1}, 3)
    assert repr(again) == repr(one), "for NaN is not equal to itself"
    assert kept(tmp_path, {"lr": 0.2}, 3) is None
    assert kept(tmp_path, {"lr": 0.1}, 4) is None


def test_what_another_program_has_learned_does_not_count(tmp_path, monkeypatch):
    keep(tmp_path, {}, Learned(3, [1], [0.1], [0.1], 0.0, None, None, 2.5))
    assert kept(tmp_path, {}, 3) is not None
    monkeypatch.setattr(keeping, "installed_version", lambda name: "0.0")
    code_digest.cache_clear()
    assert kept(tmp_path, {}, 3) is None
    monkeypatch.undo()
    monkeypatch.setattr(keeping, "_SOURCES", ("algos",))
    code_digest.cache_clear()
    assert kept(tmp_path, {}, 3) is None
    monkeypatch.undo()
    code_digest.cache_clear()


@pytest.mark.parametrize(
    "learned", ["{", "[]", "{}", '{"seed": 3}', SEED_9, SEED_9.replace("9", "3").replace("[0.1]", "5")]
)
def test_damaged_file_of_a_seed_is_named(tmp_path, learned):
    (tmp_path / "seeds").mkdir()
    text = f'{{"head": {{}}, "code": "{code_digest()}", "learned": {learned}}}'
    (tmp_path / "seeds" / "3.json").write_text(text)
    with pytest.raises(InputError, match=r"seeds/3\.json is damaged: remove it, and seed 3 is learned again"):
        kept(tmp_path, {}, 3)


def test_where_the_simple_policy_is_as_good_as_the_best_there_is_no_score():
    best = float(make_problem("merton").optimal_value)
    one = Learned(0, [1], [0.0], [3.0], 0.0, [[1.0]], ([[0.0]], [[0.0]]), 1.0)
    found = scored([one], baseline=best, optimum=best)
    assert (found["score"], found["seeds"][0]["score"], found["learned"]["mean"]) == (None, None, 3.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--market", "merten"], "market 'merten' does not exist.*'merton'"),
        (["--market", "two-step", "--agents", "3"], "market two-step has 2 agents with these settings, not 3"),
        (["--market", "merton", "--algo", "indq"], "--algo indq chooses among discrete actions"),
        (
            ["--market", "merton", "--algo", "qmix", "--jobs", "2"],
            "--algo qmix chooses among discrete actions",
        ),
        (["--algo", "iql", "--qmix.num-quantiles", "3"], "--algo iql is called indq now: give --algo indq"),
        (["--algo", "dreamer"], "--algo is 'dreamer', which does not exist"),
        (["--algo", "mappo", "--qmix.lr", "1"], "--qmix.lr has no effect on --algo mappo"),
        (["--algo", "qmix", "--qmix.num-layers", "1"], "--qmix.num-layers has no effect on --network mlp"),
        (["--settings", "reward"], "--settings reward: give name=value"),
        (["--settings", "rewrd=team"], "market merton: setting 'rewrd'"),
        (["--seeds", "0"], "--seeds is '0': input should be greater than 0"),
        (["--mappo.minibatch-size", "9000"], "mappo.minibatch_size is 9000, more than the batch"),
        (["--algo", "ppo", "--ppo.minibatch-size", "9000"], "RLlib refuses these settings of ppo: "),
        (["--settings", "drift=[1"], r"--settings drift=\[1: the value cannot be read"),
        (["--seed", str(MOST_SEED), "--seeds", "2"], "leaves no room for --seeds 2"),
        (["--market", "kyle", "--agents", "2", "--settings", "num_traders=5"], "num_traders.* which num_agents says"),
        (["--market", "almgren-chriss", "--agents", "3", "--settings", "num_steps=0"], "num_steps.*greater than 0"),
        (["--market", "almgren-chriss", "--agents", "3", "--settings", "permanent=abc"], "permanent.*valid number"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, words, said):
    assert exit_code(score.run, [*words, "--steps", "10", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(err)
    assert not (tmp_path / "out" / "score.json").exists()


def test_help_names_every_market_and_algorithm(capsys):
    assert score.run(["--help"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(name in printed for name in (*CATALOG, *SCORED))


def test_settings_words():
    assert named_values(["a-b=1", "c=x", "d=[1", " 2]"], flag="--settings") == {"a_b": 1, "c": "x", "d": [1, 2]}
    with pytest.raises(InputError):
        named_values(["=3"], flag="--settings")
