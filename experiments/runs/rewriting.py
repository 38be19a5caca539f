"""Run folders of earlier versions, whose checkpoints are pickles: told apart, and written anew where that is wanted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from algos.file_names import OLD_STATE_FILE
from common.disk import fill_folder, to_disk
from common.errors import InputError
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage, seal
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import BEST_FOLDER, BRANCH_FOLDER
from experiments.runs.record import read_run_record, write_run_record

_MOVED = {"experiments.tuning.algorithms": "experiments.builders.algorithms"}
"""Modules that old checkpoints name, and where they are now."""
_NEW, _OLD = ".rewriting-", ".rewritten-"
"""How the names of a new checkpoint begin until it has its own, and of an old one until it is deleted."""


def refuse_old(folder: Path, *, run: str | Path) -> None:
    """Refuse a checkpoint, or a run folder, that only unpickling could read.

    Args:
        folder: Either.
        run: The run folder, or its address in a store.

    Raises:
        InputError: saying how it is written anew.
    """
    if (old := next(old_checkpoints(folder), None)) is not None:
        raise InputError(
            f"{old} was written by an earlier version, as pickles, which can run code: if you trust who wrote it, "
            f"have it written anew: python experiments/checkpoints.py rewrite {run} --trust"
        )


def old_checkpoints(folder: Path) -> Iterator[Path]:
    """Checkpoints of earlier versions in a run folder, the newest of each trial first; or the one that a path is."""
    found = [folder]
    for trial in sorted(folder.glob("trial_*")):
        found += [*reversed(TrialCheckpoints(trial).published()), trial / BEST_FOLDER]
    return (path for path in [*found, folder / BRANCH_FOLDER] if (path / OLD_STATE_FILE).is_file())


def rewrite(folder: Path) -> list[Path]:
    """Unpickle every old checkpoint of a run folder, which runs what code they hold, and write each anew in its place.

    A kill at any moment leaves each of them whole, as it was or anew.

    Args:
        folder: The run folder, which nobody else may be writing to.

    Returns:
        What was written anew.

    Raises:
        InputError: if one is damaged; it is left as it is, and those before it are new.
        IncompatibleError: if one cannot be read.
        OSError: if one cannot be written.
    """
    from algos.old_checkpoints import kept_files, rewritten  # only now: torch and RLlib take seconds to import

    for old in [*folder.glob(f"*/{_OLD}*"), *folder.glob(f"{_OLD}*")]:  # of a kill
        path = old.with_name(old.name.removeprefix(_OLD))
        if path.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, path)
    record = read_run_record(folder)
    done = []
    for path in list(old_checkpoints(folder)):
        if damage := find_damage(path):
            raise InputError(f"{path} is damaged, {damage[0]}: move it out of the run")
        new, old = path.with_name(f"{_NEW}{path.name}"), path.with_name(f"{_OLD}{path.name}")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        contents = {name: [content] for name, content in rewritten(path, moved=_MOVED).items()}
        kept = set(kept_files(path)) - {MANIFEST_FILE, MARKER_FILE}
        written = fill_folder(new, contents, {name: f"{path}/{name}" for name in sorted(kept)})
        seal(new, previous=path, written=written)
        os.rename(path, old)
        os.rename(new, path)
        to_disk(path.parent)
        shutil.rmtree(old)
        done.append(path)
    write_run_record(**{field.name: getattr(record, field.name) for field in fields(record)})
    return done
