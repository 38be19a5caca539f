"""Scribe: a process that publishes checkpoints, so that writing them takes no Python from the one that trains.

A thread beside the training would cost it as much again as taking the snapshot does: whenever the thread comes back
from a call of the system, it and the training wait for one another. Here the training copies what is new into memory
that both processes see, and goes on.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algos.settled import fill_folder, pour
from experiments.recovery.shelf import CheckpointShelf

if TYPE_CHECKING:
    from algos.snapshots import Snapshot

_ROOT = Path(__file__).resolve().parents[2]
_WINDOW = 1 << 25
"""Bytes of memory that both processes see; of a checkpoint with more, the rest follows as they are written."""
_AT_ONCE = 1 << 20
"""Bytes in a part of what is read of it."""
_MORE = "more"
"""What the scribe answers when it has written all that it sees, and that is not all."""
_LEFT_TO_THE_TRAINING = {signal.SIGINT, signal.SIGTERM}
"""Signals that are sent to all of a run's processes, or to those of a machine that is taken away: what the training
makes of them may be one more checkpoint."""

Step = tuple[str, Mapping[str, Any]]
"""Name of a method of ``CheckpointShelf``, and its settings."""


@dataclass(frozen=True)
class _Request:
    """What to do with the checkpoints of a trial.

    Attributes:
        shelf: Where they are.
        steps: Names of its methods, and their settings; once one of them has failed nothing more is done.
        sizes: Bytes of each new file of a checkpoint, which lie in the memory in this order.
        links: Files that are there already (see ``fill_folder``).
    """

    shelf: CheckpointShelf
    steps: Sequence[Step]
    sizes: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is to be published.

    Attributes:
        snapshot: What it holds.
        request: What the scribe is told of it.
        windows: What it holds, by memories full; the first of them is in the memory.
    """

    snapshot: Snapshot
    request: _Request
    windows: list[list[memoryview]]


class Scribe:
    """The process beside this one; it ends with this one, however this one ends.

    One thing is asked of it at a time, from whichever thread.
    """

    def __init__(self) -> None:
        self._memory = _shared_memory()
        self._process, self._connection = _start(self._memory)

    def take(self, shelf: CheckpointShelf, snapshot: Snapshot, *, previous: Path | None = None) -> Draft:
        """Take over a snapshot; unless it is a very large one, nothing is read of it any more from now on.

        Args:
            shelf: Where it is to be published.
            snapshot: What the checkpoint holds.
            previous: A checkpoint that it may hold links to.

        Raises:
            OSError: if there is no memory for it.
        """
        contents = snapshot.contents()
        sizes = {name: sum(map(len, parts)) for name, parts in contents.items()}
        request = _Request(shelf, [("publish", {"previous": previous})], sizes, snapshot.links())
        draft = Draft(snapshot, request, _windows(part for parts in contents.values() for part in parts))
        self._show(draft.windows[0])
        if len(draft.windows) == 1:
            snapshot.release()
        return draft

    def publish(self, draft: Draft, then: Sequence[Step] = ()) -> tuple[Path, tuple[str, OSError] | None]:
        """Publish what was taken over last (see ``CheckpointShelf.publish``), and do something after it.

        Args:
            draft: What was taken over.
            then: What is to be done once it is there.

        Returns:
            The published folder; and which of the steps after it failed and why, None where none did.

        Raises:
            OSError: if it cannot be written; what was published before is untouched.
        """
        request = replace(draft.request, steps=[*draft.request.steps, *then])
        try:
            path, *after = self._ask(request, draft.windows)
        finally:
            draft.snapshot.release()
        if after and isinstance(after[-1], OSError):
            return path, (then[len(after) - 1][0], after[-1])
        return path, None

    def ask(self, shelf: CheckpointShelf, step: Step) -> Any:
        """Have one thing done, and return what it returns.

        Raises:
            OSError: as the shelf does.
        """
        return self._ask(_Request(shelf, [step]))[0]

    def close(self) -> None:
        """End the process."""
        self._end()
        os.close(self._memory)

    def _ask(self, request: _Request, windows: list[list[memoryview]] | None = None) -> list[Any]:
        """Have something done; where the process has died, have another one do it, once.

        Returns:
            What each step has returned; the last one may be the OSError that it has raised.

        Raises:
            OSError: as the first step has raised it, or the second process has died too.
            RuntimeError: for any other error, with its traceback.
        """
        for is_last in (False, True):
            try:
                answer = self._answer(request, windows or [])
                break
            except (EOFError, OSError):
                self._end()
                if is_last:
                    raise OSError(f"the process that writes was ended twice ({_ending(self._process)})") from None
                self._process, self._connection = _start(self._memory)
                if windows is not None and len(windows) > 1:
                    self._show(windows[0])
        if isinstance(answer[-1], RuntimeError) or isinstance(answer[0], OSError):
            raise answer[-1]
        return list(answer)

    def _answer(self, request: _Request, windows: list[list[memoryview]]) -> Any:
        self._connection.send(request)
        for window in windows[1:]:
            if (answer := self._connection.recv()) != _MORE:
                return answer
            self._show(window)
            self._connection.send(_MORE)
        return self._connection.recv()

    def _show(self, window: Iterable[memoryview]) -> None:
        os.lseek(self._memory, 0, os.SEEK_SET)
        pour(self._memory, window)

    def _end(self) -> None:
        self._connection.close()
        self._process.wait()


def _shared_memory() -> int:
    """A file of memory."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("checkpoint")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.truncate(handle, _WINDOW)
    return handle


def _windows(parts: Iterable[bytes | memoryview]) -> list[list[memoryview]]:
    """The parts by memories full, at least one."""
    windows: list[list[memoryview]] = [[]]
    room = _WINDOW
    for part in parts:
        left = memoryview(part)
        while left:
            if not room:
                windows.append([])
                room = _WINDOW
            windows[-1].append(left[:room])
            left, room = left[room:], room - len(windows[-1][-1])
    return windows


def _start(memory: int) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_TRAINING)  # what starts now inherits that
    try:
        with theirs:
            handles = [theirs.fileno(), memory]
            code = "from experiments.recovery.scribe import serve; serve()"
            search_path = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(_ROOT)]
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *map(str, handles), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=handles,
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(search_path)),
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, Connection(ours.detach())


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


# --- the other side ---------------------------------------------------------------------------------------------------


def serve() -> None:
    """Do what is asked, until nobody is there to ask: the process's whole life."""
    handle, memory, parent = map(int, sys.argv[1:])
    seen = mmap.mmap(memory, _WINDOW, access=mmap.ACCESS_READ)
    with Connection(handle) as connection:
        try:
            while True:
                connection.send(_done(connection.recv(), connection, seen, parent))
        except (EOFError, OSError):
            return


def _done(request: _Request, connection: Connection, seen: mmap.mmap, parent: int) -> list[Any]:
    """Do it.

    Returns:
        What each step has returned; the last one may be an error, an OSError as it was raised or a RuntimeError.

    Raises:
        EOFError: if nobody is there any more who asked for it.
    """

    def write(folder: Path) -> Any:
        reader = _Reader(connection, seen, is_all=sum(request.sizes.values()) <= _WINDOW)
        settled = fill_folder(folder, {n: reader.take(size) for n, size in request.sizes.items()}, request.links)
        if os.getppid() != parent:  # its run may be going on elsewhere by now
            raise EOFError
        return settled

    done: list[Any] = []
    try:
        for name, settings in request.steps:
            what = partial(request.shelf.publish, write) if name == "publish" else getattr(request.shelf, name)
            done.append(what(**settings))
    except EOFError:
        raise
    except OSError as error:
        done.append(error)
    except Exception:
        done.append(RuntimeError(f"in the process that writes checkpoints:\n{traceback.format_exc()}"))
    return done


class _Reader:
    """Reads what is in the memory, one thing after the other.

    Args:
        connection: To whom fills it.
        seen: The memory.
        is_all: Whether it will not be filled again.
    """

    def __init__(self, connection: Connection, seen: mmap.mmap, *, is_all: bool) -> None:
        self.connection, self.seen, self.is_all, self.at = connection, seen, is_all, 0

    def take(self, num_bytes: int) -> Iterator[bytes | memoryview]:
        """The next so many, in parts that stay what they are.

        Raises:
            EOFError: if nobody is there any more to fill the memory.
        """
        while num_bytes:
            if self.at == _WINDOW:
                self._turn()
            part = memoryview(self.seen)[self.at : min(self.at + min(num_bytes, _AT_ONCE), _WINDOW)]
            self.at += len(part)
            num_bytes -= len(part)
            yield part if self.is_all else bytes(part)

    def _turn(self) -> None:
        try:
            self.connection.send(_MORE)
            self.connection.recv()
        except OSError:
            raise EOFError from None
        self.at = 0
