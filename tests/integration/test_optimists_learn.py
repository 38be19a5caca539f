"""Short guards that agents who expect the best of their partners find it where averages hide it."""

import pytest

from common.files import read_json
from experiments import score

pytestmark = [pytest.mark.usefixtures("ray_session")]


def learned(tmp_path, *words):
    assert score.run([*words, "--algo", "indq", "--out", str(tmp_path)]) == 0
    return [one["learned"] for one in read_json(tmp_path / "score.json")["seeds"]]


def test_optimists_find_the_best_joint_action_of_the_climbing_game(tmp_path):
    assert learned(tmp_path, "--market", "climbing", "--seeds", "1", "--steps", "5000") == [275.0]


@pytest.mark.slow
def test_realists_do_not(tmp_path):
    found = learned(tmp_path, "--market", "climbing", "--seeds", "3", "--indq.overestimation-weight", "1")
    assert max(found) < 275.0


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0, -100])
def test_optimists_settle_on_one_of_two_equally_good_joint_actions(tmp_path, penalty):
    words = ["--market", "penalty", "--settings", f"penalty={penalty}", "--seeds", "3"]
    assert learned(tmp_path, *words) == [250.0] * 3
