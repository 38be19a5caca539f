"""Learners on one market: trained, and valued greedily on their way."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from algos.policy import TeamPolicy, team_layout
from algos.registry import CONTINUOUS, algorithm
from common.errors import InputError
from experiments.scoring.results import Learned
from experiments.scoring.settings import NUM_POINTS
from experiments.scoring.yardsticks import Yardstick
from experiments.settings.groups import settings_of_algo
from experiments.settings.run_config import RunConfig
from experiments.threads import one_thread
from experiments.tuning.algorithms import SHARED, bare_config, check_config, map_to_own, map_to_shared

_DISTANCE_EPISODES = 256
"""By which the distance from the best actions is measured."""
_VALUED_FROM = 1 << 32
"""Seeds of the episodes that policies are valued on: each its own, for an error that all share would not be seen."""


@dataclass(frozen=True)
class Progress:
    """An evaluation on the way.

    Attributes:
        seed: Of the learner.
        steps: Environment steps so far.
        mean: Mean objective over agents under the greedy policy.
    """

    seed: int
    steps: int
    mean: float


def learn_seeds(
    runs: Sequence[RunConfig], make: Callable[[], Yardstick], *, jobs: int, **wanted: Any
) -> Iterator[Progress | Learned]:
    """Train several learners, and value the greedy policy of each.

    What a learner finds does not depend on how many learn beside it. Where one fails, those beside it learn to their
    end.

    Args:
        runs: Algorithm, its settings and the seed of each.
        make: Makes the market, in each process its own.
        jobs: How many learn at once, each in a process and on a CPU of its own; where that is one, it learns in this
            process.
        wanted: See ``learn``.

    Yields:
        Each evaluation, and what a learner has learned when it is done, as they come.

    Raises:
        InputError: if the algorithm cannot take the market's actions.
        MemoryError: if the machine has too little memory for so many.
        SeedFailedError: if a process died.
    """
    if min(jobs, len(runs)) == 1:
        yardstick = make()
        for run in runs:
            yield from learn(run, yardstick, **wanted)
        return
    aside = ray.remote(num_cpus=1, max_retries=0)(_learn_quietly)
    waiting, learning = list(runs), dict[Any, int]()
    failed: BaseException | None = None
    try:
        while waiting or learning:
            while waiting and len(learning) < jobs:
                run = waiting.pop(0)
                learning[aside.remote(run, make, **wanted)] = run.seed
            (ready, *_), _ = ray.wait(list(learning), num_returns=1, fetch_local=False)
            try:
                yield ray.get(next(ready))
            except StopIteration:
                del learning[ready]
            except ray.exceptions.RayError as error:
                failed = failed or _reason(error, learning.pop(ready))
                waiting.clear()
        if failed is not None:
            raise failed
    finally:
        for one in learning:
            ray.cancel(one, force=True)


class SeedFailedError(RuntimeError):
    """The process that a seed learned in has died."""


def _reason(error: ray.exceptions.RayError, seed: int) -> BaseException:
    """Why a seed has failed: what its learner raised, or what became of its process."""
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        cause = MemoryError(f"seed {seed}: its process was ended")
    if not isinstance(cause, Exception):
        cause = SeedFailedError(f"seed {seed}: its process died ({error})")
    cause.__cause__ = error  # with the traceback of its own process
    return cause


def _learn_quietly(run: RunConfig, make: Callable[[], Yardstick], **wanted: Any) -> Iterator[Progress | Learned]:
    warnings.simplefilter("ignore")
    yield from learn(run, make(), **wanted)


def learn(
    run: RunConfig,
    yardstick: Yardstick,
    *,
    steps: int,
    num_episodes: int,
    num_evaluation_episodes: int,
    takes_best: bool = False,
) -> Iterator[Progress | Learned]:
    """Train for so many environment steps, and value the greedy policy.

    Args:
        run: Algorithm, its settings and the seed.
        yardstick: The market.
        steps: Environment steps.
        num_episodes: By which the chosen policy is valued.
        num_evaluation_episodes: By which it is valued on the way.
        takes_best: Choose the policy that did best at the evaluations, of equals the one that has learned longest, and
            not the last one.

    Yields:
        Each evaluation, then what was learned.

    Raises:
        InputError: if the algorithm cannot take the market's actions.
    """
    start = time.monotonic()
    with one_thread(), built(run, yardstick) as algorithm:
        found: list[int] = []
        curve: list[float] = []
        best: TeamPolicy | None = None
        taken = 0
        while taken < steps:
            algorithm.train()
            taken = algorithm.env_runner.num_env_steps_sampled_lifetime
            if taken >= steps * (len(found) + 1) / NUM_POINTS:
                mean = yardstick.value(greedy(algorithm), num_episodes=num_evaluation_episodes).team_mean
                if takes_best and mean >= max(curve, default=-math.inf):
                    best = copy.deepcopy(greedy(algorithm))
                found.append(taken)
                curve.append(mean)
                yield Progress(run.seed, taken, mean)
        team = best or greedy(algorithm)
        value = yardstick.value(team, num_episodes=num_episodes, seed=_VALUED_FROM + run.seed)
        distance = yardstick.distance(team, num_episodes=_DISTANCE_EPISODES)
        shown = yardstick.shown(team)
    yield Learned(
        seed=run.seed,
        steps=found,
        curve=curve,
        of_each_agent=value.mean.tolist(),
        standard_error=value.team_standard_error,
        distance=None if distance is None else distance.tolist(),
        shown=shown,
        seconds=time.monotonic() - start,
    )


@contextmanager
def built(run: RunConfig, yardstick: Yardstick) -> Iterator[Any]:
    """The algorithm on the market, stopped at the end.

    Raises:
        InputError: if the algorithm cannot take the market's actions.
    """
    algorithm: Any = _config(run, yardstick).build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()


def _config(run: RunConfig, yardstick: Yardstick) -> Any:
    """The algorithm's config on the market.

    Raises:
        InputError: if the algorithm cannot take the market's actions, or RLlib refuses its settings.
    """
    if CONTINUOUS not in algorithm(run.algo).actions and not yardstick.has_choices:
        raise InputError(f"--algo {run.algo} chooses among actions, but this market's are numbers: use maddpg or mappo")
    config = bare_config(run)
    config.environment(yardstick.env_name, env_config=dict(yardstick.env_config), disable_env_checking=True)
    config.debugging(seed=run.seed, log_level="ERROR")
    config.env_runners(num_env_runners=0)  # RLlib's PPO would sample in two processes of its own
    if not algorithm(run.algo).is_joint:
        if settings_of_algo(run).use_shared_networks and not yardstick.is_uniform:
            raise InputError(f"--{run.algo}.use-shared-networks True: the agents of this market have different spaces")
        if settings_of_algo(run).use_shared_networks is False or not yardstick.is_uniform:
            config.multi_agent(policies=list(yardstick.agent_ids), policy_mapping_fn=map_to_own)
        else:
            config.multi_agent(policies={SHARED}, policy_mapping_fn=map_to_shared)
    check_config(config, run.algo)
    return config


def greedy(algorithm: Any) -> TeamPolicy:
    """The greedy policy of an algorithm."""
    modules = {module_id: algorithm.env_runner.module[module_id] for module_id in algorithm.env_runner.module.keys()}  # noqa: SIM118
    return TeamPolicy(modules, team_layout(algorithm))
