"""The trading floor as a PettingZoo ParallelEnv: one replica, the same numbers as ``envs.rllib.TradingEnv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from pettingzoo import ParallelEnv

from envs.market import spec_to_json
from envs.rllib import TradingEnv
from envs.settings import FloorSpec


class TradingParallelEnv(ParallelEnv):
    """One replica of the trading floor, by PettingZoo's rules.

    Args:
        config: Settings of ``TradingEnv``.
    """

    metadata = {"name": "trading_floor_v0", "render_modes": []}  # noqa: RUF012

    def __init__(self, config: Mapping[str, Any] | None = None):
        self._env = TradingEnv(config)
        self.possible_agents: list[str] = list(self._env.possible_agents)
        self.agents: list[str] = []
        self.render_mode = None

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Space of one agent's observations; the same object every time."""
        return self._env.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Space of one agent's actions; the same object every time."""
        return self._env.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode: the first of a new stream if seeded, else the next one."""
        observations, infos = self._env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return observations, infos

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Trade one bar; after the last one ``agents`` is empty and another step returns nothing.

        Raises:
            ValueError: if an agent's action is missing, not finite or not on its ladder.
        """
        if not self.agents:
            return {}, {}, {}, {}, {}
        observations, rewards, terminateds, truncateds, infos = self._env.step(actions)
        terminations = {agent: terminateds[agent] for agent in self.possible_agents}
        truncations = {agent: truncateds[agent] for agent in self.possible_agents}
        self.agents = list(self._env.agents)
        return observations, rewards, terminations, truncations, infos

    def render(self) -> None:
        """Nothing to draw: see ``experiments/backtest.py`` for pictures."""

    def close(self) -> None:
        """Nothing to close."""


def parallel_env(spec: FloorSpec | None = None, **settings: Any) -> TradingParallelEnv:
    """Make a ParallelEnv of one replica.

    Args:
        spec: The floor; the built-in market and the default desk if None.
        settings: Other settings of ``TradingEnv``: ``split``, ``start``, ``seed``, ``use_action_mask``, ``scaler``.
    """
    return TradingParallelEnv({"spec": spec_to_json(spec or FloorSpec()), **settings})
