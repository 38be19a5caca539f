"""Names and states of run folders: what may be called a run, what may be written to, and what has begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from common.files import json_object, read_json
from common.paths import home_path
from experiments.recovery.checkpoints import DAMAGED_PREFIX, PREFIX, TrialCheckpoints
from experiments.recovery.lock import LOCK_FILE
from experiments.recovery.names import (
    BEST_FOLDER,
    BRANCH_FOLDER,
    LOG_FILE,
    META_FILE,
    RECORD_FILE,
    RESULT_FILE,
    SEARCH_FILE,
    SUMMARY_FILE,
)
from experiments.recovery.records import saved_after
from experiments.recovery.signals import STOP_FILE

MOST_CHARACTERS, MOST_BYTES = 100, 200
"""Longest name of a run: file systems take 255 bytes, and a suffix comes on top when a folder is moved aside."""
_FORBIDDEN = "/\\*?[]"
_LEFTOVERS = frozenset({LOCK_FILE, LOG_FILE, STOP_FILE, BRANCH_FOLDER})
"""All that a start that was ended in its first moments leaves in a folder."""
_NUMBERED = f"{PREFIX}[0-9]*"
_MARKS = (SUMMARY_FILE, "tuner.pkl", "trial_*", f"*/{_NUMBERED}")
"""What only a run leaves in a folder."""


def check_name(name: str) -> None:
    """Refuse a name that would lead out of the folder of runs, or that a shell or a person would misread.

    Raises:
        InputError: saying what is wrong with it.
    """
    wrong = None
    if not name:
        wrong = "it is empty"
    elif name in (".", ".."):
        wrong = "it is a folder's own or upper name"
    elif not name.isprintable():
        wrong = "it holds a line break or another character that is not printed"
    elif found := [character for character in name if character in _FORBIDDEN]:
        wrong = f"it holds {found[0]!r}"
    elif name != name.strip():
        wrong = "it begins or ends with a blank"
    elif name.startswith("-"):
        wrong = "it begins with a dash"
    elif len(name) > MOST_CHARACTERS or len(name.encode()) > MOST_BYTES:
        wrong = f"it has {len(name)} characters, more than fit"
    if wrong is not None:
        shown = name if len(name) <= MOST_CHARACTERS else f"{name[:20]}..."
        raise InputError(f"--name is {shown!r}: {wrong}; give one folder name (where it lies is set by --storage)")


def check_results_folder(folder: str | Path, *, setting: str) -> None:
    """Refuse a folder for results that is a run's own: a file that was not written with a checkpoint is damage to it.

    Args:
        folder: Where results are to go.
        setting: Name of the setting that named it, for the message.

    Raises:
        InputError: if it is a run folder or the folder of a trial, or lies in a checkpoint.
    """
    folder = home_path(folder).absolute()
    _check_outside_checkpoints(folder, setting=setting)
    if (folder / RECORD_FILE).is_file() or next(folder.glob(_NUMBERED), None) is not None:
        raise InputError(f"{setting} is {folder}, which a run writes to: name a new folder in it, or another place")


def check_results_file(path: str | Path, *, setting: str) -> None:
    """Refuse a file for results that is a run's own, or lies in a checkpoint.

    Raises:
        InputError: saying so.
    """
    path = home_path(path).absolute()
    _check_outside_checkpoints(path, setting=setting)
    if (path.parent / RECORD_FILE).is_file() and path.name in (RECORD_FILE, SUMMARY_FILE, SEARCH_FILE):
        raise InputError(f"{setting} is {path}, a run's own file: choose another name")


def _check_outside_checkpoints(path: Path, *, setting: str) -> None:
    checkpoint = next((place for place in (path, *path.parents) if (place / META_FILE).is_file()), None)
    if checkpoint is not None:
        raise InputError(f"{setting} is {path}, in the checkpoint {checkpoint.name}: choose another place")


def has_begun(folder: Path) -> bool:
    """Whether a run folder holds, or has held, a checkpoint; until then there is nothing that settings must fit.

    A branch has one from its start: that of its parent, which it has taken over.
    """
    if (folder / RECORD_FILE).is_file() and (folder / BRANCH_FOLDER).is_dir():
        return True
    if (folder / SUMMARY_FILE).is_file():
        summary = json_object((folder / SUMMARY_FILE).read_bytes())
        if not summary or summary.get("latest_checkpoint") is not None:  # of a damaged one, whoever reads it says so
            return True
    trials = folder.glob("trial_*")
    return any(TrialCheckpoints(trial).published() or lost_checkpoints(trial) is not None for trial in trials)


def num_trials_begun(folder: Path) -> int:
    """How many trials of a search have begun, by its record or, where that is lost, by their folders."""
    try:
        recorded = len(read_json(folder / SEARCH_FILE)["trials"])
    except (InputError, KeyError, TypeError):
        recorded = 0
    return max(recorded, sum(path.is_dir() for path in folder.glob("trial_*")))


def lost_checkpoints(trial: Path, reports: Sequence[str] = ()) -> str | None:
    """Say what is wrong with a trial whose checkpoints are all damaged or gone, and what to do.

    Args:
        trial: The trial's folder, after its checkpoints were verified.
        reports: What was said of them then.

    Returns:
        None where one is left, or the trial has not come to one yet, as after a kill before its first: then it begins
        anew, and nothing that was due is lost.
    """
    checkpoints = TrialCheckpoints(trial)
    if checkpoints.published():
        return None
    is_search = (trial.parent / SEARCH_FILE).is_file()
    move = f"move {trial.name} out of the search to train it anew"
    if damaged := checkpoints.damaged():
        return (
            f"none of the {len(damaged)} checkpoints in {trial} is whole, nothing is started over them: "
            f"{'; '.join(reports) or 'they were set aside before'}{f'; put one back, or {move}' if is_search else ''}"
        )
    trace = _trace(trial, is_search=is_search)
    if trace is None:
        return None
    best = trial / BEST_FOLDER
    from_best = f", carry on from the best: --resume {best}" if best.is_dir() else ""
    return (
        f"{trial} has lost its checkpoints ({trace}), nothing is started over it: put them back"
        f"{f', {move}' if is_search else from_best}, or start anew with --resume never"
    )


def _trace(trial: Path, *, is_search: bool) -> str | None:
    """What shows that a trial has had a checkpoint; a search's summary is of trials that may have been moved away."""
    left = [trial / BEST_FOLDER, *trial.glob(f"{DAMAGED_PREFIX}{BEST_FOLDER}*"), *TrialCheckpoints(trial).overtaken()]
    for path in left:
        if path.is_dir():
            return f"{path.name} is left"
    path = trial.parent / SUMMARY_FILE
    latest = json_object(path.read_bytes()).get("latest_checkpoint") if path.is_file() and not is_search else None
    if isinstance(latest, str) and (trial.parent / latest).parent == trial:
        return f"the newest was {latest}"
    iteration = saved_after(trial)
    return None if iteration is None else f"{RESULT_FILE} tells of one after iteration {iteration}"


def check_folder(folder: Path, *, is_moved_aside: bool = False) -> None:
    """Refuse to start a run over what is there and is no whole run; nothing is touched.

    Args:
        folder: The run folder.
        is_moved_aside: Whether a run that is there will be moved out of the way.

    Raises:
        InputError: if it is a file, holds something else, or is a run that has lost its record.
    """
    if not folder.exists() or (folder / RECORD_FILE).exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another --name")
    if any(next(folder.glob(mark), None) for mark in _MARKS):
        if not is_moved_aside:
            raise InputError(
                f"{folder} is a run that has lost its {RECORD_FILE}, nothing is written over it: put the file back, or "
                "start anew with --resume never, which moves the folder aside"
            )
        return
    others = sorted(p.name for p in folder.iterdir() if p.name not in _LEFTOVERS and not p.name.startswith("."))
    if others:
        raise InputError(f"{folder} is no run, and holds {others[0]}: choose another --name, nothing is written to it")
