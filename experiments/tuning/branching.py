"""A branch: a new run that goes on exactly from a checkpoint of another one, under settings that may differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from algos.registry import algorithm, groups
from common.disk import to_disk
from common.errors import InputError
from common.files import WriteError
from common.manifests import find_damage
from experiments.builders.environments import Environment
from experiments.recovery.checkpoints import require_meta
from experiments.recovery.copies import copy_into
from experiments.recovery.names import BRANCH_FOLDER, RECORD_FILE
from experiments.runs.models import Model, find_newest_model
from experiments.settings.fields import settings_of, value_of
from experiments.settings.metric_names import clock_of
from experiments.settings.run_config import RunConfig

MAY_DIFFER = (
    *("name", "storage", "preset", "config", "resume", "json", "trust", "skip_training", "load_model"),
    *("branch_from", "hooks"),
    *("episodes", "checkpoint_interval", "checkpoint_interval_s", "keep", "keep_every", "evaluation_interval"),
    *("checkpoint_metric", "checkpoint_mode"),
    *("checkpoint_on_signal", "max_failures", "hang_timeout_s", "floor.capital", "floor.horizon_bars", "floor.costs."),
    *("scaling.num_gpus_", "scaling.num_cpus_", "scaling.floor_device", "search."),
)
"""Settings beside those of the algorithms that a branch may have of its own; a name that ends in ``.`` or ``_`` stands
for all that begin so. An algorithm's settings say it themselves. All else is in the weights, the optimizers, the replay
buffer or the market that a branch takes over."""


def check_branch(config: RunConfig, environment: Environment) -> Model:
    """Refuse a branch that could not go on exactly, before anything is written.

    Args:
        config: The branch's settings.
        environment: What it trains in.

    Returns:
        The checkpoint that it goes on from: the one that is named, or the newest whole one of a run folder.

    Raises:
        InputError: if it has no whole checkpoint, its settings or prices differ, or nothing is left to train.
    """
    assert config.branch_from is not None
    model = find_newest_model(config.branch_from)
    if damage := find_damage(model.checkpoint):
        raise InputError(f"{model.checkpoint} is damaged, {damage[0]}: name another checkpoint")
    by_weights = f"--load-model {config.branch_from} --name NEW"
    if differing := differences(model.config, config):
        raise InputError(
            f"--branch-from goes on exactly from {model.name}, so these cannot differ: {'; '.join(differing)}. Leave "
            f"them out, or start from its weights alone: {by_weights}"
        )
    if model.record.provenance.get("data_fingerprint") != environment.fingerprint:
        raise InputError(
            f"the prices, or the costs of single assets, have changed since {model.record.folder} was started (their "
            f"fingerprint differs): restore the old file, or start from its weights alone: {by_weights}"
        )
    done = clock_of(require_meta(model.checkpoint, "episode"))
    if done >= config.episodes:
        raise InputError(f"{model.checkpoint} has {done} {config.clock} already: raise --episodes above that")
    return model


def differences(parent: RunConfig, branch: RunConfig) -> list[str]:
    """Say which settings differ that must not, and how."""
    found = []
    for name, setting in settings_of(RunConfig).items():
        old, new = value_of(parent, name), value_of(branch, name)
        may = setting.may_change or is_among(name, MAY_DIFFER)
        if old != new and not may and not is_idle(name, branch.algo):
            found.append(f"{setting.flag} was {_shown(old)} and is now {_shown(new)}")
    return found


def adopt(folder: Path, model: Model) -> list[dict[str, Any]]:
    """Take the checkpoint into the branch's own folder, so that the parent may prune it or be deleted.

    Files are linked where the file system can, else copied. A kill leaves nothing under the final name.

    Args:
        folder: The branch's run folder.
        model: The checkpoint.

    Returns:
        What ``config.json`` records: the parent's run, checkpoint and weights, then the parent's own parent, and so on.

    Raises:
        InputError: if the checkpoint has vanished or changed in the meantime.
        WriteError: if it cannot be copied, as to a full disk.
    """
    target = folder / BRANCH_FOLDER
    staged = target.with_name(f".{target.name}.new")
    for leftover in (staged, target):  # of an attempt that was killed before the run was recorded
        shutil.rmtree(leftover, ignore_errors=True)
    vanished = f"{model.checkpoint} has vanished while it was copied: name another checkpoint"
    try:
        staged.mkdir(parents=True)
        copy_into(staged, model.checkpoint, links_all=True)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            raise InputError(vanished) from error
        reason = f"cannot copy {model.checkpoint} to {target}: {error.strerror or error}"
        raise WriteError(error.errno, reason) from error
    if damage := find_damage(staged):
        shutil.rmtree(staged, ignore_errors=True)
        if not model.checkpoint.is_dir():
            raise InputError(vanished)
        raise InputError(f"{model.checkpoint} has changed while it was copied, {damage[0]}: name another checkpoint")
    (target.parent / RECORD_FILE).unlink(missing_ok=True)  # of an attempt of other settings, which came to nothing
    os.rename(staged, target)
    to_disk(target.parent)
    meta = require_meta(target, "episode", "total_steps", "weights_sha256")
    parent = {
        "run": str(model.record.folder),
        "checkpoint": str(model.checkpoint.relative_to(model.record.folder)),
        "weights_sha256": meta["weights_sha256"],
        "episode": meta["episode"],
        "total_steps": meta["total_steps"],
    }
    return [parent, *(model.record.branch_of or [])]


def is_among(name: str, names: Collection[str]) -> bool:
    """Whether a setting is among names of which one that ends in ``.`` or ``_`` stands for all that begin so."""
    return any(name == one or (one[-1] in "._" and name.startswith(one)) for one in names)


def is_idle(name: str, algo: str) -> bool:
    """Whether a setting belongs to an algorithm that is not used."""
    group = name.split(".")[0]
    return group in groups() and group != algorithm(algo).group


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
