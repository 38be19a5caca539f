"""Files written so that a reader never meets half of one."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.disk import to_disk
from common.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class WriteError(OSError):
    """A result could not be written: the disk is full or broken, or lost its permission, after the work had begun.

    Not the user's mistake: a folder that a setting names is refused before (see ``check_folder_writable``).
    """

    def __str__(self) -> str:
        """What could not be written and why, without the number of the error."""
        return str(self.strerror)


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: no NumPy scalars, no tuples, no paths; non-finite numbers become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy array or scalar, told without importing NumPy
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside the file to write to; after the block it is brought to disk and renamed over the file.

    Where the block or the disk fails, the file stays what it was. The path has the file's ending, by which some
    writers choose a format.

    Raises:
        WriteError: if something cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            to_disk(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WriteError(error.errno, f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole (see ``whole_file``).

    Raises:
        WriteError: if it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, payload: Any) -> None:
    """Write plain JSON whole (see ``write_text``); NaN and infinity become null, so that any reader accepts it."""
    write_text(path, json_text(payload))


def json_text(payload: Any) -> str:
    """Plain JSON as text; NaN and infinity become null, so that any reader accepts it."""
    return json.dumps(plain(payload), indent=2, allow_nan=False) + "\n"


def write_parquet(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet whole (see ``whole_file``).

    Raises:
        WriteError: if it cannot be written.
    """
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_text(path: str | Path) -> str:
    """Read a text file.

    Raises:
        InputError: if the file is missing or unreadable.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # no text in UTF-8, or a path that no system takes
        raise InputError(f"cannot read {path}: {error}") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file that this program wrote.

    Raises:
        InputError: if the file is missing, unreadable or damaged; the line says which.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: not JSON at line {error.lineno} ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        raise InputError(f"{path} is damaged: no JSON that this program wrote ({type(error).__name__})") from error


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object that bytes hold; empty where they are damaged, or hold something else."""
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_folder_writable(folder: str | Path, *, setting: str) -> None:
    """Refuse a folder that cannot be made or written to, before any work is done; nothing is created.

    Args:
        folder: Where results will go.
        setting: Name of the setting that named it, for the message.

    Raises:
        InputError: if it is a file, or cannot be made or written to.
    """
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(Path(folder))):
            pass
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{setting} is {folder}, which is not a folder: choose another place") from None
    except OSError as error:
        raise InputError(f"{setting} is {folder}, which cannot be written to ({error.strerror or error})") from error


def check_file_writable(path: str | Path, *, setting: str) -> None:
    """Refuse a file that could not be written later; nothing is created.

    Raises:
        InputError: if the path is a folder, or its folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{setting} is {path}, which is a folder: name a file in it")
    if not path.parent.exists():
        raise InputError(f"{setting} is {path}, but the folder {path.parent} does not exist: make it first")
    check_folder_writable(path.parent, setting=f"the folder of {setting}")


def _nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that there is: where the first missing one would be made."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
