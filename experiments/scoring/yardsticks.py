"""What learners are held against: problems whose best policy is known, benchmarks with a return to compare with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Literal, Protocol

import gymnasium as gym
import torch
from torch import Tensor

from algos.random_team import RandomTeam
from algos.team_env import TeamEnv, make_team_env
from common.counted import counted_seed
from common.errors import InputError, nearest
from envs import rllib as trading_floors
from envs.benchmarks import rllib as benchmarks
from envs.benchmarks.handwritten import handwritten
from envs.benchmarks.published import PUBLISHED
from envs.floor import build_floor
from envs.market import spec_to_json
from envs.optima import rllib as known_markets
from envs.optima.batched import OptimaEnv
from envs.optima.catalog import CATALOG, make_problem
from envs.optima.evaluation import Value, action_distance, best_action_size, value
from envs.optima.floor_merton import MARKET as FLOOR_MERTON
from envs.optima.floor_merton import floor_merton
from envs.optima.problem import Policy, Problem
from experiments.scoring.results import Shown

EQUILIBRIUM = "equilibrium"
"""What results are held against where agents play against each other."""
_REPLICAS = 32
_HANDWRITTEN_EPISODES = 4_096
"""By which policies written by hand are valued: more than a learner's, for all learners share this error."""
CHOOSING = 0
"""Seed of the episodes by which a policy is chosen."""


class Team(Protocol):
    """A policy of all agents that may remember its episode: an ``algos.policy.TeamPolicy``."""

    def reset(self) -> None:
        """Forget the episode so far."""

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Choose [B, N] or [B, N, D] actions by [B, N, F] observations and [B, N, K] what is allowed."""


class Yardstick(ABC):
    """A problem on which policies are valued; what nobody knows of it is None.

    Attributes:
        num_agents: N.
        has_choices: Whether actions are choices, not numbers.
        best_is: What results are held against is called so.
        optimum: Mean objective of the best policy over agents.
        env_name: As RLlib knows the environment.
        env_config: Its settings.
    """

    num_agents: int
    has_choices: bool
    best_is: str
    optimum: float | None = None
    env_name: str
    env_config: Mapping[str, Any]

    @property
    def reference(self) -> float | None:
        """A return in the same units that is published, or that of a policy written by hand."""
        return None

    @abstractmethod
    def head(self) -> dict[str, Any]:
        """What of a record is its own and known before anything is learned."""

    @abstractmethod
    def baseline(self, num_episodes: int) -> float:
        """Mean objective of a simple policy over agents."""

    @abstractmethod
    def value(self, team: Team, *, num_episodes: int, seed: int = CHOOSING) -> Value:
        """Value a policy on episodes that the seed chooses, none of which is trained on."""

    def distance(self, team: Team, *, num_episodes: int) -> Tensor | None:
        """Distance from the best actions, [N, D]."""
        return None

    def shown(self, team: Team) -> Shown | None:
        """Best and chosen actions side by side."""
        return None


def make_yardstick(market: str, algo: str, *, num_agents: int | None, settings: Mapping[str, Any]) -> Yardstick:
    """Find what the market is held against.

    Args:
        market: A name of ``envs.optima.catalog``, ``floor:merton``, or ``lbf:ID`` or ``mpe:ID``.
        algo: The learner, on whose published return a benchmark's reference depends.
        num_agents: How many agents, where that can be chosen.
        settings: Of the market.

    Raises:
        InputError: if market or settings do not exist or cannot be used.
    """
    if benchmarks.is_benchmark(market):
        return Benchmark(market, algo, num_agents=num_agents, settings=settings)
    if market == FLOOR_MERTON:
        return FloorMarket(num_agents=num_agents, settings=settings)
    if market not in CATALOG:
        known = (*CATALOG, FLOOR_MERTON)
        raise InputError(
            f"market {market!r} does not exist{nearest(market, known)}: choose of {', '.join(known)}, or a benchmark, "
            "lbf:ID or mpe:ID"
        )
    return KnownMarket(market, num_agents=num_agents, settings=settings)


class KnownMarket(Yardstick):
    """A market or game of ``envs.optima``; arguments as of ``make_yardstick``."""

    def __init__(self, market: str, *, num_agents: int | None, settings: Mapping[str, Any]) -> None:
        self.problem: Problem = make_problem(market, num_agents=num_agents, settings=settings)
        self.num_agents = self.problem.num_agents
        self.has_choices = bool(self.problem.num_actions)
        self.best_is = EQUILIBRIUM if self.problem.is_nash else "optimum"
        self.optimum = float(self.problem.optimal_value.mean())
        self.env_name = known_markets.register()
        self.env_config = {"market": market, "num_agents": num_agents, "settings": settings}

    def head(self) -> dict[str, Any]:
        """What of a record is its own."""
        return {
            "best_is": self.best_is,
            "optimum_of_each": self.problem.optimal_value.tolist(),
            "size_of_best_actions": best_action_size(self.problem),
        }

    def baseline(self, num_episodes: int) -> float:
        """Mean objective of the simple policy over agents: exact, or where only that tells, simulated."""
        exact = self.problem.baseline_value
        if exact is not None:
            return float(exact.mean())
        return value(self.problem, self.problem.baseline, num_episodes=num_episodes).team_mean

    def value(self, team: Team, *, num_episodes: int, seed: int = CHOOSING) -> Value:
        """Simulate the policy."""
        return value(self.problem, self._policy(team), num_episodes=num_episodes, seed=seed)

    def distance(self, team: Team, *, num_episodes: int) -> Tensor | None:
        """Distance from the optimal actions, as ``action_distance`` measures it."""
        return action_distance(self.problem, self._policy(team), num_episodes=num_episodes)

    def shown(self, team: Team) -> Shown | None:
        """Actions step by step in a few episodes under the optimal policy."""
        problem, policy = self.problem, self._policy(team)
        env = OptimaEnv(problem, num_replicas=32, seed=1)
        step = env.reset()
        best: list[list[float]] = []
        chosen: list[list[float]] = []
        for _ in range(problem.num_steps):
            optimal, own = problem.optimal(step.obs), policy(step.obs)
            for rows, actions in ((best, optimal), (chosen, own)):
                rows.extend(actions[:, 0].reshape(len(actions), -1).to(torch.float64).tolist())
            step = env.step(optimal)
        return best, chosen

    def _policy(self, team: Team) -> Policy:
        """The team as the problem takes it: it forgets what it remembers whenever an episode of the problem is over."""
        calls = 0

        def act(obs: Tensor) -> Tensor:
            nonlocal calls
            if calls % self.problem.num_steps == 0:
                team.reset()
            calls += 1
            return team.act(obs.to(torch.float32))

        return act


class FloorMarket(Yardstick):
    """Merton's problem on the trading floor itself (``envs.optima.floor_merton``); arguments as of ``make_yardstick``.

    Objective: the growth that may be expected of the weights that a policy holds, per cent a year; what prices then do
    is chance.
    """

    best_is = "optimum"
    has_choices = False

    def __init__(self, *, num_agents: int | None, settings: Mapping[str, Any]) -> None:
        self.problem = floor_merton(settings, num_agents=num_agents)
        self.num_agents = self.problem.config.num_assets
        self.optimum = self.problem.optimal_value
        self.env_name = trading_floors.register()
        self.env_config = {"spec": spec_to_json(self.problem.spec)}

    def head(self) -> dict[str, Any]:
        """What of a record is its own."""
        return {
            "best_is": self.best_is,
            "optimum_of_each": [self.problem.optimal_value] * self.num_agents,
            "size_of_best_actions": self.problem.best_weights.tolist(),
        }

    def baseline(self, num_episodes: int) -> float:
        """Growth of cash."""
        return self.problem.baseline_value

    def value(self, team: Team, *, num_episodes: int, seed: int = CHOOSING) -> Value:
        """Expected growth of the weights that are held, on the mean bar of each episode."""
        held = self._play(team, num_episodes=num_episodes, seed=seed)
        return Value(self.problem.growth(held).mean(0)[:, None].expand(-1, self.num_agents))

    def distance(self, team: Team, *, num_episodes: int) -> Tensor | None:
        """Root mean square difference of each weight from the best, [N, 1]."""
        held = self._play(team, num_episodes=num_episodes, seed=CHOOSING)
        return (held - torch.from_numpy(self.problem.best_weights)).square().mean((0, 1)).sqrt()[:, None]

    def shown(self, team: Team) -> Shown | None:
        """Weights of the first asset, bar by bar in a few episodes."""
        chosen = self._play(team, num_episodes=_REPLICAS, seed=1)[..., :1].flatten(0, 1).tolist()
        return [self.problem.best_weights[:1].tolist()] * len(chosen), chosen

    def _play(self, team: Team, *, num_episodes: int, seed: int) -> Tensor:
        """Weights that a policy holds, [T, E, A] float64, in bars that no learner has seen, where the seed says.

        Episodes by which a policy is chosen lie in the bars of validation, all others in those of the test.

        Raises:
            InputError: if there are fewer than two episodes.
        """
        if num_episodes < 2:
            raise InputError(f"num_episodes is {num_episodes}: an error bar needs at least 2")
        part: Literal["validation", "test"] = "validation" if seed == CHOOSING else "test"
        floor = build_floor(self.problem.spec, split=part, num_replicas=num_episodes, seed=seed, record=True)
        step, held = floor.reset(), []
        team.reset()
        for _ in range(floor.episode_bars):
            step = floor.step(team.act(step.obs, step.action_mask))
            assert floor.detail is not None
            held.append(floor.detail.target.T)
        return torch.stack(held)


class Benchmark(Yardstick):
    """A benchmark of ``envs.benchmarks``, whose best policy nobody knows; arguments as of ``make_yardstick``.

    It is held against what others have published, and where there is nothing, against a policy written by hand.
    """

    def __init__(self, market: str, algo: str, *, num_agents: int | None, settings: Mapping[str, Any]) -> None:
        self.env_config = {"market": market, "settings": dict(settings)}
        first = benchmarks.BenchmarkEnv(self.env_config)
        self.num_agents = len(first.possible_agents)
        if num_agents not in (None, self.num_agents):
            raise InputError(f"market {market} has {self.num_agents} agents with these settings, not {num_agents}")
        self.has_choices = all(isinstance(space, gym.spaces.Discrete) for space in first.action_spaces.values())
        # With other settings it is another environment than the one that was published.
        self._published = None if settings else PUBLISHED.get((market, algo))
        widths = [math.prod(space.shape or ()) for space in first.observation_spaces.values()]
        self._handwritten = None if self._published else handwritten(market, settings, widths)
        self.best_is = "published" if self._handwritten is None else "hand-written"
        self.env_name = benchmarks.register()

    @cached_property
    def reference(self) -> float | None:
        """The published return, or that of the policy written by hand."""
        if self._handwritten is not None:
            return self.value(self._handwritten, num_episodes=_HANDWRITTEN_EPISODES).team_mean
        return None if self._published is None else self._published.value

    def head(self) -> dict[str, Any]:
        """What of a record is its own."""
        source = None if self._published is None else self._published.says()
        return {"best_is": self.best_is, "published": source}

    def baseline(self, num_episodes: int) -> float:
        """Mean return of random actions."""
        return self.value(RandomTeam(self._replicas), num_episodes=num_episodes).team_mean

    def value(self, team: Team, *, num_episodes: int, seed: int = CHOOSING) -> Value:
        """Play episodes, each from its start."""
        return play(self._replicas, team, num_episodes=num_episodes, seed=seed)

    @cached_property
    def _replicas(self) -> TeamEnv:
        """Replicas for valuing."""
        made = partial(benchmarks.BenchmarkEnv, self.env_config)
        return make_team_env(made, _REPLICAS, device="cpu", seed=0, with_state=False)


def play(env: TeamEnv, team: Team, *, num_episodes: int, seed: int) -> Value:
    """Play episodes from their starts and add up rewards, undiscounted.

    Every replica plays one episode a round; what it does while slower ones finish theirs does not count.

    Args:
        env: B replicas.
        team: The policy.
        num_episodes: How many, at least 2.
        seed: Of the episodes.

    Raises:
        InputError: if there are fewer than two episodes.
    """
    if num_episodes < 2:
        raise InputError(f"num_episodes is {num_episodes}: an error bar needs at least 2")
    rounds = []
    for i in range(math.ceil(num_episodes / env.num_replicas)):
        step = env.reset(counted_seed(seed, i))
        team.reset()
        total = torch.zeros_like(step.reward)
        is_playing = torch.ones(env.num_replicas, dtype=torch.bool)
        while is_playing.any():
            step = env.step(team.act(step.obs, step.action_mask))
            total = total + torch.where(is_playing[:, None], step.reward, 0.0)
            is_playing = is_playing & ~(step.terminated | step.truncated)
        rounds.append(total)
    return Value(torch.cat(rounds)[:num_episodes])
