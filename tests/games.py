"""The two-step game written a second time, as a foreign MultiAgentEnv that has no batch."""

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

SECOND_PAYOFFS = {1: np.full((2, 2), 7.0), 2: np.array([[0.0, 1.0], [1.0, 8.0]])}


class TwoStepGame(MultiAgentEnv):
    """Rashid et al. 2018, section 5: agent 0's first action picks the second game; safe 7 or coordinated 8."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.possible_agents = self.agents = ["agent_0", "agent_1"]
        self.observation_spaces = {a: gym.spaces.Box(0, 1, (3,), np.float32) for a in self.agents}
        self.action_spaces = {a: gym.spaces.Discrete(2) for a in self.agents}
        self.at = 0

    def state(self):
        return np.eye(3, dtype=np.float32)[self.at]

    def _obs(self):
        return {a: self.state() for a in self.agents}

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return self._obs(), {}

    def step(self, actions):
        over, reward = self.at > 0, 0.0
        if over:
            reward = float(SECOND_PAYOFFS[self.at][actions["agent_0"], actions["agent_1"]])
        else:
            self.at = 1 + int(actions["agent_0"])
        ends = dict.fromkeys([*self.agents, "__all__"], over)
        return self._obs(), dict.fromkeys(self.agents, reward), ends, dict.fromkeys(ends, False), {}
