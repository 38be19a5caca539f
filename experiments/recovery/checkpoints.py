"""TrialCheckpoints: the numbered checkpoints of one trial, published whole, verified, kept and set aside."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.disk import Written, to_disk
from common.errors import InputError, shown
from common.files import json_object, read_json
from common.manifests import find_damage, seal
from common.paths import path_in
from experiments.recovery.names import BEST_FOLDER, META_FILE, PROGRESS_FILE, RECORD_FILE, RESULT_FILE, STATE_FILE

PREFIX = "checkpoint_"
STAGED_PREFIX = ".publishing-"
DAMAGED_PREFIX = "damaged-"
OVERTAKEN_PREFIX = "overtaken-"
"""Of checkpoints that are whole, but of a course of the run that another machine has not gone on with."""
_NAME = re.compile(rf"^(?:{DAMAGED_PREFIX}|{OVERTAKEN_PREFIX})?{PREFIX}(\d{{6}}|[1-9]\d{{6,}})(?:-\d+)?$")


def checkpoint_number(name: str) -> int:
    """The number in the name of a checkpoint, one that was set aside included; -1 in any other name."""
    found = _NAME.match(name)
    return int(found.group(1)) if found else -1


@dataclass(frozen=True)
class TrialCheckpoints:
    """The checkpoints of one trial.

    Attributes:
        folder: The trial's folder.
    """

    folder: Path

    def published(self) -> list[Path]:
        """Checkpoint folders under their final names, oldest first; not verified."""
        return [self.folder / name for name in self._folders(PREFIX) if checkpoint_number(name) >= 0]

    def damaged(self) -> list[Path]:
        """Folders that were set aside."""
        return [self.folder / name for name in self._folders(f"{DAMAGED_PREFIX}{PREFIX}")]

    def overtaken(self) -> list[Path]:
        """Folders of a course of the run that another machine has not gone on with."""
        return [self.folder / name for name in self._folders(f"{OVERTAKEN_PREFIX}{PREFIX}")]

    def _folders(self, prefix: str) -> list[str]:
        """Names of the folders that begin so, by their numbers."""
        try:
            with os.scandir(self.folder) as entries:
                found = [e.name for e in entries if e.name.startswith(prefix) and e.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda name: (checkpoint_number(name), name))

    def next_path(self) -> Path:
        """Name of the next checkpoint; numbers are never used twice, not even those of damaged folders."""
        number = max(map(checkpoint_number, self._folders("")), default=-1) + 1
        return self.folder / f"{PREFIX}{number:06d}"

    def publish(
        self,
        write: Callable[[Path], Mapping[str, Written] | None],
        *,
        previous: Path | None = None,
        path: Path | None = None,
    ) -> Path:
        """Write a checkpoint aside, seal it, and give it its name in one step.

        A kill at any moment leaves either the whole checkpoint under its name or nothing under it. The records of the
        iterations before it are on the disk before it has its name.

        Args:
            write: Fills an empty folder, and may return what files hold that it has brought to the disk.
            previous: A checkpoint that it may hold links to.
            path: Its final name, which nothing has; by default the next one.

        Returns:
            The published folder.

        Raises:
            OSError: if it cannot be written; what was published before is untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        final = path or self.next_path()
        staged = self.folder / f"{STAGED_PREFIX}{final.name}"
        try:
            staged.mkdir()
            written = write(staged)
            seal(staged, previous=previous, written=written)
            for record in filter(Path.is_file, (self.folder / RESULT_FILE, self.folder / PROGRESS_FILE)):
                to_disk(record)
            os.rename(staged, final)
        except BaseException:
            _delete(staged)
            raise
        return final

    def sync(self) -> None:
        """Bring the names of the checkpoints to disk: until then a power cut may take back the last ones.

        Raises:
            OSError: if the disk does not take them.
        """
        to_disk(self.folder)

    def newest_whole(
        self,
        report: Callable[[str], None] | None = print,
        *,
        may_rename: bool = True,
        bring_back: Callable[[Path], bool] | None = None,
    ) -> Path | None:
        """Verify from the newest down, and return the first that is whole; the one place where that is decided.

        Args:
            report: Told one line about each that is damaged; None: nobody is.
            may_rename: Set damaged folders aside; else they are left where they are, as where others write to them.
            bring_back: Called with the path of a damaged one; puts one that is whole there, and says whether it could.
        """
        brought_back = None
        for path in reversed(self.published()):
            if not (damage := find_damage(path)):
                return brought_back or path
            done = f"set aside as {rename_aside(path).name}" if may_rename else "passed over"
            if report is not None:
                more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
                report(f"checkpoint {path.name} is damaged, {damage[0]}{more}: {done}")
            if brought_back is None and bring_back is not None and bring_back(path):
                brought_back = path
        return brought_back

    def owed_best(self) -> Path | None:
        """The checkpoint that ``best_checkpoint`` should be a copy of and is not yet; None where it is.

        That one is gone, does not say what it is, or has been surpassed by the newest checkpoint that was the best of
        its time: by its score, and of equals by having been trained for longer. What a clock says does not count.
        """
        was_best = next((path for path in reversed(self.published()) if read_meta(path).get("is_best")), None)
        if was_best is None:
            return None
        kept, newest = read_meta(self.folder / BEST_FOLDER), read_meta(was_best)
        return was_best if not kept or _surpasses(newest, kept) else None

    def prune(self, keep: int, *, keep_every: int | None = None) -> None:
        """Delete the oldest checkpoints (see ``superfluous``), but for a best one that has not been copied yet."""
        self.sweep()
        for path in self.prunable(keep, keep_every=keep_every):
            doomed = path.with_name(f"{STAGED_PREFIX}deleting-{path.name}")
            os.rename(path, doomed)  # never a half-deleted folder under a checkpoint's name
            _delete(doomed)

    def prunable(self, keep: int, *, keep_every: int | None = None) -> list[Path]:
        """What ``prune`` would delete."""
        published = self.published()
        doomed = set(superfluous([path.name for path in published], keep, keep_every=keep_every))
        spared = (self.owed_best(), self.gone_back_to(keep)) if doomed else ()
        return [path for path in published if path.name in doomed and path not in spared]

    def gone_back_to(self, keep: int) -> Path | None:
        """The checkpoint that the user has named to go back to, for as long as those that stay do not all follow it.

        Args:
            keep: How many of the newest stay.
        """
        folder = self.folder.absolute()
        named = _json_of(folder.parent / RECORD_FILE).get("resume_from")
        if not isinstance(named, dict) or Path(str(named.get("checkpoint"))).parent.name != folder.name:
            return None
        newest = self.published()[-max(1, keep) :]
        if all(_json_of(path / STATE_FILE).get("resume_from") == named for path in newest):
            return None
        return path_in(self.folder, Path(str(named["checkpoint"])).name, source=folder.parent / RECORD_FILE)

    def sweep(self) -> None:
        """Remove what a kill in mid-write or mid-delete has left; nothing in it was ever published, or still wanted."""
        for name in self._folders(STAGED_PREFIX):
            _delete(self.folder / name)


def superfluous(names: Sequence[str], keep: int, *, keep_every: int | None = None) -> list[str]:
    """Which checkpoints retention lets go, on a disk as in a store.

    Args:
        names: Names of all that there are, oldest first.
        keep: How many of the newest stay, at least 1.
        keep_every: Each K-th stays for the record, by number.
    """
    return [n for n in names[: -max(1, keep)] if not keep_every or checkpoint_number(n) % keep_every]


_COUNT, _FIGURE, _TEXT = ((int,), (int, float, type(None)), (str, type(None)))
_META: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("episode", "total_steps", "clock"), _COUNT),
    **dict.fromkeys(("epsilon", "metric_value", "recent_mean_reward"), _FIGURE),
    **dict.fromkeys(("metric_name", "algo", "environment"), _TEXT),
    "weights_sha256": (str,),
    "timestamp": (str,),
    "is_best": (bool,),
}
"""What is read of a checkpoint's own words, and of which kind it is."""


def require_meta(checkpoint: Path, *needed: str) -> dict[str, Any]:
    """What a checkpoint says of itself, where others go by it.

    Args:
        checkpoint: Its folder.
        needed: What it has to say.

    Raises:
        InputError: if it does not, or says what no checkpoint says.
    """
    path = checkpoint / META_FILE
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise InputError(f"{path} does not say what the checkpoint is")
    for name in (*needed, *(name for name in _META if name in meta)):
        if not _is_one(name, meta.get(name)):
            raise InputError(f"{path} does not say what the checkpoint is: {name} is {shown(meta.get(name))}")
    return meta


def _is_one(name: str, value: Any) -> bool:
    """Whether something that a checkpoint says is of the kind that it should be."""
    is_kind = isinstance(value, _META[name]) and (type(value) is not bool or _META[name] == (bool,))
    return is_kind and (type(value) is not int or abs(value) < 1 << 63)


def read_meta(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; nothing of what cannot be read, as in a damaged one."""
    found = _json_of(checkpoint / META_FILE)
    return {name: value for name, value in found.items() if name not in _META or _is_one(name, value)}


def _json_of(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where that cannot be read."""
    try:
        return json_object(path.read_bytes())
    except OSError:
        return {}


def score_of(meta: Mapping[str, Any]) -> float | None:
    """What a checkpoint reached by the metric that decides, higher is better; None where that cannot be compared.

    Args:
        meta: What ``read_meta`` or ``require_meta`` gave.
    """
    value, sign = meta.get("metric_value"), -1.0 if meta.get("metric_mode") == "min" else 1.0
    return sign * float(value) if value is not None and math.isfinite(value) else None


def _surpasses(newest: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Whether one checkpoint is better than another; of two that were judged by other metrics, the longer trained."""
    is_comparable = all(newest.get(name) == kept.get(name) for name in ("metric_name", "metric_mode"))

    def rank(meta: Mapping[str, Any]) -> tuple[float, int]:
        score = score_of(meta) if is_comparable else None
        return -math.inf if score is None else score, meta.get("total_steps", -1)

    return rank(newest) > rank(kept)


def _delete(folder: Path) -> None:
    """Delete a folder; what stays is swept by the next process that writes to the run."""
    shutil.rmtree(folder, ignore_errors=True)


def rename_aside(path: Path, *, prefix: str = DAMAGED_PREFIX) -> Path:
    """Rename a file or folder so that its name says what is wrong with it; nothing is deleted.

    Returns:
        Its new path.
    """
    aside = free_name(path, prefix=prefix)
    os.rename(path, aside)
    return aside


def free_name(path: Path, *, prefix: str) -> Path:
    """The path beside a file or folder that says by its prefix what is wrong with it, and that nothing has yet."""
    aside, count = path.with_name(f"{prefix}{path.name}"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{prefix}{path.name}-{count}")
    return aside
