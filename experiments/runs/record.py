"""``config.json``: what a run folder says about itself, so that any command can carry on from the folder alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import plain, read_json, write_json
from common.paths import check_tree, path_in
from common.store import absolute, is_remote, without_keys
from experiments.recovery.names import RECORD_FILE
from experiments.remote.addresses import bring_back
from experiments.settings.old_names import drawn_name_of_today, settings_of_today

FORMAT = 2
_BARE_FORMAT = 1
"""Of earlier versions: without a checksum."""
_CHECKSUM = "sha256"
"""Key of the SHA-256 of all else that a record holds."""
_REMEDY = "put it back from a copy, or move the folder away to start anew"
_MARKS = ("format", "config", "provenance")
"""Keys that every run's record has had since the first format."""
_KINDS: dict[str, type] = dict.fromkeys(("provenance", "scaler", "resume_from"), dict)
_KINDS |= dict.fromkeys(("agents", "branch_of", "drawn_names"), list)
"""What a record holds beside the settings; each may be missing."""
_LEVELS_OF_A_CHECKPOINT = 2
"""A checkpoint lies in the folder of its trial, which lies in the run's."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run folder says about itself.

    Attributes:
        folder: The run folder.
        config: Every setting of the run, nested, as ``config_to_json`` writes it; under today's names.
        provenance: Versions, commit, data fingerprint, platform, command line, start.
        scaler: State of the feature scaler of the training (``Scaler.to_json``); None where none was stored.
        agents: What the networks were made for (``describe_agents``); None where none was stored.
        resume_from: The checkpoint that the user named to continue from: ``checkpoint`` (relative to the folder) and
            ``asked_at``. It holds until a checkpoint has followed it. None where none was named.
        branch_of: Where a branch goes on from: ``run``, ``checkpoint``, ``weights_sha256``, ``episode`` and
            ``total_steps`` of its parent, then of its parent's parent, and so on. None where the run is no branch.
        drawn_names: Dotted names of the settings that a search draws, which leaves out those that the user fixed when
            it was begun. None where the run is no search.
    """

    folder: Path
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    scaler: Mapping[str, Any] | None
    agents: list[dict[str, Any]] | None
    resume_from: Mapping[str, str] | None = None
    branch_of: list[dict[str, Any]] | None = None
    drawn_names: list[str] | None = None


def write_run_record(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    scaler: Mapping[str, Any] | None,
    agents: Sequence[Mapping[str, Any]] | None,
    resume_from: Mapping[str, str] | None = None,
    branch_of: Sequence[Mapping[str, Any]] | None = None,
    drawn_names: Sequence[str] | None = None,
) -> Path:
    """Write a run folder's ``config.json`` whole; the arguments are those of ``RunRecord``.

    Raises:
        WriteError: if the folder cannot be written to.
    """
    path = Path(folder) / RECORD_FILE
    content: dict[str, Any] = {"format": FORMAT, "config": config, "provenance": provenance}
    content |= {"scaler": scaler, "agents": agents, "resume_from": resume_from, "branch_of": branch_of}
    content["drawn_names"] = drawn_names
    write_json(path, content | {_CHECKSUM: _checksum(content)})
    return path


def damage_of_record(content: Any) -> str | None:
    """Say what is wrong with what a ``config.json`` holds; None where nothing is.

    Args:
        content: Of the file, as JSON.
    """
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        return "is missing or damaged: it holds no config"
    if content.get("format") not in (FORMAT, _BARE_FORMAT):
        return f"has format {content.get('format')!r}, but this version reads format {FORMAT}"
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), (kind, type(None))):
            return f"is damaged: its {name} is a {type(content[name]).__name__}"
    resumes = (content.get("provenance") or {}).get("resumes", [])
    lists = {"agents": content.get("agents"), "branch_of": content.get("branch_of"), "resumes": resumes}
    for name, entries in lists.items():
        if not isinstance(entries or [], list) or not all(isinstance(entry, dict) for entry in entries or ()):
            return f"is damaged: its {name} are not described"
    if content["format"] == FORMAT and content.get(_CHECKSUM) != _checksum(content):
        return "is not what was written: its settings, scaler or provenance have been changed (SHA-256 differs)"
    return None


def _checksum(content: Mapping[str, Any]) -> str:
    known = {key: value for key, value in content.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(plain(known), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_run_record(folder: str | Path) -> RunRecord:
    """Read a run folder's ``config.json``; names that earlier versions gave to settings become today's.

    Raises:
        InputError: if it is missing, damaged, or of a format that this version cannot read; or a link in the run folder
            leads out of it.
    """
    path = Path(folder) / RECORD_FILE
    if path.exists():  # else it is no run folder, and may be any
        check_tree(Path(folder))
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {_REMEDY}") from None
    if (damage := damage_of_record(content)) is not None:
        raise InputError(f"{path} {damage}; {_REMEDY}")
    config, drawn = settings_of_today(without_keys(content["config"])), content.get("drawn_names")
    if (resume_from := content.get("resume_from")) is not None:
        path_in(Path(folder), resume_from.get("checkpoint"), source=path)
    return RunRecord(
        folder=Path(folder),
        config=config,
        provenance=without_keys(content.get("provenance") or {}),
        scaler=content.get("scaler"),
        agents=content.get("agents"),
        resume_from=resume_from,
        branch_of=content.get("branch_of"),
        drawn_names=drawn and [drawn_name_of_today(name, config.get("algo"), source=path) for name in drawn],
    )


def find_run_folder(path: str | Path, *, may_be_gone: bool = False) -> Path:
    """Find the run folder that a path is, or is a trial or a checkpoint of.

    Only a ``config.json`` that this program wrote counts, and only as far up as a checkpoint lies below its run:
    other programs have files of that name.

    Args:
        path: A folder, or an address in a store, which is brought here.
        may_be_gone: Whether a checkpoint of a run that is there will do even if it has been deleted.

    Raises:
        InputError: if the path does not exist or belongs to no run, saying what was found instead.
    """
    path = bring_back(path, may_be_gone=may_be_gone)
    is_run = any((folder / RECORD_FILE).is_file() for folder in path.absolute().parents[:_LEVELS_OF_A_CHECKPOINT])
    if not path.exists() and not (may_be_gone and is_run):
        raise InputError(f"{path} does not exist: name a run folder, or one of its checkpoints")
    absolute = path.absolute()
    complaints = []
    for folder in (absolute, *absolute.parents[:_LEVELS_OF_A_CHECKPOINT]):
        if (folder / RECORD_FILE).is_file():
            complaint = _not_a_record(folder / RECORD_FILE)
            if complaint is None:
                return folder
            complaints.append(complaint)
    found = complaints[0] if complaints else f"no {RECORD_FILE} in it or in the folders of its trial and run"
    raise InputError(f"{path} is neither a run folder nor a checkpoint in one: {found}")


def name_of_run(source: str) -> str:
    """Name of the run that a path is, or lies in, be it that the checkpoint, or even the run, has been deleted.

    Args:
        source: A path, or an address in a store, which is not asked.
    """
    path = Path(absolute(source).partition("?")[0]) if is_remote(source) else Path(absolute(source))
    places = (path, *path.parents[:_LEVELS_OF_A_CHECKPOINT])
    if runs := [folder for folder in places if (folder / RECORD_FILE).is_file()]:
        return runs[0].name
    return next((folder.parent.name for folder in places if folder.name.startswith("trial_")), path.name)


def _not_a_record(path: Path) -> str | None:
    """Say why a file is no run's record; None where it is one, of whatever format."""
    try:
        content = read_json(path)
    except InputError as error:
        return f"{error}: {_REMEDY}"
    is_ours = isinstance(content, dict) and set(_MARKS) <= set(content)
    return None if is_ours else f"{path} was not written by a run"
