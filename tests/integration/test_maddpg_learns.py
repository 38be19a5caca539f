"""Short guards that MADDPG learns, where the best policy is known."""

import pytest

from common.files import read_json
from experiments import score

pytestmark = [pytest.mark.usefixtures("ray_session")]


def scored(tmp_path, *words):
    assert score.run([*words, "--algo", "maddpg", "--out", str(tmp_path)]) == 0
    return read_json(tmp_path / "score.json")


def test_investor_finds_mertons_weight(tmp_path):
    found = scored(tmp_path, "--market", "merton", "--seeds", "1", "--steps", "15000")
    assert found["score"]["mean"] > 0.95


@pytest.mark.slow
def test_five_investors_of_five_seeds_come_within_a_hundredth_of_the_optimum(tmp_path):
    assert scored(tmp_path, "--market", "merton", "--seeds", "5")["score"]["low"] > 0.99


@pytest.mark.slow
def test_sellers_who_share_a_reward_spare_each_other(tmp_path):
    """Team optimum 2.400 and Nash cost 3.205 per seller (Almgren and Chriss 2000, four sellers in one market)."""
    words = ["--market", "almgren-chriss", "--agents", "4", "--settings", "reward=team", "--seeds", "3"]
    assert -scored(tmp_path, *words)["learned"]["low"] <= 2.45


@pytest.mark.slow
def test_team_of_five_seeds_finds_the_best_joint_policy_of_the_two_step_game(tmp_path):
    found = scored(tmp_path, "--market", "two-step", "--seeds", "5", "--steps", "15000")
    assert [one["learned"] for one in found["seeds"]] == [8.0] * 5
