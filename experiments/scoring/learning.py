"""Learners on one market: trained, and valued greedily on their way."""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from algos.policy import TeamPolicy, load_policy, policy_of
from algos.ray_internals import environment_creator
from common.files import plain
from common.threads import one_thread
from experiments.builders.algorithms import check_algorithm
from experiments.builders.environments import NamedEnvironment
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import BEST_FOLDER, RECORD_FILE, RESULT_FILE
from experiments.recovery.records import append, read_line, truncate_records
from experiments.runs.record import read_run_record, write_run_record
from experiments.runs.repair import keep_best
from experiments.scoring.results import Learned
from experiments.scoring.seeds import code_digest
from experiments.scoring.settings import NUM_POINTS
from experiments.scoring.yardsticks import Yardstick
from experiments.settings.metric_names import RETURN
from experiments.settings.run_config import RunConfig, SearchConfig, config_to_json
from experiments.tuning.ray_internals import StorageContext
from experiments.tuning.run_trainable import algorithm_class

TRIAL = "trial_0"
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
    runs: Sequence[RunConfig], make: Callable[[], Yardstick], folder: Path, *, jobs: int, **wanted: Any
) -> Iterator[Progress | Learned]:
    """Train several learners, and value the greedy policy of each.

    What a learner finds does not depend on how many learn beside it. Where one fails, those beside it learn to their
    end.

    Args:
        runs: Algorithm, its settings and the seed of each.
        make: Makes the market, in each process its own.
        folder: In which each has a folder of its own while it learns, named by its seed.
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
            yield from learn(run, yardstick, folder / str(run.seed), **wanted)
        return
    aside = ray.remote(num_cpus=1, max_retries=0)(_learn_quietly)
    waiting, learning = list(runs), dict[Any, int]()
    failed: BaseException | None = None
    try:
        while waiting or learning:
            while waiting and len(learning) < jobs:
                run = waiting.pop(0)
                learning[aside.remote(run, make, folder / str(run.seed), **wanted)] = run.seed
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


def _learn_quietly(
    run: RunConfig, make: Callable[[], Yardstick], folder: Path, **wanted: Any
) -> Iterator[Progress | Learned]:
    warnings.simplefilter("ignore")
    yield from learn(run, make(), folder, **wanted)


def learn(
    run: RunConfig,
    yardstick: Yardstick,
    folder: Path,
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
        folder: Of this seed; what a killed process has left there is gone on from.
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
    run = replace(run, **_paced(steps))
    with one_thread(), started(run, yardstick, folder, num_evaluation_episodes) as trainable:
        trial, result = folder / TRIAL, dict[str, Any](done=False)
        while not result["done"]:
            is_new = not trainable.iteration
            result = trainable.train()
            if is_new:
                truncate_records(trial, result["training_iteration"] - 1)
            _note(trial, trainable, result)
            if result["is_evaluated"]:
                yield Progress(run.seed, result["total_steps"], result[RETURN])
        points = list(_points(trial))
        if takes_best:
            team: TeamPolicy = load_policy(trial / BEST_FOLDER)
        else:
            team = policy_of(trainable)
        value = yardstick.value(team, num_episodes=num_episodes, seed=_VALUED_FROM + run.seed)
        distance = yardstick.distance(team, num_episodes=_DISTANCE_EPISODES)
        shown = yardstick.shown(team)
    yield Learned(
        seed=run.seed,
        steps=[steps for steps, _ in points],
        curve=[mean for _, mean in points],
        of_each_agent=value.mean.tolist(),
        standard_error=value.team_standard_error,
        distance=None if distance is None else distance.tolist(),
        shown=shown,
        seconds=time.monotonic() - start,
    )


def _paced(steps: int) -> dict[str, Any]:
    """Settings of a run that is evaluated, and may be chosen from, so many times on its way."""
    every = math.ceil(steps / NUM_POINTS)
    clock = {"clock": "steps", "episodes": steps, "evaluation_interval": every, "checkpoint_interval": every}
    return clock | {"checkpoint_metric": RETURN, "keep": 1, "search": SearchConfig(objective="return")}


@contextmanager
def started(run: RunConfig, yardstick: Yardstick, folder: Path, num_episodes: int) -> Iterator[Any]:
    """A trainable of the run on the market, which goes on from what its folder holds; stopped at the end.

    Raises:
        InputError: if the algorithm cannot take the market's actions.
    """
    environment = YardstickEnvironment(yardstick, num_episodes=num_episodes)
    check_algorithm(run, environment)
    config, code = config_to_json(run), {"code": code_digest(), "environment": plain(yardstick.env_config)}
    if (folder / RECORD_FILE).is_file():
        record = read_run_record(folder)
        if (record.config, record.provenance) != (config, code):  # it was asked for something else
            shutil.rmtree(folder)
    if not (folder / RECORD_FILE).is_file():
        write_run_record(folder, config=config, provenance=code, scaler=None, agents=None)
    (folder / TRIAL).mkdir(exist_ok=True)
    storage = StorageContext(str(folder.parent.absolute()), folder.name, trial_dir_name=TRIAL)
    given = {"run": config, "environment": environment}
    trainable = algorithm_class(run)(given, storage=storage)
    try:
        yield trainable
    finally:
        trainable.stop()


def _note(trial: Path, trainable: Any, result: dict[str, Any]) -> None:
    """Write down an iteration and, where one is due, its checkpoint; the best one is kept."""
    kept = {name: result[name] for name in ("training_iteration", "total_steps", "is_evaluated", RETURN)}
    append(trial / RESULT_FILE, json.dumps(kept) + "\n")
    if result.get("should_checkpoint"):
        trainable.save()
        trainable.finish_saving()
        keep_best(TrialCheckpoints(trial).published()[-1])


def _points(trial: Path) -> Iterator[tuple[int, float]]:
    """Steps and mean objective of each evaluation."""
    for line in (trial / RESULT_FILE).read_bytes().splitlines():
        if (found := read_line(line)) is not None and found["is_evaluated"]:
            yield found["total_steps"], found[RETURN]


class YardstickEnvironment(NamedEnvironment):
    """What a learner is scored on, as a run's environment.

    Args:
        yardstick: Values policies.
        num_episodes: By which a policy is valued on the way.
    """

    prefers_later = True
    evaluation_size = None

    def __init__(self, yardstick: Yardstick, *, num_episodes: int) -> None:
        self._yardstick, self._num_episodes = yardstick, num_episodes
        self.source = yardstick.env_name
        self._make = partial(environment_creator(self.source), dict(yardstick.env_config))

    def set_up(self, config: AlgorithmConfig, scaler: Mapping[str, Any] | None, *, use_action_mask: bool) -> None:
        """Train on it; it values policies itself."""
        config.environment(self.source, env_config=dict(self._yardstick.env_config), disable_env_checking=True)

    def evaluate(self, algorithm: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """The mean objective over agents under the greedy policy."""
        return {}, {RETURN: self._yardstick.value(policy_of(algorithm), num_episodes=self._num_episodes).team_mean}
