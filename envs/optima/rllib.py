"""KnownMarketEnv: one replica of a problem with a known optimum as an RLlib MultiAgentEnv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from common.errors import InputError, nearest
from envs.copies import seeds_of_copy
from envs.optima.batched import OptimaEnv
from envs.optima.catalog import make_problem
from envs.steps import ReplicaStep

ENV_NAME = "known-market"

_SETTINGS = ("market", "num_agents", "settings", "seed")


class KnownMarketEnv(MultiAgentEnv):
    """One replica of a problem of ``envs.optima.catalog``.

    ### Description
    A market or game whose best policy is known; see the class of the problem (for instance
    ``envs.optima.kyle.Kyle``), of which this is the view of one replica.

    ### Action Space
    For each agent ``Discrete(K)`` or ``Box(low, high, (D,))``.

    ### Observation Space
    For each agent a float32 ``Box``, of order one. ``state()`` is what a centralised critic sees.

    ### Rewards
    Their sum over an episode is the agent's objective.

    ### Starting State
    As the problem draws it from (seed, episode).

    ### Episode End
    After a fixed number of steps, by termination.

    Args:
        config: ``market`` (a name of the catalog), and any of ``num_agents``, ``settings`` (of the problem) and
            ``seed`` (0, or under RLlib a new one for each copy).

    Raises:
        InputError: if a setting does not exist or cannot be used.
    """

    metadata: Mapping[str, Any] = {"render_modes": []}

    def __init__(self, config: Mapping[str, Any] | None = None):
        super().__init__()
        self._config = dict(config or {})
        for name in self._config:
            if name not in _SETTINGS:
                raise InputError(f"env_config: {name!r} does not exist{nearest(name, _SETTINGS)}")
        if "market" not in self._config:
            raise InputError("env_config: 'market' is missing: name a market of the catalog")
        self._seed_of_copy = seeds_of_copy(config)
        self.batch = self.batched(1, seed=self._seed_of_copy(self._config.get("seed")), with_state=True)
        self.possible_agents = list(self.batch.agent_ids)
        self.agents = list(self.possible_agents)
        self.observation_spaces = dict(self.batch.observation_spaces)
        self.action_spaces = dict(self.batch.action_spaces)
        self._last: ReplicaStep | None = None
        self._is_over = False

    def batched(
        self, num_replicas: int, *, device: torch.device | str = "cpu", seed: int = 0, with_state: bool = False
    ) -> OptimaEnv:
        """Make many replicas of this environment, for the team path.

        Args:
            num_replicas: B.
            device: Where they are stepped.
            seed: Of the counted draws.
            with_state: Whether to return the global state.
        """
        problem = make_problem(
            self._config["market"],
            num_agents=self._config.get("num_agents"),
            settings=self._config.get("settings"),
            device=device,
        )
        return OptimaEnv(problem, num_replicas=num_replicas, seed=seed, with_state=with_state)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: the first of a new stream if seeded, else the next one."""
        if seed is not None or self._last is None:
            self._last = self.batch.reset(None if seed is None else self._seed_of_copy(seed))
        elif self._is_over:
            self._last = self.batch.observe()  # the next episode has begun in the step that ended the last
        else:
            self._last = self.batch.skip()
        self._is_over = False
        self.agents = list(self.possible_agents)
        return self._seen(self._last.obs), {agent: {} for agent in self.agents}

    def step(
        self, action_dict: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Take one joint action.

        Raises:
            ValueError: if an agent's action is missing or cannot be taken, or the episode is over.
        """
        if self._is_over or self._last is None:
            raise ValueError("the episode is over (or has not begun): call reset() before step()")
        for agent in self.possible_agents:
            if agent not in action_dict:
                raise ValueError(f"action of agent {agent!r} is missing")
        self._last = step = self.batch.step(np.stack([action_dict[agent] for agent in self.possible_agents])[None])
        self._is_over = bool(step.terminated[0])
        seen = self._seen(step.obs if step.final_obs is None else step.final_obs)
        rewards = dict(zip(self.possible_agents, step.reward[0].tolist(), strict=True))
        ends = dict.fromkeys((*self.possible_agents, "__all__"), self._is_over)
        self.agents = [] if self._is_over else list(self.possible_agents)
        return seen, rewards, ends, dict.fromkeys(ends, False), {agent: {} for agent in self.possible_agents}

    def state(self) -> np.ndarray[Any, Any]:
        """Global state of the observation that was returned last, [S] float32.

        Raises:
            ValueError: before the first reset.
        """
        if self._last is None:
            raise ValueError("no episode has begun: call reset() before state()")
        state = self._last.state if self._last.final_state is None else self._last.final_state
        assert state is not None
        return state[0].numpy()

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as arrays and numbers."""
        return {"batch": self.batch.get_state(), "has_begun": self._last is not None, "is_over": self._is_over}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from what ``get_state`` of an environment with the same config returned."""
        self.batch.set_state(state["batch"])
        self._last = self.batch.observe() if state["has_begun"] else None
        self._is_over = bool(state["is_over"])
        self.agents = [] if self._is_over else list(self.possible_agents)

    def _seen(self, obs: torch.Tensor) -> dict[str, Any]:
        return dict(zip(self.possible_agents, obs[0].numpy(), strict=True))


def register() -> str:
    """Make ``"known-market"`` known to RLlib in this process, and return the name."""
    register_env(ENV_NAME, KnownMarketEnv)
    return ENV_NAME
