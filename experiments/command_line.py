"""What every verb shares: exit codes, one-line errors, the log, and ``--json``."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

from pydantic import ValidationError

from common.errors import IncompatibleError, InputError
from common.files import WriteError, check_file_writable, write_json
from common.store import check_no_keys, without_keys
from experiments.interrupts import EXIT_CODE, end_of_imports
from experiments.runs.folders import check_results_file

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, EXIT_CODE
Verb = Callable[[Sequence[str]], int | None]

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def main(verb: Verb, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and leave the process with its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.

    Args:
        verb: Takes the words after the program's name; returns its exit code, None for 0.
        argv: Words after the program's name; None takes them from ``sys.argv``.
    """
    sys.exit(exit_code(verb, sys.argv[1:] if argv is None else argv))


def exit_code(verb: Verb, argv: Sequence[str]) -> int:
    """Run a verb; turn whatever ends it into an exit code and, for an error, one line on stderr.

    A traceback goes to the log where one is open, else to stderr before the line; a mistake of the user's and a full
    disk have none.
    """
    _forget_script_folder()
    end_of_imports()
    try:
        _check_no_keys(argv)
        return verb(argv) or DONE
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else DONE if request.code is None else FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if is_user_error(error):
            print(f"error: {one_line(error)}", file=sys.stderr)
            return BAD_INPUT
        if is_disk_error(error):
            print(f"error: {one_line(error)}", file=sys.stderr)
            return FAILED
        if is_memory_error(error):
            print(f"error: too little memory on this machine ({one_line(error)}): ask for less", file=sys.stderr)
            return FAILED
        log = getattr(error, "log_path", None)
        if log is None:
            traceback.print_exc()
        kept = f" (traceback in {log})" if log else ""
        print(f"error: {type(error).__name__}: {one_line(error)}{kept}", file=sys.stderr)
        return FAILED


def _check_no_keys(argv: Sequence[str]) -> None:
    """Refuse an address with keys before anything is read or written, whichever flag it follows.

    Raises:
        InputError: naming the flag.
    """
    flag = "the path"
    for word in argv:
        flag = word.partition("=")[0] if word.startswith("--") else flag
        check_no_keys(word, setting=flag)


def is_user_error(error: BaseException) -> bool:
    """Whether an error is one that the user caused and can mend, also when a worker process raised it."""
    if isinstance(error, (InputError, IncompatibleError, ValidationError)):
        return True
    cause = getattr(error, "cause", None)  # where Ray keeps what a worker raised
    return isinstance(cause, BaseException) and cause is not error and is_user_error(cause)


def is_disk_error(error: BaseException) -> bool:
    """Whether the work was ended by a disk that is full, read-only or closed to us, and not by this program."""
    return isinstance(error, WriteError) or (isinstance(error, OSError) and error.errno in _DISK_ERRORS)


def is_memory_error(error: BaseException) -> bool:
    """Whether an array did not fit into memory: NumPy and Python have an error for that, torch has words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def one_line(error: BaseException) -> str:
    """Give an error's message without line breaks."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException) and is_user_error(cause):
        error = cause
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def log_to(path: str | Path) -> Iterator[None]:
    """Copy everything that is printed, on stdout and stderr, into a file as well; a file that exists is appended to.

    The file gets no colour codes, and begins each time with the date and the command. An unexpected error is written
    there with its traceback, and ``exit_code`` then prints one line only.

    Raises:
        InputError: if the file cannot be written to.
        WriteError: if the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(error.errno, f"cannot write the log {path}: {error.strerror}") from error
        raise InputError(f"cannot write the log {path}: {error.strerror or error}") from error
    out, err = sys.stdout, sys.stderr
    with file:
        file.write(f"\n=== {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {' '.join(without_keys(sys.argv))}\n")
        sys.stdout, sys.stderr = _Tee(out, file), _Tee(err, file)
        try:
            yield
        except Exception as error:
            if not is_user_error(error) and not is_disk_error(error):
                traceback.print_exc(file=file)
                error.log_path = path  # type: ignore[attr-defined]
            else:
                file.write(f"error: {one_line(error)}\n")
            raise
        except KeyboardInterrupt:
            file.write("interrupted\n")
            raise
        finally:
            sys.stdout, sys.stderr = out, err


def check_json_flag(path: str | None) -> None:
    """Refuse a ``--json`` file that could not be written, before the work is done.

    Raises:
        InputError: if its folder cannot be written to.
    """
    if path is not None:
        check_file_writable(path, setting="--json")
        check_results_file(path, setting="--json")


def write_json_flag(path: str | None, payload: Any) -> None:
    """Write what a verb prints to the ``--json`` file, if one was asked for."""
    if path is not None:
        write_json(path, payload)


@contextmanager
def _disk_may_be_full() -> Iterator[None]:
    """Go on where something cannot be written now; a reader that has gone away is another matter."""
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise


class _Tee(io.TextIOBase):
    """A text stream that writes to the screen and, without colour codes, to a file."""

    def __init__(self, screen: TextIO, file: TextIO) -> None:
        self._screen, self._file = screen, file

    def write(self, text: str) -> int:
        with _disk_may_be_full():  # the screen may be a file too
            self._screen.write(text)
        with suppress(OSError):  # a full disk must not end what is being logged
            self._file.write(_ANSI.sub("", text))
        return len(text)

    def flush(self) -> None:
        with _disk_may_be_full():
            self._screen.flush()
        with suppress(OSError):
            self._file.flush()

    def isatty(self) -> bool:
        return self._screen.isatty()

    def fileno(self) -> int:
        return self._screen.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._screen.encoding

    def writable(self) -> bool:
        return True


def _forget_script_folder() -> None:
    """Take the script's own folder off the module path, where ``config.py`` or ``run.py`` could hide other modules."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if not entry or str(Path(entry).resolve()) != here]
