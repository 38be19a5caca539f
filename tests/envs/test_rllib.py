from __future__ import annotations

import numpy as np
import pytest
from floors import spec_of
from ray.rllib.utils.pre_checks.env import check_multiagent_environments
from ray.tune.registry import ENV_CREATOR, _global_registry

from common.errors import InputError
from envs.market import build_market, spec_to_json
from envs.rllib import TradingEnv, register

DESKS = (
    {},
    {"preset": "roles", "action": "continuous", "allow_short": False},
    {"preset": "rivals", "max_rung_change": 1, "allow_short": False},
    {"preset": "desk", "observe": "each", "num_agents": 3, "feature_groups": ("trend", "risk")},
)


def env_of(desk=None, floor=None, **config) -> TradingEnv:
    return TradingEnv({"spec": spec_to_json(spec_of(desk=desk, floor=floor)), **config})


@pytest.mark.parametrize("desk", DESKS)
@pytest.mark.parametrize("use_action_mask", [False, True])
def test_passes_rllibs_checker_and_stays_in_its_spaces(desk, use_action_mask) -> None:
    env = env_of(desk, use_action_mask=use_action_mask)
    check_multiagent_environments(env)
    observations, _ = env.reset(seed=1)
    for _ in range(30):
        for agent, seen in observations.items():
            assert env.observation_spaces[agent].contains(seen), agent
        actions = {agent: env.action_spaces[agent].sample() for agent in env.agents}
        observations, _, terminateds, truncateds, _ = env.step(actions)
        if terminateds["__all__"] or truncateds["__all__"]:
            observations, _ = env.reset()


@pytest.mark.parametrize("desk", DESKS)
def test_agrees_with_a_floor_of_one_replica_step_by_step(desk) -> None:
    env = env_of(desk, seed=7)
    floor = env.batched(1, seed=7)
    seen, step = env.reset()[0], floor.reset()
    rng = np.random.default_rng(0)
    for _ in range(30):
        for n, agent in enumerate(env.possible_agents):
            assert np.array_equal(seen[agent], step.obs[0, n, : floor.obs_dims[n]].numpy())
        for space in env.action_spaces.values():
            space.seed(int(rng.integers(1_000)))
        actions = {agent: env.action_spaces[agent].sample() for agent in env.possible_agents}
        seen, rewards, terminateds, truncateds, infos = env.step(actions)
        step = floor.step(env._actions(actions))
        assert list(rewards.values()) == step.reward[0].tolist()
        assert truncateds["__all__"] == bool(step.truncated[0])
        if truncateds["__all__"]:
            assert infos[env.possible_agents[0]]["profit"] == float(step.stats["profit"][0])
            last = step.final_obs[0, 0, : floor.obs_dims[0]].numpy()
            assert np.array_equal(seen[env.possible_agents[0]], last)
            seen = env.reset()[0]
        else:
            assert infos[env.possible_agents[0]] == {}
            assert not terminateds["__all__"]


def test_seeded_resets_repeat_and_unseeded_ones_go_on() -> None:
    env, other = env_of(), env_of()

    def first(seen: dict) -> list:
        return [row.tolist() for row in seen.values()]

    a = [first(env.reset(seed=5)[0]), first(env.reset()[0]), first(env.reset()[0])]
    b = [first(other.reset(seed=5)[0]), first(other.reset()[0]), first(other.reset()[0])]
    assert a == b
    assert a[0] != a[1] != a[2]
    assert first(env.reset(seed=6)[0]) != a[0]


def test_a_finished_episode_must_be_reset() -> None:
    env = env_of(floor={"horizon_bars": 1})
    with pytest.raises(ValueError, match="reset"):
        env.step(dict.fromkeys(env.possible_agents, 0))
    env.reset()
    env.step(dict.fromkeys(env.possible_agents, 0))
    assert env.agents == []
    with pytest.raises(ValueError, match="reset"):
        env.step(dict.fromkeys(env.possible_agents, 0))


def test_bad_actions_name_the_agent() -> None:
    env = env_of({"action": "continuous"})
    env.reset()
    actions = {agent: np.zeros(1, np.float32) for agent in env.possible_agents}
    with pytest.raises(ValueError, match="'trader_2'"):
        env.step({**actions, "trader_2": np.array([np.nan])})
    actions.pop("trader_1")
    with pytest.raises(ValueError, match="'trader_1' is missing"):
        env.step(actions)


def test_masks_follow_the_rung_and_forbid_shorts() -> None:
    env = env_of({"allow_short": False, "max_rung_change": 1}, use_action_mask=True)
    seen, _ = env.reset()
    assert seen["trader_0"]["action_mask"].tolist() == [0, 0, 1, 1, 0]
    seen = env.step({**dict.fromkeys(env.agents, 2), "trader_0": 3})[0]
    assert seen["trader_0"]["action_mask"].tolist() == [0, 0, 1, 1, 1]
    assert seen["trader_1"]["action_mask"].tolist() == [0, 0, 1, 1, 0]


def test_a_forbidden_rung_is_moved_to_the_nearest_allowed_one() -> None:
    env = env_of({"allow_short": False})
    env.reset()
    _, rewards, *_ = env.step(dict.fromkeys(env.agents, 0))
    assert set(rewards.values()) == {0.0}


def test_unknown_settings_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"'splits'.*'split'"):
        env_of(splits="train")
    with pytest.raises(ValueError, match="capitol"):
        TradingEnv({"spec": {"floor": {"capitol": 1}}})


def test_registered_under_its_name() -> None:
    assert register() == "trading-floor"
    env = _global_registry.get(ENV_CREATOR, "trading-floor")({"spec": spec_to_json(spec_of()), "split": "test"})
    assert isinstance(env, TradingEnv)
    assert env.floor.split == build_market(spec_of()).splits.test


def test_a_saved_environment_continues_bit_for_bit_also_between_two_episodes():
    env, twin = TradingEnv(), TradingEnv()
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    for i in range(2 * env.floor.episode_bars + 5):
        actions = {agent: int(rng.integers(5)) for agent in env.possible_agents}
        _, _, terminated, truncated, _ = env.step(actions)
        is_over = terminated["__all__"] or truncated["__all__"]
        if is_over or i == 7:
            twin.set_state(env.get_state())
            assert twin.agents == env.agents
        if is_over:
            first, second = env.reset()[0], twin.reset()[0]
            assert all(np.array_equal(first[agent], second[agent]) for agent in first)
        if is_over or i == 7:
            for _ in range(3):
                ours, theirs = env.step(actions), twin.step(actions)
                assert all(np.array_equal(ours[0][agent], theirs[0][agent]) for agent in ours[0])
                assert ours[1] == theirs[1]


@pytest.mark.parametrize("action", [float("nan"), 2.9, float("inf"), "up", None])
def test_an_action_that_is_no_rung_is_refused_with_the_agents_name(action):
    env = TradingEnv()
    env.reset(seed=0)
    actions = dict.fromkeys(env.possible_agents, 2)
    with pytest.raises(ValueError, match=r"agent 'trader_1' chose"):
        env.step({**actions, "trader_1": action})


def test_weights_of_the_wrong_length_are_refused_with_the_agents_name():
    env = TradingEnv({"spec": {"desk": {"action": "continuous"}}})
    env.reset(seed=0)
    actions = {agent: space.sample() for agent, space in env.action_spaces.items()}
    with pytest.raises(ValueError, match=r"agent 'trader_0' gave 1 weights for its 2 assets"):
        env.step({**actions, "trader_0": np.zeros(1)})


def test_spaces_hold_what_the_environment_gives_and_take_what_they_sample():
    """Gymnasium's own containment rules, over a whole episode of each kind of action, with and without masks."""
    for settings in ({}, {"spec": {"desk": {"action": "continuous"}}}, {"use_action_mask": True}):
        env = TradingEnv(settings)
        observations, _ = env.reset(seed=1)
        for agent in env.possible_agents:
            env.action_spaces[agent].seed(0)
        is_over = False
        while not is_over:
            assert all(env.observation_spaces[agent].contains(seen) for agent, seen in observations.items())
            actions = {agent: env.action_spaces[agent].sample() for agent in env.possible_agents}
            observations, _, terminated, truncated, _ = env.step(actions)
            is_over = terminated["__all__"] or truncated["__all__"]
        again = env.reset(seed=1)[0]
        first = TradingEnv(settings).reset(seed=1)[0]
        flat = [s if isinstance(s, np.ndarray) else s["observations"] for s in again.values()]
        assert all(
            np.array_equal(a, b if isinstance(b, np.ndarray) else b["observations"])
            for a, b in zip(flat, first.values(), strict=True)
        )
