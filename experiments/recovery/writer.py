"""CheckpointWriter: a thread that publishes checkpoints while the training goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.recovery.checkpoints import TrialCheckpoints

if TYPE_CHECKING:
    from algos.snapshots import Snapshot

Step = tuple[str, Callable[[], Any]]
"""What is done once a checkpoint is there, after what is said where it fails."""


class Saved(NamedTuple):
    """A checkpoint that is there.

    Attributes:
        path: Its folder.
        failed: Which step after it failed, and why; None where none did.
    """

    path: Path
    failed: tuple[str, OSError] | None


class CheckpointWriter:
    """One thread, which publishes one checkpoint at a time; it ends with its process.

    Nothing is copied for it. What a snapshot holds is either its own, or memory of the replay buffer that the buffer
    leaves as it is for as long as the snapshot has not released it. Most of the work is hashing and calls of the
    system, during which the training has Python to itself.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[Saved] | None = None

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint has been begun whose end nobody has asked for yet (see ``finish``)."""
        return self._saving is not None

    def begin(
        self,
        checkpoints: TrialCheckpoints,
        snapshot: Snapshot,
        *,
        path: Path,
        previous: Path | None = None,
        then: Sequence[Step] = (),
    ) -> None:
        """Begin to publish a snapshot; the one before must be finished.

        Args:
            checkpoints: Where it is published.
            snapshot: What the checkpoint holds.
            path: Final name of the checkpoint, which nothing has.
            previous: A checkpoint that it may hold links to.
            then: What is done once it is there, in this order; after one that fails nothing more is done.
        """
        assert self._saving is None, "finish the checkpoint before this one first"
        self._saving = self._thread.submit(_save, checkpoints, snapshot, path, previous, then)

    def finish(self) -> Saved | None:
        """Wait for the checkpoint that was begun; None where there is none.

        Raises:
            OSError: if it could not be written; what was published before is untouched.
        """
        saving, self._saving = self._saving, None
        return None if saving is None else saving.result()

    def close(self) -> None:
        """End the thread, after the checkpoint that it is publishing."""
        self._thread.shutdown()


def _save(
    checkpoints: TrialCheckpoints, snapshot: Snapshot, path: Path, previous: Path | None, then: Sequence[Step]
) -> Saved:
    try:
        checkpoints.publish(snapshot.write, path=path, previous=previous)
    finally:
        snapshot.release()
    for failing, do in then:
        try:
            do()
        except OSError as error:
            return Saved(path, (failing, error))
    return Saved(path, None)
