"""Scribe: a process that publishes checkpoints, so that writing them takes little Python from the one that trains.

A thread beside the training would cost it as much again as taking the snapshot does: whenever the thread comes back
from a call of the system, it and the training wait for one another. Here the training copies what is new into memory
that both processes see, and goes on.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from common.disk import BLOCK, SMALL, Settled, fill_folder
from experiments.recovery.alone import alone_in
from experiments.recovery.checkpoints import TrialCheckpoints

if TYPE_CHECKING:
    from algos.snapshots import Snapshot

_CODE = "from experiments.recovery.writer import serve; serve()"
"""What the process runs; the numbers after it are two handles, a size, and last the training that asks it."""
_ROOT = Path(__file__).resolve().parents[2]
_WINDOW = 1 << 25
"""Bytes of memory that both processes see; of a checkpoint with more, the rest follows as they are written."""
_AT_ONCE = 1 << 20
"""Bytes in a part of what is read of it."""
_NOTHING = memoryview(bytes(BLOCK))
_MORE = "more"
"""What the scribe says when it has read all that it sees and that is not all, and hears when there is more to see."""
_LEFT_TO_THE_TRAINING = {signal.SIGINT, signal.SIGTERM}
"""Signals that are sent to all of a run's processes, or to those of a machine that is taken away: what the training
makes of them may be one more checkpoint."""

Step = tuple[str, Mapping[str, Any]]
"""Name of a method of ``TrialCheckpoints``, and its settings."""


@dataclass(frozen=True)
class _Request:
    """What to do with the checkpoints of a trial.

    Attributes:
        checkpoints: Where they are.
        steps: Names of its methods, and their settings; once one of them has failed nothing more is done.
        path: Final name of the checkpoint that is to be published.
        sizes: Bytes of each new file of a checkpoint, which lie in the memory in this order, each from the beginning of
            a block on.
        links: Files that are there already (see ``fill_folder``).
        is_again: Whether a process that was asked before has died: it may have done some of it.
    """

    checkpoints: TrialCheckpoints
    steps: Sequence[Step]
    path: Path | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    is_again: bool = False


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

    Raises:
        OSError: if no process can be started.
    """

    def __init__(self) -> None:
        self._memory = _SharedMemory()
        try:
            self._process, self._connection = _start(self._memory.handle)
        except BaseException:
            self._memory.close()
            raise

    def take(
        self,
        checkpoints: TrialCheckpoints,
        snapshot: Snapshot,
        *,
        path: Path | None = None,
        previous: Path | None = None,
    ) -> Draft:
        """Take over a snapshot; unless it is a very large one, nothing is read of it any more from now on.

        Args:
            checkpoints: Where it is to be published.
            snapshot: What the checkpoint holds.
            path: Final name of the checkpoint; by default the checkpoints's next one.
            previous: A checkpoint that it may hold links to.

        Returns:
            For ``publish``.

        Raises:
            OSError: if there is no memory for it.
            ValueError: if this has been closed.
        """
        contents = snapshot.contents()
        sizes = {name: sum(map(len, parts)) for name, parts in contents.items()}
        links = {
            n: s if os.path.isabs(s) else os.path.abspath(s) for n, s in snapshot.links().items()
        }  # abspath is slow
        step: Step = ("publish", {"previous": previous and previous.absolute()})
        request = _Request(_absolute(checkpoints), [step], (path or checkpoints.next_path()).absolute(), sizes, links)
        draft = Draft(snapshot, request, _windows(contents.values()))
        self._memory.show(draft.windows[0])
        if len(draft.windows) == 1:
            snapshot.release()
        return draft

    def publish(self, draft: Draft, then: Sequence[Step] = ()) -> tuple[Path, tuple[str, OSError] | None]:
        """Publish what was taken over last (see ``TrialCheckpoints.publish``), and do something after it.

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

    def ask(self, checkpoints: TrialCheckpoints, step: Step) -> Any:
        """Have one thing done.

        Args:
            checkpoints: Whose method it is.
            step: Which one.

        Returns:
            What the method returns.

        Raises:
            OSError: as the checkpoints does.
            ValueError: if this has been closed.
        """
        return self._ask(_Request(_absolute(checkpoints), [step]))[0]

    def close(self) -> None:
        """End the process; nothing can be asked any more."""
        self._end()
        self._memory.close()

    def _ask(self, request: _Request, windows: list[list[memoryview]] | None = None) -> list[Any]:
        """Have something done; where the process has died, have another one do it, once.

        Returns:
            What each step has returned; the last one may be the OSError that it has raised.

        Raises:
            OSError: as the first step has raised it, there is no memory, or the second process has died too.
            RuntimeError: for any other error, with its traceback.
        """
        for is_last in (False, True):
            if self._process.poll() is not None:
                self._end()
                self._process, self._connection = _start(self._memory.handle)
            try:
                answer = self._answer(request, windows or [])
                break
            except _NobodyThereError:
                self._end()
                if is_last:
                    raise OSError(f"the process that writes was ended twice ({_ending(self._process)})") from None
                request = replace(request, is_again=True)
                if windows is not None and len(windows) > 1:
                    self._memory.show(windows[0])
            except OSError:  # of the memory, while the process waits for more
                self._end()
                raise
        if isinstance(answer[-1], RuntimeError) or isinstance(answer[0], OSError):
            raise answer[-1]
        return answer

    def _answer(self, request: _Request, windows: list[list[memoryview]]) -> list[Any]:
        _say(self._connection, request)
        for window in windows[1:]:
            if (answer := _hear(self._connection)) != _MORE:
                return list(answer)
            self._memory.show(window)
            _say(self._connection, _MORE)
        return list(_hear(self._connection))

    def _end(self) -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)  # whoever else was given it when this process was copied
        self._connection.close()
        self._process.wait()


class _NobodyThereError(Exception):
    """The process at the other end of the connection has ended."""


def _say(connection: Connection, what: Any) -> None:
    try:
        connection.send(what)
    except OSError:
        raise _NobodyThereError from None


def _hear(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        raise _NobodyThereError from None


def _absolute(checkpoints: TrialCheckpoints) -> TrialCheckpoints:
    """The same for a process that has another working folder."""
    return TrialCheckpoints(checkpoints.folder.absolute())


class _SharedMemory:
    """Memory that both processes see: a file of memory or, where the system has none, one that has no name."""

    def __init__(self) -> None:
        file: IO[bytes]
        if hasattr(os, "memfd_create"):
            file = os.fdopen(os.memfd_create("checkpoint"), "r+b", buffering=0)
        else:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed with this
        file.truncate(_WINDOW)
        self._file, self._num_there = file, 0
        self._seen = mmap.mmap(self.handle, _WINDOW)

    @property
    def handle(self) -> int:
        """The file's.

        Raises:
            ValueError: if it has been given back.
        """
        return self._file.fileno()

    def show(self, window: Sequence[memoryview]) -> None:
        """Put parts there, one after the other.

        Raises:
            OSError: if there is no memory for them.
            ValueError: if it has been given back.
        """
        handle, size, at = self.handle, sum(map(len, window)), 0
        while self._num_there < size:  # where there is none, a call tells; touching it would end this process
            self._num_there += os.pwrite(handle, bytes(min(size - self._num_there, _AT_ONCE)), self._num_there)
        for part in window:
            self._seen[at : at + len(part)] = part
            at += len(part)

    def close(self) -> None:
        """Give it back."""
        self._seen.close()
        self._file.close()


def _windows(files: Iterable[Iterable[bytes | memoryview]]) -> list[list[memoryview]]:
    """The parts of all files by memories full, at least one; files are filled up to whole blocks."""
    windows: list[list[memoryview]] = [[]]
    room = _WINDOW
    for parts in files:
        for part in parts:
            left = memoryview(part)
            while left:
                if not room:
                    windows.append([])
                    room = _WINDOW
                windows[-1].append(left[:room])
                left, room = left[room:], room - len(windows[-1][-1])
        filled = _WINDOW - room
        if rest := _blocks(filled) - filled:
            windows[-1].append(_NOTHING[:rest])
            room -= rest
    return windows


def _start(memory: int) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_TRAINING)  # what starts now inherits that
    try:
        with theirs:
            handles = [theirs.fileno(), memory]
            numbers = [*handles, _WINDOW, os.getpid()]
            search_path = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(_ROOT)]
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=handles,
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(search_path)),
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, Connection(ours.detach())


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


# --- the other side ---------------------------------------------------------------------------------------------------


def serve() -> None:
    """Do what is asked, until nobody is there to ask: the process's whole life."""
    handle, memory, window, parent = map(int, sys.argv[1:])
    seen = mmap.mmap(memory, window, access=mmap.ACCESS_READ)
    with Connection(handle) as connection, suppress(_NobodyThereError):
        while True:
            request = _hear(connection)
            _say(connection, _done(request, connection, seen, parent))


def _done(request: _Request, connection: Connection, seen: mmap.mmap, parent: int) -> list[Any]:
    """Do it, alone: a process that has not yet seen its training die is waited for.

    Returns:
        What each step has returned; the last one may be an error, an OSError as it was raised or a RuntimeError.

    Raises:
        _NobodyThereError: if the training that asked for it is gone: its run may be going on elsewhere by now.
    """

    def confirm() -> None:
        if os.getppid() != parent:
            raise _NobodyThereError

    def write(folder: Path) -> dict[str, Settled]:
        reader = _Reader(connection, seen, is_all=sum(map(_blocks, request.sizes.values())) <= len(seen))
        return fill_folder(folder, {n: reader.take(size) for n, size in request.sizes.items()}, request.links)

    def publish(**settings: Any) -> Path:
        assert request.path is not None
        if not (request.is_again and request.path.is_dir()):
            request.checkpoints.publish(write, path=request.path, confirm=confirm, **settings)
        return request.path

    done: list[Any] = []
    try:
        with alone_in(request.checkpoints.folder, code=_CODE):
            for name, settings in request.steps:
                confirm()
                done.append((publish if name == "publish" else getattr(request.checkpoints, name))(**settings))
    except _NobodyThereError:
        raise
    except OSError as error:
        done.append(error)
    except MemoryError:
        done.append(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    except Exception:
        done.append(RuntimeError(f"in the process that writes checkpoints:\n{traceback.format_exc()}"))
    return done


def _blocks(num_bytes: int) -> int:
    """Bytes of the whole blocks that hold so many."""
    return -(-num_bytes // BLOCK) * BLOCK


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
        """The next so many, from the beginning of a block on, in parts; small ones stay what they are.

        Raises:
            _NobodyThereError: if nobody is there any more to fill the memory.
        """
        self.at = _blocks(self.at)
        while num_bytes:
            if self.at == len(self.seen):
                _say(self.connection, _MORE)
                _hear(self.connection)
                self.at = 0
            part = memoryview(self.seen)[self.at : self.at + min(num_bytes, _AT_ONCE)]
            self.at += len(part)
            num_bytes -= len(part)
            yield part if self.is_all or len(part) > SMALL else bytes(part)
