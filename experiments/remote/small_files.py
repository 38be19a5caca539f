"""What a run has beside its checkpoints, as it is brought into a store: its records, file by file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from experiments.recovery.checkpoints import DAMAGED_PREFIX, OVERTAKEN_PREFIX, STAGED_PREFIX
from experiments.recovery.lock import LOCK_FILE
from experiments.recovery.names import BEST_FOLDER, SEARCH_FILE, SUMMARY_FILE
from experiments.recovery.signals import STOP_FILE
from experiments.remote.lease import LEASE_FILE

SEGMENTS = "segments"
"""Folder of a trial in a store: finished segments of its replay buffer, which checkpoints share."""
_NOT_KEPT = (STAGED_PREFIX, DAMAGED_PREFIX, OVERTAKEN_PREFIX, ".")
_NOT_FILES = (LOCK_FILE, STOP_FILE, LEASE_FILE)
"""What says who works on the run, here or in the store, and is no part of it."""


def small_files(folder: Path) -> list[Path]:
    """Files of a run folder that are no part of a checkpoint; others may add to it and take from it meanwhile."""
    found = []
    for here, folders, files in os.walk(folder):  # which bears with folders that vanish
        parts = Path(here).relative_to(folder).parts
        folders[:] = [f for f in folders if not f.startswith(_NOT_KEPT) and not _is_checkpoint_part([*parts, f, ""])]
        found += [Path(here, f) for f in files if is_small_file("/".join([*parts, f]))]
    return sorted(found)


def is_small_file(name: str) -> bool:
    """Whether an object, by its path in the run folder, is one of the run's files, and no part of a checkpoint."""
    parts = name.split("/")
    is_ours = not parts[-1].startswith(".") and parts[-1] not in _NOT_FILES
    return is_ours and not _is_checkpoint_part(parts) and parts[0] != SEGMENTS


def is_of_a_run(name: str) -> bool:
    """Whether an object, by its path in the run folder, is one that only a run leaves."""
    return name.startswith("trial_") or name in (SUMMARY_FILE, SEARCH_FILE)


def content_of(path: Path) -> bytes:
    """Read a file; of a database that may be in use, a consistent copy. A damaged one is read as it is."""
    if path.suffix == ".db":
        with (
            suppress(sqlite3.DatabaseError),
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            source.backup(copy)
            return copy.serialize()
    return path.read_bytes()


def named_in(summary: Mapping[str, Any]) -> list[str]:
    """The checkpoints that a summary names, as paths in the run folder."""
    named = (summary.get(f"{which}_checkpoint") for which in ("latest", "best"))
    return [name for name in named if isinstance(name, str)]


def _is_checkpoint_part(parts: Sequence[str]) -> bool:
    return len(parts) > 2 and (
        parts[1] in (BEST_FOLDER, SEGMENTS) or "checkpoint_" in parts[1] or parts[1].startswith(STAGED_PREFIX)
    )
