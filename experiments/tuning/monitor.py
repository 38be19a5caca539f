"""RunMonitor: a Tune callback that shows progress, keeps the best checkpoint and writes summary.json."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from common.pace import Pace
from common.store import first_line
from experiments.recovery.checkpoints import DAMAGED_PREFIX, TrialCheckpoints
from experiments.recovery.names import (
    BEST_FOLDER,
    LOG_FILE,
    META_FILE,
    RECORD_FILE,
    SEARCH_FILE,
    SUMMARY_FILE,
)
from experiments.recovery.tune_files import keep_copies
from experiments.remote.mirror import Mirror
from experiments.runs.repair import keep_best, tidy
from experiments.runs.summary import summary_of, write_summary
from experiments.settings.metric_names import DISK_USE, REFUSED, RETURN, clock_of
from experiments.tuning.long_evaluations import EvaluationTeller
from experiments.tuning.processes import note
from experiments.tuning.ray_internals import dead_process, last_line
from experiments.tuning.trainable_names import is_trainable

SHOW_EVERY_S = 5.0


class RunMonitor(Callback):
    """Follows the trials of one run folder, wherever that now is: a folder may be moved between two commands.

    Args:
        algo: For the summary.
        seed: For the summary.
        address: Of a run that is kept in a store.
        plan: What Tune's own files are planned for, of which copies are kept for plain ``Tuner.restore``; None keeps
            none: a search is carried on by its own command.
        unit: What the run's clock counts.
    """

    is_search = False
    """Whether the folder holds several trials: then progress lines name the trial."""

    _has_copied = False
    """Whether Tune's files have been copied in this session."""

    _overdue: frozenset[str] = frozenset()
    """Trials that have reported in this step of Tune's, and train again at its end."""

    def __init__(
        self,
        *,
        algo: str,
        seed: int,
        address: str | None = None,
        plan: Mapping[str, Any] | None = None,
        unit: str = "episodes",
    ) -> None:
        self.algo, self.seed, self.address, self._plan, self._unit = algo, seed, address, plan, unit
        self._mirror: Mirror | None = None
        self._shown_at = 0.0
        self._has_cleaned = False
        self._previous: dict[str, tuple[float, float]] = {}
        self._paces: dict[str, tuple[int, Pace]] = {}
        self._awaited: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._unwritten: Path | None = None
        self._evaluations = EvaluationTeller()

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Keep Tune from writing stale copies over our files.

        On a restore Tune downloads every JSON file and pickle of the run folder into its staging folder, which it
        uploads over and over; ours would go back to what they were, and what was set aside would be written again. Also
        puts back a best checkpoint that a kill has caught in the middle of its replacement, and lets the failures of
        earlier sessions be: each may have so many.
        """
        if self._has_cleaned or not trials:
            return
        staging = Path(trials[0].storage.experiment_driver_staging_path)
        for name in (SUMMARY_FILE, RECORD_FILE, SEARCH_FILE):
            (staging / name).unlink(missing_ok=True)
        for path in staging.glob(f"{DAMAGED_PREFIX}*"):
            path.unlink()
        for trial in trials:
            trial.run_metadata.num_failures = 0
        for trial in () if self.is_search else trials:  # a search does so before it hands a trial to Tune
            tidy(Path(trial.storage.trial_fs_path))
        self._has_cleaned = True

    def __getstate__(self) -> dict[str, Any]:
        """Travel with a clean slate: each process has its own staging folder and clock."""
        return {
            **self.__dict__,
            "_has_cleaned": False,
            "_has_copied": False,
            "_shown_at": 0.0,
            "_previous": {},
            "_paces": {},
            "_awaited": {},
            "_overdue": frozenset(),
            "_unwritten": None,
            "_mirror": None,
            "_evaluations": EvaluationTeller(),
        }

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Measure speed from here on: what lies before was waiting."""
        self._previous.pop(trial.trial_id, None)
        self._paces.pop(trial.trial_id, None)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Print how far the trial is, at most every few seconds and whenever a checkpoint is due."""
        if REFUSED in result:
            return
        if DISK_USE in result:
            print(result[DISK_USE], flush=True)
        if self._plan is not None and not self._has_copied:
            staging = Path(trial.storage.experiment_driver_staging_path)
            with suppress(OSError):  # the next result tries again
                self._has_copied = keep_copies(staging, _run_folder(trial), self._plan)
        published = TrialCheckpoints(Path(trial.storage.trial_fs_path)).published() if result.get("is_repeated") else []
        if published:  # a kill came between the last checkpoint and what is written about it
            self._awaited[trial.trial_id] = published[-1], dict(result)
        is_due = bool(result.get("should_checkpoint"))
        if is_due or result.get("done"):  # what comes next may delete the one before
            self._catch_up(trial, trials)
        else:
            self._overdue |= {trial.trial_id}
        if (reason := result.get("save_error")) is not None:  # what a worker prints does not reach the screen
            print(f"{reason}; training goes on", file=sys.stderr, flush=True)
        first, pace = self._paces.setdefault(trial.trial_id, _pace_from(result))
        now = time.monotonic()
        if not is_due and now - self._shown_at < SHOW_EVERY_S:
            return
        self._shown_at = now
        steps = float(result["total_steps"])
        then, before = self._previous.get(trial.trial_id, (now, steps))
        self._previous[trial.trial_id] = (now, steps)
        speed = (steps - before) / (now - then) if now > then else math.nan
        done = clock_of(result)
        left = pace.left_words(done - first) if first < done < result["target_episodes"] else None
        print(_line(trial.trial_id if self.is_search else None, result, speed, self._unit, left), flush=True)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Take in the checkpoints that are there since a trial has reported; it trains already, and does not wait.

        Tune ends a step every tenth of a second, whether or not there is news: evaluations under way are told here.
        """
        for trial in [t for t in trials if t.trial_id in self._overdue]:
            self._catch_up(trial, trials)
        self._overdue = frozenset()
        running = {t.trial_id: Path(t.storage.trial_fs_path) for t in trials if t.status == Trial.RUNNING}
        self._evaluations.look(running, named=self.is_search)

    def on_checkpoint(self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any) -> None:
        """Keep a copy of the best checkpoint out of retention's reach, and write the summary.

        A checkpoint that is still being published is there when the next iteration is reported, and before another one
        is asked for: it is taken in between the two, when Tune has asked for the iteration after it. Only then is the
        store ours to write to: until then the trainable brings things there.
        """
        result = dict(trial.last_result or {})
        self._awaited[trial.trial_id] = Path(checkpoint.path), result
        if self.is_search or result.get("done"):
            self._catch_up(trial, trials)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Say why a trial is started again."""
        reason = _failure(trial)
        note(_run_folder(trial) / LOG_FILE, reason)
        named = f"trial {trial.trial_id}" if self.is_search else "training"
        died = dead_process(reason)
        where = f"trainer {died.pid} on {died.ip} has died: " if died and is_trainable(died.class_name) else ""
        count = f"{trial.run_metadata.num_failures} of {trial.max_failures} times"
        told = f"{named} failed ({where}{last_line(reason)}): it goes on from its newest checkpoint ({count})"
        print(told, file=sys.stderr, flush=True)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take in the last checkpoint of a trial that has failed since."""
        self._catch_up(trial, trials)
        note(_run_folder(trial) / LOG_FILE, _failure(trial))

    def _catch_up(self, trial: Any, trials: Any) -> None:
        path, result = self._awaited.get(trial.trial_id, (None, {}))
        if path is None or not (path / META_FILE).is_file():  # a checkpoint has its name when it is whole
            return
        try:
            self._follow(trial, path, trials, result)
        except OSError as error:  # the next result tries again
            if self._unwritten != path:
                print(f"could not note {path.name} ({error}); training goes on", file=sys.stderr, flush=True)
            self._unwritten = path
        else:
            del self._awaited[trial.trial_id]

    def _follow(self, trial: Any, path: Path, trials: Any, result: Mapping[str, Any]) -> None:
        best, failed = path.parent / BEST_FOLDER, None
        try:
            keep_best(path)
        except OSError as error:  # what is told of the run does not wait for it
            failed = error
        changes = {"status": "running", "algo": self.algo, "seed": self.seed}
        write_summary(_run_folder(trial), changes | self._summary(trial, path, trials, result))
        if self.address is not None:
            self._mirror = self._mirror or Mirror(self.address, _run_folder(trial))
            try:
                if best.is_dir():
                    self._mirror.push_checkpoint(best)
                self._mirror.push_files()
            except OSError as error:
                print(f"not brought to the store ({first_line(error)}); training goes on", file=sys.stderr, flush=True)
        if failed is not None:
            raise failed

    def _summary(self, trial: Any, path: Path, trials: Any, result: Mapping[str, Any]) -> dict[str, Any]:
        """What the summary says now that a trial has published a checkpoint."""
        return summary_of(_run_folder(trial), path, result)


def _run_folder(trial: Any) -> Path:
    return Path(trial.storage.experiment_fs_path)


def _failure(trial: Any) -> str:
    """What Tune has noted of the newest failure of a trial, with its traceback."""
    try:
        return Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure # ")[2]
    except (OSError, TypeError):  # a disk that is full, or a failure that Tune has not noted
        return "the reason could not be noted"


def _pace_from(result: Mapping[str, Any]) -> tuple[int, Pace]:
    """What is done by the first result of a session, and the pace of the rest, which is measured from here on."""
    done = clock_of(result)
    return done, Pace("training", int(result["target_episodes"]) - done)


def _loss(result: Mapping[str, Any]) -> float:
    """Mean loss of the networks; not a number before they learn."""
    modules = [values for values in result.get("learners", {}).values() if isinstance(values, Mapping)]
    losses = [float(values["total_loss"]) for values in modules if "total_loss" in values]
    return sum(losses) / len(losses) if losses else math.nan


def _line(trial: str | None, result: dict[str, Any], speed: float, unit: str, left: str | None) -> str:
    done = clock_of(result)
    target = max(done, int(result["target_episodes"]))  # an iteration may end beyond what was asked for
    parts = [
        f"{unit} {done:>{len(str(target))}}/{target}",
        f"steps {int(result['total_steps']):,}",
    ]
    if not math.isnan(speed):
        parts.append(f"{speed:,.0f} steps/s")
    if left is not None:
        parts.append(left)
    mean = result.get("episode_return")
    if mean is not None and not math.isnan(mean):
        parts.append(f"return {mean:+.4f}")
    if not math.isnan(loss := _loss(result)):
        parts.append(f"loss {loss:.4g}")
    if result.get("epsilon") is not None:
        parts.append(f"epsilon {result['epsilon']:.2f}")
    if result.get("is_evaluated", True) and "sharpe" in result:  # else they are those of a line before
        parts.append(
            f"validation: profit {result['profit']:+.2%}, sharpe {result['sharpe']:+.2f}, "
            f"drawdown {result['max_drawdown']:.1%}, {int(result['num_trades'])} trades"
        )
    elif result.get("is_evaluated", True) and RETURN in result:
        parts.append(f"evaluation: return {result[RETURN]:+.4f}")
    if result.get("owes_evaluation"):
        parts.append("evaluation left: it comes first when the run goes on")
    if result.get("should_checkpoint"):
        parts.append(f"saving a checkpoint{' (best)' if result.get('is_best') else ''}")  # where it fails, that is said
    return "  ".join([f"[{trial}]", *parts] if trial else parts)
