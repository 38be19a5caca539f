"""Small environments of each kind that a user may bring: one step to the left costs, one to the right pays."""

import gymnasium as gym
import numpy as np
import torch
from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from algos.team_env import Step

STEPS = 5
OBS, ACT = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)


class GymWalk(gym.Env):
    """Gymnasium's kind."""

    observation_space, action_space = OBS, ACT

    def __init__(self, pay: float = 1.0):
        self.pay = pay

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        reward = self.pay if action == 1 else -self.pay
        return np.full(2, self.t / STEPS, np.float32), reward, False, self.t >= STEPS, {}


class ParallelWalk(ParallelEnv):
    """PettingZoo's kind, of two agents; it has no global state."""

    metadata = {"name": "walk"}  # noqa: RUF012

    def __init__(self, pay: float = 1.0):
        self.possible_agents = ["left", "right"]
        self.agents = list(self.possible_agents)
        self.walks = {name: GymWalk(pay) for name in self.possible_agents}

    def observation_space(self, agent):
        return OBS

    def action_space(self, agent):
        return ACT

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return {a: self.walks[a].reset()[0] for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        found = {a: self.walks[a].step(actions[a]) for a in self.agents}
        told = tuple({a: found[a][i] for a in found} for i in range(5))
        if any(told[3].values()):
            self.agents = []
        return told


class MultiAgentWalk(MultiAgentEnv):
    """RLlib's kind, which takes its settings as one mapping."""

    def __init__(self, config=None):
        super().__init__()
        self.walk = ParallelWalk(**(config or {}))
        self.possible_agents = self.walk.possible_agents
        self.agents = list(self.possible_agents)
        self.observation_spaces = dict.fromkeys(self.possible_agents, OBS)
        self.action_spaces = dict.fromkeys(self.possible_agents, ACT)

    def reset(self, *, seed=None, options=None):
        return self.walk.reset()

    def step(self, action_dict):
        obs, rewards, terminated, truncated, infos = self.walk.step(action_dict)
        for flags in (terminated, truncated):
            flags["__all__"] = all(flags.values())
        return obs, rewards, terminated, truncated, infos


class BatchedWalk:
    """A TeamEnv of two agents, whose state can be saved."""

    num_agents, agent_ids, state_dim = 2, ("left", "right"), 4
    observation_spaces = {"left": OBS, "right": OBS}  # noqa: RUF012
    action_spaces = {"left": ACT, "right": ACT}  # noqa: RUF012
    obs_dims = (2, 2)
    windows = ((0, 1, 2), (0, 1, 2))

    def __init__(self, *, num_replicas, device="cpu", seed=0, with_state=False, pay=1.0):
        self.num_replicas, self.device, self.pay = num_replicas, torch.device(device), pay
        self._with_state = with_state
        self.t = torch.zeros(num_replicas, dtype=torch.int64)

    def _step(self, reward, is_over, final):
        obs = (self.t / STEPS).float()[:, None, None].expand(-1, 2, 2).clone()
        state = obs.flatten(1) if self._with_state else None
        return Step(
            obs=obs,
            state=state,
            action_mask=torch.ones(self.num_replicas, 2, 2, dtype=torch.bool),
            reward=reward,
            terminated=torch.zeros_like(is_over),
            truncated=is_over,
            final_obs=final,
            final_state=None if final is None or not self._with_state else final.flatten(1),
            final_mask=None if final is None else torch.ones(self.num_replicas, 2, 2, dtype=torch.bool),
            stats=None,
        )

    def reset(self, seed=None):
        self.t = torch.zeros_like(self.t)
        return self._step(torch.zeros(self.num_replicas, 2), torch.zeros(self.num_replicas, dtype=torch.bool), None)

    def step(self, actions):
        reward = torch.where(actions == 1, self.pay, -self.pay).float()
        self.t = self.t + 1
        is_over = self.t >= STEPS
        final = (self.t / STEPS).float()[:, None, None].expand(-1, 2, 2).clone() if is_over.any() else None
        self.t = torch.where(is_over, 0, self.t)
        return self._step(reward, is_over, final)

    def get_state(self):
        return {"t": self.t}

    def set_state(self, state):
        self.t = state["t"].clone()


class UnsavableWalk(BatchedWalk):
    """One whose state is no data."""

    def get_state(self):
        return {"t": self.t, "made": [object()]}


NOT_CALLABLE = 3


class WalkOfAnyName(ParallelWalk):
    """Agents whose names are no file names, or those of others."""

    def __init__(self, pay: float = 1.0):
        super().__init__(pay)
        self.possible_agents = ["../x", "mixer", "Left", "left", "ü"]
        self.agents = list(self.possible_agents)
        self.walks = {name: GymWalk(pay) for name in self.possible_agents}
