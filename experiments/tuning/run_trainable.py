"""What each trainable is: an algorithm that reads its plan from the run folder and says how far it is.

A trainable's ``config`` is a plain dict: ``run`` (the settings, as JSON), ``overrides`` (what a search draws for one
trial, by dotted name), and ``environment`` where the settings do not name what it trains in. The run folder's
``config.json`` wins over ``run``, so that targets can change between resumes.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
)
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRIAL_INFO

from algos.algorithm import IDLE_LIMIT_S
from algos.episode_replay import EPISODE_REPLAY, EpisodeReplay
from algos.hooks import HookError
from algos.learner import NonFiniteLossError
from algos.policy import flat_weights
from common.errors import InputError
from experiments.builders.algorithms import algorithm_config, check_config
from experiments.builders.environments import Environment, environment_of
from experiments.recovery.names import RECORD_FILE
from experiments.recovery.signals import STOP_FILE
from experiments.settings.layers import merge
from experiments.settings.metric_names import (
    BEST_SCORE,
    CLOCK,
    DISK_USE,
    RETURN,
    SEARCH_SCORE,
    VALIDATION_METRICS,
    read_metric,
    unknown_metric,
)
from experiments.settings.run_config import RunConfig
from experiments.tuning.checkpointing import CheckpointedRun
from experiments.tuning.disk_use import told_disk_use
from experiments.tuning.hooks import collected_episodes
from experiments.tuning.long_evaluations import EvaluationLeftError, watched_evaluation
from experiments.tuning.trainable_names import declared_as, is_to_check, is_trainable, name_of, run_of
from experiments.tuning.weights import non_finite_weights


class StalledError(RuntimeError):
    """An iteration sampled nothing."""


class RunTrainable(CheckpointedRun):
    """A mixin before an RLlib algorithm: episodes as the clock, evaluation, and all that a checkpoint carries.

    A result's ``time_waited_s`` is what went by between the iteration before and this one: a checkpoint was taken, and
    the process that Tune runs in noted the result.
    """

    _stepped_at: float | None = None
    """When this process ended its last iteration."""
    _disk_use: str | None = None
    """What is to be told, once, of the room that checkpoints will need."""
    _stands: tuple[int, float] = -1, math.inf
    """Environment steps in this iteration, and since when there are no more of them."""

    def __init__(self, config: Any = None, **kwargs: Any) -> None:
        given = dict(config or {})
        record = _record_in(kwargs.get("storage"))
        self._overrides = dict(given.get("overrides") or {})
        run = run_of({**given, "run": _settings(record, given)})
        self.environment: Environment = given.get("environment") or environment_of(run)
        algo = algorithm_config(run, self.environment, scaler=record.get("scaler") or given.get("scaler"))
        if is_to_check(given, kwargs.get("storage")):
            check_config(algo, run, self.environment)
            self._disk_use = told_disk_use(run, self.environment, Path(kwargs["storage"].experiment_fs_path))
        algo.algo_class = type(self)
        for key in (TRIAL_INFO, STDOUT_FILE, STDERR_FILE):
            if key in given:
                algo[key] = given[key]
        super().__init__(algo, run=run, record=record, **kwargs)

    def _setup_logdir(self) -> None:
        """Outside Tune, work in a temporary folder: Ray would make one in the user's home, which may be read-only."""
        if self._storage is None:
            self._logdir = tempfile.mkdtemp()
        else:
            super()._setup_logdir()

    @classmethod
    def default_resource_request(cls, config: Any) -> Any:
        """Resources of the algorithm that the settings describe."""
        run = run_of(config)
        return super().default_resource_request(algorithm_config(run, environment_of(run)))

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own figures, with only what a search drew for a config: the rest stands once, in config.json."""
        filled: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        filled["config"] = {"overrides": self._overrides}
        return filled

    def step(self) -> dict[str, Any]:
        """Train one iteration; evaluate and ask for a checkpoint when the clock says so; hooks see all of it."""
        try:
            return self._iterate()
        except HookError as error:
            return self._fatal(error)

    def _iterate(self) -> dict[str, Any]:
        waited = 0.0 if self._stepped_at is None else time.perf_counter() - self._stepped_at
        if not self._has_loaded:
            self._carry_on()
        before = self.clock
        self._ends, self._stands = False, (-1, math.inf)
        was_over = before >= self.run.episodes  # killed after its last checkpoint: nothing is left to train
        owes = self._progress.owes_evaluation  # what was left comes first, before more is trained
        try:
            result: dict[str, Any] = {} if was_over or owes else super().step()
        except (NonFiniteLossError, InputError) as error:
            self.finish_saving()
            return self._fatal(error)
        except BaseException:
            with suppress(Exception):  # what has gone wrong in training says more
                self.finish_saving()
            raise
        self.finish_saving()  # no work is reported before the checkpoint that precedes it is there
        now = self.clock
        if not was_over and not owes:
            self._require_progress(before, now)
        if self._hooks.wanting("on_episode") and (episodes := collected_episodes(self)):
            self._call_hooks("on_episode", episodes)
        is_over, is_stopped = now >= self.run.episodes, self._is_asked_to_stop()
        is_due = owes or (
            not was_over
            and (
                is_over
                or is_stopped
                or now - self._progress.checkpointed_at >= self.run.checkpoint_interval
                or self._ends_a_round(before, now)
            )
        )
        is_first = not self._progress.last_metrics  # searchers want their metric in every result
        is_evaluated = is_due or is_first or now - self._progress.evaluated_at >= self.run.evaluation_interval
        if is_evaluated:
            try:
                self._evaluate_now()
                self._score(result)
                self._call_hooks("on_evaluation", self._progress.last_metrics)
            except InputError as error:
                return self._fatal(error)
            except EvaluationLeftError:
                is_evaluated, is_due, is_stopped = False, True, True
                self._leave_evaluation()
        if is_due and (bad := non_finite_weights(flat_weights(self))):
            return self._fatal(NonFiniteLossError(bad))
        self._is_best = is_due and self._beats_the_best()
        result.update(self._progress.last_metrics)
        result.update(
            episodes=self.num_episodes,
            clock=now,
            target_episodes=self.run.episodes,
            total_steps=self.num_env_steps,
            agent_steps=self._agent_steps(),
            epsilon=self.epsilon(),
            episode_return=self._see_return(result),
            is_best=self._is_best,
            is_evaluated=is_evaluated,
            owes_evaluation=self._progress.owes_evaluation,
            done=is_over or is_stopped,
            is_stopped=is_stopped and (not is_over or self._progress.owes_evaluation),
            time_waited_s=waited,
        )
        result[BEST_SCORE] = self._progress.best
        self._ends = is_over or is_stopped
        if was_over and not owes:
            result["is_repeated"] = True
        result |= self._save_error()
        if is_due:
            self._progress.checkpointed_at = now
        if is_due and not self._may_pass_over():
            result["should_checkpoint"] = True
        if not was_over:
            self._call_hooks("on_iteration", result)
        if self._disk_use is not None:
            result[DISK_USE], self._disk_use = self._disk_use, None
        self._stepped_at = time.perf_counter()
        return result

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> Any:
        """RLlib's buffer, or where it is that of episodes ours."""
        settings = dict(config.get("replay_buffer_config") or {})
        if settings.pop("type", None) != EPISODE_REPLAY:
            return super()._create_local_replay_buffer_if_necessary(config)
        return EpisodeReplay(
            **settings, metrics_num_episodes_for_smoothing=self.config.metrics_num_episodes_for_smoothing
        )

    def training_step(self) -> Any:
        """Do RLlib's; an iteration of its own algorithms has as many as it takes to sample what is due.

        Raises:
            StalledError: if no runner has sampled anything for ``IDLE_LIMIT_S``: RLlib would go on for ever, and learn
                from what there is over and over. Tune then restarts the trial, as often as ``max_failures`` says.
        """
        done = super().training_step()
        steps, now = self.num_env_steps, time.monotonic()
        if steps != self._stands[0]:
            self._stands = steps, now
        elif now - self._stands[1] > IDLE_LIMIT_S and self.run.clock != "updates" and not self._waits_for_runners():
            raise StalledError(f"nothing was sampled for {IDLE_LIMIT_S:.0f} s: environment steps stand at {steps}")
        return done

    def _waits_for_runners(self) -> bool:
        """Whether there are runners that sample slowly: one that hangs would have been killed."""
        return bool(self.run.hang_timeout_s and self.env_runner_group.num_healthy_remote_workers())

    def _fatal(self, error: Exception) -> dict[str, Any]:
        """End the trial without another try: from the same checkpoint the same would come of it."""
        return {
            "fatal": f"{type(error).__name__}: {error}",
            "is_input_error": isinstance(error, InputError),
            "episodes": self.num_episodes,
            CLOCK: self.clock,
            "target_episodes": self.run.episodes,
            "total_steps": self.num_env_steps,
            **self._progress.last_metrics,
            **self._save_error(),
            "done": True,
        }

    def _save_error(self) -> dict[str, Any]:
        """What is to be told, once, of a checkpoint that could not be saved, or not be brought where it belongs."""
        told, self.save_error = self.save_error, None
        return {} if told is None else {"save_error": told}

    # -- how far, how well ---------------------------------------------------------------------------------------------

    def _agent_steps(self) -> int:
        by_agent = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_AGENT_STEPS_SAMPLED_LIFETIME), default={})
        return int(sum(float(v) for v in by_agent.values())) if isinstance(by_agent, Mapping) else int(by_agent)

    def _evaluate_now(self) -> None:
        """Value the greedy policy: by one pass over the validation split, or by episodes of the user's environment."""
        self._progress.owes_evaluation = False
        size, watch = self.environment.evaluation_size, cast(AbstractContextManager[None], nullcontext())
        if size is not None:
            watch = watched_evaluation(
                self.eval_env_runner,
                *size,
                folder=None if self._checkpoints is None else self._checkpoints.folder,
                is_asked_to_stop=self._is_asked_to_stop,
            )
        with watch:
            self._last_evaluation, values = self.environment.evaluate(self)
        values[SEARCH_SCORE] = values[self.run.search.objective]
        self._progress.last_metrics = values
        self._progress.evaluated_at = self.clock

    def _leave_evaluation(self) -> None:
        """Note that an evaluation is owed, and that nothing is known yet of what the checkpoint is worth."""
        self._progress.owes_evaluation = True
        self._progress.last_value = None
        self._progress.last_metrics = dict.fromkeys((*VALIDATION_METRICS, RETURN, SEARCH_SCORE, "score"), math.nan)

    def _score(self, result: Mapping[str, Any]) -> None:
        """Say what a checkpoint of now would be worth, more being better: by the metric that the user chose.

        Figures of training are in a result only when an episode has ended, or a gradient step was taken: a metric that
        is not there before has no value yet, and no checkpoint is the best by it.

        Raises:
            InputError: if the metric is in no result.
        """
        name = self.run.checkpoint_metric
        seen = {**result, EVALUATION_RESULTS: self._last_evaluation, **self._progress.last_metrics}
        seen["episode_return"] = self._see_return(result)
        value = self._progress.last_value = read_metric(seen, name)
        if value is None and self.num_episodes and result.get(LEARNER_RESULTS):
            raise unknown_metric(seen, name)
        sign = 1.0 if self.run.checkpoint_mode == "max" else -1.0
        self._progress.last_metrics["score"] = math.nan if value is None else sign * value

    def _beats_the_best(self) -> bool:
        """Compare the checkpoint that is due with those before it; evaluations between checkpoints do not count."""
        score, best = self._progress.last_metrics["score"], self._progress.best
        is_level = score == best and self.environment.prefers_later
        if math.isfinite(score) and (best is None or score > best or is_level):
            self._best_before, self._progress.best = self._progress.best, score
            return True
        return False

    def _see_return(self, result: Mapping[str, Any]) -> float:
        """Recent mean return of training episodes, from this iteration or, where none has ended, from the one before.

        Only a result has it: RLlib's logger forgets the episodes that it has reported.
        """
        found = result.get(ENV_RUNNER_RESULTS, {}).get(EPISODE_RETURN_MEAN)
        if found is not None and math.isfinite(found):
            self._progress.recent_return = float(found)
        return math.nan if self._progress.recent_return is None else self._progress.recent_return

    def _require_progress(self, before: int, now: int) -> None:
        """Fail loudly where RLlib would go on with counters that stand still, as when every runner is dead.

        A run that counts updates may sample nothing on purpose, and learn from what is there.

        Raises:
            StalledError: Tune then restarts the trial from its last good checkpoint, as often as ``max_failures`` says.
        """
        steps = self.num_env_steps
        learns = self.run.clock == "updates" and now > before
        if steps <= self._steps_before and not learns:
            raise StalledError(f"an iteration sampled nothing: environment steps stand at {steps}; are runners alive?")
        self._steps_before = steps

    def _ends_a_round(self, before: int, now: int) -> bool:
        """Whether a population is compared now, by a fresh evaluation and a checkpoint of every member."""
        s = self.run.search
        every = s.perturbation_interval if s.num_trials and s.scheduler == "pbt" else 0
        return bool(every) and before // every < now // every

    def _may_pass_over(self) -> bool:
        """Whether the checkpoint that is due need not be taken: so few seconds have gone by since the last one.

        What hangs on it, the evaluation and the score to beat, has been done by then: what is trained and reported
        depends on no clock. The last one, the best one, and those of a search, whose trials go on from one another, are
        always taken.
        """
        if self._ends or self._is_best or self.run.search.num_trials:
            return False
        return time.monotonic() - self._saved_at < self.run.checkpoint_interval_s

    def _is_asked_to_stop(self) -> bool:
        """Whether a signal has asked the run to end after a checkpoint."""
        return self._run_folder is not None and (self._run_folder / STOP_FILE).exists()


def algorithm_class(run: RunConfig) -> type[RunTrainable]:
    """The algorithm of a run as a trainable."""
    return _made(name_of(run.algo, run.runner))


def __getattr__(name: str) -> Any:
    """Give such an algorithm by its name, by which Ray's workers find it."""
    if is_trainable(name):
        return _made(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _made(name: str) -> type[RunTrainable]:
    """Make the trainable of a name, once; no other algorithm is imported."""
    declared, runner = declared_as(name)
    config = declared.config(declared.settings(), runner=runner, steps_per_iteration=1)
    about = {"__module__": __name__, "__doc__": f"{declared.name} on the trading floor."}
    return type(name, (RunTrainable, config.algo_class), about)


def _settings(record: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run: its record's, which leaves to each session's plan what devices it has found."""
    if not record.get("config"):
        return dict(given["run"])
    asked, found = (
        settings.get("scaling", {}).get("num_gpus_per_learner") for settings in (record["config"], given.get("run", {}))
    )
    return merge(record["config"], {"scaling": {"num_gpus_per_learner": found if asked is None else asked}})


def _record_in(storage: Any) -> dict[str, Any]:
    """Read the run folder's ``config.json`` through Tune's storage, wherever that is; empty outside Tune."""
    if storage is None:
        return {}
    path = f"{storage.experiment_fs_path}/{RECORD_FILE}"
    try:
        with storage.storage_filesystem.open_input_stream(path) as stream:
            record: dict[str, Any] = json.loads(stream.read())
    except FileNotFoundError:
        return {}
    return record
