"""Actions that are none: a ValueError that says whose and why, before anything has changed."""

import fuzzing
import gymnasium as gym
import numpy as np
import pytest
import torch
from foreign_envs import BatchedWalk
from fuzzing import ANYTHING, FUZZ, fuzz
from hypothesis import given
from hypothesis import strategies as st
from teams import Clockwork, floor_env

from algos.any_env import ONLY_AGENT, as_multi_agent_env
from algos.team_env import make_team_env
from envs.pettingzoo import TradingParallelEnv
from envs.rllib import TradingEnv

pytestmark = pytest.mark.fuzz
DESKS = {
    "rungs": {},
    "masked": {"max_rung_change": 1, "allow_short": False},
    "weights": {"action": "continuous"},
    "long weights": {"action": "continuous", "allow_short": False, "num_agents": 2},
}
VALUES = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.5, -1, 0, 2, 4, 5, 99, 10**30, -(10**30), True, None, 1j, "1", b"1"]),
    st.sampled_from([np.int64(1), np.float32(3), np.array([1]), np.array([0.1, np.nan]), torch.tensor(1), np.eye(3)]),
    ANYTHING,
)
ARRAYS = st.builds(
    lambda shape, value, dtype: np.full(shape, value).astype(dtype),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.sampled_from([0, 1, 4, 5, -1]),
    st.sampled_from(["i8", "i4", "u8", "f4", "f8", "c16", "?", "O", "U4", "M8[s]"]),
)


def same(one, other):
    """Whether two states are the same, to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def refused(act):
    with np.errstate(all="ignore"):
        return fuzzing.refused(act, ValueError)


@pytest.fixture(scope="module", params=DESKS)
def env(request):
    return TradingEnv({**floor_env(desk=DESKS[request.param]), "use_action_mask": True})


@st.composite
def joint(draw, agents, good):
    """Actions of a team, of which one is something else, missing, or too many."""
    actions = dict(good)
    kind = draw(st.integers(0, 5))
    if kind == 0:
        del actions[draw(st.sampled_from(agents))]
    elif kind == 1:
        actions[draw(st.sampled_from(["nobody", "", None, 3]))] = good[agents[0]]
    elif kind == 2:
        return draw(VALUES | ARRAYS)
    else:
        actions[draw(st.sampled_from(agents))] = draw(VALUES | ARRAYS)
    return actions


@fuzz(parts=len(DESKS))
@given(data=st.data())
def test_any_joint_action_of_the_floor_is_taken_or_refused(env, data):
    env.reset(seed=data.draw(st.integers(0, 3)))
    good = {
        agent: 2 if isinstance(s, gym.spaces.Discrete) else np.zeros(s.shape) for agent, s in env.action_spaces.items()
    }
    env.step(good)
    before, actions = env.get_state(), data.draw(joint(env.possible_agents, good))
    said = refused(lambda: env.step(actions))
    if said:
        assert same(env.get_state(), before)
        assert any(name in said for name in (*env.possible_agents, "actions", "agent"))
    state = env.get_state()["floor"]
    assert all(np.isfinite(value).all() for name, value in state.items() if name.startswith("books"))
    observations, rewards, *_ = env.step(good)
    assert all(
        np.isfinite(row["observations"] if isinstance(row, dict) else row).all() for row in observations.values()
    )
    assert np.isfinite([*rewards.values()]).all()


@fuzz(parts=len(DESKS))
@given(data=st.data())
def test_any_array_of_actions_is_taken_or_refused_by_the_batched_floor(env, data):
    floor = env.batched(3)
    before, actions = floor.get_state(), data.draw(ARRAYS | VALUES | ARRAYS.map(np.ndarray.tolist))
    if data.draw(st.booleans()):
        width = () if floor.num_rungs[0] else (max(len(m.assets) for m in floor.mandates),)
        kind = data.draw(st.sampled_from([torch.int64, torch.float32, torch.complex64, torch.bool, torch.uint16]))
        actions = torch.ones((3, floor.num_agents, *width)).to(kind)
        if data.draw(st.booleans()):
            actions.view(-1)[data.draw(st.integers(0, actions.numel() - 1))] = data.draw(st.sampled_from([0, 4, 5]))
    if refused(lambda: floor.step(actions)):
        assert same(floor.get_state(), before)
    assert torch.isfinite(floor.observe().obs).all()


@FUZZ
@given(data=st.data())
def test_pettingzoo_takes_or_refuses_any_joint_action(data):
    parallel = TradingParallelEnv(floor_env(horizon_bars=2))
    assert parallel.step({}) == ({}, {}, {}, {}, {}), "before the first reset nobody is there"
    parallel.reset(seed=0)
    good = dict.fromkeys(parallel.possible_agents, 2)
    actions = data.draw(joint(parallel.possible_agents, good))
    said = refused(lambda: parallel.step(actions))
    for _ in range(2 if said else 1):
        assert parallel.agents == parallel.possible_agents
        parallel.step(good)
    assert parallel.agents == []
    assert parallel.step(actions) == ({}, {}, {}, {}, {})


class Corridor(gym.Env):
    """Fails on what is no action, as an environment may."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, action_space):
        self.action_space, self.num_steps = action_space, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert np.isfinite(action).all()
        assert np.shape(action) == self.action_space.shape
        self.num_steps += 1
        return np.zeros(2, np.float32), 0.0, False, False, {}


FOREIGN = {
    "one that chooses": (lambda: as_multi_agent_env(lambda: Corridor(gym.spaces.Discrete(3))), 1),
    "one that sets": (
        lambda: as_multi_agent_env(lambda: Corridor(gym.spaces.Box(-9, 9, (2,), np.float32))),
        np.zeros(2),
    ),
    "batched": (lambda: as_multi_agent_env(BatchedWalk), 1),
}


@pytest.mark.parametrize("kind", FOREIGN)
@fuzz(parts=len(FOREIGN))
@given(data=st.data())
def test_any_action_of_an_adapted_environment_is_taken_or_refused(kind, data):
    make, action = FOREIGN[kind]
    env = as_multi_agent_env(make)
    env.reset(seed=0)
    good = dict.fromkeys(env.possible_agents, action)
    actions = data.draw(joint(env.possible_agents, good))
    said = refused(lambda: env.step(actions))
    if said and ONLY_AGENT in env.possible_agents:
        assert env.env.num_steps == 0
    env.step(good)


@pytest.mark.parametrize("is_box", [False, True])
@fuzz(parts=2)
@given(data=st.data())
def test_any_array_is_taken_or_refused_by_adapted_environments(is_box, data):
    env = make_team_env(lambda: Clockwork({"is_box": is_box}), 2, device="cpu", seed=0, with_state=False)
    env.reset()
    shape = data.draw(st.sampled_from([(2, 2), (2, 2, 2), (2,), (1, 2), (0,), (2, 2, 1)]))
    kind = data.draw(st.sampled_from([torch.int64, torch.float32, torch.complex64, torch.int8, torch.bool]))
    actions = torch.ones(shape).to(kind)
    if actions.numel() and actions.is_floating_point():
        actions.view(-1)[data.draw(st.integers(0, actions.numel() - 1))] = data.draw(
            st.sampled_from([np.nan, np.inf, 1])
        )
    elif actions.numel() and kind is not torch.complex64:
        actions.view(-1)[data.draw(st.integers(0, actions.numel() - 1))] = data.draw(st.sampled_from([-1, 2, 3, 1]))
    if refused(lambda: env.step(actions)):
        assert not any(inner.received for inner in env.envs)
    env.step(torch.ones(2, 2, 2) if is_box else torch.ones(2, 2, dtype=torch.int64))
