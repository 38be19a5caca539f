"""Tune's own files in a run folder: what is damaged or stale, and the copies that take its place.

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

from common.errors import InputError
from common.files import read_json, whole_file
from experiments.recovery.checkpoints import DAMAGED_PREFIX, TrialCheckpoints, free_name, rename_aside
from experiments.recovery.names import STATE_FILE

TUNER_FILE = "tuner.pkl"
"""Tune's own plan of an experiment."""
STATE_FILES = "experiment_state-*.json"
"""Tune's own account of how far an experiment is; the newest counts."""
DRAWN_FILES = "basic-variant-state-*.json"
"""What Tune has drawn of its plan, as a pickle; written after the account, and where it is cut Tune would draw anew."""
STALE_PREFIX = "stale-"
"""Of files of Tune's that are whole, but tell of an earlier time of the run, or of another run."""
ENDED_PREFIX = "ended-"
"""Of accounts that say that a run has ended which is to go on."""
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


def mend_tune_files(
    folder: Path,
    report: Callable[[str], None],
    *,
    settings: Mapping[str, Any] | None = None,
    resume_from: Mapping[str, str] | None = None,
) -> bool:
    """Set damaged files of Tune's aside, and put the copies in their place; keep stale ones aside too.

    An account is stale where the checkpoint that the run goes on from is of a later iteration than the last one that
    the account knows: as a rule after a kill, for Tune writes it every ten seconds. It stays in its place too, for the
    trainable goes on from its checkpoint whatever Tune remembers. A plan is stale where it was made with other
    settings; a copy that was not takes its place.

    Args:
        folder: The run folder, which nobody else may be writing to.
        report: Told one line about each that is damaged or stale.
        settings: Those of the run that Tune's plan repeats (``settings_in_plan``); None where only damage counts.
        resume_from: The checkpoint that the user has named to go back to, as ``config.json`` records it.

    Returns:
        Whether all of them are sound now, and of these settings.

    Raises:
        WriteError: if a copy cannot take its place, or a stale plan cannot be kept.
    """
    damaged = find_tune_damage(folder)
    for path, damage in damaged:
        report(f"{damage}: {_replace(path)}")
    if find_tune_damage(folder):
        return False
    if settings is None:
        return True
    if not any(fnmatch(path.name, STATE_FILES) for path, _ in damaged):  # a copy is from the beginning of a session
        _tell_stale_account(_newest(folder, STATE_FILES), resume_from, report)
    return _has_plan_of(folder, settings, report)


def set_damaged_aside(folder: Path, report: Callable[[str], None]) -> None:
    """Set damaged files of Tune's aside where nothing is read from them, as in a search.

    Args:
        folder: The run folder, which nobody else may be writing to.
        report: Told one line about each; a missing one is no damage.
    """
    for path, damage in find_tune_damage(folder):
        if path.exists():
            report(f"{damage}: set aside as {rename_aside(path).name}")


def settings_in_plan(content: bytes) -> dict[str, Any]:
    """What a sound plan says of the run that it was made for.

    Returns:
        ``algo``, ``seed`` and ``address`` (as ``RunMonitor`` is told them) and ``max_failures``; nothing where it is
        no plan of ours.
    """
    try:
        run = pickle.loads(content)["_run_config"]
        monitor = next(callback for callback in run.callbacks if hasattr(callback, "algo"))
        told = {name: getattr(monitor, name) for name in ("algo", "seed", "address")}
        return told | {"max_failures": run.failure_config.max_failures}
    except (AttributeError, KeyError, TypeError, StopIteration):
        return {}


def _has_plan_of(folder: Path, settings: Mapping[str, Any], report: Callable[[str], None]) -> bool:
    """Whether the plan is that of a run, or its copy, which then takes its place; a stale one is kept aside."""
    path = folder / TUNER_FILE
    if not (reason := _differing(path.read_bytes(), settings)):
        return True
    kept = f"its {path.name} is stale ({reason}): kept as {_keep_aside(path).name}"
    copy = _copies(folder).get(path.name)
    if copy is None or _differing(copy, settings):
        report(kept)
        return False
    with whole_file(path) as temporary:
        temporary.write_bytes(copy)
    report(f"{kept}; a copy takes its place")
    return True


def _differing(plan: bytes, settings: Mapping[str, Any]) -> str:
    """What a plan says otherwise than the run; empty where it says the same."""
    told = settings_in_plan(plan)
    if not told:
        return "it does not say what it was made for"
    pairs = {name: (told[name], value) for name, value in settings.items()}
    return ", ".join(f"{name} {old}, not {new}" for name, (old, new) in pairs.items() if _place(old) != _place(new))


def _place(value: Any) -> Any:
    """A setting as it is compared: an address without its options, which may be written in other words each time."""
    return value.partition("?")[0] if isinstance(value, str) else value


def _tell_stale_account(account: Path, resume_from: Mapping[str, str] | None, report: Callable[[str], None]) -> None:
    """Keep an account aside that knows less than the newest checkpoint says."""
    trial, progress = next(iter(_trials_in(account.read_bytes())), ({}, {}))
    published = TrialCheckpoints(account.parent / (trial.get("relative_logdir") or "")).published()
    try:
        state = read_json(published[-1] / STATE_FILE)
        saved, known = int(state["iteration"]), int((progress.get("last_result") or {}).get("training_iteration") or 0)
    except (InputError, IndexError, KeyError, TypeError, ValueError, AttributeError):
        return  # there is no checkpoint, or none that says how far it is: the trainable judges that
    if saved <= known or state.get("resume_from") != resume_from:  # or it is gone back behind the newest checkpoint
        return
    line = f"its {account.name} is stale (of iteration {known}, where {published[-1].name} is of {saved})"
    try:
        report(f"{line}: kept as {_keep_aside(account).name}")
    except OSError as error:  # on a full disk: the run does not need it
        report(f"{line}, and cannot be kept aside ({error.strerror or error})")


def _keep_aside(path: Path) -> Path:
    """Copy a stale file under a name that says so, once however often it is found; returns the copy."""
    content = path.read_bytes()
    for earlier in path.parent.glob(f"{STALE_PREFIX}{path.name}*"):
        if earlier.is_file() and earlier.read_bytes() == content:
            return earlier
    aside = free_name(path, prefix=STALE_PREFIX)
    with whole_file(aside) as temporary:
        temporary.write_bytes(content)
    return aside


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


def planned_scaling(folder: Path) -> dict[str, Any]:
    """The processors and devices that Tune has planned a run for; nothing where its account is damaged or has no trial.

    Args:
        folder: The run folder.
    """
    try:
        return dict(_trial_in(_newest(folder, STATE_FILES))["config"]["run"]["scaling"])
    except (KeyError, TypeError, ValueError):
        return {}


def _trial_in(path: Path) -> dict[str, Any]:
    """What an account says of its first trial; nothing where it cannot be read, is damaged or has none."""
    try:
        return _first_trial(path.read_bytes())
    except OSError:
        return {}


def _first_trial(account: bytes) -> dict[str, Any]:
    return next((trial for trial, _ in _trials_in(account)), {})


def _trials_in(account: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What an account says of each trial, and of how far it is; nothing where it is damaged."""
    try:
        found = [(json.loads(trial), json.loads(progress)) for trial, progress in json.loads(account)["trial_data"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [(trial, progress) for trial, progress in found if isinstance(trial, dict) and isinstance(progress, dict)]


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
