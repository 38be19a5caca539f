"""Replicas that are stepped as one do what the packages' own environments do one by one, number for number."""

import numpy as np
import pytest
import torch

from algos.team_env import MultiAgentTeamEnv, make_team_env
from common.errors import InputError
from envs.benchmarks.replicas import BenchmarkReplicas
from envs.benchmarks.rllib import BenchmarkEnv

MARKETS = [
    ("mpe:simple_spread", {}),
    ("mpe:simple_spread", {"N": 5, "local_ratio": 0.2, "max_cycles": 9, "reward": "own"}),
    ("mpe:simple_speaker_listener", {}),
    ("mpe:simple_speaker_listener", {"max_cycles": 6, "reward": "own"}),
    ("mpe:simple_spread", {"continuous_actions": True}),
    ("mpe:simple_speaker_listener", {"continuous_actions": True, "max_cycles": 7}),
    ("lbf:5x5-2p-1f-coop", {}),
    ("lbf:8x8-2p-2f-coop", {}),
    ("lbf:5x5-2p-1f", {"penalty": 0.1, "normalize_reward": False, "reward": "own"}),
    ("lbf:2s-8x8-3p-2f", {"max_episode_steps": 30}),
    ("lbf:2s-6x6-4p-3f", {}),
]


def both(market, settings, *, num_replicas=7, seed=2**32 - 3):
    def creator():
        return BenchmarkEnv({"market": market, "settings": settings})

    ours = make_team_env(creator, num_replicas, device="cpu", seed=seed, with_state=True)
    theirs = MultiAgentTeamEnv([creator() for _ in range(num_replicas)], seed=seed, with_state=True)
    return ours, theirs


def towards_food(obs, rng, counts):
    """Actions that seek the food that an agent sees first, or do anything: else little is ever loaded."""
    rows = obs.numpy()
    food, own = rows[..., :2], rows[..., -3 * rows.shape[1] : -3 * rows.shape[1] + 2]
    down, right = (food - own)[..., 0], (food - own)[..., 1]
    step = np.where(np.abs(down) > np.abs(right), np.where(down < 0, 1, 2), np.where(right < 0, 3, 4))
    step = np.where(np.abs(down) + np.abs(right) == 1, 5, step)
    return np.where((rng.random(step.shape) < 0.75) & (food[..., 0] >= 0), step, rng.integers(counts, size=step.shape))


def random_actions(env, rng):
    """Choices, or numbers of which some lie outside of what agents can do, and some beyond an agent's own."""
    spaces = list(env.action_spaces.values())
    team = (env.num_replicas, len(spaces))
    if hasattr(spaces[0], "n"):
        return rng.integers([space.n for space in spaces], size=team)
    width = max(space.shape[0] for space in spaces)
    return rng.uniform(-0.2, 1.2, size=(*team, width)).astype(np.float32)


def same(ours, theirs, rows=slice(None)):
    if theirs is None:
        assert ours is None
    else:
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours[rows], theirs[rows])


@pytest.mark.parametrize(("market", "settings"), MARKETS)
def test_replicas_do_what_the_package_does_one_by_one(market, settings):
    ours, theirs = both(market, settings)
    assert isinstance(ours, BenchmarkReplicas)
    for name in ("num_replicas", "num_agents", "agent_ids", "observation_spaces", "action_spaces"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("obs_dims", "windows", "state_dim", "device"):
        assert getattr(ours, name) == getattr(theirs, name)
    rng = np.random.default_rng(1)
    step, wanted = ours.reset(), theirs.reset()
    ends, paid = [], 0
    for t in range(160):
        for name in ("obs", "state", "action_mask", "reward", "terminated", "truncated"):
            same(getattr(step, name), getattr(wanted, name))
        ended = wanted.terminated | wanted.truncated
        for name in ("final_obs", "final_state", "final_mask"):
            same(getattr(step, name), getattr(wanted, name), ended)
        ends += [(bool(a), bool(b)) for a, b in zip(step.terminated, step.truncated, strict=True) if a or b]
        paid += int((step.reward > 0).sum())
        if t == 100:
            step, wanted = ours.reset(11), theirs.reset(11)
        actions = towards_food(step.obs, rng, 6) if market.startswith("lbf") else random_actions(ours, rng)
        step, wanted = ours.step(torch.from_numpy(actions)), theirs.step(torch.from_numpy(actions))
    assert ends
    if market.startswith("lbf"):
        assert paid >= 5
        assert (True, False) in ends
    else:
        assert set(ends) == {(False, True)}


@pytest.mark.parametrize("market", ["mpe:simple_spread", "mpe:simple_speaker_listener", "lbf:5x5-2p-1f-coop"])
def test_replicas_carry_on_from_their_state(market):
    ours, _ = both(market, {})
    again, _ = both(market, {}, seed=5)
    rng = np.random.default_rng(2)
    for _ in range(30):
        ours.step(random_actions(ours, rng))
    again.set_state(ours.get_state())
    assert torch.equal(ours.observe().obs, again.observe().obs)
    for _ in range(60):
        actions = random_actions(ours, rng)
        step, other = ours.step(actions), again.step(actions)
        assert all(torch.equal(getattr(step, n), getattr(other, n)) for n in ("obs", "reward", "terminated"))
    with pytest.raises(ValueError, match="has shape"):
        both(market, {}, num_replicas=3)[0].set_state(ours.get_state())
    with pytest.raises(ValueError, match="lacks 'seed'"):
        ours.set_state({})


def test_what_was_returned_is_not_written_to_again():
    ours, _ = both("lbf:5x5-2p-1f-coop", {})
    step = ours.reset()
    kept = step.obs.clone()
    for _ in range(60):
        ours.step(np.full((7, 2), 1))
    assert torch.equal(step.obs, kept)
    state = ours.get_state()
    before = {name: np.copy(value) for name, value in state.items()}
    for _ in range(60):
        ours.step(np.full((7, 2), 2))
    assert all(np.array_equal(value, before[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.zeros((7, 3), int), r"shape \(7, 3\), expected \(7, 2\)"),
        (np.zeros((7, 2)), "float64, expected int64"),
        (np.full((7, 2), 3), r"outside 0 to \[2, 4\]"),
        (np.full((7, 2), -1), "outside 0"),
    ],
)
def test_actions_that_do_not_exist_are_refused(actions, said):
    ours, _ = both("mpe:simple_speaker_listener", {})
    with pytest.raises(ValueError, match=said):
        ours.step(actions)


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.zeros((7, 2), np.float32), r"shape \(7, 2\), expected \(7, 2, 5\)"),
        (np.zeros((7, 2, 5), int), "int64, expected float32"),
        (np.full((7, 2, 5), np.nan, np.float32), "not a finite number"),
    ],
)
def test_actions_that_are_no_numbers_are_refused(actions, said):
    ours, _ = both("mpe:simple_speaker_listener", {"continuous_actions": True})
    with pytest.raises(ValueError, match=said):
        ours.step(actions)


def test_no_replicas_are_refused():
    with pytest.raises(InputError, match="num_replicas is 0"):
        BenchmarkEnv({"market": "mpe:simple_spread"}).batched(0)


@pytest.mark.parametrize(
    ("market", "settings"),
    [
        ("mpe:simple_reference", {}),
        ("mpe:simple_spread", {"num_agent_neighbors": 1}),
        ("mpe:simple_spread", {"terminate_on_success": True}),
        ("mpe:simple_spread", {"curriculum": True}),
        ("lbf:5x5-2p-1f-coop", {"observe_agent_levels": False}),
    ],
)
def test_what_has_no_replicas_is_stepped_one_by_one(market, settings):
    def creator():
        return BenchmarkEnv({"market": market, "settings": settings})

    assert isinstance(make_team_env(creator, 2, device="cpu", seed=0, with_state=False), MultiAgentTeamEnv)
