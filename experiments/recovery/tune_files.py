"""Tune's own files in a run folder, for a user who carries a run on by plain ``Tuner.restore``.

Our commands always plan anew from our own records and read none of these files. Tune copies its staging folder over the
run folder again and again, file by file and in place: a process that is killed meanwhile leaves any of them empty, cut
or old. Nothing in them is newer than the checkpoints, which the trainable goes on from whatever Tune remembers; so
copies from the beginning of a session are as good, and are put back before Tune looks.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from common.files import whole_file
from common.paths import checked_name

ACCOUNT_FILES = "experiment_state-*.json"
"""Tune's account of how far an experiment is; the newest counts."""
TUNE_FILES = ("tuner.pkl", ACCOUNT_FILES, "basic-variant-state-*.json")
"""Tune's plan of an experiment, its account, and what it has drawn of the plan."""
COPIES_FILE = "tune_copies.zip"
"""In the run folder: copies of the three, of the newest session that has come to a result; whole or not there."""
_PLAN_FILE = "planned.json"
"""Among the copies: what they were planned for (see ``planned_for``)."""
_CANNOT_READ = (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError, EOFError, RuntimeError)
"""What reading an archive can raise that is none."""


def planned_for(config: Mapping[str, Any], address: str | None) -> dict[str, Any]:
    """What Tune's plan of a run repeats of its settings, so that it fits no other ones.

    Args:
        config: The run's settings, as its ``config.json`` has them.
        address: Of a run that is kept in a store.
    """
    place = None if address is None else address.partition("?")[0]  # options may be written in other words each time
    return {**{name: config[name] for name in ("algo", "seed", "max_failures", "scaling")}, "address": place}


def keep_copies(staging: Path, folder: Path, plan: Mapping[str, Any]) -> bool:
    """Copy Tune's files aside, and delete those of earlier sessions.

    Args:
        staging: Where Tune writes what it copies to the run folder over and over; the plan is in it after a restore
            only.
        folder: The run folder.
        plan: What they are planned for.

    Returns:
        Whether they were there, with a trial in the account that goes on, so that they could be copied.

    Raises:
        WriteError: if they cannot be written; the copies of before are untouched.
    """
    paths = [found for pattern in TUNE_FILES if (found := _newest(staging, pattern) or _newest(folder, pattern))]
    account = next((path for path in paths if path.match(ACCOUNT_FILES)), None)
    if len(paths) < len(TUNE_FILES) or account is None or not _goes_on(account):
        return False
    with whole_file(folder / COPIES_FILE) as temporary, zipfile.ZipFile(temporary, "w") as copies:
        copies.writestr(_PLAN_FILE, json.dumps(plan))
        for path in paths:
            copies.write(path, path.name)
    for path in _tune_files(folder):
        if path.name not in {kept.name for kept in paths}:
            path.unlink(missing_ok=True)
    return True


def put_back(folder: Path, plan: Mapping[str, Any]) -> str | None:
    """Put the copies in the place of whatever Tune's files now are.

    Args:
        folder: The run folder, which nobody else may be writing to.
        plan: What the run would be planned for now.

    Returns:
        Why that cannot be; None where it was done.

    Raises:
        WriteError: if a copy cannot be written.
    """
    try:
        with zipfile.ZipFile(folder / COPIES_FILE) as copies:
            contents = {name: copies.read(name) for name in _names_of(copies)}
        planned = dict(json.loads(contents.pop(_PLAN_FILE)))
    except _CANNOT_READ:
        return "there are no whole copies of Tune's own files"
    if differing := [name for name, value in plan.items() if planned.get(name) != value]:
        return "; ".join(f"it was planned for {name} {planned.get(name)}, not {plan[name]}" for name in differing)
    for path in _tune_files(folder):
        path.unlink()
    for name, content in contents.items():
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(content)
    return None


def _names_of(copies: zipfile.ZipFile) -> list[str]:
    """The names of the copies.

    Raises:
        ValueError: if something else is among them, or more than copies can hold.
    """
    for copy in copies.infolist():
        name = checked_name(copy.filename, source=COPIES_FILE)
        is_known = name == _PLAN_FILE or any(fnmatch(name, kind) for kind in TUNE_FILES)
        if not is_known or "/" in name or copy.compress_type != zipfile.ZIP_STORED:
            raise ValueError(name)
    return copies.namelist()


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), default=None)


def _tune_files(folder: Path) -> list[Path]:
    return [path for pattern in TUNE_FILES for path in folder.glob(pattern)]


def _goes_on(account: Path) -> bool:
    """Whether an account has a trial that Tune would go on with; one that was interrupted it takes for ended."""
    trials = [json.loads(trial) for trial, _ in json.loads(account.read_bytes())["trial_data"]]
    return bool(trials) and trials[0].get("status") != "TERMINATED"
