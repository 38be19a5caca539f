"""Benchmarks: the numbers are the packages' own, and an episode follows from its seed, its count and the actions."""

import sys

import gymnasium as gym
import lbforaging  # noqa: F401  makes the ids known
import numpy as np
import pytest
from mpe2 import simple_speaker_listener_v4, simple_spread_v3
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

from common.errors import InputError
from envs.benchmarks.replicas import episode_seed
from envs.benchmarks.rllib import BenchmarkEnv

MARKETS = ("lbf:5x5-2p-1f-coop", "lbf:2s-8x8-3p-2f", "mpe:simple_spread", "mpe:simple_speaker_listener")


def env_of(market, **settings) -> BenchmarkEnv:
    return BenchmarkEnv({"market": market, "settings": settings})


def episode(env, actions_of, **reset):
    """Observations, rewards and ends of one episode, each a list over steps."""
    obs, _ = env.reset(**reset)
    seen, rewards, ends = [obs], [], []
    while env.agents:
        obs, reward, terminated, truncated, _ = env.step(actions_of(len(rewards)))
        seen.append(obs)
        rewards.append(list(reward.values()))
        ends.append((terminated["__all__"], truncated["__all__"]))
    return seen, np.array(rewards), ends


def script_of(env, seed=0):
    """The same actions at the same step of every episode."""
    drawn = np.random.default_rng(seed).integers(1 << 30, size=(60, len(env.possible_agents)))
    counts = [int(env.action_spaces[agent].n) for agent in env.possible_agents]
    return lambda t: {a: int(d % k) for a, d, k in zip(env.possible_agents, drawn[t], counts, strict=True)}


@pytest.mark.parametrize("market", MARKETS)
def test_passes_rllibs_checker_and_stays_in_its_spaces(market):
    env = env_of(market)
    check_multiagent_environments(env)
    seen, rewards, ends = episode(env, script_of(env), seed=3)
    assert all(env.observation_spaces[agent].contains(value) for obs in seen for agent, value in obs.items())
    assert rewards.shape[1] == len(env.possible_agents)
    assert ends[-1] in ((True, False), (False, True))
    assert not any(terminated or truncated for terminated, truncated in ends[:-1])
    with pytest.raises(ValueError, match="the episode is over"):
        env.step({})
    env.close()


@pytest.mark.parametrize(
    ("market", "module"),
    [("mpe:simple_spread", simple_spread_v3), ("mpe:simple_speaker_listener", simple_speaker_listener_v4)],
)
def test_particles_are_paid_the_packages_sum(market, module):
    env, own = env_of(market), module.parallel_env()
    script = script_of(env)
    for count, reset in enumerate(({"seed": 7}, {}, {})):
        seen, rewards, ends = episode(env, script, **reset)
        obs, _ = own.reset(seed=int(episode_seed(7, count)))
        for t in range(25):
            assert all(np.array_equal(obs[agent], seen[t][agent]) for agent in own.agents)
            obs, paid, _, _, _ = own.step(script(t))
            assert rewards[t] == pytest.approx([sum(paid.values())] * len(paid), rel=1e-12)
        assert len(rewards) == 25
        assert ends[-1] == (False, True)


def test_foragers_are_paid_the_packages_sum_and_running_out_of_time_is_a_truncation():
    env = env_of("lbf:5x5-2p-1f")
    script, found = script_of(env), set()
    for count in range(40):
        seen, rewards, ends = episode(env, script, **({"seed": 11} if count == 0 else {}))
        own = gym.make("Foraging-5x5-2p-1f-v3", disable_env_checker=True).unwrapped  # new: it remembers who stood where
        obs, _ = own.reset(seed=int(episode_seed(11, count)))
        for t, paid_here in enumerate(rewards):
            assert all(np.array_equal(a, b) for a, b in zip(obs, seen[t].values(), strict=True))
            obs, paid, is_over, _, _ = own.step(list(script(t).values()))
            assert paid_here == pytest.approx([sum(paid)] * 2)
            assert is_over == any(ends[t])
        assert rewards[:, 0].sum() == pytest.approx(1.0 if ends[-1][0] else 0.0), "one food: all of it, or nothing"
        assert ends[-1][0] or len(rewards) == 50
        found.add(ends[-1])
    assert found == {(True, False), (False, True)}


def test_own_rewards_add_up_to_the_shared_one():
    shared, own = env_of("mpe:simple_spread"), env_of("mpe:simple_spread", reward="own")
    (_, paid, _), (_, each, _) = (episode(env, script_of(env), seed=5) for env in (shared, own))
    assert paid[:, 0] == pytest.approx(each.sum(1))
    assert not np.allclose(each[:, 0], each[:, 1])


@pytest.mark.parametrize("market", MARKETS)
def test_same_seed_gives_the_same_episodes_and_another_one_others(market):
    env, again = env_of(market), env_of(market)
    again.reset(seed=99)

    def starts(env, seed):
        """First observations of three episodes, the second of which is broken off."""
        kept = []
        for count in range(3):
            obs, _ = env.reset(seed=seed) if count == 0 else env.reset()
            kept.append(np.concatenate(list(obs.values())))
            for t in range(3 * (count != 1)):
                if env.agents:
                    env.step(script_of(env)(t))
        return np.stack(kept)

    first = starts(env, 4)
    assert np.array_equal(first, starts(again, 4))
    assert not np.array_equal(first, starts(env, 5))
    assert not np.array_equal(first[0], first[1])


def test_an_episode_does_not_depend_on_those_before():
    env, rng = env_of("lbf:5x5-9p-1f"), np.random.default_rng(0)
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        fresh, _ = env_of("lbf:5x5-9p-1f").reset(seed=seed)
        assert all(np.array_equal(obs[agent], fresh[agent]) for agent in env.agents)
        for _ in range(3):
            if env.agents:
                env.step({agent: int(rng.integers(6)) for agent in env.agents})


def test_settings_reach_the_package_and_change_the_numbers():
    assert len(env_of("mpe:simple_spread", N=5).possible_agents) == 5
    assert len(episode(env := env_of("mpe:simple_spread_v3", max_cycles=4), script_of(env), seed=0)[1]) == 4
    assert isinstance(env_of("mpe:simple_spread", continuous_actions=True).action_spaces["agent_0"], gym.spaces.Box)
    assert len(episode(env := env_of("lbf:5x5-2p-1f-coop", max_episode_steps=2), script_of(env), seed=0)[1]) <= 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"market": "lbf:8x8-2p-2f-cop"}, "market 'lbf:8x8-2p-2f-cop' does not exist .*'lbf:8x8-2p-2f-coop'"),
        ({"market": "mpe:simple_spred"}, "does not exist .*'mpe:simple_spread'"),
        ({"market": "merton"}, "market is 'merton': name lbf:ID or mpe:ID"),
        ({"market": "mpe:simple_tag"}, "has rivals, who share no reward: give --settings reward=own"),
        ({"market": "mpe:simple_spread", "settings": {"reward": "all"}}, "choose of team, own"),
        ({"market": "mpe:simple_spread", "settings": {"max_cycle": 3}}, "'max_cycle' does not exist .*'max_cycles'"),
        ({"market": "lbf:5x5-2p-1f-coop", "settings": {"sigt": 2}}, "'sigt' does not exist .*'sight'"),
        ({"market": "mpe:simple_spread", "settings": {"local_ratio": 3}}, "refuses local_ratio=3: local_ratio is a"),
        ({"market": "mpe:simple_spread", "seed": 3}, "env_config: 'seed' does not exist"),
    ],
)
def test_mistakes_are_named(config, said):
    with pytest.raises(InputError, match=said):
        BenchmarkEnv(config)


@pytest.mark.parametrize(
    ("market", "package", "module"),
    [("lbf:5x5-2p-1f-coop", "lbforaging", "lbforaging.foraging"), ("mpe:simple_spread", "mpe2", "mpe2.all_modules")],
)
def test_missing_package_is_told_with_the_command_that_installs_it(monkeypatch, market, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"market {market} needs the package {package}: .*pip install {package}$"):
        env_of(market)


def test_missing_action_is_named():
    env = env_of("lbf:5x5-2p-1f-coop")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action of agent 'forager_1' is missing"):
        env.step({"forager_0": 0})
