"""Any environment as an RLlib MultiAgentEnv: Gymnasium's, PettingZoo's, RLlib's own, or a batched TeamEnv."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv

from algos.team_env import TeamEnv, TeamStep
from common.arrays import as_numbers
from common.errors import IncompatibleError, shown

ONLY_AGENT = "agent_0"
"""Name of the agent of an environment that has one."""


def as_multi_agent_env(make: Callable[..., Any]) -> MultiAgentEnv:
    """Make an environment and give it the interface that both sampling paths take.

    Args:
        make: Makes a MultiAgentEnv, a PettingZoo ParallelEnv, a Gymnasium Env (one agent, ``agent_0``), or a TeamEnv;
            the last takes ``num_replicas``, ``device``, ``seed`` and ``with_state``.

    Raises:
        IncompatibleError: if it makes something else.
    """
    if _takes_replicas(make):
        return TeamEnvView(make)
    env = make()
    if isinstance(env, MultiAgentEnv):
        return env
    if isinstance(env, ParallelEnv):
        return ParallelPettingZooEnv(env)
    if isinstance(env, gym.Env):
        return OneAgentEnv(env)
    raise IncompatibleError(
        f"{type(env).__name__} is none of: a Gymnasium Env, a PettingZoo ParallelEnv, an RLlib MultiAgentEnv, a "
        "TeamEnv (whose maker takes num_replicas)"
    )


def _takes_replicas(make: Callable[..., Any]) -> bool:
    try:
        return "num_replicas" in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


def check_joint_action(action_dict: Any, spaces: Mapping[str, gym.Space[Any]]) -> None:
    """Refuse actions that are not one for each agent, in its space; numbers may lie beyond the bounds of a Box.

    Raises:
        ValueError: naming the agent.
    """
    if not isinstance(action_dict, Mapping):
        raise ValueError(f"actions are a {type(action_dict).__name__}: give one for each agent, by its name")
    for agent, space in spaces.items():
        if agent not in action_dict:
            raise ValueError(f"action of agent {agent!r} is missing")
        if not _is_in(space, action_dict[agent]):
            raise ValueError(f"action of agent {agent!r} is {shown(action_dict[agent])}, which is not in {space}")
    if unknown := [agent for agent in action_dict if agent not in spaces]:
        raise ValueError(f"agent {unknown[0]!r} does not act here: the agents are {', '.join(spaces)}")


def _is_in(space: gym.Space[Any], action: Any) -> bool:
    if isinstance(space, gym.spaces.Box):
        found = as_numbers(action)
        is_like = found is not None and found.dtype.kind != "b" and found.shape == space.shape
        return is_like and bool(np.isfinite(found).all())  # type: ignore[arg-type]
    try:
        return bool(space.contains(action))
    except (TypeError, ValueError, OverflowError):  # a whole number that is too large
        return False


class OneAgentEnv(MultiAgentEnv):
    """A Gymnasium environment as a team of one.

    Args:
        env: The environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__()
        self.env = env
        self.possible_agents = [ONLY_AGENT]
        self.agents = list(self.possible_agents)
        self.observation_spaces = {ONLY_AGENT: env.observation_space}
        self.action_spaces = {ONLY_AGENT: env.action_space}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return {ONLY_AGENT: obs}, {ONLY_AGENT: info}

    def step(self, action_dict: dict[Any, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Take the agent's action.

        Raises:
            ValueError: if it is missing or not in its space, or another agent's is given.
        """
        check_joint_action(action_dict, self.action_spaces)
        obs, reward, terminated, truncated, info = self.env.step(action_dict[ONLY_AGENT])
        names = (ONLY_AGENT, "__all__")
        ends = dict.fromkeys(names, bool(terminated)), dict.fromkeys(names, bool(truncated))
        return {ONLY_AGENT: obs}, {ONLY_AGENT: float(reward)}, *ends, {ONLY_AGENT: info}

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class TeamEnvView(MultiAgentEnv):
    """One replica of a TeamEnv as a MultiAgentEnv; the team path asks it for many by ``batched``.

    Args:
        make: Makes the TeamEnv by ``num_replicas``, ``device``, ``seed`` and ``with_state``.
    """

    def __init__(self, make: Callable[..., TeamEnv]) -> None:
        super().__init__()
        self._make = make
        self._env: TeamEnv = self.batched(1)
        self.possible_agents = list(self._env.agent_ids)
        self.agents = list(self.possible_agents)
        self.action_spaces = dict(self._env.action_spaces)
        self._is_masked = self._env.reset(0).action_mask is not None
        self.observation_spaces = dict(self._env.observation_spaces)
        if self._is_masked:
            self.observation_spaces = {
                agent: gym.spaces.Dict(
                    {
                        "observations": space,
                        "action_mask": gym.spaces.Box(
                            0, 1, (int(cast(gym.spaces.Discrete, self.action_spaces[agent]).n),), np.int8
                        ),
                    }
                )
                for agent, space in self.observation_spaces.items()
            }

    def batched(
        self, num_replicas: int, *, device: torch.device | str = "cpu", seed: int = 0, with_state: bool = False
    ) -> TeamEnv:
        """Make many replicas, for the team path."""
        return self._make(num_replicas=num_replicas, device=device, seed=seed, with_state=with_state)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        step = self._env.reset(seed)
        return self._seen(step), {agent: {} for agent in self.possible_agents}

    def step(self, action_dict: dict[Any, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Take one joint action.

        Raises:
            ValueError: if an agent's action is missing or not in its space, or another agent's is given.
        """
        check_joint_action(action_dict, self.action_spaces)
        chosen = [np.asarray(action_dict[agent]) for agent in self.possible_agents]
        if chosen[0].ndim:
            width = max(map(len, chosen))
            joint = torch.zeros(1, len(chosen), width)
            for n, action in enumerate(chosen):
                joint[0, n, : len(action)] = torch.from_numpy(np.asarray(action, np.float32))
        else:
            joint = torch.tensor([[int(action) for action in chosen]])
        step = self._env.step(joint.to(self._env.device))
        is_over = step.final_obs is not None
        names = (*self.possible_agents, "__all__")
        terminated, truncated = (dict.fromkeys(names, bool(flag[0])) for flag in (step.terminated, step.truncated))
        rewards = {agent: float(step.reward[0, n]) for n, agent in enumerate(self.possible_agents)}
        return self._seen(step, is_final=is_over), rewards, terminated, truncated, {a: {} for a in self.possible_agents}

    def _seen(self, step: TeamStep, *, is_final: bool = False) -> dict[str, Any]:
        obs, mask = (step.final_obs, step.final_mask) if is_final else (step.obs, step.action_mask)
        assert obs is not None
        seen: dict[str, Any] = {}
        for n, (agent, width) in enumerate(zip(self.possible_agents, self._env.obs_dims, strict=True)):
            own = obs[0, n, :width].cpu().numpy()
            if self._is_masked:
                assert mask is not None
                count = int(cast(gym.spaces.Discrete, self.action_spaces[agent]).n)
                seen[agent] = {"observations": own, "action_mask": mask[0, n, :count].cpu().numpy().astype(np.int8)}
            else:
                seen[agent] = own
        return seen
