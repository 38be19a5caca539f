"""The best checkpoint of a trial: verified, put back where it was lost, and what a later one has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from common.errors import InputError
from common.files import read_json
from experiments.recovery.checkpoints import TrialCheckpoints, checkpoint_number, read_meta, rename_aside
from experiments.recovery.manifests import find_damage
from experiments.recovery.names import BEST_FOLDER, META_FILE
from experiments.remote.mirror import Mirror
from experiments.remote.store import first_line
from experiments.tuning.monitor import copy_folder, mend_copy


def newest_whole(trial: Path, report: Callable[[str], None], *, mirror: Mirror | None = None) -> Path | None:
    """Verify a trial's checkpoints from the newest down; damaged ones are set aside.

    Args:
        trial: The trial's folder; nothing else may be writing to it.
        report: Told one line about each that is damaged.
        mirror: Where the run is kept, if not in the folder alone: what is damaged here may be whole there.

    Returns:
        The newest that is whole, here or there; None where there is none.

    Raises:
        InputError: if the store does not answer.
    """
    return TrialCheckpoints(trial).newest_whole(report, bring_back=lambda path: brought_back(path, report, mirror))


def restore_best(trial: Path, report: Callable[[str], None], *, mirror: Mirror | None = None) -> None:
    """Verify a trial's best checkpoint; set a damaged one aside, and put the best of those that are left in its place.

    Args:
        trial: The trial's folder; nothing else may be writing to it.
        report: Told one line about what was found and done.
        mirror: Where the run is kept, if not in the folder alone: the one there is among those that are left.

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
    beaten = checkpoint_score(best) if brought_back(best, report, mirror) else None
    own = [path for path in checkpoints.published() if "copied_from" not in read_meta(path)]  # and no other trial's
    left = [(value, path) for path in own if (value := checkpoint_score(path)) is not None]
    for value, path in sorted(left, key=lambda found: (found[0], checkpoint_number(found[1].name)), reverse=True):
        if beaten is not None and value <= beaten:
            return
        if not find_damage(path):
            copy_folder(path, best)
            report(f"{path.name} is the best that is left ({value:.4g}): copied to {BEST_FOLDER}")
            return


def brought_back(checkpoint: Path, report: Callable[[str], None], mirror: Mirror | None) -> bool:
    """Fetch a checkpoint that is not here, or damaged, from the store; returns whether that has it whole.

    Args:
        checkpoint: Where it is to be.
        report: Told one line if it is.
        mirror: Where the run is kept, if not in the folder alone.

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
    """The best score of which there is still a checkpoint; a score whose checkpoint is gone must not hide later ones.

    Args:
        trial: The trial's folder.
        seen: The best score so far, whether or not its checkpoint is still there; higher is better.
    """
    if seen is None:
        return None
    found = [checkpoint_score(path) for path in (trial / BEST_FOLDER, *TrialCheckpoints(trial).published())]
    values = [value for value in found if value is not None]
    return min(seen, max(values)) if values else None


def checkpoint_score(checkpoint: Path) -> float | None:
    """What a checkpoint reached by the metric that decides, higher is better; None where that cannot be compared."""
    try:
        meta = read_json(checkpoint / META_FILE)
        value, sign = meta.get("metric_value"), -1.0 if meta.get("metric_mode") == "min" else 1.0
    except (InputError, AttributeError):
        return None
    return sign * float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
