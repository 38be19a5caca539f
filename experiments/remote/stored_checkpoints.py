"""One checkpoint of a run in a store: brought there whole or not at all, and brought here again, verified.

It is three objects: ``pack-<hash>.tar`` with all its files, ``checkpoint_meta.json`` for readers, and ``COMPLETE``,
which is put last and names the pack with its size and SHA-256. Finished segments of a replay buffer are objects of
their own under ``segments/`` of the trial, named by their content and uploaded once.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algos.replay_settings import REPLAY_FOLDER, SHARED_ENDING
from common.manifests import MANIFEST_FILE, MARKER_FILE, file_sha256, find_damage, listed_files
from common.paths import path_in
from common.store import Store
from experiments.recovery.checkpoints import STAGED_PREFIX, rename_aside
from experiments.recovery.names import META_FILE
from experiments.remote.packs import PACK_PREFIX, checked_marker, unpack, write_pack
from experiments.remote.small_files import SEGMENTS


def read_marker(store: Store, name: str) -> dict[str, Any] | None:
    """What the marker of a checkpoint says; None where it is missing, or not what was written.

    Args:
        store: Of the run.
        name: The checkpoint's path in the run folder.

    Raises:
        OSError: if the store does not answer.
    """
    return checked_marker(store.get_json(f"{name}/{MARKER_FILE}") or {}, source=name)


def objects_of(name: str, marker: Mapping[str, Any]) -> set[str]:
    """The objects of a trial that its checkpoint of this name and with this marker is made of, by path in the trial."""
    return {f"{name}/{marker['pack']}", *(f"{SEGMENTS}/{entry['sha256']}" for entry in marker["segments"].values())}


def put_checkpoint(store: Store, name: str, checkpoint: Path, *, room: Path) -> None:
    """Bring a sealed checkpoint into a store; readers find it whole or not at all.

    Args:
        store: Of the run.
        name: The checkpoint's path in the run folder.
        checkpoint: Where it lies here.
        room: A folder for temporary files.

    Raises:
        OSError: if it is damaged, or the store does not take it; what that held before is untouched.
    """
    seal = file_sha256(checkpoint / MANIFEST_FILE)
    if (checkpoint / MARKER_FILE).read_bytes() != seal.encode():
        raise OSError(errno.EIO, f"{checkpoint} is damaged: the one in the store stays")
    known = read_marker(store, name)
    if known is not None and known["seal"] == seal:
        return
    files = listed_files((checkpoint / MANIFEST_FILE).read_bytes(), source=checkpoint)
    shared = {n: e for n, e in files.items() if n.startswith(f"{REPLAY_FOLDER}/") and n.endswith(SHARED_ENDING)}
    trial = name.rsplit("/", 1)[0]
    for file, entry in shared.items():
        target = f"{trial}/{SEGMENTS}/{entry['sha256']}"
        if store.size(target) != entry["bytes"]:
            store.upload(checkpoint / file, target)
    with tempfile.TemporaryDirectory(dir=room, prefix=STAGED_PREFIX) as staging:
        pack = Path(staging) / "pack.tar"
        write_pack(pack, checkpoint, {MANIFEST_FILE, MARKER_FILE, *files} - shared.keys())
        sha256 = file_sha256(pack)
        marker = {
            "format": 1,
            "seal": seal,
            "pack": f"{PACK_PREFIX}{sha256[:16]}.tar",
            "bytes": pack.stat().st_size,
            "sha256": sha256,
            "segments": shared,
        }
        store.upload(pack, f"{name}/{marker['pack']}")
    store.put(f"{name}/{META_FILE}", (checkpoint / META_FILE).read_bytes())
    store.put(f"{name}/{MARKER_FILE}", json.dumps(marker).encode())
    for old in store.names(name):
        if old.startswith(PACK_PREFIX) and old != marker["pack"]:
            store.delete(f"{name}/{old}")


def get_checkpoint(store: Store, name: str, folder: Path) -> str | None:
    """Bring a checkpoint here and verify it; a damaged one that is there already is set aside.

    Args:
        store: Of the run.
        name: The checkpoint's path in the run folder.
        folder: The run folder on this machine.

    Returns:
        What is wrong with it; None where it now lies here, whole.

    Raises:
        InputError: if its name, as somebody else may have chosen it, leads out of the folder.
        OSError: if the store does not answer, or something cannot be written.
    """
    marker = read_marker(store, name)
    if marker is None:
        return f"{MARKER_FILE} is missing or cannot be read"
    target = path_in(folder, name, source=store.address)
    staged = target.with_name(f"{STAGED_PREFIX}{target.name}")
    pack = staged.with_name(f"{staged.name}.tar")
    segments = "/".join([*name.split("/")[:-1], SEGMENTS])
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        for source, path, entry in (
            (f"{name}/{marker['pack']}", pack, marker),
            *(
                (f"{segments}/{entry['sha256']}", path_in(staged, file, source=name), entry)
                for file, entry in marker["segments"].items()
            ),
        ):
            if not store.download(source, path):
                return f"{source.rsplit('/', 1)[1]} is missing"
            if path.stat().st_size != entry["bytes"]:
                return f"{source.rsplit('/', 1)[1]} has {path.stat().st_size} bytes instead of {entry['bytes']}"
            if file_sha256(path) != entry["sha256"]:
                return f"{source.rsplit('/', 1)[1]} has other content than was written (SHA-256 differs)"
        if damage := unpack(pack, staged, marker):
            return damage
        if found := find_damage(staged):
            return found[0]
        if target.is_dir():  # damaged: what is fetched is another one, or whole
            rename_aside(target)
        os.rename(staged, target)
        return None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        pack.unlink(missing_ok=True)
