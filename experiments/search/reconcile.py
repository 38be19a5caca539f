"""Bring a search's record and what lies in its run folder together, after whatever has happened to either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import read_json
from experiments.recovery.checkpoints import TrialCheckpoints, rename_aside, require_meta
from experiments.recovery.names import PARAMS_FILE, RESULT_FILE, SEARCH_FILE
from experiments.recovery.progress import read_progress
from experiments.recovery.records import read_line
from experiments.remote.mirror import Mirror
from experiments.runs.folders import lost_checkpoints
from experiments.runs.repair import keep_best, newest_whole, restore_best
from experiments.search.population import apply_exploits
from experiments.search.record import SearchRecord, TrialRecord
from experiments.settings.metric_names import clock_of


def reconcile(record: SearchRecord, *, mirror: Mirror | None = None) -> list[TrialRecord]:
    """Adopt trials that only their folders tell of, verify checkpoints, and end trials that are over.

    Args:
        record: As read; the caller saves it.
        mirror: Where the search is kept, if not in its folder alone.

    Returns:
        The trials that had ended without the record knowing.

    Raises:
        InputError: if a trial that has not ended has lost its checkpoints, or none of them is whole, or the store does
            not answer.
        OSError: if what is found cannot be written.
    """
    _adopt(record)
    apply_exploits(record, mirror=mirror)
    ended = []
    for trial in record.trials:
        folder = record.folder / trial.folder_name
        TrialCheckpoints(folder).sweep()
        if trial.has_ended:
            restore_best(folder, print, mirror=mirror)
            continue
        reports: list[str] = []
        newest, last = newest_whole(folder, reports.append, mirror=mirror), last_result(folder)
        restore_best(folder, reports.append, mirror=mirror)
        print(*reports, sep="\n", end="\n" if reports else "")
        if newest is not None:
            keep_best(newest)  # a kill may have come between the two
        if last is not None and _is_over(last, newest):
            record.end(trial, last)
            ended.append(trial)
        elif (wrong := lost_checkpoints(folder, reports)) is not None:
            raise InputError(wrong)
        else:
            saved = 0 if newest is None else clock_of(require_meta(newest))
            record.rungs = [r for r in record.rungs if r.trial_id != trial.trial_id or r.episodes <= saved]
    return ended


def last_result(trial: Path) -> dict[str, Any] | None:
    """The last iteration that a trial has reported; lines that cannot be read are passed over."""
    try:
        lines = (trial / RESULT_FILE).read_bytes().splitlines()
    except OSError:
        return None
    return next((result for line in reversed(lines) if (result := read_line(line)) is not None), None)


def _is_over(last: Mapping[str, Any], newest: Path | None) -> bool:
    """Whether a trial's last result ended it, and every checkpoint that was due is there.

    Args:
        last: Its last result; one that the early stopper ended the trial at says ``done`` too.
        newest: Its newest whole checkpoint.
    """
    if not last.get("done") or last.get("is_stopped"):
        return False
    iteration = 0 if newest is None else read_progress(newest).iteration
    return "fatal" in last or iteration == last["training_iteration"] or not last.get("should_checkpoint")


def _adopt(record: SearchRecord) -> None:
    """Take over trials whose folders the record does not know: it was lost, or an older one was put in its place."""
    adopted = []
    for folder in sorted(record.folder.glob("trial_*")):
        trial_id = folder.name.removeprefix("trial_")
        if not folder.is_dir() or record.find(trial_id) is not None:
            continue
        try:
            overrides = dict(read_json(folder / PARAMS_FILE)["overrides"])
        except (InputError, KeyError, TypeError, ValueError):
            if any(folder.iterdir()):
                print(f"{folder.name} does not say what was drawn for it: set aside as {rename_aside(folder).name}")
            continue
        record.trials.append(TrialRecord(trial_id, overrides, dict(overrides)))
        adopted.append(trial_id)
    if adopted:
        print(f"{SEARCH_FILE} did not know of {', '.join(adopted)}: carried on from what lies in the folders")
