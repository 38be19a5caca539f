"""Multi-particle worlds for many replicas at once, as the package mpe2 computes them one by one.

Lowe et al. 2017, arXiv:1706.02275; Mordatch and Abbeel 2018, arXiv:1703.04908.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from envs.benchmarks.replicas import Array, Books

PUSHES = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
"""Direction of each choice: stay, left, right, down, up."""
SENSITIVITY = 5.0
"""Force of a choice; the package's, for agents that set no ``accel``."""


class Spread:
    """simple_spread: N agents cover N landmarks, and are not to touch each other.

    With more than eight agents sums are taken in another order than the package's: rewards may differ by a rounding.

    Args:
        env: The package's ``raw_env``, whose settings these are.
    """

    def __init__(self, env: Any) -> None:
        self._scenario, self._world = env.scenario, env.world
        self.max_steps, self._local_ratio = int(env.max_cycles), float(env.local_ratio)
        self._count = count = len(self._world.agents)
        self.num_actions, self.has_choices = [len(PUSHES)] * count, not env.continuous_actions
        self.obs_dims = [4 + 2 * len(self._world.landmarks) + (2 + self._world.dim_c) * (count - 1)] * count
        self._reach = 2 * self._world.agents[0].size
        self._others = np.array([[j for j in range(count) if j != i] for i in range(count)], np.int64)

    def draw(self, seeds: Sequence[int]) -> Books:
        """First states, as the package draws them from these seeds."""
        places = np.stack([_places(self._scenario, self._world, seed) for seed in seeds])
        at = places[:, : self._count].copy()
        return {"at": at, "speed": np.zeros_like(at), "landmarks": places[:, self._count :].copy()}

    def move(self, books: Books, actions: Array) -> tuple[Books, Array, Array]:
        """Take a step; see ``World``."""
        force = _force(actions)
        apart, distance = self._apart(books["at"])
        world = self._world
        sunk = np.logaddexp(0, -(distance - self._reach) / world.contact_margin) * world.contact_margin
        with np.errstate(divide="ignore", invalid="ignore"):  # an agent and itself
            pushed = world.contact_force * apart / distance[..., None] * sunk[..., None]
        for other in range(self._count):  # one by one, as the package adds them up
            not_itself = np.arange(self._count) != other
            force[:, not_itself] += pushed[:, not_itself, other]
        moved = _moved(books, force, world)
        return moved, self._paid(moved), np.zeros(len(actions), bool)

    def _paid(self, books: Books) -> Array:
        _, distance = self._apart(books["at"])
        touches = (distance < self._reach) & ~np.eye(self._count, dtype=bool)
        far = np.sqrt(np.square(books["at"][:, :, None] - books["landmarks"][:, None]).sum(-1))
        covered: Array = -far.min(1).sum(1, keepdims=True)
        paid: Array = covered * (1 - self._local_ratio) - touches.sum(-1) * self._local_ratio
        return paid

    def _apart(self, at: Array) -> tuple[Array, Array]:
        apart = at[:, :, None] - at[:, None]
        return apart, np.sqrt(np.square(apart).sum(-1))

    def see(self, books: Books) -> Array:
        """Own speed and place, then landmarks, other agents and what they say (nothing), from there."""
        at, batch = books["at"], len(books["at"])
        landmarks = books["landmarks"][:, None] - at[:, :, None]
        others = at[:, self._others] - at[:, :, None]
        parts = [books["speed"], at, *(p.reshape(batch, self._count, -1) for p in (landmarks, others))]
        silence = np.zeros((batch, self._count, self._world.dim_c * (self._count - 1)))
        return np.concatenate([*parts, silence], -1).astype(np.float32)


class SpeakerListener:
    """simple_speaker_listener: one sees which landmark is wanted and speaks, the other one hears it and moves.

    Args:
        env: The package's ``raw_env``, whose settings these are.
    """

    def __init__(self, env: Any) -> None:
        self._scenario, self._world, self.max_steps = env.scenario, env.world, int(env.max_cycles)
        self._words = self._world.dim_c
        self.num_actions, self.has_choices = [self._words, len(PUSHES)], not env.continuous_actions
        self._width = 2 + 2 * len(self._world.landmarks) + self._words
        self.obs_dims = [self._world.dim_color, self._width]
        self._colors = np.stack([landmark.color for landmark in self._world.landmarks])

    def draw(self, seeds: Sequence[int]) -> Books:
        """First states, as the package draws them from these seeds; nothing has been said."""
        places, goals = [], []
        for seed in seeds:
            places.append(_places(self._scenario, self._world, seed)[1:])
            goals.append(self._world.landmarks.index(self._world.agents[0].goal_b))
        stacked = np.stack(places)
        at = stacked[:, :1].copy()
        said = np.zeros((len(at), self._words))
        return {
            "at": at,
            "speed": np.zeros_like(at),
            "landmarks": stacked[:, 1:].copy(),
            "goal": np.array(goals, np.int64),
            "said": said,
        }

    def move(self, books: Books, actions: Array) -> tuple[Books, Array, Array]:
        """Take a step; see ``World``."""
        moved = _moved(books, _force(actions[:, 1:]), self._world)
        spoken = actions[:, 0]
        moved["said"] = np.eye(self._words)[spoken] if self.has_choices else spoken[:, : self._words].astype(np.float64)
        wanted = moved["landmarks"][np.arange(len(actions)), moved["goal"]]
        far = np.square(moved["at"][:, 0] - wanted).sum(-1)
        return moved, np.repeat(-far[:, None], 2, 1), np.zeros(len(actions), bool)

    def see(self, books: Books) -> Array:
        """The wanted landmark's colour; own speed, landmarks from there, and what was said."""
        seen = np.zeros((len(books["at"]), 2, self._width), np.float32)
        seen[:, 0, : self._world.dim_color] = self._colors[books["goal"]]
        landmarks = (books["landmarks"] - books["at"]).reshape(len(seen), -1)
        seen[:, 1] = np.concatenate([books["speed"][:, 0], landmarks, books["said"]], -1)
        return seen


def _places(scenario: Any, world: Any, seed: int) -> Array:
    """Where the package places agents, then landmarks, [entities, 2]."""
    scenario.reset_world(world, seeding.np_random(seed)[0])
    return np.stack([entity.state.p_pos for entity in world.entities])


def _force(actions: Array) -> Array:
    """What agents push with, [B, N, 2] float64.

    Args:
        actions: [B, N] int64, choices; or [B, N, 5] float32, how far each of the choices is taken.
    """
    if actions.ndim == 2:
        return PUSHES[actions] * SENSITIVITY
    to_the_right_and_up: Array = actions[..., 2:5:2] - actions[..., 1:5:2]
    return to_the_right_and_up.astype(np.float64) * SENSITIVITY


def _moved(books: Books, force: Array, world: Any) -> Books:
    """One step of the package's physics for bodies of mass one without a greatest speed."""
    at = books["at"] + books["speed"] * world.dt
    speed = books["speed"] * (1 - world.damping) + force * world.dt
    return {**books, "at": at, "speed": speed}
