"""Public benchmarks of cooperation as RLlib MultiAgentEnvs: level-based foraging, multi-particle environments."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from common.errors import InputError, nearest
from envs.benchmarks.foraging import Foraging
from envs.benchmarks.particles import SpeakerListener, Spread
from envs.benchmarks.replicas import BenchmarkReplicas, World, episode_seed
from envs.copies import seeds_of_copy

ENV_NAME = "benchmark"
FAMILIES = ("lbf", "mpe")
"""What a benchmark's name begins with, before the colon."""

_SETTINGS = ("market", "settings")
_RIVALS = ("simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm")
_NOT_OURS = ("self", "render_mode")


def is_benchmark(market: str) -> bool:
    """Whether a market's name is that of a benchmark: ``lbf:ID`` or ``mpe:ID``."""
    return market.partition(":")[0] in FAMILIES


class _Moved(NamedTuple):
    """What a step of a package's environment gave, by agent."""

    obs: Sequence[Any]
    rewards: Sequence[float]
    terminated: bool
    truncated: bool


class _Game(Protocol):
    """A package's environment, by agents in order."""

    agent_ids: Sequence[str]
    observation_spaces: Sequence[gym.Space[Any]]
    action_spaces: Sequence[gym.Space[Any]]

    def reset(self, seed: int) -> Sequence[Any]:
        """Begin an episode."""

    def step(self, actions: Sequence[Any]) -> _Moved:
        """Take one joint action."""

    def worlds(self) -> Callable[[], World] | None:
        """What makes the same rules for many replicas at once; None where there are none with these settings."""

    def close(self) -> None:
        """Let go of what it holds."""


class _Foraging:
    """Level-based foraging (Christianos et al. 2020, Papoudakis et al. 2021): load food that one agent cannot lift.

    The package calls an episode that ran out of time over; here it is truncated, for its value goes on.
    """

    def __init__(self, market: str, settings: Mapping[str, Any]) -> None:
        package = _package("lbforaging", "lbforaging.foraging", market)
        ids = [i[len("Foraging-") : -len("-v3")] for i in gym.registry if i.startswith("Foraging-") and i[-3:] == "-v3"]
        name = _known(market, ids)
        kwargs = {**gym.spec(f"Foraging-{name}-v3").kwargs, **settings}
        self._maker = partial(_made, market, package.ForagingEnv, package.ForagingEnv, kwargs, settings)
        self._env = self._maker()
        self.agent_ids: Sequence[str] = [f"forager_{n}" for n in range(self._env.n_agents)]
        self.observation_spaces: Sequence[gym.Space[Any]] = list(self._env.observation_space)
        self.action_spaces: Sequence[gym.Space[Any]] = list(self._env.action_space)

    def reset(self, seed: int) -> Sequence[Any]:
        for player in self._env.players:
            player.position = None  # else the package places nobody where someone stood at the end of the last episode
        return self._env.reset(seed=seed)[0]

    def step(self, actions: Sequence[Any]) -> _Moved:
        obs, rewards, is_over, _, _ = self._env.step(actions)
        is_eaten = not self._env.field.any()
        return _Moved(obs, rewards, is_eaten, bool(is_over) and not is_eaten)

    def worlds(self) -> Callable[[], World] | None:
        if self._env._grid_observation or not self._env._observe_agent_levels:
            return None
        return lambda: Foraging(self._maker())

    def close(self) -> None:
        self._env.close()


class _Particles:
    """A multi-particle environment (Lowe et al. 2017) of the package mpe2."""

    def __init__(self, market: str, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        package = _package("mpe2", "mpe2.all_modules", market)
        versions = {path.split("/")[1]: module for path, module in package.mpe_environments.items()}
        by_name = {name.rpartition("_v")[0]: module for name, module in versions.items()} | versions
        module = by_name[_known(market, by_name)]
        self._maker = partial(_made, market, module.parallel_env, module.raw_env, dict(settings), settings)
        self._env = self._maker()
        self.agent_ids: Sequence[str] = list(self._env.possible_agents)
        self.observation_spaces: Sequence[gym.Space[Any]] = [self._env.observation_space(a) for a in self.agent_ids]
        self.action_spaces: Sequence[gym.Space[Any]] = [self._env.action_space(a) for a in self.agent_ids]

    def reset(self, seed: int) -> Sequence[Any]:
        return self._by_agent(self._env.reset(seed=seed)[0])

    def step(self, actions: Sequence[Any]) -> _Moved:
        obs, rewards, terminated, truncated, _ = self._env.step(dict(zip(self.agent_ids, actions, strict=True)))
        is_over = all(terminated.values())
        return _Moved(self._by_agent(obs), self._by_agent(rewards), is_over, not is_over and all(truncated.values()))

    def worlds(self) -> Callable[[], World] | None:
        game = self._env.unwrapped
        name, rules = type(game).__module__.rpartition(".")[2], game.scenario
        if name == "simple_speaker_listener":
            return lambda: SpeakerListener(self._maker().unwrapped)
        others = (rules.num_agent_neighbors, rules.num_landmark_neighbors) if name == "simple_spread" else (0,)
        if name != "simple_spread" or rules.curriculum or rules.terminate_on_success or others != (None, None):
            return None
        return lambda: Spread(self._maker().unwrapped)

    def close(self) -> None:
        self._env.close()

    def _by_agent(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[agent] for agent in self.agent_ids]


_MAKERS: Mapping[str, Callable[[str, Mapping[str, Any]], _Game]] = {"lbf": _Foraging, "mpe": _Particles}


class BenchmarkEnv(MultiAgentEnv):
    """A public benchmark of cooperation.

    ### Description
    ``lbf:ID`` is level-based foraging, package lbforaging: ``lbf:8x8-2p-2f-coop`` is its
    ``Foraging-8x8-2p-2f-coop-v3``. ``mpe:ID`` is a multi-particle environment, package mpe2: ``mpe:simple_spread`` is
    its ``simple_spread_v3``.

    ### Action Space
    The package's: for each agent ``Discrete``, or with ``continuous_actions`` (of mpe) ``Box(0, 1)``.

    ### Observation Space
    The package's, a float32 ``Box`` for each agent.

    ### Rewards
    Each agent is paid the sum of the rewards that the package gives its agents, as in Papoudakis et al. 2021, so that
    the mean over agents is the team's return; with ``reward="own"`` each is paid its own.

    ### Starting State
    As the package draws it from the seed ``episode_seed(seed, episode)``. Neither package draws anything later, so
    that an episode follows from (seed, episode, actions).

    ### Episode End
    All food is eaten (termination), or time is over (truncation).

    ### Replicas
    Foraging, simple_spread and simple_speaker_listener (as everyone sees all that the package shows by default) have
    ``batched``, by which team runners step many replicas at once to the same numbers; others are stepped one by one.

    Args:
        config: ``market``, and ``settings``: ``reward`` (team or own) and arguments of the package's environment.

    Raises:
        InputError: if a name or setting does not exist or cannot be used, or the package is missing.
    """

    metadata: Mapping[str, Any] = {"render_modes": []}

    def __init__(self, config: Mapping[str, Any] | None = None):
        super().__init__()
        chosen = dict(config or {})
        for name in chosen:
            if name not in _SETTINGS:
                raise InputError(f"env_config: {name!r} does not exist{nearest(name, _SETTINGS)}")
        market = str(chosen.get("market", ""))
        if not is_benchmark(market):
            raise InputError(f"env_config: market is {market!r}: name lbf:ID or mpe:ID")
        settings = dict(chosen.get("settings") or {})
        reward = settings.pop("reward", "team")
        if reward not in ("team", "own"):
            raise InputError(f"market {market}: setting 'reward' is {reward!r}: choose of team, own")
        if reward == "team" and market.removeprefix("mpe:").startswith(_RIVALS):
            raise InputError(f"market {market} has rivals, who share no reward: give --settings reward=own")
        self._is_shared = reward == "team"
        self._game = _MAKERS[market.partition(":")[0]](market, settings)
        self.possible_agents = list(self._game.agent_ids)
        self.agents = list(self.possible_agents)
        self.observation_spaces = dict(zip(self.possible_agents, self._game.observation_spaces, strict=True))
        self.action_spaces = dict(zip(self.possible_agents, self._game.action_spaces, strict=True))
        self._seed_of_copy = seeds_of_copy(config)
        self._seed, self._episode, self._is_over = self._seed_of_copy(None), -1, True
        make_world = self._game.worlds()
        if make_world is not None:
            self._make_world = make_world
            self.batched = self._batched

    def _batched(self, num_replicas: int, **kwargs: Any) -> BenchmarkReplicas:
        """Make many replicas of this environment, for the team path; arguments as of ``BenchmarkReplicas``."""
        return BenchmarkReplicas(
            num_replicas,
            world=self._make_world(),
            observation_spaces=self.observation_spaces,
            action_spaces=self.action_spaces,
            is_shared=self._is_shared,
            **kwargs,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: the first of a new stream if seeded, else the next one."""
        self._seed, self._episode = (self._seed, self._episode + 1) if seed is None else (self._seed_of_copy(seed), 0)
        obs = self._game.reset(int(episode_seed(self._seed, self._episode)))
        self._is_over, self.agents = False, list(self.possible_agents)
        return self._named(obs), {agent: {} for agent in self.agents}

    def step(
        self, action_dict: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Take one joint action.

        Raises:
            ValueError: if an agent's action is missing, or the episode is over.
        """
        if self._is_over:
            raise ValueError("the episode is over (or has not begun): call reset() before step()")
        for agent in self.possible_agents:
            if agent not in action_dict:
                raise ValueError(f"action of agent {agent!r} is missing")
        moved = self._game.step([action_dict[agent] for agent in self.possible_agents])
        total = float(np.sum(moved.rewards))
        rewards = [total] * len(self.possible_agents) if self._is_shared else list(map(float, moved.rewards))
        self._is_over = moved.terminated or moved.truncated
        self.agents = [] if self._is_over else list(self.possible_agents)
        names = (*self.possible_agents, "__all__")
        return (
            self._named(moved.obs),
            dict(zip(self.possible_agents, rewards, strict=True)),
            dict.fromkeys(names, moved.terminated),
            dict.fromkeys(names, moved.truncated),
            {agent: {} for agent in self.possible_agents},
        )

    def close(self) -> None:
        """Close the package's environment."""
        self._game.close()

    def _named(self, obs: Sequence[Any]) -> dict[str, Any]:
        return {a: np.asarray(seen, np.float32) for a, seen in zip(self.possible_agents, obs, strict=True)}


def register() -> str:
    """Make ``"benchmark"`` known to RLlib in this process, and return the name."""
    register_env(ENV_NAME, BenchmarkEnv)
    return ENV_NAME


def _package(name: str, module: str, market: str) -> Any:
    """Import a package that is an optional extra.

    Raises:
        InputError: with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"market {market} needs the package {name}: python -m pip install {name}") from None


def _known(market: str, ids: Sequence[str] | Mapping[str, Any]) -> str:
    """The part of a benchmark's name after the colon, if it exists.

    Raises:
        InputError: if not, with the nearest that does.
    """
    family, _, name = market.partition(":")
    if name not in ids:
        raise InputError(f"market {market!r} does not exist{nearest(market, [f'{family}:{known}' for known in ids])}")
    return name


def _made(
    market: str, make: Callable[..., Any], signed: type[Any], kwargs: Mapping[str, Any], settings: Mapping[str, Any]
) -> Any:
    """A package's environment with the user's settings.

    Args:
        market: For messages.
        make: Makes it.
        signed: The class whose arguments are its settings.
        kwargs: All of them.
        settings: Those that the user gave.

    Raises:
        InputError: if the package does not know a setting, or refuses a value.
    """
    known = [name for name in inspect.signature(signed.__init__).parameters if name not in _NOT_OURS]
    for name in settings:
        if name not in known:
            raise InputError(
                f"market {market}: setting {name!r} does not exist{nearest(name, known)}: choose of reward, "
                f"{', '.join(known)}"
            )
    try:
        return make(**kwargs)
    except (AssertionError, IndexError, TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value}" for name, value in settings.items())
        raise InputError(f"market {market} refuses {given}: {' '.join(str(error).split())}") from None
