"""Level-based foraging for many replicas at once, as the package lbforaging computes it one by one.

Christianos et al. 2020, arXiv:2006.07169; Papoudakis et al. 2021, arXiv:2006.07869.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from envs.benchmarks.replicas import Array, Books

_MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
"""What each choice adds to row and column: none, north, south, west, east, load."""
_LOAD = 5
_NOWHERE = -1_000


class Foraging:
    """Agents walk in a field and load food together; what one cannot lift, several can.

    Args:
        env: The package's ``ForagingEnv``, whose settings these are.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._count, self._foods, self._sight = env.n_agents, env.max_num_food, env.sight
        self._size = np.array(env.field_size)
        self.max_steps = int(env._max_episode_steps)
        self.num_actions, self.has_choices = [len(_MOVES)] * self._count, True
        self.obs_dims = [3 * (self._foods + self._count)] * self._count

    def draw(self, seeds: Sequence[int]) -> Books:
        """First states, as the package draws them from these seeds; food in the order of rows."""
        count, foods = len(seeds), self._foods
        at, level = np.zeros((count, self._count, 2), np.int64), np.zeros((count, self._count), np.int64)
        food_at, food = np.full((count, foods, 2), _NOWHERE, np.int64), np.zeros((count, foods), np.int64)
        for i, seed in enumerate(seeds):
            players, field = self._spawned(seed)
            at[i], level[i] = [p.position for p in players], [p.level for p in players]
            rows, columns = np.nonzero(field)
            food_at[i, : len(rows)] = np.stack([rows, columns], -1)
            food[i, : len(rows)] = field[rows, columns]
        return {"at": at, "level": level, "food_at": food_at, "food": food, "all_food": food.sum(1)}

    def _spawned(self, seed: int) -> tuple[Any, Array]:
        """The package's players and field at the start of an episode, without what only one replica wants."""
        env = self._env
        env._np_random = seeding.np_random(seed)[0]
        for player in env.players:
            player.position = None
        env.field = np.zeros(env.field_size, np.int32)
        env.spawn_players(env.min_player_level, env.max_player_level)
        strongest = sum(sorted(player.level for player in env.players)[:3])
        most = env.max_food_level if env.max_food_level is not None else np.array([strongest] * env.max_num_food)
        env.spawn_food(env.max_num_food, min_levels=env.min_food_level, max_levels=most)
        return env.players, env.field

    def move(self, books: Books, actions: Array) -> tuple[Books, Array, Array]:
        """Take a step; see ``World``.

        What cannot be done is not done, and of those who want to the same place, nobody goes. Food lies so far apart
        that nobody stands beside two.
        """
        at, food_at, food = books["at"], books["food_at"], books["food"]
        is_there = (food > 0)[:, None]
        away = at[:, :, None] - food_at[:, None]
        is_beside = (np.abs(away).sum(-1) == 1) & is_there
        wanted = at + _MOVES[actions]
        is_food = ((wanted[:, :, None] == food_at[:, None]).all(-1) & is_there).any(-1)
        is_free = ((wanted >= 0) & (wanted < self._size)).all(-1) & ~is_food
        wanted = np.where(is_free[..., None], wanted, at)
        is_alone = (wanted[:, :, None] == wanted[:, None]).all(-1).sum(-1) == 1
        loads = is_beside & (actions == _LOAD)[..., None]
        level = books["level"][..., None]
        strength = (level * loads).sum(1)
        is_loaded = loads.any(1) & (strength >= food)
        share = (level * food[:, None]).astype(np.float64)
        if self._env._normalize_reward:
            share = share / np.maximum(strength * books["all_food"][:, None], 1)[:, None]
        paid = np.where(loads & is_loaded[:, None], share, 0.0).sum(-1)
        paid -= self._env.penalty * (loads & ~is_loaded[:, None]).sum(-1)
        left = np.where(is_loaded, 0, food)
        moved = {**books, "at": np.where(is_alone[..., None], wanted, at), "food": left}
        return moved, paid, left.sum(1) == 0

    def see(self, books: Books) -> Array:
        """Food, then the agent itself, then the others: row, column and level, as far as the agent sees."""
        at, batch = books["at"], len(books["at"])
        corner = at - np.minimum(self._sight, at)
        food = books["food_at"][:, None] - corner[:, :, None]
        is_near = (np.abs(books["food_at"][:, None] - at[:, :, None]) <= self._sight).all(-1)
        is_seen = is_near & (books["food"] > 0)[:, None]
        levels = np.broadcast_to(books["food"][:, None], is_seen.shape)
        of_food = _first_seen(food, levels, np.where(is_seen, 1, 2))
        others = at[:, None] - corner[:, :, None]
        is_visible = (others.min(-1) >= 0) & (others.max(-1) <= 2 * self._sight)
        rank = np.where(np.eye(self._count, dtype=bool), 0, np.where(is_visible, 1, 2))
        levels = np.broadcast_to(books["level"][:, None], rank.shape)
        of_agents = _first_seen(others, levels, rank)
        seen: Array = np.concatenate([of_food, of_agents], -1).reshape(batch, self._count, -1)
        return seen


def _first_seen(places: Array, levels: Array, rank: Array) -> Array:
    """Rows of (row, column, level) by rank, flattened, float32; those of rank 2 are not seen: -1, -1, 0."""
    rows = np.concatenate([places, levels[..., None]], -1).astype(np.float32)
    rows[rank == 2] = (-1.0, -1.0, 0.0)
    ordered: Array = np.take_along_axis(rows, np.argsort(rank, -1, kind="stable")[..., None], -2)
    return ordered.reshape(*ordered.shape[:-2], -1)
