"""OptimaEnv: B replicas of a problem with a known optimum, as the batched environment that team runners step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from common.counted import counted_uniforms
from common.errors import InputError
from envs.optima.problem import Problem
from envs.states import require_same_parts
from envs.steps import ReplicaStep


class OptimaEnv:
    """B replicas of one problem, each in its own episode; a replica that ends begins its next episode in that step.

    What a replica draws is a hash of (seed, replica, episode, step), so the state of a replica is its books and two
    counts.

    Attributes:
        problem: The rules.
        num_replicas: B.
        num_agents: N.
        agent_ids: Their names.
        observation_spaces: Box of each agent.
        action_spaces: Discrete or Box of each agent.
        obs_dims: Width of each agent's observation, N of them.
        windows: All of each observation is one bar: (0, 1, width), N of them.
        state_dim: Width of the global state; 0 unless asked for.
        device: Where tensors live.
    """

    def __init__(self, problem: Problem, *, num_replicas: int, seed: int = 0, with_state: bool = False):
        if num_replicas < 1:
            raise InputError(f"num_replicas is {num_replicas}: it must be at least 1")
        self.problem, self.num_replicas, self.num_agents = problem, num_replicas, problem.num_agents
        self.agent_ids, self.device = problem.agent_ids, problem.device
        self.obs_dims = [problem.obs_dim] * self.num_agents
        self.windows = [(0, 1, problem.obs_dim)] * self.num_agents
        self.state_dim = problem.state_dim if with_state else 0
        self._with_state, self._seed = with_state, int(seed)
        see = spaces.Box(-np.inf, np.inf, (problem.obs_dim,), np.float32)
        self.observation_spaces: dict[str, spaces.Space[Any]] = dict.fromkeys(self.agent_ids, see)
        self.action_spaces: dict[str, spaces.Space[Any]] = {agent: _action_space(problem) for agent in self.agent_ids}
        self._low = torch.tensor(problem.low, dtype=torch.float64, device=self.device)
        self._high = torch.tensor(problem.high, dtype=torch.float64, device=self.device)
        self._replica = torch.arange(num_replicas, device=self.device)[:, None]
        self._channel = torch.arange(problem.num_draws, device=self.device)[None]
        self._restart()

    def _restart(self) -> None:
        zero = torch.zeros(self.num_replicas, dtype=torch.int64, device=self.device)
        self._step, self._episode = zero, zero.clone()
        self._books = self.problem.open(self._draws(self._step, self._episode))

    def _draws(self, count: Tensor, episode: Tensor) -> Tensor:
        """Uniforms of each replica, [B, C]; count 0 opens an episode, count t + 1 moves it from step t."""
        if not self.problem.num_draws:
            return torch.empty(self.num_replicas, 0, dtype=torch.float64, device=self.device)
        return counted_uniforms(self._seed, self._replica, episode[:, None], count[:, None], self._channel)

    @torch.no_grad()
    def reset(self, seed: int | None = None) -> ReplicaStep:
        """Begin the first episode in every replica; a seed starts a new stream of episodes."""
        if seed is not None:
            self._seed = int(seed)
        self._restart()
        return self.observe()

    @torch.no_grad()
    def skip(self) -> ReplicaStep:
        """Leave the present episodes where they are and begin the next one in every replica."""
        self._begin_again(torch.ones(self.num_replicas, dtype=torch.bool, device=self.device))
        return self.observe()

    @torch.no_grad()
    def observe(self) -> ReplicaStep:
        """What agents see now, as after a reset: zero rewards, nothing ended. For instance after ``set_state``."""
        no = torch.zeros(self.num_replicas, dtype=torch.bool, device=self.device)
        reward = torch.zeros(self.num_replicas, self.num_agents, dtype=torch.float64, device=self.device)
        return ReplicaStep(*self._look(), None, reward, no, no.clone())

    def _look(self) -> tuple[Tensor, Tensor | None]:
        obs = self.problem.observe(self._books, self._step).to(torch.float32)
        state = self.problem.state(self._books, self._step).to(torch.float32) if self._with_state else None
        return obs, state

    @torch.no_grad()
    def step(self, actions: Tensor | np.ndarray[Any, Any]) -> ReplicaStep:
        """Take one joint action in every replica.

        Args:
            actions: Choices, [B, N] int64, or numbers, [B, N, D] float; numbers beyond the box count as its edge.

        Raises:
            ValueError: if the shape is wrong, a number is not finite, or a choice does not exist.
        """
        actions = self._check_actions(actions)
        draws = self._draws(self._step + 1, self._episode)
        self._books, reward = self.problem.move(self._books, self._step, actions, draws)
        self._step = self._step + 1
        ended = self._step >= self.problem.num_steps
        never = torch.zeros_like(ended)
        if not bool(ended.any()):
            return ReplicaStep(*self._look(), None, reward, ended, never)
        final_obs, final_state = self._look()
        self._begin_again(ended)
        return ReplicaStep(*self._look(), None, reward, ended, never, final_obs, final_state)

    def _check_actions(self, actions: Tensor | np.ndarray[Any, Any]) -> Tensor:
        problem, actions = self.problem, torch.as_tensor(actions, device=self.device)
        shape: tuple[int, ...] = (self.num_replicas, self.num_agents)
        if not problem.num_actions:
            shape = (*shape, len(problem.low))
        if tuple(actions.shape) != shape:
            raise ValueError(f"actions have shape {tuple(actions.shape)}, expected {shape}")
        if problem.num_actions:
            if actions.is_floating_point():
                raise ValueError(f"actions are {actions.dtype}, expected int64: every agent makes a choice")
            if bool(((actions < 0) | (actions >= problem.num_actions)).any()):
                raise ValueError(f"an action is outside 0 to {problem.num_actions - 1}")
            return actions.to(torch.int64)
        actions = actions.to(torch.float64)
        if not bool(actions.isfinite().all()):
            raise ValueError("an action is not finite")
        return torch.minimum(torch.maximum(actions, self._low), self._high)

    def _begin_again(self, ended: Tensor) -> None:
        """Start the next episode in the rows that ended."""
        self._episode = self._episode + ended
        self._step = torch.where(ended, 0, self._step)
        fresh = self.problem.open(self._draws(torch.zeros_like(self._step), self._episode))
        self._books = torch.where(ended[:, None], fresh, self._books)

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as arrays and a number."""
        return {
            "seed": self._seed,
            "step": self._step.cpu().numpy().copy(),
            "episode": self._episode.cpu().numpy().copy(),
            "books": self._books.cpu().numpy().copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from what ``get_state`` of an environment of the same problem returned.

        Raises:
            ValueError: if a part is missing or has another shape.
        """
        require_same_parts(state, self.get_state(), of="environment")
        self._seed = int(state["seed"])
        self._step, self._episode, self._books = (
            torch.tensor(np.asarray(state[name]), device=self.device) for name in ("step", "episode", "books")
        )


def _action_space(problem: Problem) -> spaces.Space[Any]:
    if problem.num_actions:
        return spaces.Discrete(problem.num_actions)
    return spaces.Box(np.array(problem.low, np.float32), np.array(problem.high, np.float32), dtype=np.float32)
