"""What Tune trains: our algorithms, which read their plan from the run folder and say how far they are.

A trainable's ``config`` is a plain dict: ``run`` (the settings, as JSON) and ``overrides`` (what a search draws for one
trial, by dotted name). The run folder's ``config.json`` wins over ``run``, so that targets can change between resumes.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES_LIFETIME,
)
from ray.train._internal.session import _TrainingResult
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRIAL_INFO

from algos import exact
from algos.errors import IncompatibleError
from algos.learner import NonFiniteLossError
from algos.policy import LAYOUT_FILE, flat_weights, layout_differences, read_layout, team_layout, weights_sha256
from algos.ppo.algorithm import TeamPPO
from algos.qmix.algorithm import QMIX, VDN
from envs.errors import InputError
from experiments.config import RunConfig, config_from_json
from experiments.layers import merge, nested
from experiments.recovery.shelf import CheckpointShelf
from experiments.recovery.stopping import STOP_FILE
from experiments.reporting.files import write_json
from experiments.run_record import FILE_NAME
from experiments.tuning.algorithms import algorithm_config
from experiments.tuning.checkpoint_files import (
    EXACT_FILE,
    META_FILE,
    STATE_FILE,
    find_module_states,
    utc_now,
)

METRICS = ("profit", "sharpe", "calmar", "max_drawdown", "num_trades", "turnover", "total_costs_usd")
"""What an evaluation on the validation split reports, flat at the top of a result (Tune ignores nested names); the
floor's figures, which mean what they mean in a backtest."""


class StalledError(RuntimeError):
    """An iteration sampled nothing."""


class RunTrainable(Algorithm):
    """A mixin before an RLlib algorithm: episodes as the clock, evaluation, checkpoints that explain themselves."""

    run: RunConfig
    previous_checkpoint: Path | None = None

    def __init__(self, config: Any = None, **kwargs: Any) -> None:
        given = dict(config or {})
        record = _record_in(kwargs.get("storage"))
        self._overrides = dict(given.get("overrides") or {})
        self.run = config_from_json(merge(record.get("config") or given["run"], nested(self._overrides)))
        algo = algorithm_config(self.run, scaler=record.get("scaler") or given.get("scaler"))
        algo.algo_class = type(self)
        for key in (TRIAL_INFO, STDOUT_FILE, STDERR_FILE):
            if key in given:
                algo[key] = given[key]
        self._evaluated_at = self._checkpointed_at = 0
        self._last_metrics: dict[str, float] = {}
        self._best: float | None = None
        self._is_best = False
        self._has_loaded = False
        self._steps_before = 0
        self._resume_from: dict[str, str] | None = record.get("resume_from")
        storage = kwargs.get("storage")
        self._run_folder = Path(storage.experiment_fs_path) if storage is not None else None
        self._shelf = CheckpointShelf(Path(storage.trial_fs_path)) if storage is not None else None
        super().__init__(algo, **kwargs)
        if self.local_replay_buffer is not None:
            exact.seed_replay(self.local_replay_buffer, self.run.seed)

    @classmethod
    def default_resource_request(cls, config: Any) -> Any:
        """Resources of the algorithm that the settings describe."""
        values = merge(config["run"], nested(config.get("overrides") or {}))
        return super().default_resource_request(algorithm_config(config_from_json(values)))

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own figures, with only what a search drew for a config: the rest stands once, in config.json."""
        filled: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        filled["config"] = {"overrides": self._overrides}
        return filled

    def step(self) -> dict[str, Any]:
        """Train one iteration; evaluate and ask for a checkpoint when enough episodes have ended."""
        if not self._has_loaded:
            self._carry_on()
        was_over = self.num_episodes >= self.run.episodes  # killed after its last checkpoint: nothing is left to train
        try:
            result: dict[str, Any] = {} if was_over else super().step()
        except NonFiniteLossError as error:
            return self._fatal(error)
        episodes = self.num_episodes
        if not was_over:
            self._require_progress()
        is_over, is_stopped = episodes >= self.run.episodes, self._is_asked_to_stop()
        is_due = not was_over and (
            is_over or is_stopped or episodes - self._checkpointed_at >= self.run.checkpoint_interval
        )
        is_first = not self._last_metrics  # searchers want their metric in every result
        if is_due or is_first or episodes - self._evaluated_at >= self.run.evaluation_interval:
            self._evaluate_now()
        if is_due and (bad := non_finite_weights(flat_weights(self))):
            return self._fatal(NonFiniteLossError(bad))
        self._is_best = is_due and self._beats_the_best()
        result.update(self._last_metrics)
        result.update(
            episodes=episodes,
            target_episodes=self.run.episodes,
            total_steps=self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME),
            agent_steps=self._agent_steps(),
            epsilon=self.epsilon(),
            episode_return=self._peek(EPISODE_RETURN_MEAN, float("nan")),
            best_score=self._best,
            is_best=self._is_best,
            done=is_over or is_stopped,
            is_stopped=is_stopped and not is_over,
        )
        if was_over:
            result["is_repeated"] = True
        if is_due:
            result["should_checkpoint"] = True
            self._checkpointed_at = episodes
        return result

    def _fatal(self, error: Exception) -> dict[str, Any]:
        """End the trial without another try: from the same checkpoint the same would come of it."""
        return {
            "fatal": f"{type(error).__name__}: {error}",
            "episodes": self.num_episodes,
            "target_episodes": self.run.episodes,
            "total_steps": self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME),
            **self._last_metrics,
            "done": True,
        }

    # -- how far -------------------------------------------------------------------------------------------------------

    @property
    def num_episodes(self) -> int:
        """Episodes finished in the whole life of the run, over all replicas."""
        return int(self._peek(NUM_EPISODES_LIFETIME))

    def epsilon(self) -> float | None:
        """Chance of a random action now; None for policies that draw from a distribution."""
        if self.run.algo == "ppo":
            return None
        settings = self.run.dqn if self.run.algo == "dqn" else self.run.qmix
        done = min(1.0, self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME) / settings.epsilon_decay_steps)
        return float(settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * done)

    def _peek(self, name: str, default: float = 0) -> float:
        return float(self.metrics.peek((ENV_RUNNER_RESULTS, name), default=default))

    def _agent_steps(self) -> int:
        by_agent = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_AGENT_STEPS_SAMPLED_LIFETIME), default={})
        return int(sum(float(v) for v in by_agent.values())) if isinstance(by_agent, Mapping) else int(by_agent)

    def _evaluate_now(self) -> None:
        """Run the greedy policy once over the validation split."""
        found = self.evaluate()[ENV_RUNNER_RESULTS]["floor"]
        values = {name: float(found[name]) for name in METRICS}
        values["return"] = values["profit"]
        values["score"] = values[self.run.checkpoint_metric]
        values["search_score"] = values[self.run.search.objective]
        self._last_metrics = values
        self._evaluated_at = self.num_episodes

    def _beats_the_best(self) -> bool:
        """Compare the checkpoint that is due with those before it; evaluations between checkpoints do not count."""
        score = self._last_metrics["score"]
        if math.isfinite(score) and (self._best is None or score > self._best):
            self._best = score
            return True
        return False

    def _require_progress(self) -> None:
        """Fail loudly where RLlib would go on with counters that stand still, as when every runner is dead.

        Raises:
            StalledError: Tune then restarts the trial from its last good checkpoint, as often as ``max_failures`` says.
        """
        steps = int(self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME))
        if steps <= self._steps_before:
            raise StalledError(f"an iteration sampled nothing: environment steps stand at {steps}; are runners alive?")
        self._steps_before = steps

    def _is_asked_to_stop(self) -> bool:
        """Whether a signal has asked the run to end after a checkpoint."""
        return self._run_folder is not None and (self._run_folder / STOP_FILE).exists()

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Publish a checkpoint whole: aside, sealed, then renamed; Tune's own way copies it file by file.

        A disk that is full or a folder that cannot be written to does not end the training: the failure is shown, what
        was published before is intact, and the next due save tries again.
        """
        if self._shelf is None or checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        metrics = {"training_iteration": self.training_iteration, "episodes": self.num_episodes}
        try:
            path = self._shelf.publish(
                lambda folder: self.save_checkpoint(str(folder)), previous=self.previous_checkpoint
            )
        except (OSError, InputError) as error:
            print(f"could not save a checkpoint ({error}); training goes on", file=sys.stderr, flush=True)
            return _TrainingResult(checkpoint=None, metrics=metrics)
        self.previous_checkpoint = path
        self._shelf.prune(self.run.keep)
        return _TrainingResult(checkpoint=tune.Checkpoint.from_directory(str(path)), metrics=metrics)

    def restore(self, checkpoint_path: Any) -> None:
        """Carry on from the newest checkpoint that is whole, whichever one Tune remembers.

        A checkpoint of another trial, as population-based training hands over, is taken as it is.
        """
        checkpoint = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        source = Path(getattr(checkpoint, "path", checkpoint))
        if self._shelf is None or source.parent != self._shelf.folder:
            super().restore(checkpoint_path)
        else:
            self._carry_on()

    def _carry_on(self) -> None:
        """Load what the run goes on from: its newest whole checkpoint, one that the user named, or given weights.

        Raises:
            IncompatibleError: if there are checkpoints, but none of them is whole.
        """
        newest = self._shelf.newest_valid() if self._shelf is not None else None
        if newest is not None:
            self.load_checkpoint(str(newest))
        elif self._resume_from is not None:
            self._continue_from(self._named_checkpoint())
        elif self._shelf is not None and self._shelf.damaged():
            raise IncompatibleError(f"none of the checkpoints in {self._shelf.folder} is whole; see those set aside")
        elif self.run.load_model is not None:
            load_weights(self, self.run.load_model)
        self._has_loaded = True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """RLlib's checkpoint, what RLlib leaves out, who the team is, what it is worth, and the plan's own state.

        Raises:
            NonFiniteLossError: if a weight is NaN or infinite; the checkpoints before this one stay the newest.
        """
        weights = flat_weights(self)
        if bad := non_finite_weights(weights):
            raise NonFiniteLossError(bad)
        super().save_checkpoint(checkpoint_dir)
        folder = Path(checkpoint_dir)
        (folder / EXACT_FILE).write_bytes(exact.capture(self))
        write_json(folder / LAYOUT_FILE, team_layout(self))
        write_json(
            folder / META_FILE,
            {
                "episode": self.num_episodes,
                "total_steps": int(self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME)),
                "timestamp": utc_now(),
                **{name: self._last_metrics.get(name) for name in ("profit", "sharpe", "max_drawdown", "num_trades")},
                "epsilon": self.epsilon(),
                "is_best": self._is_best,
                "metric_name": self.run.checkpoint_metric,
                "metric_value": self._last_metrics.get(self.run.checkpoint_metric),
                "weights_sha256": weights_sha256(weights),
                "algo": self.run.algo,
                "seed": self.run.seed,
            },
        )
        write_json(
            folder / STATE_FILE,
            {
                "evaluated_at": self._evaluated_at,
                "checkpointed_at": self.num_episodes,
                "last_metrics": self._last_metrics,
                "best": self._best,
                "capital": self.run.floor.capital,
                "resume_from": self._resume_from,
                "iteration": self.training_iteration,
                "time_total_s": self._time_total,
            },
        )

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a checkpoint, or from the one that the user has named and that nothing has followed yet.

        Raises:
            IncompatibleError: if its agents, features or networks are not those of this run.
        """
        latest = Path(checkpoint_dir)
        state = _read_state(latest)
        if self._resume_from is None or self._resume_from == state.get("resume_from"):
            self._continue_from(latest)
            return
        self._continue_from(self._named_checkpoint())
        if state["best"] is not None and (self._best is None or state["best"] > self._best):
            self._best = state["best"]  # best_checkpoint may be of the steps that are now left behind, and stays

    def _named_checkpoint(self) -> Path:
        assert self._resume_from is not None
        assert self._run_folder is not None
        return self._run_folder / self._resume_from["checkpoint"]

    def _continue_from(self, folder: Path) -> None:
        differences = layout_differences(read_layout(folder), team_layout(self))
        if differences:
            raise IncompatibleError(f"{folder} does not fit this run: {'; '.join(differences)}")
        state = _read_state(folder)
        super().load_checkpoint(str(folder))
        exact.put_back(self, (folder / EXACT_FILE).read_bytes())
        self._iteration, self._time_total = state["iteration"], state["time_total_s"]
        self._steps_before = int(self._peek(NUM_ENV_STEPS_SAMPLED_LIFETIME))
        self._evaluated_at, self._checkpointed_at = state["evaluated_at"], state["checkpointed_at"]
        self._last_metrics, self._best = state["last_metrics"], state["best"]
        self._is_best = False
        self._has_loaded = True
        if state["capital"] != self.run.floor.capital:
            self.env_runner_group.foreach_env_runner(_begin_new_episodes, local_env_runner=True)


class FloorQMIX(RunTrainable, QMIX):
    """QMIX on the trading floor."""


class FloorVDN(RunTrainable, VDN):
    """VDN on the trading floor."""


class FloorPPO(RunTrainable, TeamPPO):
    """PPO on the trading floor, sampled by the team runner."""


class FloorRLlibPPO(RunTrainable, PPO):
    """RLlib's own PPO on the trading floor, sampled by RLlib's own runner."""


class FloorDQN(RunTrainable, DQN):
    """RLlib's own DQN on the trading floor."""


def trainable_class(run: RunConfig) -> type[RunTrainable]:
    """The trainable of a run."""
    if run.algo == "ppo":
        return FloorPPO if run.runner == "team" else FloorRLlibPPO
    classes: dict[str, type[RunTrainable]] = {"qmix": FloorQMIX, "vdn": FloorVDN, "dqn": FloorDQN}
    return classes[run.algo]


def load_weights(algorithm: RunTrainable, source: str) -> None:
    """Take over the weights of a trained run; optimisers, counters and buffers start anew.

    Args:
        algorithm: The fresh algorithm.
        source: Run folder or checkpoint.

    Raises:
        IncompatibleError: if the trained team differs from this one.
    """
    from experiments.models import find_model

    folder = find_model(source).checkpoint
    differences = layout_differences(read_layout(folder), team_layout(algorithm))
    if differences:
        raise IncompatibleError(f"{folder} does not fit this run: {'; '.join(differences)}")
    state = find_module_states(folder)
    algorithm.learner_group.set_state({"learner": {"rl_module": state}})
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)


def non_finite_weights(weights: Mapping[str, Any]) -> str:
    """Say which weights are NaN or infinite; empty where none is."""
    bad = [name for name, value in sorted(weights.items()) if not np.isfinite(value).all()]
    return f"{len(bad)} weights are NaN or infinite, the first of them {bad[0]}; lower lr" if bad else ""


def _read_state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def _begin_new_episodes(runner: Any) -> None:
    """Let a team runner start its episodes anew, with the capital that is now set."""
    begin = getattr(runner, "begin_new_episodes", None)
    if begin is not None:
        begin()


def _record_in(storage: Any) -> dict[str, Any]:
    """Read the run folder's ``config.json`` through Tune's storage, wherever that is; empty outside Tune."""
    if storage is None:
        return {}
    path = f"{storage.experiment_fs_path}/{FILE_NAME}"
    try:
        with storage.storage_filesystem.open_input_stream(path) as stream:
            record: dict[str, Any] = json.loads(stream.read())
    except FileNotFoundError:
        return {}
    return record
