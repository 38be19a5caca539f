"""From a path that the user names to a trained model: which checkpoint, made by which run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.errors import InputError
from experiments.config import RunConfig, config_from_json
from experiments.reporting.files import read_json
from experiments.run_files import META_FILE, SUMMARY_FILE
from experiments.run_record import FILE_NAME, RunRecord, find_run_folder, read_run_record

if TYPE_CHECKING:
    from algos.policy import TeamPolicy


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint and the run that made it.

    Attributes:
        name: Short name for tables and pictures.
        checkpoint: The checkpoint folder.
        which: Why this one: ``"best"``, ``"latest"`` or ``"named"``.
        record: ``config.json`` of the run.
        config: The run's settings.
    """

    name: str
    checkpoint: Path
    which: str
    record: RunRecord
    config: RunConfig


def find_model(path: str | Path) -> Model:
    """Find the checkpoint that a path means: a checkpoint folder itself, or the best (else the latest) of a run folder.

    Raises:
        InputError: if the path does not exist, is not part of a run, or the run has no checkpoint yet.
    """
    path = Path(path).expanduser()
    folder = find_run_folder(path)
    record = read_run_record(folder)
    config = config_from_json(record.config, where=str(folder / FILE_NAME))
    path = path.absolute()
    if path == folder:
        checkpoint, which = _choose_checkpoint(folder)
        name = folder.name
    elif (path / META_FILE).is_file():
        checkpoint, which = path, "named"
        name = f"{folder.name}/{path.name}"
    else:
        raise InputError(f"{path} is not a checkpoint of {folder}: it holds no {META_FILE}")
    return Model(name=name, checkpoint=checkpoint, which=which, record=record, config=config)


def load_policy(path: str | Path) -> TeamPolicy:
    """Load a trained team to act: ``load_policy("results/dow")(observations)`` gives every agent's action.

    In evaluation mode, without noise, and without Ray running.

    Args:
        path: A run folder (its best checkpoint, else its latest), one checkpoint, or what ``checkpoints.py export``
            wrote.

    Raises:
        InputError: if there is no model at that path.
        IncompatibleError: if a part of it is missing or damaged.
    """
    from algos import policy  # only now: torch and RLlib take seconds to import
    from algos.export import NETWORKS_FILE

    folder = Path(path).expanduser()
    return policy.load_policy(folder if (folder / NETWORKS_FILE).is_file() else find_checkpoint(folder))


def find_checkpoint(path: str | Path) -> Path:
    """Find the checkpoint folder that a path means; see ``find_model``."""
    return find_model(path).checkpoint


def find_models(paths: Sequence[str | Path]) -> list[Model]:
    """Find several models and give them different names."""
    models = [find_model(path) for path in paths]
    names: set[str] = set()
    for i, model in enumerate(models):
        name, count = model.name, 1
        while name in names:
            count += 1
            name = f"{model.name} ({count})"
        names.add(name)
        models[i] = replace(model, name=name)
    return models


def _choose_checkpoint(folder: Path) -> tuple[Path, str]:
    """The best checkpoint that the run's summary names, else the latest; without a summary, the newest on disk."""
    summary: dict[str, Any] = read_json(folder / SUMMARY_FILE) if (folder / SUMMARY_FILE).is_file() else {}
    for which in ("best", "latest"):
        named = summary.get(f"{which}_checkpoint")
        if named and (folder / named).is_dir():
            return folder / named, which
    found = [(read_json(meta), meta.parent) for meta in folder.rglob(META_FILE)]
    if not found:
        raise InputError(f"{folder} has no checkpoint yet: train it first, or name another run")
    best = [item for item in found if item[0].get("is_best")]  # each was the best so far when it was written
    _, checkpoint = max(best or found, key=lambda item: item[0].get("total_steps", 0))
    return checkpoint, "best" if best else "latest"
