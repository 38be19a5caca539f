"""Where runs are: in a folder, or at an address in an object store, for which a folder of this machine stands."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from common.errors import InputError
from common.files import check_folder_writable
from common.paths import home_path
from common.store import Store, first_line, is_remote, join
from experiments.recovery.names import RECORD_FILE
from experiments.remote.mirror import Mirror

WORK_ENV = "TRADING_FLOOR_WORK"
"""Environment variable that says where runs with a mirror work; else a folder of the user's cache."""


def working_folder(storage: str, name: str) -> Path:
    """Where a run with this storage works on this machine: in the storage itself, or in a folder that stands for it."""
    if not is_remote(storage):
        return Path(storage) / name
    cache = os.environ.get(WORK_ENV) or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trading-floor"
    return Path(cache) / hashlib.sha256(join(storage).encode()).hexdigest()[:12] / name


def mirror_of(storage: str, name: str) -> Mirror | None:
    """The mirror of a run; None where its storage is a folder.

    Raises:
        InputError: if the address cannot be understood.
    """
    if not is_remote(storage):
        return None
    try:
        return Mirror(join(storage, name), working_folder(storage, name))
    except InputError as error:
        raise InputError(f"--storage {error}") from None


def check_storage(storage: str) -> None:
    """Refuse a storage that cannot be written to, before any work is done.

    Raises:
        InputError: saying why.
    """
    if not is_remote(storage):
        check_folder_writable(storage, setting="--storage")
        return
    store = Store(storage, patience_s=0)
    try:
        store.put(".check", b"trading-floor")
        store.delete(".check")
    except OSError as error:
        raise InputError(f"--storage {storage} cannot be written to: {first_line(error)}") from None
    _check_working_folder(working_folder(storage, "x").parent)


def _check_working_folder(folder: Path) -> None:
    """Refuse a working folder that cannot be written to.

    Raises:
        InputError: saying how another one is named.
    """
    try:
        check_folder_writable(folder, setting="the working folder of what is in a store")
    except InputError as error:
        raise InputError(f"{error}: let {WORK_ENV} name another one") from None


def find_mirror(address: str) -> tuple[Mirror, str]:
    """Find the run that an address in a store means: a run folder, or a trial or a checkpoint in one.

    Returns:
        Its mirror, and the path of the trial or checkpoint in it; empty for the run folder itself.

    Raises:
        InputError: if there is no run at the address, or the store does not answer.
    """
    base, mark, options = address.partition("?")
    parts = base.rstrip("/").split("/")
    for levels in range(3):
        run, rest = parts[: len(parts) - levels], parts[len(parts) - levels :]
        if len(run) < 4:  # scheme, nothing, bucket, run
            break
        storage = "/".join(run[:-1]) + mark + options
        mirror = Mirror(join(storage, run[-1]), working_folder(storage, run[-1]))
        try:
            if mirror.store.size(RECORD_FILE) is not None:
                return mirror, "/".join(rest)
        except OSError as error:
            raise InputError(f"{address} cannot be read: {first_line(error)}") from None
    raise InputError(f"{address} is neither a run folder nor a checkpoint in one")


def bring_back(path: str | Path, *, may_be_gone: bool = False) -> Path:
    """Give the folder on this machine for a path that may be an address in a store, brought up to date from there.

    Args:
        path: A folder, or an address in a store.
        may_be_gone: Whether a checkpoint that is named need not be there, nor be brought here.

    Raises:
        InputError: if there is nothing at the address, or it is damaged.
    """
    if not is_remote(path):
        return Path(path)
    mirror, rest = find_mirror(str(path))
    _check_working_folder(mirror.folder)
    try:
        mirror.pull()
        is_checkpoint = "/" in rest  # a trial has its newest one and its best here by now
        return mirror.fetch(rest) if is_checkpoint and not may_be_gone else mirror.folder / rest
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None


def place_here(path: str | Path) -> Path:
    """The resolved path on this machine that a path, or an address in a store, stands for; nothing is fetched.

    Args:
        path: A run folder or a checkpoint, which may be gone.

    Raises:
        InputError: if there is no run at the address, or the store does not answer.
    """
    if not is_remote(path):
        return home_path(path).resolve()
    mirror, rest = find_mirror(str(path))
    return (mirror.folder / rest).resolve()


def storage_of(address: str) -> str:
    """The storage of the run at an address: what stands before its name, with the address's options."""
    base, mark, options = address.partition("?")
    return base.rsplit("/", 1)[0] + mark + options
