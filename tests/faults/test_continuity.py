"""With several processes a resumed run is not the same to the last bit: its learning curve must show no dip."""

import json
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from commands import Started, run_command

pytestmark = pytest.mark.faults

PLANTED = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "900"]
PLANTED += ["--data.synthetic.signal-strength", "4", "--floor.horizon-bars", "40", "--seed", "3"]
CLOCK = ["--checkpoint-interval", "32", "--evaluation-interval", "320", "--episodes", "1600"]
CLOCK += ["--checkpoint-interval-s", "0"]
LEARNER = ["--algo", "mappo", "--mappo.gamma", "0.9", "--mappo.lr", "2e-3", "--mappo.minibatch-size", "320"]
LEARNER += ["--mappo.train-batch-size-per-learner", "1280", "--mappo.num-envs-per-env-runner", "16"]
WORDS = [*PLANTED, *CLOCK, *LEARNER, "--scaling.num-env-runners", "2"]
AROUND = 160
"""Episodes before and after the kill whose returns are compared."""


def results(folder):
    """What each iteration reported."""
    return [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]


def returns(rows, first, last):
    """Mean returns of the iterations that ended with ``first < episodes <= last``."""
    found = [row["episode_return"] for row in rows if first < row["episodes"] <= last]
    return [value for value in found if isinstance(value, float) and value == value]


def test_learning_curve_of_two_runners_shows_no_dip_after_a_kill(tmp_path):
    folder = tmp_path / "run"
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(800)
        started.kill()
    killed_at = results(folder)[-1]["episodes"]
    ended = run_command(folder, *WORDS)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = results(folder)
    for counter in ("training_iteration", "episodes", "total_steps", "agent_steps"):
        assert all(a[counter] < b[counter] for a, b in pairwise(rows)), f"{counter} goes on from where it stood"
    before, after = returns(rows, killed_at - AROUND, killed_at), returns(rows, killed_at, killed_at + AROUND)
    learned = fmean(before) - fmean(returns(rows, 0, AROUND))
    assert learned > 3 * stdev(before), "there was something that could be lost"
    assert fmean(after) > fmean(before) - 0.2 * learned
