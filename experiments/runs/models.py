"""From a path that the user names to a trained model: which checkpoint, made by which run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import IncompatibleError, InputError
from common.files import json_object, read_json
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage
from common.paths import check_tree, home_path, path_in
from common.store import is_remote
from experiments.recovery.checkpoints import DAMAGED_PREFIX, TrialCheckpoints, read_meta, rename_aside
from experiments.recovery.lock import run_lock
from experiments.recovery.names import BEST_FOLDER, META_FILE, PARAMS_FILE, RECORD_FILE, SUMMARY_FILE
from experiments.remote.addresses import bring_back
from experiments.runs.folders import has_begun
from experiments.runs.record import RunRecord, find_run_folder, read_run_record
from experiments.runs.rewriting import refuse_old
from experiments.settings.layers import merge, nested
from experiments.settings.old_names import drawn_name_of_today
from experiments.settings.run_config import RunConfig, config_from_json

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
        config: Its settings: the run's, and in a search what was drawn for its trial, as the checkpoint records it.
    """

    name: str
    checkpoint: Path
    which: str
    record: RunRecord
    config: RunConfig


def find_model(path: str | Path, *, skip: Collection[Path] = ()) -> Model:
    """Find the checkpoint that a path means: a checkpoint folder itself, or the best (else the latest) of a run folder.

    Args:
        path: A run folder, the folder of one of its trials, or a checkpoint.
        skip: Checkpoints that are not to be chosen from a folder.

    Raises:
        InputError: if the path does not exist, is not part of a run, or the run has no checkpoint yet.
    """
    asked, path = path, home_path(bring_back(path))
    folder = find_run_folder(path)
    record = read_run_record(folder)
    path = path.absolute()
    name = folder.name if path == folder else f"{folder.name}/{path.name}"
    if path == folder:
        checkpoint, which = _choose_checkpoint(folder, skip)
    elif (path / META_FILE).is_file():
        checkpoint, which = path, "named"
    elif TrialCheckpoints(path).published() or (path / BEST_FOLDER).is_dir():
        checkpoint, which = _choose_from_trial(path, skip)
    else:
        raise InputError(f"{path} is not a checkpoint of {folder}: it holds no {META_FILE}")
    refuse_old(checkpoint, run=asked if is_remote(asked) else folder)
    settings = merge(record.config, nested(_drawn_for(checkpoint, record.config)))
    config = config_from_json(settings, where=str(folder / RECORD_FILE))
    return Model(name=name, checkpoint=checkpoint, which=which, record=record, config=config)


def find_newest_model(path: str | Path) -> Model:
    """Find a model (see ``find_model``), and of a folder that means several the newest whole one of the same trial.

    That is where the trial stands, and what goes on from it has to begin; the best one is what others act by.
    """
    model = find_model(path)
    if model.which == "named":
        return model
    newest = TrialCheckpoints(model.checkpoint.parent).newest_whole(None, may_rename=False)
    return model if newest is None else replace(find_model(newest), name=model.name, which="latest")


def find_sound_model(path: str | Path) -> Model:
    """Find a model (see ``find_model``) whose checkpoint holds every byte; for a folder of several, the next best one.

    A damaged checkpoint is set aside, unless a process is writing the run, or the folder cannot be written to.

    Raises:
        InputError: if the checkpoint that is named is damaged, or all of the folder's are.
    """
    damaged: list[Path] = []
    while True:
        model = find_model(path, skip=damaged)
        checkpoint = model.checkpoint
        damage = find_damage(checkpoint) and find_damage(checkpoint)  # a run that is training may have replaced it
        if not damage:
            if damaged:
                print(f"{model.name} is taken from its {model.which} whole checkpoint: {checkpoint.name}")
            return model
        if model.which == "named":
            raise InputError(f"{checkpoint} is damaged, {damage[0]}: name another checkpoint")
        damaged.append(checkpoint)
        print(f"{model.which} checkpoint {checkpoint} is damaged, {damage[0]}: {_set_aside(model)}")


def load_policy(path: str | Path) -> TeamPolicy:
    """Load a trained team to act: ``load_policy("results/dow")(observations)`` gives every agent's action.

    In evaluation mode, without noise, and without Ray running.

    Args:
        path: A run folder (its best checkpoint, else its latest) or one checkpoint, on this machine or at an address in
            a store; or what ``checkpoints.py export`` wrote.

    Raises:
        InputError: if there is no model at that path.
        IncompatibleError: if a part of it is missing or damaged.
    """
    from algos import policy  # only now: torch and RLlib take seconds to import
    from algos.export import NETWORKS_FILE

    folder = home_path(path)
    if is_remote(path) or not (folder / NETWORKS_FILE).is_file():
        return policy.load_policy(find_sound_model(path).checkpoint)
    check_tree(folder)
    is_sealed = any((folder / name).is_file() for name in (MANIFEST_FILE, MARKER_FILE))
    if is_sealed and (damage := find_damage(folder, may_hold_more=True)):  # who passes it on may add a licence
        raise IncompatibleError(f"{folder} is damaged, {damage[0]}: export it again")
    return policy.load_policy(folder)


def find_models(paths: Sequence[str | Path]) -> list[Model]:
    """Find several models, each of them whole (see ``find_sound_model``), and give them different names."""
    models = [find_sound_model(path) for path in paths]
    names: set[str] = set()
    for i, model in enumerate(models):
        name, count = model.name, 1
        while name in names:
            count += 1
            name = f"{model.name} ({count})"
        names.add(name)
        models[i] = replace(model, name=name)
    return models


def _set_aside(model: Model) -> str:
    """Rename a damaged checkpoint where that is ours to do; returns what was done, in words."""
    try:
        with run_lock(model.record.folder):
            aside = rename_aside(model.checkpoint)
    except (InputError, OSError):
        return "left where it is, and passed over"
    return f"set aside as {aside.name}"


def _drawn_for(checkpoint: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a search had drawn for the trial of a checkpoint when that was taken, by today's dotted names."""
    source = checkpoint / META_FILE
    drawn = read_meta(checkpoint).get("overrides")
    if drawn is None:  # written by an earlier version
        source = checkpoint.parent / PARAMS_FILE
        drawn = json_object(source.read_bytes()).get("overrides", {}) if source.is_file() else {}
    if not isinstance(drawn, dict):
        raise InputError(f"{source} is damaged: its overrides are no settings; name another checkpoint")
    return {drawn_name_of_today(name, config.get("algo"), source=source): value for name, value in drawn.items()}


def _choose_checkpoint(folder: Path, skip: Collection[Path]) -> tuple[Path, str]:
    """The best checkpoint that the run's summary names, else the latest; without a summary, the newest on disk."""
    has_summary = (folder / SUMMARY_FILE).is_file()
    try:
        summary: Any = read_json(folder / SUMMARY_FILE) if has_summary else {}
        if not isinstance(summary, dict):
            raise InputError(f"{folder / SUMMARY_FILE} is damaged: it holds no summary")
    except InputError as error:
        raise InputError(f"{error}: name a checkpoint, or delete this one file to have the newest taken") from None
    for which in ("best", "latest"):
        named = summary.get(f"{which}_checkpoint")
        checkpoint = None if named is None else path_in(folder, named, source=folder / SUMMARY_FILE)
        if checkpoint is not None and checkpoint.is_dir() and checkpoint not in skip:
            return checkpoint, which
    found = [
        (read_meta(path.parent), path.parent)
        for path in folder.rglob(META_FILE)
        if path.parent not in skip and not path.parent.name.startswith((DAMAGED_PREFIX, "."))
    ]
    if not found:
        if has_begun(folder):
            raise InputError(f"{folder} has no checkpoint that is whole any more: name another run")
        raise InputError(f"{folder} has no checkpoint yet: train it first, or name another run")
    best = [item for item in found if item[0].get("is_best")]  # each was the best so far when it was written
    _, checkpoint = max((not has_summary and best) or found, key=lambda item: _steps(item[0]))
    return checkpoint, "best" if best and not has_summary else "latest"


def _choose_from_trial(trial: Path, skip: Collection[Path]) -> tuple[Path, str]:
    """The best checkpoint of one trial, else its newest."""
    if (trial / BEST_FOLDER).is_dir() and trial / BEST_FOLDER not in skip:
        return trial / BEST_FOLDER, "best"
    published = [path for path in TrialCheckpoints(trial).published() if path not in skip]
    if not published:
        raise InputError(f"{trial} has no checkpoint that is whole: name another trial or run")
    return published[-1], "latest"


def _steps(meta: Mapping[str, Any]) -> float:
    steps = meta.get("total_steps")
    return float(steps) if isinstance(steps, (int, float)) else 0.0
