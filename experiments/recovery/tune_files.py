"""Tune's own files in a run folder: what is wrong with them, and the copies that take the place of damaged ones.

Tune copies its staging folder over the run folder again and again, file by file and in place: a process that is killed
meanwhile leaves any of them empty or cut, and ``Tuner.restore`` ends with an ``EOFError``. Nothing in them is newer
than the checkpoints, which the trainable goes on from whatever Tune remembers; so a copy from the beginning of a
session is as good as they are.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from experiments.recovery.shelf import DAMAGED_PREFIX, rename_aside
from experiments.reporting.files import whole_file

TUNER_FILE = "tuner.pkl"
"""Tune's own plan of an experiment."""
STATE_FILES = "experiment_state-*.json"
"""Tune's own account of how far an experiment is; the newest counts."""
DRAWN_FILES = "basic-variant-state-*.json"
"""What Tune has drawn of its plan, as a pickle; written after the account, and where it is cut Tune would draw anew."""
COPIES_FILE = "tune_copies.zip"
"""In the run folder: copies of the three, of the newest session that has come to a result; whole or not there."""


def find_tune_damage(folder: Path) -> list[tuple[Path, str]]:
    """What is wrong with Tune's plan and with its newest account; empty where both are sound.

    Args:
        folder: The run folder.

    Returns:
        Path and complaint of each damaged file; a missing one has a path that does not exist.
    """
    paths = {pattern: _newest(folder, pattern) for pattern in _CHECKS}
    return [(path, found) for pattern, path in paths.items() if (found := _damage_of_file(path, pattern))]


def keep_copies(staging: Path, folder: Path) -> bool:
    """Copy Tune's files aside.

    Args:
        staging: Where Tune writes what it copies to the run folder over and over; the plan is in it after a restore
            only.
        folder: The run folder.

    Returns:
        Whether they were there, whole and with a trial in the account that goes on, so that they could be copied.

    Raises:
        WriteError: if they cannot be written; the copies of before are untouched.
    """
    contents = {}
    for pattern, check in _CHECKS.items():
        path = next((found for place in (staging, folder) if (found := _newest(place, pattern)).is_file()), None)
        if path is None or check(content := path.read_bytes()) is not None:
            return False
        if pattern == STATE_FILES and (not (trial := _first_trial(content)) or _has_ended(trial)):
            return False
        contents[path.name] = content
    with whole_file(folder / COPIES_FILE) as temporary, zipfile.ZipFile(temporary, "w") as copies:
        for name, content in contents.items():
            copies.writestr(name, content)
    return True


def forget_copies(folder: Path) -> None:
    """Delete the copies of a plan that another one is about to replace."""
    (folder / COPIES_FILE).unlink(missing_ok=True)


def mend_tune_files(folder: Path, report: Callable[[str], None]) -> bool:
    """Set damaged files of Tune's aside, and put the copies in their place.

    Args:
        folder: The run folder, which nobody else may be writing to.
        report: Told one line about each that is damaged.

    Returns:
        Whether all of them are sound now.
    """
    for path, damage in find_tune_damage(folder):
        report(f"{damage}: {_replace(path)}")
    return not find_tune_damage(folder)


def reopen(folder: Path, report: Callable[[str], None]) -> bool:
    """Let Tune go on with a run that it takes for ended, as after Ctrl-C: by its account of before, the copy.

    Args:
        folder: The run folder, which nobody else may be writing to.
        report: Told what was done.

    Returns:
        Whether Tune will go on; without a copy an account that says it has ended stays where it is.
    """
    path = _newest(folder, STATE_FILES)
    if not _has_ended(_trial_in(path)):
        return True
    if not any(fnmatch(name, STATE_FILES) for name in _copies(folder)):
        return False
    report(f"its {path.name} says that it has ended: {_replace(path, prefix='ended-')}")
    return True


def _has_ended(trial: Mapping[str, Any]) -> bool:
    """Whether Tune, by what its account says of a trial, would not go on with it."""
    return trial.get("status") == "TERMINATED"


def planned_env_runners(folder: Path) -> int | None:
    """For how many env runners Tune has planned a run; None where its account is damaged or has no trial."""
    try:
        return int(_trial_in(_newest(folder, STATE_FILES))["config"]["run"]["scaling"]["num_env_runners"])
    except (KeyError, TypeError):
        return None


def _trial_in(path: Path) -> dict[str, Any]:
    """What an account says of its first trial; nothing where it cannot be read, is damaged or has none."""
    try:
        return _first_trial(path.read_bytes())
    except OSError:
        return {}


def _first_trial(account: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(json.loads(account)["trial_data"][0][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return {}
    return found


def _replace(path: Path, *, prefix: str = DAMAGED_PREFIX) -> str:
    """Set a file of Tune's aside, if it is there, and put its copy there, if there is one; says what was done."""
    copies = _copies(path.parent).items()
    name, content = next((item for item in copies if fnmatch(path.name, _pattern_of(item[0]))), (None, b""))
    aside = f"set aside as {rename_aside(path, prefix=prefix).name}; " if path.exists() else ""
    if name is None:
        return f"{aside}there is no copy of it"
    # Under the name of the newest, which counts: an older session's account may say that all is done.
    with whole_file(path if aside else path.with_name(name)) as temporary:
        temporary.write_bytes(content)
    return f"{aside}a copy takes its place"


def _copies(folder: Path) -> dict[str, bytes]:
    """What is kept, by name; nothing where it is not whole."""
    try:
        with zipfile.ZipFile(folder / COPIES_FILE) as copies:
            found = {name: copies.read(name) for name in copies.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}
    return {name: content for name, content in found.items() if _CHECKS[_pattern_of(name)](content) is None}


def _pattern_of(name: str) -> str:
    return next(pattern for pattern in _CHECKS if fnmatch(name, pattern))


def _newest(folder: Path, pattern: str) -> Path:
    """The newest file of a pattern; where there is none, a name that does not exist."""
    return max(folder.glob(pattern), default=folder / pattern)


def _damage_of_file(path: Path, pattern: str) -> str | None:
    try:
        damage = _CHECKS[pattern](path.read_bytes())
    except FileNotFoundError:
        return f"its {path.name} is missing"
    except OSError as error:
        damage = type(error).__name__
    return None if damage is None else f"its {path.name} is damaged ({damage})"


def _pickle_damage(content: bytes) -> str | None:
    try:
        pickle.loads(content)
    except Exception as error:  # a damaged pickle can raise anything
        return type(error).__name__
    return None


def _state_damage(content: bytes) -> str | None:
    try:
        json.loads(content)["trial_data"]
    except (ValueError, KeyError, TypeError) as error:
        return type(error).__name__
    return None


_CHECKS: dict[str, Callable[[bytes], str | None]] = {
    TUNER_FILE: _pickle_damage,
    STATE_FILES: _state_damage,
    DRAWN_FILES: _pickle_damage,
}
"""By pattern: what is wrong with the content of such a file, None where nothing is."""
