"""``summary.json``: how far a run is, what it reached, and which checkpoints it has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import WriteError, read_json, write_json
from common.provenance import utc_now
from experiments.recovery.checkpoints import TrialCheckpoints, read_meta, rename_aside, require_meta
from experiments.recovery.names import BEST_FOLDER, SAVE_ERROR_FILE, SUMMARY_FILE
from experiments.settings.metric_names import CLOCK, clock_of

SHOWN = ("profit", "sharpe", "max_drawdown", "calmar", "return", "num_trades", "turnover", "total_costs_usd", "score")
"""Figures of a trial's last result that a summary repeats."""
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

_KINDS: dict[str, type] = dict.fromkeys(("episodes", CLOCK, "target_episodes", "env_steps", "agent_steps"), int)
_KINDS |= dict.fromkeys(("latest_checkpoint", "best_checkpoint"), str)
_KINDS |= dict.fromkeys(("metrics", "best_metric", "search"), dict)
"""What a summary holds; each may be missing."""


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
    if not isinstance(summary, dict) or not isinstance(summary.get("status"), str):
        raise InputError(f"{path} is damaged: it holds no status; {remedy}")
    for name, kind in _KINDS.items():
        if not isinstance(summary.get(name), (kind, type(None))):
            raise InputError(f"{path} is damaged: its {name} is a {type(summary[name]).__name__}; {remedy}")
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


def write_summary(folder: str | Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Update a run folder's ``summary.json``, and return all of it; what is not named stays."""
    path = Path(folder) / SUMMARY_FILE
    summary = _EMPTY | sound_summary(folder)
    summary.update(changes, updated_at=utc_now())
    write_json(path, summary)
    return summary


def note_status(folder: str | Path, status: str) -> None:
    """Write how a session has ended; where the disk does not take it, say so: what ended it matters more."""
    try:
        write_summary(folder, {"status": status})
    except WriteError as error:
        print(f"{error}; it does not say yet that the run is {status}", file=sys.stderr, flush=True)


def summary_of(folder: Path, checkpoint: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run folder's summary says of a trial: how far it is, what it reached, and which checkpoints it has.

    Args:
        folder: The run folder.
        checkpoint: The trial's newest checkpoint; counters are those of its moment.
        result: The trial's last result.
    """
    meta, best = require_meta(checkpoint, "weights_sha256", "episode", "total_steps"), checkpoint.parent / BEST_FOLDER
    of_best = read_meta(best)
    found = {
        "latest_checkpoint": str(checkpoint.relative_to(folder)),
        "weights_sha256": meta["weights_sha256"],
        "episodes": meta["episode"],
        CLOCK: clock_of(meta),
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


def why_unsaved(trial_folder: Path, clock: int) -> str | None:
    """Say why a trial's newest checkpoint is not of a certain moment; None where it is.

    Args:
        trial_folder: The trial's folder.
        clock: When a checkpoint was due, as the run's clock counts.
    """
    published = TrialCheckpoints(trial_folder).published()
    if published and clock_of(require_meta(published[-1])) == clock:
        return None
    reason = trial_folder / SAVE_ERROR_FILE
    try:
        if not reason.is_file() or not reason.stat().st_size:
            reason.write_text("the reason could not be written", encoding="utf-8")  # if it still cannot, that is it
        return reason.read_text(encoding="utf-8")
    except OSError as error:
        return str(error.strerror)
