"""Packs: the files of a checkpoint as one object of a store, and the marker that says what it holds.

A bucket may be written to by others. So a marker counts only if it is one in every part, and a pack only if it holds
the files that its manifest lists, each once and as large as told; all of it is checked before anything is written.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

from algos.replay_settings import REPLAY_FOLDER, SHARED_ENDING
from common.errors import InputError
from common.manifests import MANIFEST_FILE, MARKER_FILE, file_entries, is_sha256, is_size, listed_files
from common.paths import checked_name, path_in

PACK_PREFIX = "pack-"
_PACK = re.compile(rf"{PACK_PREFIX}[0-9a-f]{{16}}\.tar")
_SEGMENT = re.compile(rf"{REPLAY_FOLDER}/[^/]+{re.escape(SHARED_ENDING)}")
_CANNOT_READ = (tarfile.TarError, ValueError, ArithmeticError, LookupError, AttributeError, EOFError, RecursionError)
"""What Python's tarfile raises of archives that are none."""


def write_pack(pack: Path, checkpoint: Path, names: Collection[str]) -> None:
    """Pack the named files of a checkpoint.

    Raises:
        OSError: if it cannot be written.
    """
    with tarfile.open(pack, "w") as archive:
        for name in sorted(names):
            archive.add(checkpoint / name, arcname=name, recursive=False)


def checked_marker(marker: Mapping[str, Any], *, source: str) -> dict[str, Any] | None:
    """A marker that says all that one has to say; None for anything else.

    Args:
        marker: ``seal``, the SHA-256 of the checkpoint's manifest; ``pack``, ``bytes`` and ``sha256`` of the pack; and
            ``segments`` of the replay buffer, by path in the checkpoint.
        source: Where it was read.
    """
    try:
        segments = file_entries(marker.get("segments"), source=source)
    except InputError:
        return None
    is_one = (
        is_sha256(marker.get("seal"))
        and is_sha256(marker.get("sha256"))
        and is_size(marker.get("bytes"))
        and _PACK.fullmatch(str(marker.get("pack"))) is not None
        and all(map(_SEGMENT.fullmatch, segments))
    )
    return dict(marker) if is_one else None


def unpack(pack: Path, folder: Path, marker: Mapping[str, Any]) -> str | None:
    """Put the files of a pack into a folder that holds nothing but the segments.

    Args:
        pack: The archive, which is as large as its marker says.
        folder: Where its files go.
        marker: What ``checked_marker`` gave.

    Returns:
        What is wrong with the pack; None where all of it was unpacked.

    Raises:
        OSError: if something cannot be written.
    """
    try:
        with tarfile.open(pack, "r:") as archive:  # no compression, in which a few bytes may be as large as the disk
            members = _members(archive, most_bytes=marker["bytes"])
            _check_members(archive, members, marker)
            for name, member in members.items():
                path = path_in(folder, name, source=pack.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with _opened(archive, member) as source, path.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except InputError as error:
        return f"{marker['pack']}: {error}"
    except (FileExistsError, NotADirectoryError) as error:
        return f"{marker['pack']}: it holds one file in another ({Path(error.filename).name})"
    except _CANNOT_READ as error:
        return f"{marker['pack']} is no archive ({type(error).__name__})"
    return None


def _members(archive: tarfile.TarFile, *, most_bytes: int) -> dict[str, tarfile.TarInfo]:
    """The files of an archive by name.

    Raises:
        InputError: if something is no plain file, stands twice, or is larger than the archive.
    """
    members: dict[str, tarfile.TarInfo] = {}
    num_bytes = 0
    for member in archive:
        name = checked_name(member.name, source="the archive")
        if not member.isreg() or member.issparse():
            raise InputError(f"{name} is no plain file")
        if name in members:
            raise InputError(f"{name} stands twice")
        members[name] = member
        num_bytes += member.size
        if num_bytes > most_bytes:
            raise InputError(f"{name} is larger than the archive")
    return members


def _check_members(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], marker: Mapping[str, Any]) -> None:
    """Refuse an archive that does not hold what the sealed manifest in it lists, apart from the segments.

    Raises:
        InputError: naming the first file that differs.
    """
    if MANIFEST_FILE not in members:
        raise InputError(f"it holds no {MANIFEST_FILE}")
    with _opened(archive, members[MANIFEST_FILE]) as file:
        manifest = file.read()
    if hashlib.sha256(manifest).hexdigest() != marker["seal"]:
        raise InputError(f"its {MANIFEST_FILE} is not the one that was sealed")
    listed = listed_files(manifest, source=MANIFEST_FILE)
    sizes = {name: entry["bytes"] for name, entry in listed.items() if name not in marker["segments"]}
    sizes |= {MANIFEST_FILE: len(manifest), MARKER_FILE: len(marker["seal"])}
    found = {name: member.size for name, member in members.items()}
    if wrong := [name for name in sorted({*found, *sizes}) if found.get(name) != sizes.get(name)]:
        raise InputError(f"it holds {wrong[0]} otherwise than its {MANIFEST_FILE} says")


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """The content of a plain file of an archive."""
    file = archive.extractfile(member)
    assert file is not None
    return file
