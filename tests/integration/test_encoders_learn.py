"""Short guards that memory and attention learn what a network without them cannot, or what is planted in the floor."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from teams import maddpg_config, mappo_config

from algos.mappo.algorithm import IPPOConfig, MAPPOConfig
from envs.market import spec_to_json
from envs.settings import DataConfig, FloorConfig, FloorSpec, SyntheticConfig

pytestmark = pytest.mark.usefixtures("ray_session")

LENGTH = 3


class Recall(MultiAgentEnv):
    """Shows each of two agents a sign at the first step and nothing after it; the last action is to be the sign."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.possible_agents = self.agents = ["a", "b"]
        self.observation_spaces = {a: gym.spaces.Box(-1, 1, (2,), np.float32) for a in self.agents}
        self.action_spaces = {a: gym.spaces.Discrete(2) for a in self.agents}
        self.dice = np.random.default_rng(0)
        self.t, self.signs = 0, np.zeros(2, int)

    def _see(self):
        shown = (2 * self.signs - 1) * (self.t == 0)
        return {a: np.array([shown[n], self.t / LENGTH], np.float32) for n, a in enumerate(self.agents)}

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.dice = np.random.default_rng(seed)
        self.t, self.signs = 0, self.dice.integers(0, 2, 2)
        return self._see(), {}

    def step(self, actions):
        self.t += 1
        over = self.t == LENGTH
        paid = {a: float(over and actions[a] == self.signs[n]) for n, a in enumerate(self.agents)}
        ends = dict.fromkeys([*self.agents, "__all__"], over)
        return self._see(), paid, ends, dict.fromkeys(ends, False), {}


ON_POLICY = {
    "hidden": (16,),
    "lr": 5e-3,
    "train_batch_size_per_learner": 768,
    "minibatch_size": 192,
    "num_envs_per_env_runner": 64,
    "num_epochs": 4,
    "reward": "own",
}


def return_of(config: Any, iterations: int) -> float:
    """Mean return of an agent in greedy episodes after so many rounds; 0.5 is chance."""
    algorithm = config.build_algo()
    for _ in range(iterations):
        algorithm.train()
    (rollout,) = algorithm.env_runner.sample(num_timesteps=64 * 4 * LENGTH, explore=False, force_reset=True)
    algorithm.stop()
    return float(rollout.rewards.mean()) * LENGTH


@pytest.mark.parametrize("config", [IPPOConfig, pytest.param(MAPPOConfig, marks=pytest.mark.slow)])
def test_policies_with_a_memory_recall_what_they_were_shown(config):
    assert return_of(mappo_config(Recall, config=config, network="gru", **ON_POLICY), 20) > 0.95


@pytest.mark.slow
def test_policies_without_a_memory_do_not():
    assert return_of(mappo_config(Recall, config=IPPOConfig, **ON_POLICY), 20) < 0.6


@pytest.mark.slow
def test_maddpg_with_a_memory_recalls_what_it_was_shown():
    settings = {
        "hidden": (32,),
        "gamma": 0.9,
        "network": "gru",
        "sequence_length": 6,
        "train_batch_size": 64,
        "num_updates": 16,
        "num_envs_per_env_runner": 16,
        "replay_capacity": 20_000,
        "learning_starts": 500,
        "actor_lr": 2e-3,
        "critic_lr": 5e-3,
        "reward": "own",
    }
    assert return_of(maddpg_config(Recall, **settings), 150) > 0.9


@pytest.mark.slow
def test_transformer_earns_from_the_signal_that_is_planted_in_the_floor():
    """A Sharpe ratio of 3 an asset and year is to be had; policies that know nothing lose their costs."""
    spec = FloorSpec(
        data=DataConfig(synthetic=SyntheticConfig(num_assets=4, num_bars=1200, signal_strength=3.0)),
        floor=FloorConfig(horizon_bars=64, window=8),
    )
    settings = {**ON_POLICY, "lr": 1e-3, "train_batch_size_per_learner": 2048, "minibatch_size": 512, "reward": None}
    network = {"network": "transformer", "d_model": 16, "num_heads": 2, "num_layers": 1}
    algorithm = mappo_config({"spec": spec_to_json(spec)}, gamma=0.9, **{**settings, **network}).build_algo()
    returns = []
    for iteration in range(61):
        if iteration % 60 == 0:
            (rollout,) = algorithm.env_runner.sample(num_timesteps=64 * 64, explore=False, force_reset=True)
            returns.append(float(rollout.rewards.mean()) * 64)
        algorithm.train()
    algorithm.stop()
    assert returns[1] > max(0.0, returns[0]) + 0.01
