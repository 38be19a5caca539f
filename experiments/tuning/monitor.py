"""RunMonitor: a Tune callback that shows progress, keeps the best checkpoint and writes summary.json."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune import Callback

from algos.replay_settings import REPLAY_FOLDER
from common.disk import fill_folder, to_disk
from common.errors import InputError
from common.files import read_json, write_json
from common.provenance import utc_now
from experiments.recovery.checkpoints import DAMAGED_PREFIX, TrialCheckpoints, read_meta, rename_aside
from experiments.recovery.manifests import find_damage
from experiments.recovery.names import (
    BEST_FOLDER,
    META_FILE,
    RECORD_FILE,
    SAVE_ERROR_FILE,
    SEARCH_FILE,
    STATE_FILE,
    SUMMARY_FILE,
)
from experiments.recovery.records import truncate_records
from experiments.recovery.tune_files import ENDED_PREFIX, STALE_PREFIX, keep_copies
from experiments.remote.mirror import Mirror
from experiments.remote.store import first_line
from experiments.runs.folders import lost_checkpoints

SHOW_EVERY_S = 5.0
_AT_ONCE = 1 << 20
"""Bytes that are copied at a time."""
SHOWN = ("profit", "sharpe", "max_drawdown", "calmar", "return", "num_trades", "turnover", "total_costs_usd", "score")


class RunMonitor(Callback):
    """Follows the trials of one run folder, wherever that now is: a folder may be moved between two commands.

    Args:
        algo: For the summary.
        seed: For the summary.
        address: Of a run that is kept in a store.
    """

    is_search = False
    """Whether the folder holds several trials: then progress lines name the trial."""

    _has_copied = False
    """Whether Tune's files have been copied in this session; a monitor that Tune has kept may not know of copies."""

    _overdue: frozenset[str] = frozenset()
    """Trials that have reported in this step of Tune's, and train again at its end."""

    def __init__(self, *, algo: str, seed: int, address: str | None = None) -> None:
        self.algo, self.seed, self.address = algo, seed, address
        self._mirror: Mirror | None = None
        self._shown_at = 0.0
        self._has_cleaned = False
        self._previous: dict[str, tuple[float, float]] = {}
        self._awaited: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._unwritten: Path | None = None

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
        for prefix in (DAMAGED_PREFIX, STALE_PREFIX, ENDED_PREFIX):
            for path in staging.glob(f"{prefix}*"):
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
            "_awaited": {},
            "_overdue": frozenset(),
            "_unwritten": None,
            "_mirror": None,
        }

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Measure speed from here on: what lies before was waiting."""
        self._previous.pop(trial.trial_id, None)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Print how far the trial is, at most every few seconds and whenever a checkpoint is due."""
        if not self._has_copied and not self.is_search:  # a search is carried on from its own record
            with suppress(OSError):  # the next result tries again
                self._has_copied = keep_copies(Path(trial.storage.experiment_driver_staging_path), _run_folder(trial))
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
        now = time.monotonic()
        if not is_due and now - self._shown_at < SHOW_EVERY_S:
            return
        self._shown_at = now
        steps = float(result["total_steps"])
        then, before = self._previous.get(trial.trial_id, (now, steps))
        self._previous[trial.trial_id] = (now, steps)
        speed = (steps - before) / (now - then) if now > then else math.nan
        print(_line(trial.trial_id if self.is_search else None, result, speed), flush=True)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Take in the checkpoints that are there since a trial has reported; it trains already, and does not wait."""
        for trial in [t for t in trials if t.trial_id in self._overdue]:
            self._catch_up(trial, trials)
        self._overdue = frozenset()

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

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take in the last checkpoint of a trial that has failed since."""
        self._catch_up(trial, trials)

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


def summary_of(folder: Path, checkpoint: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run folder's summary says of a trial: how far it is, what it reached, and which checkpoints it has.

    Args:
        folder: The run folder.
        checkpoint: The trial's newest checkpoint; counters are those of its moment.
        result: The trial's last result.
    """
    meta, best = read_json(checkpoint / META_FILE), checkpoint.parent / BEST_FOLDER
    of_best = read_meta(best)
    found = {
        "latest_checkpoint": str(checkpoint.relative_to(folder)),
        "weights_sha256": meta["weights_sha256"],
        "episodes": meta["episode"],
        "target_episodes": result.get("target_episodes"),
        "env_steps": meta["total_steps"],
        "agent_steps": result.get("agent_steps"),
        "metrics": {name: result[name] for name in SHOWN if name in result},
    }
    if not says_what_it_is(of_best):  # there is none yet, or it is damaged
        return found | {"best_checkpoint": None, "best_metric": None}
    metric = {"name": of_best["metric_name"], "value": of_best["metric_value"]}
    return found | {"best_checkpoint": str(best.relative_to(folder)), "best_metric": metric}


def says_what_it_is(meta: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's own words hold all that a summary takes from them; a damaged one's may not."""
    return {"episode", "total_steps", "weights_sha256", "metric_name", "metric_value"} <= meta.keys()


def why_unsaved(trial_folder: Path, episodes: int) -> str | None:
    """Say why a trial's newest checkpoint is not that of so many episodes; None where it is.

    Args:
        trial_folder: The trial's folder.
        episodes: Episodes at which a checkpoint was due.
    """
    published = TrialCheckpoints(trial_folder).published()
    if published and read_json(published[-1] / META_FILE)["episode"] == episodes:
        return None
    reason = trial_folder / SAVE_ERROR_FILE
    found = reason.read_text(encoding="utf-8") if reason.is_file() else ""
    return found or "the reason could not be written either"


def write_summary(folder: str | Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Update a run folder's ``summary.json``; what is not named stays.

    Args:
        folder: The run folder.
        changes: Fields to set.

    Returns:
        The whole summary.
    """
    path = Path(folder) / SUMMARY_FILE
    summary = _EMPTY | sound_summary(folder)
    summary.update(changes, updated_at=utc_now())
    write_json(path, summary)
    return summary


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Read a run folder's ``summary.json``; empty where there is none yet.

    Raises:
        InputError: if it is damaged.
    """
    path = Path(folder) / SUMMARY_FILE
    if not path.is_file():
        return {}
    remedy = "delete this one file and run the command again"
    try:
        summary = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {remedy}") from None
    if not isinstance(summary, dict) or "status" not in summary:
        raise InputError(f"{path} is damaged: it holds no status; {remedy}")
    return summary


def sound_summary(folder: str | Path) -> dict[str, Any]:
    """Read ``summary.json`` where nobody else writes to the run folder.

    A damaged one is set aside: all that it says is written anew, from checkpoints and results.
    """
    try:
        return read_summary(folder)
    except InputError:
        aside = rename_aside(Path(folder) / SUMMARY_FILE)
    print(f"{SUMMARY_FILE} is damaged: set aside as {aside.name}, and written anew", flush=True)
    return {}


def tidy(folder: Path) -> None:
    """Bring what a trial has written in line with its newest checkpoint, after which it carries on.

    Args:
        folder: The trial's folder.
    """
    checkpoints = TrialCheckpoints(folder)
    newest = mend_best(folder)
    if newest is None and (checkpoints.damaged() or lost_checkpoints(folder) is not None):
        return  # the trainable refuses to start; what is there stays as it is
    truncate_records(folder, 0 if newest is None else int(read_json(newest / STATE_FILE)["iteration"]))


def mend_best(folder: Path) -> Path | None:
    """Finish a replacement of the best checkpoint that a kill has interrupted or prevented.

    Args:
        folder: The trial's folder.

    Returns:
        The trial's newest whole checkpoint.
    """
    mend_copy(folder / BEST_FOLDER)
    newest = TrialCheckpoints(folder).newest_valid()
    if newest is not None:
        keep_best(newest)  # a kill may have come between the two
    return newest


def keep_best(newest: Path) -> None:
    """Copy a trial's newest checkpoint if it is the best, or an earlier one that could not be copied when it was.

    Args:
        newest: The checkpoint; whole.

    Raises:
        OSError: if it cannot be copied; a checkpoint that is owed stays where it is (see ``TrialCheckpoints.prune``).
    """
    best, checkpoints = newest.parent / BEST_FOLDER, TrialCheckpoints(newest.parent)
    if read_json(newest / META_FILE)["is_best"]:
        copy_folder(newest, best)
    elif (owed := checkpoints.owed_best()) is not None and not find_damage(owed):
        copy_folder(owed, best)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder over another one so that a reader never finds a part of it.

    For an instant between two renames there is neither the old nor the new one; ``mend_copy`` puts the old one back if
    the process was killed just then.
    """
    mend_copy(target)
    staged, old = _copies(target)
    staged.mkdir()
    try:
        copy_into(staged, source)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.rmtree(staged)
        staged.mkdir()
        copy_into(staged, source, links_all=True)  # better a copy that shares its files than none
    if target.is_dir():
        os.rename(target, old)
    os.rename(staged, target)
    to_disk(target.parent)  # what was there before may go only now
    shutil.rmtree(old, ignore_errors=True)


def copy_into(folder: Path, source: Path, *, leave_out: Collection[str] = (), links_all: bool = False) -> None:
    """Copy to the disk itself; the large files that checkpoints share among themselves are linked.

    Args:
        folder: Where it goes; empty.
        source: A folder.
        leave_out: Files that stay behind, by path in it.
        links_all: Whether the other files are linked too.
    """
    found = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    paths = {name: path for name, path in found.items() if name not in leave_out}
    links = {name: str(path) for name, path in paths.items() if links_all or path.parent.name == REPLAY_FOLDER}
    fill_folder(folder, {name: _parts(path) for name, path in paths.items() if name not in links}, links)
    for below in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        to_disk(below)


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            yield part


def mend_copy(target: Path) -> None:
    """Undo or clear away what an interrupted ``copy_folder`` has left behind."""
    staged, old = _copies(target)
    if old.is_dir() and not target.is_dir():
        os.rename(old, target)
    for leftover in (staged, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _copies(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _run_folder(trial: Any) -> Path:
    return Path(trial.storage.experiment_fs_path)


_EMPTY: dict[str, Any] = {
    "status": "running",
    "algo": None,
    "seed": None,
    "episodes": 0,
    "target_episodes": None,
    "env_steps": 0,
    "agent_steps": 0,
    "latest_checkpoint": None,
    "best_checkpoint": None,
    "best_metric": None,
    "weights_sha256": None,
    "metrics": {},
}


def _line(trial: str | None, result: dict[str, Any], speed: float) -> str:
    target = int(result["target_episodes"])
    parts = [
        f"episodes {int(result['episodes']):>{len(str(target))}}/{target}",
        f"steps {int(result['total_steps']):,}",
    ]
    if not math.isnan(speed):
        parts.append(f"{speed:,.0f} steps/s")
    mean = result.get("episode_return")
    if mean is not None and not math.isnan(mean):
        parts.append(f"return {mean:+.4f}")
    if result.get("epsilon") is not None:
        parts.append(f"epsilon {result['epsilon']:.2f}")
    if result.get("is_evaluated", True) and "sharpe" in result:  # else they are those of a line before
        parts.append(
            f"validation: profit {result['profit']:+.2%}, sharpe {result['sharpe']:+.2f}, "
            f"drawdown {result['max_drawdown']:.1%}, {int(result['num_trades'])} trades"
        )
    if result.get("should_checkpoint"):
        parts.append("checkpoint (best)" if result.get("is_best") else "checkpoint")
    return "  ".join([f"[{trial}]", *parts] if trial else parts)
