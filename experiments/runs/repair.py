"""The best checkpoint of a trial: verified, put back where it was lost, and what a later one has to beat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.errors import InputError
from common.manifests import find_damage
from common.paths import path_in
from common.store import first_line
from experiments.recovery.checkpoints import (
    TrialCheckpoints,
    checkpoint_number,
    read_meta,
    rename_aside,
    require_meta,
    score_of,
)
from experiments.recovery.copies import copy_folder, mend_copy
from experiments.recovery.names import BEST_FOLDER, SUMMARY_FILE
from experiments.recovery.progress import read_progress
from experiments.recovery.records import truncate_records
from experiments.remote.mirror import Mirror
from experiments.runs.folders import lost_checkpoints
from experiments.runs.summary import sound_summary


def newest_whole(trial: Path, report: Callable[[str], None], *, mirror: Mirror | None = None) -> Path | None:
    """Verify a trial's checkpoints (see ``TrialCheckpoints.newest_whole``); what is damaged may be whole in the store.

    Raises:
        InputError: if the store does not answer.
    """
    return TrialCheckpoints(trial).newest_whole(report, bring_back=lambda path: brought_back(path, report, mirror))


def restore_best(trial: Path, report: Callable[[str], None], *, mirror: Mirror | None = None) -> None:
    """Verify a trial's best checkpoint; set a damaged one aside, and put the best of those that are left in its place.

    The one in the store, where the run is kept in one, is among those that are left.

    Raises:
        InputError: if the store does not answer.
    """
    best, checkpoints = trial / BEST_FOLDER, TrialCheckpoints(trial)
    mend_copy(best)
    if best.is_dir():
        damage = find_damage(best)
        if not damage:
            return
        report(f"{BEST_FOLDER} is damaged, {damage[0]}: set aside as {rename_aside(best).name}")
    beaten = score_of(read_meta(best)) if brought_back(best, report, mirror) else None
    own = [path for path in checkpoints.published() if "copied_from" not in read_meta(path)]  # and no other trial's
    left = [(value, path) for path in own if (value := score_of(read_meta(path))) is not None]
    for value, path in sorted(left, key=lambda found: (found[0], checkpoint_number(found[1].name)), reverse=True):
        if beaten is not None and value <= beaten:
            return
        if not find_damage(path):
            copy_folder(path, best)
            report(f"{path.name} is the best that is left ({value:.4g}): copied to {BEST_FOLDER}")
            return


def brought_back(checkpoint: Path, report: Callable[[str], None], mirror: Mirror | None) -> bool:
    """Fetch a checkpoint that is not here, or damaged, from the store; returns whether that has it whole.

    Raises:
        InputError: if the store does not answer.
    """
    if mirror is None:
        return False
    try:
        mirror.fetch(checkpoint.relative_to(mirror.folder).as_posix())
    except InputError:  # it is not there, or damaged there too
        return False
    except OSError as error:
        raise InputError(f"{mirror.address} cannot be read: {first_line(error)}") from None
    report(f"{checkpoint.name} is brought back from {mirror.address}, where it is whole")
    return True


def score_to_beat(trial: Path, seen: float | None) -> float | None:
    """The best score, higher is better, of which there is still a checkpoint.

    The best that was ``seen`` must not hide later ones when its checkpoint is gone.
    """
    if seen is None:
        return None
    found = [score_of(read_meta(path)) for path in (trial / BEST_FOLDER, *TrialCheckpoints(trial).published())]
    values = [value for value in found if value is not None]
    return min(seen, max(values)) if values else None


def check_checkpoints(folder: Path, *, is_named: bool = False, mirror: Mirror | None = None) -> list[str]:
    """Verify a run's checkpoints before anything else happens; damaged ones are set aside.

    Of a run that is kept in a store, what is damaged or gone here is brought back from there, where it is whole.

    Args:
        folder: The run folder.
        is_named: Whether the user has named a whole checkpoint to go on from, so that the others may all be gone.
        mirror: Where the run is kept, if not in the folder alone.

    Returns:
        One line for each that was set aside or brought back.

    Raises:
        InputError: if there are checkpoints, but none of them is whole, or there were some, and all of them are gone;
            or the store does not answer.
    """
    reports: list[str] = []
    named = sound_summary(folder).get("latest_checkpoint")
    latest = None if named is None else path_in(folder, named, source=folder / SUMMARY_FILE)
    trials = sorted(folder.glob("trial_*"))
    if latest is not None and not any(TrialCheckpoints(trial).published() for trial in trials):
        trials = sorted({*trials, latest.parent})  # which may be gone with all that was in it
    if latest is not None and (gone := _is_gone(latest)):
        reports.append(gone)
    for trial in trials:
        TrialCheckpoints(trial).sweep()
        newest_whole(trial, reports.append, mirror=mirror)
        named = TrialCheckpoints(trial).gone_back_to(1)
        if mirror is not None and named is not None and find_damage(named):
            brought_back(named, reports.append, mirror)
        if not is_named and (wrong := lost_checkpoints(trial, reports)) is not None:
            raise InputError(wrong)
        restore_best(trial, reports.append, mirror=mirror)
    return reports


def _is_gone(checkpoint: Path) -> str:
    """What to say of a newest checkpoint of which not even a damaged folder is left; empty where it is there."""
    checkpoints, number = TrialCheckpoints(checkpoint.parent), checkpoint_number(checkpoint.name)
    known = [
        checkpoint_number(path.name)
        for path in (*checkpoints.published(), *checkpoints.damaged(), *checkpoints.overtaken())
    ]
    if not checkpoints.published() or number <= max(known):
        return ""
    return f"{checkpoint.name} is gone: the newest that is left is {checkpoints.published()[-1].name}"


def tidy(folder: Path) -> None:
    """Bring what a trial has written in line with its newest checkpoint, after which it carries on."""
    mend_copy(folder / BEST_FOLDER)
    newest = TrialCheckpoints(folder).newest_whole()
    if newest is not None:
        keep_best(newest)  # a kill may have come between the two
    elif lost_checkpoints(folder) is not None:
        return  # the trainable refuses to start; what is there stays as it is
    truncate_records(folder, 0 if newest is None else read_progress(newest).iteration)


def keep_best(newest: Path) -> None:
    """Copy a trial's newest checkpoint if it is the best, or an earlier one that could not be copied when it was.

    Raises:
        OSError: if it cannot be copied; a checkpoint that is owed stays where it is (see ``TrialCheckpoints.prune``).
    """
    best, checkpoints = newest.parent / BEST_FOLDER, TrialCheckpoints(newest.parent)
    if require_meta(newest, "is_best")["is_best"]:
        copy_folder(newest, best)
    elif (owed := checkpoints.owed_best()) is not None and not find_damage(owed):
        copy_folder(owed, best)
