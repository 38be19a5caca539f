"""The score verb on the trading floor itself: what policies are worth there, and what is trained, shown and refused."""

import json

import numpy as np
import pytest
import torch
from test_score import QUICK, SHORT, asked

from common.errors import InputError
from envs.floor import build_floor
from experiments import score
from experiments.command_line import exit_code
from experiments.scoring import yardsticks
from experiments.scoring.yardsticks import FLOOR_MERTON, make_yardstick

pytestmark = pytest.mark.usefixtures("ray_session")

SMALL = {"num_bars": 3_000, "horizon_bars": 6}


class Holding:
    """Sets one weight for each agent, as a part of the largest."""

    def __init__(self, *parts):
        self.parts = torch.tensor(parts)[:, None]

    def reset(self):
        """Nothing to forget."""

    def act(self, obs, action_mask=None):
        return self.parts.expand(len(obs), -1, 1)


@pytest.fixture(scope="module")
def floor():
    return make_yardstick(FLOOR_MERTON, "ippo", num_agents=2, settings={**SMALL, "correlation": 0.2})


def test_best_policy_reaches_the_optimum_and_cash_the_baseline(floor):
    best = floor.problem.best_weights / floor.problem.config.max_weight
    value = floor.value(Holding(*best), num_episodes=8)
    assert value.returns.shape == (8, 2)
    np.testing.assert_allclose(value.returns, floor.optimum, rtol=1e-6)
    np.testing.assert_allclose(floor.distance(Holding(*best), num_episodes=8), 0.0, atol=1e-6)
    assert floor.value(Holding(0.0, 0.0), num_episodes=8).team_mean == pytest.approx(floor.baseline(8))
    less = floor.value(Holding(0.7 * best[0], best[1]), num_episodes=8)
    assert floor.baseline(8) < less.team_mean < floor.optimum


def test_a_policy_is_chosen_in_bars_of_validation_and_valued_in_those_of_the_test(floor, monkeypatch):
    parts = []
    monkeypatch.setattr(
        yardsticks, "build_floor", lambda spec, **kind: parts.append(kind["split"]) or build_floor(spec, **kind)
    )
    floor.value(Holding(0.1, 0.1), num_episodes=4)
    floor.value(Holding(0.1, 0.1), num_episodes=4, seed=1 << 32)
    assert parts == ["validation", "test"]


def test_distance_is_that_of_each_agent_from_its_own_best(floor):
    best = floor.problem.best_weights / floor.problem.config.max_weight
    distance = floor.distance(Holding(best[0], best[1] + 0.1), num_episodes=8)
    np.testing.assert_allclose(distance[:, 0], [0.0, 0.1 * floor.problem.config.max_weight], atol=1e-6)
    shown_best, shown = floor.shown(Holding(best[0] / 2, best[1]))
    assert len(shown_best) == len(shown) == 32 * 6
    np.testing.assert_allclose(np.array(shown_best)[:, 0], 2 * np.array(shown)[:, 0], rtol=1e-6)


def test_policy_that_trades_is_worth_the_mean_over_its_days(floor):
    class Wavering(Holding):
        calls = 0

        def act(self, obs, action_mask=None):
            self.calls += 1
            return super().act(obs) * (self.calls % 2)

    part = floor.problem.best_weights / floor.problem.config.max_weight
    value = floor.value(Wavering(*part), num_episodes=4)
    np.testing.assert_allclose(value.returns, (floor.optimum + floor.baseline(4)) / 2, rtol=1e-6)


@pytest.mark.parametrize(("algo", "num_agents"), [("ippo", 2), ("maddpg", 1), ("ppo", 2)])
def test_learners_are_trained_valued_and_shown(tmp_path, capsys, algo, num_agents):
    section = "mappo" if algo == "ippo" else algo
    words = ["--market", FLOOR_MERTON, "--agents", num_agents, "--algo", algo, "--seeds", 2, "--settings"]
    words += [f"{name}={value}" for name, value in SMALL.items()]
    assert asked(tmp_path, *words, *SHORT, *QUICK[section]) == 0
    found = json.loads((tmp_path / "score.json").read_text())
    assert found["agents"] == num_agents
    assert found["optimum"] > found["baseline"]
    assert all(len(one["distance"]) == num_agents for one in found["seeds"])
    assert (tmp_path / "out" / "score.png").stat().st_size > 10_000
    assert f"{algo} on {FLOOR_MERTON}, {num_agents} agent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--market", "floor:kyle"], "floor:merton, or a benchmark, lbf:ID or mpe:ID"),
        (
            ["--market", FLOOR_MERTON, "--algo", "qmix"],
            "--algo qmix chooses among discrete actions, but the actions of",
        ),
        (["--market", FLOOR_MERTON, "--agents", "6"], "setting 'num_assets': "),
        (["--market", FLOOR_MERTON, "--agents", "2", "--settings", "num_assets=2"], "which num_agents says already"),
        (["--market", FLOOR_MERTON, "--settings", "sigma=2"], "setting 'sigma': "),
        (["--market", FLOOR_MERTON, "--settings", "num_bars=20"], "history too short"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, message):
    assert exit_code(score.run, [*words, "--out", str(tmp_path / "out"), "--steps", "100"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_one_episode_is_not_enough(floor):
    with pytest.raises(InputError, match="num_episodes is 1"):
        floor.value(Holding(0.5, 0.5), num_episodes=1)
