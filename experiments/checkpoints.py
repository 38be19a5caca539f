"""List, verify, prune, export and rewrite checkpoints: ``python experiments/checkpoints.py list results/dow``."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # noqa: F401  before what takes seconds to import
from common.errors import InputError
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage, folder_bytes
from common.paths import check_tree, home_path
from common.store import is_remote, join
from common.strict import STRICT
from experiments.command_line import DONE, FAILED, check_json_flag, write_json_flag
from experiments.recovery.checkpoints import DAMAGED_PREFIX, PREFIX, TrialCheckpoints, checkpoint_number, read_meta
from experiments.recovery.lock import run_lock
from experiments.recovery.names import BEST_FOLDER, BRANCH_FOLDER, META_FILE, RECORD_FILE
from experiments.remote.addresses import find_mirror
from experiments.remote.mirror import Mirror
from experiments.remote.packs import checked_marker
from experiments.reporting.tables import rows_table, show
from experiments.runs.exports import SUMMARY_TEXT, export_model
from experiments.runs.record import damage_of_record, find_run_folder, read_run_record
from experiments.runs.rewriting import refuse_old, rewrite
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.fields import settings_of
from experiments.settings.help import asks_for_help, print_help

_ACTION_OF = {"keep": "prune", "keep_every": "prune", "yes": "prune", "out": "export", "trust": "rewrite"}
"""Settings that only one action uses."""
_WORDS = "list|verify|prune|export|rewrite PATH"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CheckpointsConfig:
    """What to do with which checkpoints."""

    action: Literal["list", "verify", "prune", "export", "rewrite"] = "list"
    """list: what there is. verify: every byte against its manifest, 1 if any differs. prune: delete the oldest.
    export: SafeTensors for each agent, with a summary. rewrite: read what earlier versions have pickled, write it
    anew."""
    path: str | None = None
    """Run folder, or a folder with runs in it; for list and verify also an address in a store (s3://...). For export: a
    run folder (its best checkpoint), or a checkpoint."""
    keep: int = Field(default=5, ge=1)
    """For prune: how many of the newest stay in each trial; the best stays beside them."""
    keep_every: int | None = Field(default=None, ge=1)
    """For prune: each K-th stays for the record as well, by its number."""
    yes: bool = False
    """For prune: delete. Without it, what would be deleted is shown."""
    out: str | None = None
    """For export: folder for the files, empty or not there yet. None: one in export/ in the run folder."""
    trust: bool = False
    """For rewrite: unpickle, which runs whatever code the checkpoints hold. Only where you trust who wrote them."""
    json: str | None = None
    """File for what is printed, as plain JSON."""


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for; 1 where verification finds damage.

    Raises:
        InputError: if the words cannot be understood, or the path holds no run.
    """
    words = list(argv)
    if asks_for_help(words):
        about = __doc__ or ""
        print_help(CheckpointsConfig, words, prog="experiments/checkpoints.py", description=about, words=_WORDS)
        return DONE
    for at, name in ((0, "action"), (2, "path")):
        if len(words) > at and not words[at].startswith("-"):
            words.insert(at, f"--{name}")
    flags = scan_flags(CheckpointsConfig, words)
    config = parse_flags(CheckpointsConfig, flags, base={})
    check_json_flag(config.json)
    _check_flags(config.action, flags)
    if config.path is None:
        raise InputError(
            f"the path is missing: checkpoints.py {_WORDS}, a run folder or folder of runs; for export, a checkpoint"
        )
    if config.action == "export":
        return _export(config, config.path)
    if config.action == "rewrite":
        return _rewrite(config, config.path)
    if is_remote(config.path):
        if config.action == "prune":
            raise InputError(
                f"{config.path} is in a store, where a run's own command makes room: give it another --keep"
            )
        return _tell(config, *stored_rows(config.path), title="Checkpoints of")
    found, unseen = look_below(config.path, with_exports=config.action != "list")
    trials = list(dict.fromkeys(path.parent for path in found if _is_checkpoint(path.name)))
    if config.action == "prune":
        rows = _prune(trials, keep=config.keep, keep_every=config.keep_every, is_real=config.yes)
        title = "Deleted from" if config.yes else "Would be deleted (--yes deletes) from"
    else:
        rows, title = [row for path in found if (row := _row(path)) is not None], "Checkpoints of"
    remarks = [remark for folder in dict.fromkeys(map(_run_of, trials)) if (remark := _remark(folder))]
    return _tell(config, rows, [*remarks, *unseen], title=title)


def _tell(config: CheckpointsConfig, rows: list[dict[str, Any]], remarks: list[str], *, title: str) -> int:
    """Show what was found, a table for each trial; returns the exit code."""
    for trial in dict.fromkeys(row["trial"] for row in rows):
        show(rows_table([_shown(row) for row in rows if row["trial"] == trial], title=f"{title} {trial}"))
    num_damaged = sum(row["state"] != "whole" for row in rows)
    if config.action == "verify":
        show(f"{len(rows)} checked, {f'{num_damaged} damaged' if num_damaged else 'all whole'}")
    elif config.action == "prune" and not rows:
        show("there is nothing to delete")
    for remark in remarks:
        show(remark)
    payload: dict[str, Any] = {"action": config.action, "rows": rows, "remarks": remarks}
    if config.action == "prune":
        payload["deleted"] = config.yes and bool(rows)
    write_json_flag(config.json, payload)
    return FAILED if config.action == "verify" and (num_damaged or remarks) else DONE


def _check_flags(action: str, flags: Collection[str]) -> None:
    """Refuse flags that would have no effect.

    Raises:
        InputError: naming the first.
    """
    idle = [name for name in flags if _ACTION_OF.get(name, action) != action]
    if idle:
        name = settings_of(CheckpointsConfig)[idle[0]].flag
        raise InputError(f"{name} has no effect on {action}, only on {_ACTION_OF[idle[0]]}: leave it out")


def _export(config: CheckpointsConfig, path: str) -> int:
    folder, summary = export_model(path, config.out)
    show(
        rows_table(
            [{"agent": name, "files": ", ".join(files)} for name, files in summary["files"].items()], title="Exported"
        )
    )
    print(f"{summary['checkpoint']} of {summary['run']}, {summary['progress']['episodes']} episodes: {folder}")
    write_json_flag(config.json, {"action": "export", "folder": str(folder), "summary": summary})
    return DONE


def _rewrite(config: CheckpointsConfig, path: str) -> int:
    folder = find_run_folder(path)
    if not config.trust:
        refuse_old(folder, run=path)
    mirror = find_mirror(path)[0] if is_remote(path) else None
    with nullcontext() if mirror is None else mirror.lease(), run_lock(folder):
        done = [str(checkpoint) for checkpoint in (rewrite(folder) if config.trust else [])]
        if mirror is not None:
            if str(folder / BRANCH_FOLDER) in done:  # each of its files is an object, and the old ones would stay
                mirror.store.delete_all(BRANCH_FOLDER)
            mirror.push_all()
    for checkpoint in done:
        print(f"{checkpoint} is written anew")
    print(f"{len(done)} checkpoints of {folder} written anew")
    write_json_flag(config.json, {"action": "rewrite", "rewritten": done})
    return DONE


def look_below(path: str, *, with_exports: bool = True) -> tuple[list[Path], list[str]]:
    """Find everything below a path that can be verified.

    Args:
        path: A folder.
        with_exports: Whether what is no checkpoint counts too.

    Returns:
        Checkpoints, and other folders that were sealed as those are, such as exports; and one line about each folder
        that could not be listed, whatever it holds.

    Raises:
        InputError: if there is nothing.
    """
    folder = home_path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name a run folder, or a folder of runs")
    found: list[Path] = []
    runs: list[Path] = []
    unseen: list[str] = []

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a run may delete meanwhile
            unseen.append(f"{error.filename} cannot be listed ({error.strerror})")

    for where, names, files in os.walk(folder, onerror=tell):
        found += [Path(where, name) for name in names if _is_checkpoint(name)]
        if RECORD_FILE in files:
            runs.append(Path(where))
        if with_exports and _is_sealed(Path(where).name, files):
            found.append(Path(where))
        names[:] = [name for name in names if not _is_checkpoint(name)]
    refused = {place: told for place in {*runs, *map(_place_of, found)} if (told := _way_out(place))}
    if not found and not unseen and not refused:
        raise InputError(f"{folder} holds no checkpoints")
    found = [path for path in found if _place_of(path) not in refused]
    return sorted(found, key=_in_order), sorted({*unseen, *refused.values()})


def _place_of(path: Path) -> Path:
    """What has to be closed for something in it to be looked at: a run, a trial of none, or what was sealed alone."""
    run, trial = path.parent.parent, path.parent
    return path if not _is_checkpoint(path.name) else run if (run / RECORD_FILE).exists() else trial


def _way_out(folder: Path) -> str:
    """Say what in a folder is no file of its own (see ``check_tree``); empty where nothing is."""
    try:
        check_tree(folder)
    except InputError as error:
        return str(error)
    return ""


def _is_sealed(name: str, files: Collection[str]) -> bool:
    """Whether a folder was sealed, by what is left if it has lost a file since; hidden ones are still being written."""
    return not name.startswith(".") and sum(mark in files for mark in (MANIFEST_FILE, MARKER_FILE, SUMMARY_TEXT)) > 1


def _is_checkpoint(name: str) -> bool:
    special = name == BRANCH_FOLDER or name.removeprefix(DAMAGED_PREFIX).startswith(BEST_FOLDER)
    return special or checkpoint_number(name) >= 0


def _in_order(path: PurePath) -> tuple[PurePath, bool, int, str]:
    """By trial, then by number; what is no checkpoint to go on from is last."""
    number = checkpoint_number(path.name)
    return path.parent, number < 0 or not path.name.startswith(PREFIX), number, path.name


def stored_rows(address: str) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each checkpoint below an address in a store, and what is wrong with the records of runs there.

    Nothing is written there. Every checkpoint is brought here, one at a time, verified and deleted again; uploads that
    are under way, or were cut, are none.

    Raises:
        InputError: if the address cannot be understood, or there are no checkpoints.
        OSError: if the store does not answer.
    """
    mirror = Mirror(address, Path())
    objects = map(PurePosixPath, mirror.store.names())
    found = {place for name in objects for place in name.parents if _is_checkpoint(place.name)}
    if not found:
        raise InputError(f"{address} holds no checkpoints")
    rows = [row for path in sorted(found, key=_in_order) if (row := _stored_row(mirror, path)) is not None]
    runs = {path.parent if path.name == BRANCH_FOLDER else path.parent.parent for path in found if len(path.parts) > 1}
    records = [(run / RECORD_FILE).as_posix() for run in sorted(runs)]
    found_records = {join(address, name): mirror.store.get_json(name) for name in records}
    remarks = [f"{place} {damage}" for place, record in found_records.items() if (damage := damage_of_record(record))]
    return rows, remarks


def _stored_row(mirror: Mirror, path: PurePosixPath) -> dict[str, Any] | None:
    """What there is to say of a checkpoint in a store; None where it has gone, or is not there yet."""
    store, name = mirror.store, path.as_posix()
    whole_path = PurePosixPath(mirror.address.partition("?")[0]) / name
    try:
        damage = mirror.check(name) and mirror.check(name)  # a live run may have replaced it
    except InputError as error:  # its name leads out
        return _row_of(whole_path, {}, size=0, best=None, damage=str(error))
    meta, marker = (store.get_json(f"{name}/{file}") for file in (META_FILE, MARKER_FILE))
    if meta is None and marker is None:
        return None
    best = store.get_json((path.parent / BEST_FOLDER / META_FILE).as_posix())
    segments = ((checked_marker(marker or {}, source=name) or {}).get("segments") or {}).values()
    size = sum(store.size(f"{name}/{part}") or 0 for part in store.names(name)) + sum(e["bytes"] for e in segments)
    return _row_of(whole_path, meta or {}, size=size, best=best, damage=damage)


def _best_now(trial: Path) -> dict[str, Any]:
    """What the checkpoint says of itself that is the best now; others say that they were the best when written."""
    if (trial / BEST_FOLDER).is_dir():
        return read_meta(trial / BEST_FOLDER)
    metas = [read_meta(path) for path in reversed(TrialCheckpoints(trial).published())]
    return next((meta for meta in metas if meta.get("is_best")), {})


def _row(path: Path) -> dict[str, Any] | None:
    """What there is to say of a checkpoint; None where it has vanished meanwhile, as old ones of a live run do."""
    damage = find_damage(path) and find_damage(path)  # a live run may have replaced the best one
    size, best = folder_bytes(path), _best_now(path.parent)
    row = _row_of(path.absolute(), read_meta(path), size=size, best=best, damage=damage[0] if damage else None)
    return row if path.is_dir() else None


def _row_of(
    path: PurePath, meta: Mapping[str, Any], *, size: int, best: Mapping[str, Any] | None, damage: str | None
) -> dict[str, Any]:
    """What there is to say of a checkpoint, by what it says of itself."""
    trial = path.parent
    return {
        "trial": f"{trial.parent.name}/{trial.name}",
        "checkpoint": path.name,
        "episode": meta.get("episode"),
        "steps": meta.get("total_steps"),
        "age_h": _age_h(meta.get("timestamp")),
        "size_mb": round(size / 1e6, 3),
        "metric": meta.get("metric_name"),
        "value": meta.get("metric_value"),
        "best": "best" if meta and meta == best else "",
        "state": damage or "whole",
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the screen has it: without what stands in the title, the value under the name of its metric."""
    return {
        (row["metric"] or "value") if name == "value" else name: value
        for name, value in row.items()
        if name not in ("trial", "metric")
    }


def _run_of(trial: Path) -> Path:
    """The run folder of a trial: the one above it, or itself where checkpoints lie in the run folder."""
    return trial if (trial / RECORD_FILE).exists() or (trial / BRANCH_FOLDER).is_dir() else trial.parent


def _remark(folder: Path) -> str:
    """Say what is wrong with a run's own record; empty where nothing is."""
    try:
        read_run_record(folder)
    except InputError as error:
        return str(error)
    return ""


def _age_h(timestamp: Any) -> float | None:
    """Hours since then; None where that cannot be told, as in a damaged checkpoint."""
    try:
        return round((datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds() / 3600.0, 1)
    except (TypeError, ValueError):
        return None


def _prune(trials: Sequence[Path], *, keep: int, keep_every: int | None, is_real: bool) -> list[dict[str, Any]]:
    """Delete the oldest checkpoints of each trial, or say which they would be; the newest whole one always stays.

    So does the best where there is no copy of it; where that is damaged, the best that is left is copied first.
    """
    rows: list[dict[str, Any]] = []
    for trial in trials:
        checkpoints = TrialCheckpoints(trial)
        doomed = checkpoints.prunable(keep, keep_every=keep_every)
        if doomed and all(find_damage(path) for path in checkpoints.published()[-keep:]):
            raise InputError(f"none of the newest {keep} checkpoints in {trial} is whole: nothing is deleted")
        with run_lock(find_run_folder(trial)) if is_real else nullcontext():
            if doomed and is_real and (trial / BEST_FOLDER).is_dir():
                from experiments.runs.repair import restore_best  # it imports Ray, for which a preview need not wait

                restore_best(trial, print)
                doomed = checkpoints.prunable(keep, keep_every=keep_every)
            rows += [row for path in doomed if (row := _row(path)) is not None]
            if is_real:
                checkpoints.prune(keep, keep_every=keep_every)  # and what one that was killed has left
    return rows


if __name__ == "__main__":
    from experiments.command_line import main

    main(run)
