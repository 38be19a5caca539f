"""Store: objects below an address such as ``s3://bucket/results/dow``, tried again where the store does not answer."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import unquote

from common.errors import InputError
from common.files import WriteError, json_object, whole_file
from common.paths import home_path

T = TypeVar("T")
PATIENCE_S = 60.0
"""How long a store that does not answer is tried again before a save is given up."""
_SAID_S, _FIRST_S = 5.0, 30.0
"""After how long it is said that a store has not answered yet, and for how long its first answer is waited for."""
_CHUNK_BYTES = 1 << 22


_USER = re.compile(r"://[^/?#\s@]*:[^?#\s@]*@")
"""Who reaches a store, and by which password: ``s3://KEY:SECRET@bucket``; a secret may hold strokes."""
_OPTION = re.compile(r"[?&;][^=&;?\s]*(?:key|secret|token|passw|credential|signature)[^=&;?\s]*=", re.IGNORECASE)
_REDACTED = "..."


def holds_keys(text: str) -> bool:
    """Whether an address holds what opens a store, as ``s3://KEY:SECRET@bucket`` or ``?secret_key=SECRET`` do."""
    plain = unquote(text)
    return "://" in plain and (_USER.search(plain) is not None or _OPTION.search(plain) is not None)


def check_no_keys(text: str, *, setting: str) -> None:
    """Refuse an address that holds keys: it would stand in records, logs and objects, for everybody who reads them.

    Args:
        text: An address, or anything else.
        setting: What named it, for the message, which does not repeat the keys.

    Raises:
        InputError: saying how keys are given.
    """
    if holds_keys(text):
        raise InputError(
            f"{setting} is an address with keys in it, which would be written into files: leave them out, and give "
            "them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by ~/.aws/credentials, or by the machine's role"
        )


def without_keys(value: Any) -> Any:
    """The same text, or tree of lists and mappings, in which no address holds keys."""
    if isinstance(value, Mapping):
        return {name: without_keys(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_keys(item) for item in value]
    if not isinstance(value, str) or not holds_keys(value):
        return value
    return re.sub(r"://\S*", f"://{_REDACTED}", unquote(value))


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address in a store (``s3://bucket/folder``)."""
    return "://" in str(path)


def join(address: str, *names: str) -> str:
    """Append names to an address, before its options (``s3://bucket/a?scheme=http``)."""
    base, mark, options = address.partition("?")
    return "/".join([base.rstrip("/"), *names]) + mark + options


class Store:
    """Objects below one address; names are relative to it.

    Args:
        address: With options: ``s3://bucket/results/dow?endpoint_override=host:9000&scheme=http``.
        patience_s: How long a store that does not answer is tried again.

    Raises:
        InputError: if the address cannot be understood, or holds keys.
    """

    def __init__(self, address: str, *, patience_s: float = PATIENCE_S) -> None:
        from pyarrow import fs  # only now: most commands open no store

        check_no_keys(address, setting="the storage")
        self.address, self.patience_s = address, patience_s
        self._has_answered = False
        try:
            self._fs, self._root = self._in_time(lambda: fs.FileSystem.from_uri(address))
        except Exception as error:  # pyarrow raises several kinds
            raise InputError(f"{address} cannot be used: {str(error).splitlines()[0]}") from None

    def copy(self, name: str, target: str) -> None:
        """Copy an object within the store."""
        self._make_room(target)
        self._try(lambda: self._fs.copy_file(self._at(name), self._at(target)))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def names(self, below: str = "") -> set[str]:
        """Names of all objects below a folder, relative to it."""
        from pyarrow import fs

        base = self._at(below)
        found = self._try(lambda: self._fs.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True)))
        return {info.path[len(base) + 1 :] for info in found if info.type == fs.FileType.File}

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where it is missing."""
        from pyarrow import fs

        info = self._try(lambda: self._fs.get_file_info(self._at(name)))
        return info.size if info.type == fs.FileType.File else None

    def get_json(self, name: str) -> dict[str, Any] | None:
        """Read a small object; None where it is missing, empty where it is damaged."""

        def read() -> bytes:
            with self._fs.open_input_stream(self._at(name)) as stream:
                return bytes(stream.read())

        try:
            return json_object(self._try(read))
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write a small object whole.

        Raises:
            OSError: if the store does not take it.
        """

        def write() -> None:
            self._make_room(name)
            with self._fs.open_output_stream(self._at(name)) as stream:
                stream.write(content)

        self._try(write)

    def upload(self, path: Path, name: str) -> None:
        """Write a file into an object, which is there when all of it is.

        Raises:
            OSError: if the store does not take it.
        """

        def write() -> None:
            self._make_room(name)
            with path.open("rb") as file, self._fs.open_output_stream(self._at(name)) as stream:
                shutil.copyfileobj(file, stream, _CHUNK_BYTES)

        self._try(write)

    def download(self, name: str, path: Path) -> bool:
        """Bring an object into a file, which is whole or not there; False where the object is missing."""

        def read(target: Path) -> None:
            with self._fs.open_input_stream(self._at(name)) as stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, _CHUNK_BYTES)

        try:
            with whole_file(path) as temporary:
                self._try(lambda: read(temporary))
        except WriteError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise
        return True

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        with suppress(FileNotFoundError):
            self._try(lambda: self._fs.delete_file(self._at(name)))

    def delete_all(self, folder: str) -> None:
        """Delete every object below a folder."""
        with suppress(FileNotFoundError):
            self._try(lambda: self._fs.delete_dir(self._at(folder)))

    def _make_room(self, name: str) -> None:
        if self._fs.type_name == "local":  # a store that is a folder after all, where folders must exist
            self._fs.create_dir(self._at(name).rsplit("/", 1)[0], recursive=True)

    def _try(self, act: Callable[[], T]) -> T:
        """Do something with the store, again and again where it does not answer, for as long as patience lasts."""
        deadline = time.monotonic() + self.patience_s
        pause = 0.5
        while True:
            try:
                found = act() if self._has_answered else self._in_time(act)
            except (FileNotFoundError, _NoAnswerError):
                raise
            except OSError:
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(2.0 * pause, 8.0)
            else:
                self._has_answered = True
                return found

    def _in_time(self, act: Callable[[], T]) -> T:
        """Do what may wait for a network that is not there, as some stores do for many minutes, deaf to signals.

        Raises:
            OSError: if there is no answer in time, or it is an error.
        """
        from pyarrow.lib import ArrowException

        answer: Future[T] = Future()

        def ask() -> None:
            try:
                answer.set_result(act())
            except ArrowException as error:
                answer.set_exception(error if isinstance(error, (OSError, ValueError)) else OSError(str(error)))
            except BaseException as error:
                answer.set_exception(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_SAID_S)
        if asking.is_alive():
            print(f"{self.address} does not answer yet: trying for {_FIRST_S:.0f} seconds", flush=True)
            asking.join(_FIRST_S - _SAID_S)
        if asking.is_alive():
            raise _NoAnswerError(f"no answer within {_FIRST_S:.0f} seconds: are the address right and the network up?")
        return answer.result()


class _NoAnswerError(OSError):
    """A store has not answered at all: it will not do so any sooner where it is asked again."""


@overload
def absolute(path: str) -> str: ...
@overload
def absolute(path: str | tuple[str, ...]) -> str | tuple[str, ...]: ...
def absolute(path: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Make a path absolute, or each of several; an address in a store stays as it is."""
    if isinstance(path, tuple):
        return tuple(absolute(one) for one in path)
    return path if is_remote(path) else str(home_path(path).absolute())


def first_line(error: BaseException) -> str:
    """What a store has answered, without the rest of it."""
    return (str(error).splitlines() or [type(error).__name__])[0]
