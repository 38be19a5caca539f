"""Policies written by hand play well by what agents see alone."""

from itertools import permutations

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3

from envs.benchmarks import handwritten as handwritten_module
from envs.benchmarks.handwritten import NearestLandmarks, ToldLandmark, handwritten
from envs.benchmarks.rllib import BenchmarkEnv

EPISODES, STEPS = 256, 25


def play(market, team, *, change=lambda actions: actions):
    """Mean return of each episode, and the replicas before the last step, at which a new episode begins."""
    replicas = BenchmarkEnv({"market": market}).batched(EPISODES, seed=5)
    step, total = replicas.reset(), torch.zeros(EPISODES, dtype=torch.float64)
    for _ in range(STEPS):
        last = replicas.get_state()
        step = replicas.step(change(team.act(step.obs)))
        total += step.reward.mean(1)
    return total, last


def distances(state):
    return np.linalg.norm(state["at"][:, :, None] - state["landmarks"][:, None], axis=-1)


def test_agents_cover_all_landmarks_by_the_shortest_way_of_all_together():
    team = NearestLandmarks([18] * 3)
    first = BenchmarkEnv({"market": "mpe:simple_spread"}).batched(EPISODES, seed=5).get_state()
    orders = np.array(list(permutations(range(3))))
    ways = distances(first)[:, np.arange(3), orders].sum(-1)
    best = orders[ways.argmin(1)]
    total, last = play("mpe:simple_spread", team)
    far = distances(last)
    assert np.median(far.min(1)) < 0.05
    went = far.argmin(-1)
    assert (np.sort(went) == np.arange(3)).all(-1).mean() > 0.97
    assert (went == best).all(-1).mean() > 0.9, "they hardly ever think better of it on the way"
    assert total.mean() > -24.5


def test_who_is_who_does_not_matter():
    replicas = BenchmarkEnv({"market": "mpe:simple_spread"}).batched(40, seed=1)
    state = replicas.get_state()
    order = np.array([2, 0, 1])
    actions = NearestLandmarks([18] * 3).act(replicas.observe().obs)
    replicas.set_state(state | {"at": state["at"][:, order], "speed": state["speed"][:, order]})
    assert torch.equal(NearestLandmarks([18] * 3).act(replicas.observe().obs), actions[:, order])


def test_who_hears_the_word_goes_where_it_says():
    team = ToldLandmark([3, 11])
    total, last = play("mpe:simple_speaker_listener", team)
    far = distances(last)[:, 0]
    assert np.median(far[np.arange(EPISODES), last["goal"]]) < 0.05
    assert total.mean() > -16.0

    def silent(actions):
        return torch.stack([torch.zeros_like(actions[:, 0]), actions[:, 1]], 1)

    deaf, _ = play("mpe:simple_speaker_listener", team, change=silent)
    assert deaf.mean() < 2 * total.mean(), "one word for all landmarks says nothing"


def test_physics_are_the_packages():
    world = simple_spread_v3.raw_env().unwrapped.world
    assert (world.damping, world.dt) == (handwritten_module._DAMPING, handwritten_module._DT)


@pytest.mark.parametrize(
    ("market", "settings"), [("mpe:simple_spread", {"N": 4}), ("mpe:simple_reference", {}), ("lbf:5x5-2p-1f", {})]
)
def test_there_is_none_for_other_games(market, settings):
    assert handwritten(market, settings, [18] * 3) is None
