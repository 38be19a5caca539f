"""What a checkpoint folder should hold, to the byte: written when it is published, verified before it is used."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.reporting.files import to_disk

MANIFEST_FILE = "manifest.json"
"""Size and SHA-256 of every other file of the folder."""
MARKER_FILE = "COMPLETE"
"""Written last; holds the SHA-256 of the manifest, so that nothing at all can change unseen."""
_CHUNK_BYTES = 1 << 20
_THREADS = 16


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a folder.

    Attributes:
        file: Path in the folder; "." for the folder itself.
        what: In a few words.
    """

    file: str
    what: str

    def __str__(self) -> str:
        """One clause for a message."""
        return f"{self.file}: {self.what}"


def seal(folder: Path, *, previous: Path | None = None) -> None:
    """Bring every file of a folder to disk, then write its manifest, then its marker.

    Args:
        folder: A folder that nothing will be added to.
        previous: A sealed folder. A file of the same name that is a link to the same file there is on disk already, and
            what it should hold is what it was sealed with: it is neither read nor written again.

    Raises:
        OSError: if something cannot be written, as on a full disk.
    """
    files = _linked_files(folder, previous)
    new = {name: path for path in _files(folder) if (name := path.relative_to(folder).as_posix()) not in files}
    folders = [folder, *(p for p in folder.rglob("*") if p.is_dir())]
    with ThreadPoolExecutor(_THREADS) as pool:  # a disk brings many files home at once for little more than one
        files |= dict(zip(new, pool.map(_settle, new.values()), strict=True))
        list(pool.map(to_disk, folders))
    manifest = json.dumps({"format": 1, "files": dict(sorted(files.items()))}, indent=1).encode()
    _write(folder / MANIFEST_FILE, manifest)
    _write(folder / MARKER_FILE, hashlib.sha256(manifest).hexdigest().encode())
    to_disk(folder)


def find_damage(folder: Path) -> list[Damage]:
    """Compare a folder with its manifest; an empty list means that every byte is what was written.

    Args:
        folder: A published checkpoint.
    """
    if not folder.is_dir():
        return [Damage(".", "is missing")]
    try:
        manifest = (folder / MANIFEST_FILE).read_bytes()
        marker = (folder / MARKER_FILE).read_bytes().decode(errors="replace")
    except FileNotFoundError as error:
        return [Damage(Path(str(error.filename)).name, "is missing: the folder was never completed, or half deleted")]
    except OSError as error:
        return [Damage(Path(str(error.filename)).name, f"cannot be read ({error.strerror})")]
    if hashlib.sha256(manifest).hexdigest() != marker:
        return [Damage(MANIFEST_FILE, "does not match its marker")]
    files = json.loads(manifest)["files"]
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    damage = [Damage(name, "is missing") for name in sorted(set(files) - set(found))]
    damage += [Damage(name, "does not belong here") for name in sorted(set(found) - set(files))]
    for name in sorted(set(files) & set(found)):
        damage += _compare(name, found[name], files[name]["bytes"], files[name]["sha256"])
    return damage


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _settle(path: Path) -> dict[str, Any]:
    """Bring a file to disk; returns its entry in the manifest."""
    entry = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    to_disk(path)
    return entry


def _linked_files(folder: Path, previous: Path | None) -> dict[str, dict[str, Any]]:
    """Manifest entries of files that two folders share."""
    if previous is None:
        return {}
    try:
        entries: dict[str, dict[str, Any]] = json.loads((previous / MANIFEST_FILE).read_bytes())["files"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: entry for name, entry in entries.items() if _is_same_file(folder / name, previous / name)}


def _is_same_file(one: Path, two: Path) -> bool:
    try:
        return one.samefile(two)
    except OSError:
        return False


def _compare(name: str, path: Path, size: int, sha256: str) -> list[Damage]:
    try:
        actual = path.stat().st_size
        if actual != size:
            return [Damage(name, f"has {actual} bytes instead of {size}")]
        if file_sha256(path) != sha256:
            return [Damage(name, "has other content than was written (SHA-256 differs)")]
    except OSError as error:
        return [Damage(name, f"cannot be read ({error.strerror})")]
    return []


def _files(folder: Path) -> list[Path]:
    own = {folder / MANIFEST_FILE, folder / MARKER_FILE}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in own)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    to_disk(path)
