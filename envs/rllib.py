"""TradingEnv: one replica of the trading floor as an RLlib MultiAgentEnv, registered as ``"trading-floor"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from common.arrays import as_numbers
from common.errors import InputError, nearest, shown
from envs.copies import seeds_of_copy
from envs.features import Scaler
from envs.floor import TradingFloor, build_floor
from envs.market import build_market, spec_from_json
from envs.settings import FloorSpec
from envs.steps import FloorStep

ENV_NAME = "trading-floor"

_SETTINGS = ("spec", "split", "start", "seed", "use_action_mask", "scaler", "use_compile")


class TradingEnv(MultiAgentEnv):
    """One replica of the trading floor.

    ### Description
    A team of agents trades real or synthetic prices. What an agent decides at bar t fills at bar t + 1; see
    ``envs.floor.TradingFloor``, of which this is the view of one replica.

    ### Action Space
    For each agent ``Discrete(R)``, a rung of its ladder of target exposures, or ``Box(low, 1, (D,))``, a weight for
    each asset of its book as a fraction of its limit (low is -1, or 0 where it must not be short).

    ### Observation Space
    For each agent a float32 ``Box`` of its own width: ``envs.observations.private_names``, then scaled market
    features. With ``use_action_mask`` a ``Dict`` of ``observations`` and ``action_mask`` (int8, 1 is allowed), as
    RLlib's masked modules want it.

    ### Rewards
    By default the change of the account's value over the bar, as a fraction of its initial capital, to every agent.

    ### Starting State
    All capital in cash, at a bar of the split that follows from (seed, episode) alone, or at its first bar (``start``).

    ### Episode End
    Ruin of an account terminates; the horizon, or the end of the split, truncates. The last ``infos`` hold the figures
    of the episode, under each agent's id.

    Args:
        config: Any of ``spec`` (a FloorSpec or its JSON form), ``split`` (train), ``start`` (random), ``seed`` (0, or
            under RLlib a new one for each copy), ``use_action_mask`` (False), ``scaler`` (JSON form of a Scaler; the
            market's own), ``use_compile`` (False).

    Raises:
        InputError: if a setting does not exist, or prices or settings cannot be used.
    """

    metadata: Mapping[str, Any] = {"render_modes": []}

    def __init__(self, config: Mapping[str, Any] | None = None):
        super().__init__()
        settings = dict(config or {})
        for name in settings:
            if name not in _SETTINGS:
                raise InputError(f"env_config: {name!r} does not exist{nearest(name, _SETTINGS)}")
        self.spec: FloorSpec = spec_from_json(settings.get("spec") or {})
        scaler = settings.get("scaler")
        self._scaler = Scaler.from_json(scaler) if isinstance(scaler, Mapping) else scaler
        self._split, self._start = settings.get("split", "train"), settings.get("start", "random")
        self._seed_of_copy = seeds_of_copy(config)
        self._use_compile = bool(settings.get("use_compile", False))
        self._use_action_mask = bool(settings.get("use_action_mask", False))
        self.floor = self._build(num_replicas=1, seed=self._seed_of_copy(settings.get("seed")))
        self.possible_agents = list(self.floor.agent_ids)
        self.agents = list(self.possible_agents)
        self.action_spaces = dict(self.floor.action_spaces)
        self.observation_spaces = dict(self.floor.observation_spaces)
        self._masks: list[int | None] = [None] * len(self.agents)
        if self._use_action_mask:
            self._add_masks()
        self._is_discrete = all(mandate.is_discrete for mandate in self.floor.mandates)
        self._widest_book = max(len(mandate.assets) for mandate in self.floor.mandates)
        self._fresh: FloorStep | None = None
        self._has_begun = False

    def _add_masks(self) -> None:
        for n, mandate in enumerate(self.floor.mandates):
            if mandate.is_discrete:
                self._masks[n] = len(mandate.ladder)
                self.observation_spaces[mandate.name] = spaces.Dict(
                    {
                        "observations": self.observation_spaces[mandate.name],
                        "action_mask": spaces.Box(0, 1, (len(mandate.ladder),), np.int8),
                    }
                )

    def _build(self, *, num_replicas: int, seed: int, **more: Any) -> TradingFloor:
        return build_floor(
            build_market(self.spec),
            split=self._split,
            start=self._start,
            scaler=self._scaler,
            num_replicas=num_replicas,
            seed=seed,
            **more,
        )

    def batched(
        self, num_replicas: int, *, device: torch.device | str = "cpu", seed: int = 0, with_state: bool = False
    ) -> TradingFloor:
        """Make a floor of many replicas of this environment, for the team path.

        Args:
            num_replicas: B.
            device: Where the floor is stepped.
            seed: Of the counted draws.
            with_state: Whether to return the global state.
        """
        return self._build(
            num_replicas=num_replicas, device=device, seed=seed, with_state=with_state, use_compile=self._use_compile
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: the first of a new stream if seeded, else the next one.

        Returns:
            Observations and (empty) infos by agent id.
        """
        if seed is not None or not self._has_begun:
            step = self.floor.reset(None if seed is None else self._seed_of_copy(seed))
        elif self._fresh is not None:
            step = self._fresh  # the floor has begun the next episode in the step that ended the last
        else:
            step = self.floor.skip()
        self._fresh, self._has_begun = None, True
        self.agents = list(self.possible_agents)
        return self._observations(step.obs, step.action_mask), {agent: {} for agent in self.agents}

    def step(
        self, action_dict: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Trade one bar.

        Args:
            action_dict: Action of every agent.

        Raises:
            ValueError: if an agent's action is missing, not finite or not on its ladder, or the episode is over.
        """
        if self._fresh is not None or not self._has_begun:
            raise ValueError("the episode is over (or has not begun): call reset() before step()")
        with torch.inference_mode():  # less work than no_grad, and nothing but numpy leaves this method
            step = self.floor.step(self._actions(action_dict))
        agents = self.possible_agents
        rewards = dict(zip(agents, step.reward[0].tolist(), strict=True))
        if step.final_obs is None:
            terminateds: dict[str, bool] = dict.fromkeys(agents, False)
            terminateds["__all__"] = False
            observations = self._observations(step.obs, step.action_mask)
            return observations, rewards, terminateds, dict(terminateds), {agent: {} for agent in agents}
        self._fresh = step
        terminateds, truncateds = (
            dict.fromkeys((*agents, "__all__"), bool(flag[0])) for flag in (step.terminated, step.truncated)
        )
        stats = {name: float(value[0]) for name, value in (step.stats or {}).items()}
        infos: dict[str, Any] = {agent: dict(stats) for agent in agents}
        observations = self._observations(step.final_obs, step.final_mask)
        self.agents = []
        return observations, rewards, terminateds, truncateds, infos

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as arrays and numbers."""
        return {"floor": self.floor.get_state(), "has_begun": self._has_begun, "is_over": self._fresh is not None}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from what ``get_state`` of an environment with the same config returned.

        Raises:
            ValueError: if it was saved by another kind of floor.
        """
        self.floor.set_state(state["floor"])
        self._has_begun = bool(state["has_begun"])
        self._fresh = self.floor.observe() if state["is_over"] else None
        self.agents = [] if state["is_over"] else list(self.possible_agents)

    def _actions(self, action_dict: Mapping[str, Any]) -> torch.Tensor:
        if not isinstance(action_dict, Mapping):
            raise ValueError(f"actions are a {type(action_dict).__name__}: give one for each agent, by its name")
        for agent in self.possible_agents:
            if agent not in action_dict:
                raise ValueError(f"action of agent {agent!r} is missing")
        if len(action_dict) > len(self.possible_agents):
            unknown = next(agent for agent in action_dict if agent not in self.possible_agents)
            raise ValueError(f"agent {unknown!r} does not trade here: the agents are {', '.join(self.possible_agents)}")
        if self._is_discrete:
            pairs = zip(self.possible_agents, self.floor.num_rungs, strict=True)
            return torch.tensor([[_rung(agent, action_dict[agent], count) for agent, count in pairs]])
        actions = np.zeros((1, len(self.possible_agents), self._widest_book))
        for n, (agent, mandate) in enumerate(zip(self.possible_agents, self.floor.mandates, strict=True)):
            if mandate.is_discrete:
                actions[0, n, 0] = _rung(agent, action_dict[agent], len(mandate.ladder))
                continue
            action = _weights(agent, action_dict[agent])
            if len(action) != len(mandate.assets):
                raise ValueError(f"agent {agent!r} gave {len(action)} weights for its {len(mandate.assets)} assets")
            actions[0, n, : len(action)] = action
        return torch.from_numpy(actions)

    def _observations(self, obs: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
        rows = obs[0].numpy()
        dims = self.floor.obs_dims
        seen: dict[str, Any] = {agent: rows[n, : dims[n]] for n, agent in enumerate(self.possible_agents)}
        if self._use_action_mask:
            for n, (agent, size) in enumerate(zip(self.possible_agents, self._masks, strict=True)):
                if size is not None:
                    allowed = np.ones(size, np.int8) if mask is None else mask[0, n, :size].numpy().astype(np.int8)
                    seen[agent] = {"observations": seen[agent], "action_mask": allowed}
        return seen


def _rung(agent: str, action: Any, count: int) -> int:
    """Read the rung that an agent chose.

    Raises:
        ValueError: if its ladder has none such; names the agent.
    """
    try:
        rung = int(action)
        is_one = bool(rung == action) and 0 <= rung < count
    except (TypeError, ValueError, OverflowError):
        is_one = False
    if not is_one:
        raise ValueError(f"agent {agent!r} chose {shown(action)}, which is no rung of its ladder: 0 to {count - 1}")
    return rung


def _weights(agent: str, action: Any) -> np.ndarray[Any, Any]:
    """Read the weights that an agent set.

    Raises:
        ValueError: if they are no numbers; names the agent.
    """
    found = as_numbers(action)
    if found is None:
        raise ValueError(f"agent {agent!r} set {shown(action)}, which are no weights of its assets")
    return found.astype(np.float64).reshape(-1)


def register() -> str:
    """Make ``"trading-floor"`` known to RLlib in this process, and return the name."""
    register_env(ENV_NAME, TradingEnv)
    return ENV_NAME
