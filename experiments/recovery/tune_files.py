"""Tune's own files in a run folder: what is wrong with them, and the copies that take the place of damaged ones.

Tune copies its staging folder over the run folder again and again, file by file and in place: a process that is killed
meanwhile leaves any of them empty or cut, and ``Tuner.restore`` ends with an ``EOFError``. Nothing in them is newer
than the checkpoints, which the trainable goes on from whatever Tune remembers; so a copy from the beginning of a
session is as good as they are.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from experiments.recovery.shelf import rename_aside
from experiments.reporting.files import whole_file

TUNER_FILE = "tuner.pkl"
"""Tune's own plan of an experiment."""
STATE_FILES = "experiment_state-*.json"
"""Tune's own account of how far an experiment is; the newest counts."""
DRAWN_FILES = "basic-variant-state-*.json"
"""What Tune has drawn of its plan, as a pickle; written after the account, and where it is cut Tune would draw anew."""
COPIES_FOLDER = "tune_copies"
"""In the run folder: whole copies of the three, of the newest session that has come to a result."""


def find_tune_damage(folder: Path) -> list[tuple[Path, str]]:
    """What is wrong with Tune's plan and with its newest account; empty where both are sound.

    Args:
        folder: The run folder.

    Returns:
        Path and complaint of each damaged file; a missing one has a path that does not exist.
    """
    return [(path, found) for pattern in _CHECKS if (found := _damage(path := _newest(folder, pattern), pattern))]


def keep_copies(staging: Path, folder: Path) -> bool:
    """Copy Tune's files aside, each whole or not at all.

    Args:
        staging: Where Tune writes them before it copies them to the run folder.
        folder: The run folder.

    Returns:
        Whether they were there, whole and with a trial in the account, so that they could be copied.

    Raises:
        WriteError: if they cannot be written.
    """
    sources = [_newest(staging, pattern) for pattern in _CHECKS]
    if find_tune_damage(staging) or not json.loads(_newest(staging, STATE_FILES).read_bytes())["trial_data"]:
        return False
    target = folder / COPIES_FOLDER
    for source in sources:
        with whole_file(target / source.name) as temporary:
            shutil.copyfile(source, temporary)
    for old in {*target.iterdir()} - {target / source.name for source in sources}:
        old.unlink()
    return True


def mend_tune_files(folder: Path, report: Callable[[str], None]) -> bool:
    """Set damaged files of Tune's aside, and put the copies in their place.

    Args:
        folder: The run folder, which nobody else may be writing to.
        report: Told one line about each that is damaged.

    Returns:
        Whether all of them are sound now.
    """
    for path, damage in find_tune_damage(folder):
        pattern = next(pattern for pattern in _CHECKS if path.match(pattern))
        copy = _newest(folder / COPIES_FOLDER, pattern)
        has_copy = _damage(copy, pattern) is None
        aside = f"set aside as {rename_aside(path).name}; " if path.exists() else ""
        if has_copy:
            # Under the name of the newest, which counts: an older session's account may say that all is done.
            with whole_file(path if aside else folder / copy.name) as temporary:
                shutil.copyfile(copy, temporary)
        report(f"{damage}: {aside}{'a copy takes its place' if has_copy else 'nothing is lost without it'}")
    return not find_tune_damage(folder)


def _newest(folder: Path, pattern: str) -> Path:
    """The newest file of a pattern; where there is none, a name that does not exist."""
    return max(folder.glob(pattern), default=folder / pattern)


def _damage(path: Path, pattern: str) -> str | None:
    return _CHECKS[pattern](path)


def _pickle_damage(path: Path) -> str | None:
    try:
        pickle.loads(path.read_bytes())
    except FileNotFoundError:
        return f"its {path.name} is missing"
    except Exception as error:  # a damaged pickle can raise anything
        return f"its {path.name} is damaged ({type(error).__name__})"
    return None


def _state_damage(path: Path) -> str | None:
    try:
        json.loads(path.read_text(encoding="utf-8"))["trial_data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {path.name} is damaged ({type(error).__name__})"
    return None


_CHECKS: dict[str, Callable[[Path], str | None]] = {
    TUNER_FILE: _pickle_damage,
    STATE_FILES: _state_damage,
    DRAWN_FILES: _pickle_damage,
}
