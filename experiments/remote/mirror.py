"""Mirror: a run folder kept in an object store, where it outlives the machine that trains.

A store has neither appends nor renames, so nothing works on it directly. Training works in a folder of the machine
that the command runs on, exactly as on a disk, and the mirror brings what is new into the store at every checkpoint:
the records first, then the checkpoint that they belong to. On another machine the same command first brings it back.

How a checkpoint lies there, ``stored_checkpoints.py`` says. Segments of replay buffers, which checkpoints share, are
deleted with the last one that needs them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import json_object
from common.manifests import MANIFEST_FILE, MARKER_FILE, file_sha256, find_damage
from common.paths import path_in
from common.store import PATIENCE_S, Store, join
from experiments.recovery.checkpoints import (
    DAMAGED_PREFIX,
    OVERTAKEN_PREFIX,
    PREFIX,
    TrialCheckpoints,
    checkpoint_number,
    rename_aside,
    superfluous,
)
from experiments.recovery.lock import file_lock, is_held_by_another
from experiments.recovery.names import BEST_FOLDER, BRANCH_FOLDER, META_FILE, RECORD_FILE, SUMMARY_FILE
from experiments.remote.lease import LostLeaseError, check_lease, hold_lease
from experiments.remote.small_files import (
    SEGMENTS,
    content_of,
    is_of_a_run,
    is_small_file,
    named_in,
    small_files,
)
from experiments.remote.stored_checkpoints import get_checkpoint, objects_of, put_checkpoint, read_marker


class Mirror:
    """One run folder in a store.

    Args:
        address: Of the run folder in the store, with options: ``s3://bucket/results/dow?endpoint_override=host:9000``.
        folder: The folder on this machine that is worked in.
        patience_s: How long a store that does not answer is tried again.

    Raises:
        InputError: if the address cannot be understood.
    """

    def __init__(self, address: str, folder: Path, *, patience_s: float = PATIENCE_S) -> None:
        self.address, self.folder = address, folder
        self.store = Store(address, patience_s=patience_s)
        self._pushed: dict[str, tuple[int, int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Mirror, (self.address, self.folder)

    def lease(self) -> AbstractContextManager[None]:
        """Hold the run while a block runs (see ``hold_lease``); from then on nothing is written once it is lost."""
        return hold_lease(self.store, self.folder)

    # -- small files ---------------------------------------------------------------------------------------------------

    def push_files(self) -> None:
        """Bring every small file that has changed since the last time into the store.

        A summary that names a checkpoint which the store lacks is kept back: a reader of the store finds the one before
        it, until the checkpoint is there too.

        Raises:
            OSError: if the store does not take them, or another process holds the run there.
        """
        check_lease(self.store, self.folder)
        for path in small_files(self.folder):
            try:
                stat = path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size)
                name = path.relative_to(self.folder).as_posix()
                if self._pushed.get(name) == stamp:
                    continue
                content = content_of(path)
                if name == SUMMARY_FILE and not all(map(self._is_stored, named_in(json_object(content)))):
                    continue
                self.store.put(name, content)
                self._pushed[name] = stamp
            except FileNotFoundError:
                continue  # replaced just now

    def pull(self, report: Callable[[str], None] = print) -> None:
        """Make the working folder what the store holds, unless it goes on from that.

        What is damaged in the store is set aside there, and what is unfinished deleted, unless another process holds
        the run: what looks so may be what it is writing.

        Args:
            report: Told one line about each thing that is damaged or set aside.

        Raises:
            InputError: if the store holds a run but not its record.
            OSError: if the store does not answer.
        """
        with self._lock_here():
            self._pull(report)

    def _pull(self, report: Callable[[str], None]) -> None:
        if is_held_by_another(self.folder):
            return  # whoever writes to the folder has brought it up to date
        names = self.store.names()
        if RECORD_FILE not in names and not (self.folder / RECORD_FILE).is_file() and any(map(is_of_a_run, names)):
            raise InputError(
                f"{self.address} has lost its {RECORD_FILE}, nothing is started over it: put it back, or choose "
                "another --name"
            )
        if RECORD_FILE not in names or self._is_ahead(names):
            return
        for name in sorted(names):
            if is_small_file(name):
                self.store.download(name, self._here(name))
        trials = sorted({n.split("/")[0] for n in names if n.startswith("trial_")})
        may_mend = self._may_write()
        for trial in trials:
            self._pull_checkpoints(trial, names, report, may_mend=may_mend)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def push_all(self) -> None:
        """Bring everything into the store that a crash or a silent store has kept from it.

        Raises:
            OSError: if the store does not take it.
        """
        self.push_files()
        wanted = []
        for trial in sorted(self.folder.glob("trial_*")):
            wanted += [*TrialCheckpoints(trial).published()[-1:], trial / BEST_FOLDER]
        if (self.folder / SUMMARY_FILE).is_file():
            summary = json_object((self.folder / SUMMARY_FILE).read_bytes())
            wanted += [path_in(self.folder, name, source=self.folder / SUMMARY_FILE) for name in named_in(summary)]
        for checkpoint in dict.fromkeys(wanted):
            name = checkpoint.relative_to(self.folder).as_posix()
            if checkpoint.is_dir() and not self._is_stored(name) and not find_damage(checkpoint):
                self.push_checkpoint(checkpoint)
        self.push_files()  # the summary, which had to wait for what it names

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Bring a sealed checkpoint into the store; readers find it whole or not at all.

        Args:
            checkpoint: A published checkpoint, or the copy of the best one.

        Raises:
            OSError: if the store does not take it, or another process holds the run there; what it held before is
                untouched.
        """
        check_lease(self.store, self.folder)
        name = checkpoint.relative_to(self.folder).as_posix()
        put_checkpoint(self.store, name, checkpoint, room=self.folder)

    def prune(self, trial: str, keep: int, *, keep_every: int | None = None) -> None:
        """Delete the oldest checkpoints of a trial in the store, and segments that no checkpoint needs.

        The store's own checkpoints are counted: those in the folder are others, as on a machine that has taken over.
        One that is known to be damaged neither counts nor is deleted. What was set aside stays, and so does all that it
        names, what the summary in the store names, and the best one where it has not been copied yet.

        Args:
            trial: Name of the trial's folder.
            keep: How many of the newest stay, at least 1.
            keep_every: Each K-th stays for the record, by number.

        Raises:
            OSError: if the store does not answer, or another process holds the run there.
        """
        check_lease(self.store, self.folder)
        named = named_in(self.store.get_json(SUMMARY_FILE) or {})
        checkpoints = TrialCheckpoints(self.folder / trial)
        if (owed := checkpoints.owed_best()) is not None:
            named.append(f"{trial}/{owed.name}")
        if (named_by_user := checkpoints.gone_back_to(keep)) is not None:
            named.append(named_by_user.relative_to(self.folder).as_posix())
        names = self.store.names(trial)
        stored = sorted(n.split("/")[0] for n in names if n.endswith(f"/{MARKER_FILE}"))
        markers = {name: read_marker(self.store, f"{trial}/{name}") for name in stored}
        whole = [n for n, m in markers.items() if n.startswith(PREFIX) and m and objects_of(n, m) <= names]
        whole.sort(key=checkpoint_number)
        for name in superfluous(whole, keep, keep_every=keep_every):
            if f"{trial}/{name}" not in named:
                self.store.delete(f"{trial}/{name}/{MARKER_FILE}")  # first: what is half deleted must not look whole
                self.store.delete_all(f"{trial}/{name}")
                del markers[name]
        if any(marker is None and not name.startswith(DAMAGED_PREFIX) for name, marker in markers.items()):
            return  # one cannot be read: what it needs is not known
        needed = {part for name, marker in markers.items() if marker for part in objects_of(name, marker)}
        for name in names:
            if name.startswith(f"{SEGMENTS}/") and name not in needed:
                self.store.delete(f"{trial}/{name}")

    def fetch(self, name: str) -> Path:
        """Bring one checkpoint into the working folder.

        Args:
            name: Path in the run folder, as ``summary.json`` has it.

        Raises:
            InputError: if it is not there, or damaged.
        """
        target = self._here(name)
        with self._lock_here():
            if target.is_dir() and not find_damage(target):
                return target
            damage = self._fetch(name)
        if damage is not None:
            raise InputError(f"{join(self.address, name)} is damaged, {damage}: name another checkpoint")
        return target

    def check(self, name: str) -> str | None:
        """Say what is wrong with a checkpoint in the store; None where every byte is as written.

        Args:
            name: Its path in the run folder; any folder of checkpoints in the store is looked at, whoever holds it.

        Raises:
            OSError: if the store does not answer.
        """
        with tempfile.TemporaryDirectory() as place:
            room = Path(place)
            plain = [] if name.rsplit("/", 1)[-1] != BRANCH_FOLDER else self.store.names(name)
            for file in plain:  # what a run has branched from is kept as it is
                self.store.download(f"{name}/{file}", path_in(room, f"{name}/{file}", source=self.address))
            if plain:
                return next(iter(find_damage(room / name)), None)
            return get_checkpoint(self.store, name, room)

    def _pull_checkpoints(self, trial: str, names: set[str], report: Callable[[str], None], *, may_mend: bool) -> None:
        """Bring back the newest whole checkpoint and the best one; set aside in the store what is damaged."""
        found = {n.split("/")[1] for n in names if n.startswith(f"{trial}/checkpoint_")}
        stored = sorted(found, key=checkpoint_number)
        self._set_aside_overtaken(trial, stored, report)
        told: list[str] = []
        for name in reversed(stored):
            damage = self._fetch(f"{trial}/{name}")
            if damage is None:
                break
            is_unfinished = f"{trial}/{name}/{MARKER_FILE}" not in names and f"{trial}/{name}/{META_FILE}" not in names
            if is_unfinished:
                if may_mend:
                    self.store.delete_all(f"{trial}/{name}")  # an upload that was cut: it never was a checkpoint
                continue
            done = f"set aside as {self._set_aside_there(trial, name)}" if may_mend else "left out"
            told.append(f"{name} in the store is damaged, {damage}: {done}")
            report(told[-1])
        else:
            damaged = {n.split("/")[0] for n in self.store.names(trial) if n.startswith(DAMAGED_PREFIX)}
            if damaged or told:
                raise InputError(
                    f"none of the {len(damaged)} checkpoints of {trial} in {self.address} is whole, nothing is started "
                    f"over them: {'; '.join(told) or 'they were set aside before'}"
                )
        named = TrialCheckpoints(self.folder / trial).gone_back_to(1)
        if named is not None and not named.is_dir():  # it may be gone on from
            damage = self._fetch(f"{trial}/{named.name}")
            if damage is not None:
                report(f"{named.name} in the store is damaged, {damage}: it is left out")
        if any(n.startswith(f"{trial}/{BEST_FOLDER}/") for n in names):
            damage = self._fetch(f"{trial}/{BEST_FOLDER}")
            if damage is not None:
                report(f"{BEST_FOLDER} in the store is damaged, {damage}: it is left out")

    def _fetch(self, name: str) -> str | None:
        """Download and verify one checkpoint; say what is wrong with it, or None."""
        return get_checkpoint(self.store, name, self.folder)

    def _is_ahead(self, names: set[str]) -> bool:
        """Whether the working folder goes on from what the store holds, as after a crash on this machine."""
        if not (self.folder / RECORD_FILE).is_file():
            return False
        stored: dict[str, set[str]] = {}
        for name in names:
            trial, _, rest = name.partition("/")
            if trial.startswith("trial_") and rest.startswith("checkpoint_"):
                stored.setdefault(trial, set()).add(rest.split("/")[0])
        return all(self._goes_on_from(trial, sorted(found, key=checkpoint_number)) for trial, found in stored.items())

    def _goes_on_from(self, trial: str, stored: list[str]) -> bool:
        for name in reversed(stored):
            marker = read_marker(self.store, f"{trial}/{name}")
            if marker is not None:
                return self._has(f"{trial}/{name}", marker["seal"])
        return bool(TrialCheckpoints(self.folder / trial).published())

    def _has(self, name: str, seal: str) -> bool:
        """Whether the checkpoint of this name that is here is the one with this seal, be one of its files damaged."""
        marker, manifest = self.folder / name / MARKER_FILE, self.folder / name / MANIFEST_FILE
        if marker.is_file() and marker.read_bytes() == seal.encode():
            return True
        return manifest.is_file() and file_sha256(manifest) == seal

    def _set_aside_overtaken(self, trial: str, stored: list[str], report: Callable[[str], None]) -> None:
        """Set aside what this machine has made of the run and another one has not gone on with."""
        for path in TrialCheckpoints(self.folder / trial).published():
            marker = read_marker(self.store, f"{trial}/{path.name}") if path.name in stored else None
            is_newer = bool(stored) and checkpoint_number(path.name) > checkpoint_number(stored[-1])
            if is_newer or (marker is not None and not self._has(f"{trial}/{path.name}", marker["seal"])):
                aside = rename_aside(path, prefix=OVERTAKEN_PREFIX)
                report(f"{path.name} here is not what another machine has gone on with: set aside as {aside.name}")

    def _set_aside_there(self, trial: str, name: str) -> str:
        """Copy a checkpoint in the store, which cannot rename, to a name that says that it is damaged."""
        names, count = self.store.names(trial), 1
        aside = f"{DAMAGED_PREFIX}{name}"
        while any(n.startswith(f"{aside}/") for n in names):
            count += 1
            aside = f"{DAMAGED_PREFIX}{name}-{count}"
        for part in sorted(n for n in names if n.startswith(f"{name}/")):
            rest = part.split("/", 1)[1]
            self.store.copy(f"{trial}/{part}", f"{trial}/{aside}/{rest}")
        self.store.delete_all(f"{trial}/{name}")
        return aside

    def _may_write(self) -> bool:
        try:
            check_lease(self.store, self.folder)
        except LostLeaseError:
            return False
        return True

    def _is_stored(self, name: str) -> bool:
        """Whether the store holds a checkpoint, and the one of that name that is here, where there is one."""
        marker = read_marker(self.store, name)
        return marker is not None and (not (self.folder / name).is_dir() or self._has(name, marker["seal"]))

    def _here(self, name: str) -> Path:
        """Where what has this name in the store lies on this machine.

        Raises:
            InputError: if the name, as somebody else may have chosen it, leads out of the working folder.
        """
        return path_in(self.folder, name, source=self.address)

    def _lock_here(self) -> AbstractContextManager[Any]:
        """Wait until no other process of this machine brings anything of the run here."""
        return file_lock(self.folder.with_name(f".{self.folder.name}.lock"))
