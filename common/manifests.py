"""What a checkpoint folder should hold, to the byte: written when it is published, verified before it is used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.disk import Written, to_disk, write_files
from common.errors import InputError
from common.files import json_object
from common.paths import checked_name

MANIFEST_FILE = "manifest.json"
"""Size and SHA-256 of every other file of the folder."""
MARKER_FILE = "COMPLETE"
"""Written last; holds the SHA-256 of the manifest, so that nothing at all can change unseen."""
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT})
"""Errors that pass by themselves, and that no damage to a disk or a file gives."""
_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def seal(folder: Path, *, previous: Path | None = None, written: Mapping[str, Written] | None = None) -> None:
    """Bring every file of a folder to disk, then write its manifest, then its marker.

    Args:
        folder: A folder that nothing will be added to; one that was sealed before is sealed anew.
        previous: A sealed folder. A file of the same name that is a link to the same file there is on disk already, and
            what it should hold is what it was sealed with: it is neither read nor written again.
        written: What files should hold that are on disk already, by path in the folder.

    Raises:
        OSError: if something cannot be written, as on a full disk, or a file that was is not there.
    """
    files = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in (written or {}).items()}
    names, folders = _walk(folder)
    if lost := files.keys() - set(names):
        raise OSError(errno.EIO, f"the disk does not hold what was written: {folder / min(lost)}")
    found = _files(folder, [name for name in names if name not in files])
    if others := sorted(name for name, of_file in found.items() if not stat.S_ISREG(of_file.st_mode)):
        raise OSError(errno.EINVAL, f"a link, or no file, cannot be sealed: {folder / others[0]}")
    files |= _linked_files(previous, {name: of_file for name, of_file in found.items() if of_file.st_nlink > 1})
    for name, of_file in found.items():
        if name not in files:  # as the linked ones are by now
            files[name] = {"bytes": of_file.st_size, "sha256": file_sha256(folder / name)}
            to_disk(folder / name)
    manifest = json.dumps({"format": 1, "files": dict(sorted(files.items()))}).encode()
    marker = hashlib.sha256(manifest).hexdigest().encode()  # ties the two together, whichever is on the disk first
    for name in (MARKER_FILE, MANIFEST_FILE):
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")
    write_files(folder, {MANIFEST_FILE: [manifest], MARKER_FILE: [marker]})
    for below in folders:
        to_disk(below)


def find_damage(folder: Path, *, may_hold_more: bool = False) -> list[str]:
    """Compare a folder with its manifest; an empty list means that every byte is what was written.

    Args:
        folder: A published checkpoint.
        may_hold_more: Whether files that the manifest does not list are no damage.

    Returns:
        For each thing that is wrong, which file it is ("." for the folder itself), and what, in a few words.

    Raises:
        OSError: if something cannot be read now, which says nothing of what it holds: too many files are open, or a
            file server has gone away.
    """
    if not folder.is_dir():
        return [".: is missing"]
    try:
        found = _files(folder, _walk(folder)[0])
        for name, own in _files(folder, (MANIFEST_FILE, MARKER_FILE)).items():
            if not stat.S_ISREG(own.st_mode):
                return [f"{name}: is a link, or no file"]
        manifest = (folder / MANIFEST_FILE).read_bytes()
        marker = (folder / MARKER_FILE).read_bytes().decode(errors="replace")
    except FileNotFoundError as error:
        return [f"{Path(error.filename).name}: is missing: the folder was never completed, or half deleted"]
    except OSError as error:
        return [_unreadable(os.path.relpath(error.filename, folder), error)]
    if hashlib.sha256(manifest).hexdigest() != marker:
        return [f"{MANIFEST_FILE}: does not match its marker"]
    try:
        files = listed_files(manifest, source=MANIFEST_FILE)
    except InputError as error:
        return [f"{MANIFEST_FILE}: says what no manifest says ({error})"]
    damage = [f"{name}: is missing" for name in sorted(set(files) - set(found))]
    if not may_hold_more:
        damage += [f"{name}: does not belong here" for name in sorted(set(found) - set(files))]
    for name in sorted(set(files) & set(found)):
        damage += _compare(name, folder / name, found[name], files[name])
    return damage


def listed_files(manifest: bytes, *, source: str | Path) -> dict[str, dict[str, Any]]:
    """What a manifest lists: by path in the folder the ``bytes`` and the ``sha256`` of each file.

    Args:
        manifest: Its content.
        source: Where it was read, for the message.

    Raises:
        InputError: if it is none, or lists what cannot lie in the folder.
    """
    return file_entries(json_object(manifest).get("files"), source=source)


def file_entries(entries: Any, *, source: str | Path) -> dict[str, dict[str, Any]]:
    """Check what was read of files: a path in a folder for each, ``bytes`` and ``sha256``.

    Raises:
        InputError: naming the first entry that is none.
    """
    if not isinstance(entries, dict):
        raise InputError(f"{source} is damaged: it lists no files")
    for name, entry in entries.items():
        checked_name(name, source=source)
        if not isinstance(entry, dict) or not is_size(entry.get("bytes")) or not is_sha256(entry.get("sha256")):
            raise InputError(f"{source} is damaged: it does not say what {name} holds")
    return entries


def is_size(value: Any) -> bool:
    """Whether something that was read can be a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_sha256(value: Any) -> bool:
    """Whether something that was read can be a SHA-256, as hex."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder; what vanishes meanwhile does not count."""
    files = (f"{where}/{name}" for where, _, names in os.walk(folder) for name in names)
    return sum(found.st_size for path in files if (found := _of(path)) is not None and stat.S_ISREG(found.st_mode))


def _linked_files(previous: Path | None, candidates: Mapping[str, os.stat_result]) -> dict[str, dict[str, Any]]:
    """Manifest entries of files that two folders share."""
    if previous is None or not candidates:
        return {}
    try:
        entries = listed_files((previous / MANIFEST_FILE).read_bytes(), source=previous)
    except (OSError, InputError):
        return {}
    there = _files(previous, (name for name in candidates if name in entries))
    return {n: entries[n] for n, of_file in there.items() if os.path.samestat(of_file, candidates[n])}


def _compare(name: str, path: Path, found: os.stat_result, entry: Mapping[str, Any]) -> list[str]:
    if not stat.S_ISREG(found.st_mode):
        return [f"{name}: is a link, or no file"]
    if found.st_size != entry["bytes"]:
        return [f"{name}: has {found.st_size} bytes instead of {entry['bytes']}"]
    try:
        if file_sha256(path) != entry["sha256"]:
            return [f"{name}: has other content than was written (SHA-256 differs)"]
    except OSError as error:
        return [_unreadable(name, error)]
    return []


def _unreadable(name: str, error: OSError) -> str:
    """Damage, unless another try may read it: then the error itself."""
    if error.errno in _PASSING:
        raise error
    return f"{name}: cannot be read ({error.strerror})"


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """What lies below a folder but for manifest and marker, by path in it; and the paths of all folders, its own first.

    One look at each folder, and none at files: a large buffer's checkpoint has hundreds that are known.
    """
    names, folders, unread = [], [str(folder)], [("", str(folder))]
    while unread:
        prefix, where = unread.pop()
        with os.scandir(where) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    unread.append((f"{name}/", entry.path))
                elif name not in (MANIFEST_FILE, MARKER_FILE):
                    names.append(name)
    return names, folders


def _files(folder: Path, names: Iterable[str]) -> dict[str, os.stat_result]:
    """What the system knows of those that are there, of a link itself and not of what it leads to."""
    found = {name: _of(f"{folder}/{name}") for name in names}
    return {name: known for name, known in found.items() if known is not None}


def _of(path: str) -> os.stat_result | None:
    """What the system knows of what has this name; None where nothing has, any more."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
