"""The score verb on benchmarks: what is trained, valued and shown where nobody knows the best policy."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from test_score import QUICK, SHORT, asked

from algos.team_env import MultiAgentTeamEnv
from common.counted import counted_seed
from envs.benchmarks.published import PUBLISHED
from envs.benchmarks.rllib import BenchmarkEnv
from experiments import score
from experiments.command_line import exit_code
from experiments.scoring import settings
from experiments.scoring.recipes import SCORED, recipe
from experiments.scoring.standing import BENCHMARKS, STANDING, judge
from experiments.scoring.training import finished_record
from experiments.scoring.yardsticks import make_yardstick, play

pytestmark = pytest.mark.usefixtures("ray_session")


class Repeating:
    """Each agent takes its choice always; counts how often it forgets."""

    def __init__(self, *choices):
        self.choices, self.resets = torch.tensor(choices), 0

    def reset(self):
        self.resets += 1

    def act(self, obs, action_mask=None):
        return self.choices.expand(len(obs), -1)


class Paying(MultiAgentEnv):
    """Pays one a step, in episodes of as many steps as the seed says, and of three where it says nothing."""

    def __init__(self):
        super().__init__()
        self.possible_agents = self.agents = ["only"]
        self.observation_spaces = {"only": gym.spaces.Box(0, 1, (1,), np.float32)}
        self.action_spaces = {"only": gym.spaces.Discrete(2)}

    def reset(self, *, seed=None, options=None):
        self.left = 3 if seed is None else 1 + seed % 7
        return {"only": np.zeros(1, np.float32)}, {}

    def step(self, action_dict):
        self.left -= 1
        ends = dict.fromkeys(("only", "__all__"), self.left == 0)
        return {"only": np.zeros(1, np.float32)}, {"only": 1.0}, ends, dict.fromkeys(ends, False), {}


@pytest.mark.parametrize(
    ("market", "algo", "seeds", "gamma"),
    [
        ("lbf:5x5-2p-1f-coop", "qmix", [4], 0.99),
        ("mpe:simple_spread", "mappo", [4], 0.95),
        ("mpe:simple_speaker_listener", "maddpg", [4, 5], 0.95),
    ],
)
def test_benchmarks_are_trained_valued_and_shown_beside_what_was_published(
    tmp_path, capsys, market, algo, seeds, gamma
):
    words = ["--market", market, "--algo", algo, "--seeds", len(seeds), "--seed", 4]
    assert asked(tmp_path, *words, *SHORT, *QUICK[algo]) == 0
    found = json.loads((tmp_path / "score.json").read_text())
    assert found == json.loads((tmp_path / "out" / "score.json").read_text())
    assert (tmp_path / "out" / "score.png").stat().st_size > 10_000
    published = PUBLISHED.get((market, algo))
    by_hand = market == "mpe:simple_speaker_listener"
    assert found["reference"] == (pytest.approx(-15, abs=1) if by_hand else published and published.value)
    assert found["published"] == (published and published.says())
    assert found["best_is"] == ("hand-written" if by_hand else "published")
    assert (found["optimum"], found["score"], found["distance"]) == (None, None, None)
    assert (found["market"], found["num_episodes"]) == (market, 64)
    assert found["algo_settings"]["gamma"] == gamma
    assert [one["seed"] for one in found["seeds"]] == seeds
    assert found["learned"]["mean"] == pytest.approx(np.mean([one["learned"] for one in found["seeds"]]))
    for one in found["seeds"]:
        assert len(one["of_each_agent"]) == found["agents"]
        assert one["of_each_agent"] == pytest.approx([one["learned"]] * found["agents"]), "they share one reward"
        assert (one["score"], one["distance"]) == (None, None)
        assert len(one["steps"]) == len(one["curve"]) > 1
        assert one["steps"][-1] >= 600
    printed = capsys.readouterr().out
    assert f"{algo} on {market}, {found['agents']} agents" in " ".join(printed.split())
    assert f"{found['learned']['mean']:.4f}" in printed
    assert f"{found['baseline']:.4f}" in printed
    assert ("hand-written" in printed) == by_hand
    assert ("Papoudakis et al. 2021" in printed) == (published is not None)


@pytest.mark.slow
def test_same_seed_gives_the_same_figures_and_another_one_others(tmp_path):
    words = ["--market", "mpe:simple_spread", "--algo", "qmix", "--seeds", "1", *QUICK["qmix"][:4]]
    words += ["--steps", "256", "--num-episodes", "32"]
    found = []
    for i, seed in enumerate((3, 3, 9)):
        assert asked(tmp_path / str(i), *words, "--seed", seed) == 0
        one = json.loads((tmp_path / str(i) / "score.json").read_text())["seeds"][0]
        found.append((one["learned"], one["curve"]))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


def test_episodes_are_those_of_single_environments():
    market, wanted = {"market": "lbf:5x5-2p-1f"}, []
    env = MultiAgentTeamEnv([BenchmarkEnv(market) for _ in range(8)])
    team = Repeating(5, 3)
    found = play(env, team, num_episodes=20, seed=6)
    assert found.returns.shape == (20, 2)
    assert team.resets == 3, "once a round"
    for i in range(3):
        for b in range(8):
            alone, total = BenchmarkEnv(market), 0.0
            alone.reset(seed=(counted_seed(6, i) + b) % 2**32)
            while alone.agents:
                _, rewards, _, _, _ = alone.step({"forager_0": 5, "forager_1": 3})
                total += rewards["forager_0"]
            wanted.append(total)
    assert found.returns[:, 0].tolist() == pytest.approx(wanted[:20])
    assert 0 < sum(wanted[:20]) < 20


def test_what_comes_after_an_episode_does_not_count():
    found = play(MultiAgentTeamEnv([Paying() for _ in range(6)]), Repeating(1), num_episodes=12, seed=2)
    assert found.returns[:, 0].tolist() == [
        1 + (counted_seed(2, i) + b) % 2**32 % 7 for i in range(2) for b in range(6)
    ]


def test_values_of_different_seeds_are_of_different_episodes():
    yardstick = make_yardstick("mpe:simple_speaker_listener", "qmix", num_agents=None, settings={})
    first, again, other = (yardstick.value(Repeating(0, 0), num_episodes=40, seed=s).returns for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not set(first[:, 0].tolist()) & set(other[:, 0].tolist())


def test_published_spread_is_in_the_units_of_the_package():
    """Random actions return about -700 / 3 in the units of the paper (EPyMARL's issue 29), of which this is the sum."""
    yardstick = make_yardstick("mpe:simple_spread", "qmix", num_agents=None, settings={})
    assert 2 * yardstick.baseline(256) - 75 == pytest.approx(-700 / 3, rel=0.05)
    assert yardstick.reference == pytest.approx((-126.62 + 75) / 2)


@pytest.mark.parametrize("market", ["mpe:simple_spread", "mpe:simple_speaker_listener"])
def test_with_other_settings_there_is_nothing_to_hold_a_benchmark_against(market):
    yardstick = make_yardstick(market, "qmix", num_agents=None, settings={"max_cycles": 50})
    assert yardstick.reference is None
    assert yardstick.best_is == "published"


def test_speaker_and_listener_are_held_against_a_pair_written_by_hand():
    yardstick = make_yardstick("mpe:simple_speaker_listener", "qmix", num_agents=None, settings={})
    rows = [row for row in BENCHMARKS if row.problem == "MPE simple speaker listener"]
    assert [row.algo for row in rows] == ["maddpg", "qmix", "mappo"]
    worth, random = yardstick.reference, yardstick.baseline(256)
    assert random < 3 * worth < 0

    def judged(part):
        learned = [{"learned": random + part * (worth - random) + i / 1e6} for i in range(5)]
        return judge(rows[0], {"seeds": learned, "reference": worth, "baseline": random})

    assert judged(1.0).found.mean == pytest.approx(1.0, abs=1e-4)
    assert judged(0.985).is_met
    assert not judged(0.975).is_met
    seeds = [{"learned": 1.0}, {"learned": 1.5}]
    found = judge(rows[1], {"seeds": seeds, "reference": 2.0, "baseline": 0.5})
    assert (found.measure, found.found.mean) == ("part of the hand-written gain", pytest.approx(0.5))


def test_rows_ask_for_what_was_published_with_no_more_steps_and_cite_it():
    assert STANDING[-len(BENCHMARKS) :] == BENCHMARKS
    for row in BENCHMARKS:
        config = settings.parse_score(row.words)
        published = PUBLISHED.get((config.market, config.algo))
        if published is None:
            assert "no published value" in row.note
            assert row.goal is not None
            continue
        assert row.goal.measure == "return"
        assert row.goal.least == pytest.approx(published.value, abs=0.0051)
        assert "arXiv:2006.07869, table 3" in row.note
        assert recipe(config.market, config.algo).steps <= published.steps
        reached, missed = ({"seeds": [{"learned": published.value + d + i / 1e6} for i in range(5)]} for d in (1, -1))
        assert judge(row, reached).is_met
        assert not judge(row, missed).is_met


def test_foraging_is_to_eat_nearly_all_of_the_food():
    rows = [row for row in BENCHMARKS if row.problem.startswith("LBF")]
    assert len(rows) == 4
    for row in rows:
        reached, missed = ({"seeds": [{"learned": at + i / 1e4} for i in range(5)]} for at in (0.995, 0.98))
        assert judge(row, reached).is_met
        assert not judge(row, missed).is_met


def test_record_is_known_again_until_something_differs(tmp_path):
    words = ["--market", "lbf:5x5-2p-1f-coop", "--algo", "mappo", "--seeds", "1", *SHORT, *QUICK["mappo"]]
    assert asked(tmp_path, *words) == 0
    assert finished_record(settings.parse_score(words), tmp_path / "out")
    assert not finished_record(settings.parse_score([*words, "--settings", "sight=2"]), tmp_path / "out")


def test_every_learner_has_a_recipe_of_existing_settings():
    for market in ("lbf:5x5-2p-1f-coop", "mpe:simple_spread"):
        for algo in SCORED:
            settings.parse_score(["--market", market, "--algo", algo])
            assert recipe(market, algo).num_episodes == 512
    assert recipe("merton", "ppo").num_episodes == 4096


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--market", "lbf:5x5-2p-1f-cop"], "does not exist .did you mean 'lbf:5x5-2p-1f-coop'"),
        (["--market", "lbv:5x5-2p-1f-coop"], "floor:merton, or a benchmark, lbf:ID or mpe:ID"),
        (["--market", "mpe:simple_spread", "--agents", "4"], "has 3 agents with these settings, not 4"),
        (
            ["--market", "mpe:simple_spread", "--algo", "qmix", "--settings", "continuous_actions=true"],
            "chooses among discrete actions",
        ),
        (
            ["--market", "mpe:simple_speaker_listener", "--algo", "ppo", "--ppo.use-shared-networks", "True"],
            "needs agents with equally wide observations",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, words, said):
    quick = ["--steps", "10", "--num-episodes", "2", "--out", str(tmp_path / "out")]
    assert exit_code(score.run, [*words, *quick]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(err)
    assert not (tmp_path / "out" / "score.json").exists()
