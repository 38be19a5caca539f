"""BenchmarkReplicas: B replicas of a benchmark as the batched environment that team runners step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.counted import counted_hash
from common.errors import InputError
from envs.states import require_same_parts
from envs.steps import ReplicaStep

Array = npt.NDArray[Any]
Books = dict[str, Array]
"""All that the next steps of each replica depend on, by name; the first axis is that of replicas."""


class World(Protocol):
    """The rules of a benchmark, for any number of replicas at once.

    Attributes:
        max_steps: Steps after which an episode is cut off.
        num_actions: Choices of each agent, or numbers in its action.
        has_choices: Whether an agent chooses one of them; else it says how far, in [0, 1], it takes each.
        obs_dims: Width of each agent's observation.
    """

    max_steps: int
    num_actions: list[int]
    has_choices: bool
    obs_dims: list[int]

    def draw(self, seeds: Sequence[int]) -> Books:
        """First states, as the package draws them from these seeds."""

    def move(self, books: Books, actions: Array) -> tuple[Books, Array, Array]:
        """Take a step.

        Args:
            books: Where the replicas are; not written to.
            actions: [B, N] int64, or [B, N, D] float32 in [0, 1].

        Returns:
            Where they are then, what each agent is paid, [B, N] float64, and whether the episode is over, [B] bool.
        """

    def see(self, books: Books) -> Array:
        """What each agent observes, [B, N, F] float32; zeros beyond an agent's own width."""


def episode_seed(seed: int | Tensor, episode: int | Tensor) -> Array:
    """Seed that the package's own environment gets for an episode, in [0, 2**32), int64 of the arguments' shape."""
    hashed: Array = counted_hash(seed, episode).numpy()
    return hashed % 2**32


class BenchmarkReplicas:
    """B replicas of one benchmark, each in its own episode; a replica that ends begins its next episode in that step.

    Replica b plays the episodes that a ``BenchmarkEnv`` plays that was reset with ``(seed + b) % 2**32``: their first
    states are drawn by the package, and what follows is computed as it does.

    Attributes:
        num_replicas: B.
        num_agents: N.
        agent_ids: Their names.
        observation_spaces: Box of each agent.
        action_spaces: Discrete or Box of each agent.
        obs_dims: Width of each agent's observation, N of them.
        windows: All of each observation is one bar: (0, 1, width), N of them.
        state_dim: Width of the global state; 0 unless asked for.
        device: Where tensors are wanted; the games are played on the CPU.

    Args:
        num_replicas: B.
        world: The rules.
        observation_spaces: By agent.
        action_spaces: By agent.
        is_shared: Whether each agent is paid the sum.
        device: See above.
        seed: Of the episodes.
        with_state: Whether to return the global state.
    """

    def __init__(
        self,
        num_replicas: int,
        *,
        world: World,
        observation_spaces: Mapping[str, gym.Space[Any]],
        action_spaces: Mapping[str, gym.Space[Any]],
        is_shared: bool,
        device: torch.device | str = "cpu",
        seed: int = 0,
        with_state: bool = False,
    ) -> None:
        if num_replicas < 1:
            raise InputError(f"num_replicas is {num_replicas}: it must be at least 1")
        self.num_replicas, self.agent_ids = num_replicas, tuple(observation_spaces)
        self.num_agents, self.device = len(self.agent_ids), torch.device(device)
        self.observation_spaces, self.action_spaces = dict(observation_spaces), dict(action_spaces)
        self.obs_dims = list(world.obs_dims)
        self.windows = [(0, 1, dim) for dim in self.obs_dims]
        self.state_dim = self.num_agents * max(self.obs_dims) if with_state else 0
        self._world, self._is_shared, self._with_state, self._seed = world, is_shared, with_state, int(seed)
        self._counts = counts = np.asarray(world.num_actions)
        mask = np.broadcast_to(np.arange(counts.max()) < counts[:, None], (num_replicas, *counts.shape, counts.max()))
        self._mask = self._tensor(mask.copy()) if world.has_choices else None
        self._restart()

    def _restart(self) -> None:
        self._step = np.zeros(self.num_replicas, np.int64)
        self._episode = np.zeros(self.num_replicas, np.int64)
        self._books = self._world.draw(self._seeds(np.arange(self.num_replicas)))

    def _seeds(self, replicas: Array) -> list[int]:
        """Seeds of these replicas' present episodes."""
        of_replicas = torch.from_numpy((self._seed + replicas) % 2**32)
        found: list[int] = episode_seed(of_replicas, torch.from_numpy(self._episode[replicas])).tolist()
        return found

    def reset(self, seed: int | None = None) -> ReplicaStep:
        """Begin the first episode in every replica; a seed starts a new stream of episodes."""
        if seed is not None:
            self._seed = int(seed)
        self._restart()
        return self.observe()

    def observe(self) -> ReplicaStep:
        """What agents see now, as after a reset: zero rewards, nothing ended. For instance after ``set_state``."""
        no = torch.zeros(self.num_replicas, dtype=torch.bool, device=self.device)
        reward = torch.zeros(self.num_replicas, self.num_agents, dtype=torch.float64, device=self.device)
        return ReplicaStep(*self._look(), self._mask, reward, no, no.clone())

    def _look(self) -> tuple[Tensor, Tensor | None]:
        obs = self._tensor(self._world.see(self._books))
        return obs, obs.flatten(1) if self._with_state else None

    def step(self, actions: Tensor | Array) -> ReplicaStep:
        """Take one joint action in every replica.

        Args:
            actions: [B, N] int64, or [B, N, D] float32, of which each agent's own width counts; they are cut to
                [0, 1], as the package cuts them.

        Raises:
            ValueError: if the shape is wrong, or a choice or number does not exist.
        """
        chosen = self._check_actions(actions)
        self._books, each, is_over = self._world.move(self._books, chosen)
        self._step = self._step + 1
        is_late = (self._step >= self._world.max_steps) & ~is_over
        paid = np.repeat(each.sum(1, keepdims=True), self.num_agents, 1) if self._is_shared else each
        moved = (self._tensor(paid), self._tensor(is_over), self._tensor(is_late))
        ended = np.flatnonzero(is_over | is_late)
        if not len(ended):
            return ReplicaStep(*self._look(), self._mask, *moved)
        final_obs, final_state = self._look()
        self._episode[ended] += 1
        self._step[ended] = 0
        fresh = self._world.draw(self._seeds(ended))
        for name, values in self._books.items():
            values[ended] = fresh[name]
        return ReplicaStep(*self._look(), self._mask, *moved, final_obs, final_state, self._mask)

    def _check_actions(self, actions: Tensor | Array) -> Array:
        chosen = actions.cpu().numpy() if isinstance(actions, Tensor) else np.asarray(actions)
        team = (self.num_replicas, self.num_agents)
        if not self._world.has_choices:
            return _numbers(chosen, (*team, int(self._counts.max())))
        if chosen.shape != team:
            raise ValueError(f"actions have shape {chosen.shape}, expected {team}: one choice each")
        if not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"actions are {chosen.dtype}, expected int64: every agent makes a choice")
        if ((chosen < 0) | (chosen >= self._counts)).any():
            raise ValueError(f"an action is outside 0 to {(self._counts - 1).tolist()}, by agent")
        return chosen

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as arrays and a number."""
        counts = {"seed": self._seed, "step": self._step.copy(), "episode": self._episode.copy()}
        return counts | {name: values.copy() for name, values in self._books.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from what ``get_state`` of replicas of the same benchmark returned.

        Raises:
            ValueError: if a part is missing or has another shape.
        """
        require_same_parts(state, self.get_state(), of="environment")
        self._seed = int(state["seed"])
        self._step, self._episode = np.array(state["step"]), np.array(state["episode"])
        self._books = {name: np.array(state[name]) for name in self._books}

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _numbers(actions: Array, shape: tuple[int, ...]) -> Array:
    """Actions that are numbers, as float32 in [0, 1].

    Raises:
        ValueError: if their shape or type is another, or one is not finite.
    """
    if actions.shape != shape:
        raise ValueError(f"actions have shape {actions.shape}, expected {shape}: padded to the widest agent's")
    if not np.issubdtype(actions.dtype, np.floating):
        raise ValueError(f"actions are {actions.dtype}, expected float32: every agent says how far it goes")
    if not np.isfinite(actions).all():
        raise ValueError("an action is not a finite number")
    return np.clip(actions.astype(np.float32), 0.0, 1.0)
