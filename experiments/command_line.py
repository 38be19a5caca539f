"""What every verb shares: exit codes, one-line errors, the log, and ``--json``."""

from __future__ import annotations

import errno
import io
import logging
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

from common.errors import FaultsError, IncompatibleError, InputError
from common.files import WriteError, check_file_writable, write_json
from common.store import check_no_keys, without_keys
from experiments.interrupts import EXIT_CODE, end_of_imports
from experiments.runs.folders import check_results_file

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, EXIT_CODE
Verb = Callable[[Sequence[str]], int | None]

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it has no folder for its cache
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
    if os.path.expanduser("~") == "~":  # no HOME, and a user whom the system does not know, as in some containers
        os.environ["HOME"] = os.sep
    with _shown_as_it_can_be():
        return _exit_code(verb, argv)


def _exit_code(verb: Verb, argv: Sequence[str]) -> int:
    try:
        _check_no_keys(argv)
        code = verb(argv) or DONE
        try:
            sys.stdout.flush()
        except OSError as error:
            raise WriteError(error.errno, f"what was printed could not be written: {error.strerror}") from error
        return code
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else DONE if request.code is None else FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if is_user_error(error):
            print(f"error: {in_words(error)}", file=sys.stderr)
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


def in_words(error: BaseException) -> str:
    """Give an error's message in one line, or where it tells several faults in a line for each."""
    cause = getattr(error, "cause", None)
    error = cause if isinstance(cause, FaultsError) else error
    return str(error) if isinstance(error, FaultsError) else one_line(error)


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
        file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(error.errno, f"cannot write the log {path}: {error.strerror}") from error
        raise InputError(f"cannot write the log {path}: {error.strerror or error}") from error
    out, err = sys.stdout, sys.stderr

    def note(write: Callable[[], object]) -> None:
        with suppress(OSError):  # the disk may be full by now, and what has happened is told on the screen
            write()

    note(lambda: file.write(f"\n=== {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {' '.join(without_keys(sys.argv))}\n"))
    sys.stdout, sys.stderr = _Tee(out, file), _Tee(err, file)
    try:
        yield
    except Exception as error:
        if not is_user_error(error) and not is_disk_error(error):
            note(lambda: traceback.print_exc(file=file))
            error.log_path = path  # type: ignore[attr-defined]
        else:
            told = f"error: {in_words(error)}\n"
            note(lambda: file.write(told))
        raise
    except KeyboardInterrupt:
        note(lambda: file.write("interrupted\n"))
        raise
    finally:
        _finish(out, err, file)
        sys.stdout, sys.stderr = out, err
        file.close()


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
def _shown_as_it_can_be() -> Iterator[None]:
    """Let no text and no reader that has gone away end what is shown on stdout and stderr."""
    streams = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        if stream is None:  # it was closed before we began
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Screen(stream))
    try:
        yield
    finally:
        _finish(*streams)
        sys.stdout, sys.stderr = streams


def _finish(*streams: TextIO | None) -> None:
    """Bring out what was printed; what cannot be written is given up, for Python would try it again at its end."""
    for stream in filter(None, streams):
        try:
            stream.flush()
        except OSError:
            _let_be_for_nobody(stream)


def _let_be_for_nobody(stream: TextIO) -> None:
    with suppress(io.UnsupportedOperation):
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, stream.fileno())
        os.close(nobody)


class _Screen(io.TextIOBase):
    """A text stream whose reader, such as ``head``, may go away: then the rest is for nobody, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def _while_read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            _let_be_for_nobody(self._stream)

    def write(self, text: str) -> int:
        with self._while_read():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._while_read():
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def writable(self) -> bool:
        return True


class _Tee(_Screen):
    """A screen, which may be a file on a disk that is full now, and a file that gets the same without colour codes."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        super().__init__(stream)
        self._file = file

    @contextmanager
    def _while_read(self) -> Iterator[None]:
        try:
            with super()._while_read():
                yield
        except OSError as error:
            if not is_disk_error(error):
                raise

    def write(self, text: str) -> int:
        with suppress(OSError):  # a full disk must not end what is being logged
            self._file.write(_ANSI.sub("", text))
        return super().write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()
        super().flush()


def _forget_script_folder() -> None:
    """Take the script's own folder off the module path, where ``config.py`` or ``run.py`` could hide other modules."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if not entry or str(Path(entry).resolve()) != here]
