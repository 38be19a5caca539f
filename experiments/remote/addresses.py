"""Where runs are: in a folder, or at an address in an object store, for which a folder of this machine stands."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import InputError
from common.files import WriteError, check_folder_writable, read_json
from experiments.recovery.lock import run_lock
from experiments.recovery.names import RECORD_FILE, SEARCH_FILE, SUMMARY_FILE
from experiments.recovery.signals import forget_request
from experiments.recovery.tune_files import mend_tune_files, planned_scaling, reopen
from experiments.remote.mirror import Mirror
from experiments.remote.store import Store, first_line, is_remote, join

WORK_ENV = "TRADING_FLOOR_WORK"
"""Environment variable that says where runs with a mirror work; else a folder of the user's cache."""
_held: dict[Path, ExitStack] = {}
"""Run folders that this process has made ready for Tune, with what ends the hold on each."""


def working_folder(storage: str, name: str) -> Path:
    """Where a run with this storage works on this machine: in the storage itself, or in a folder that stands for it."""
    if not is_remote(storage):
        return Path(storage) / name
    cache = os.environ.get(WORK_ENV) or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trading-floor"
    return Path(cache) / hashlib.sha256(join(storage).encode()).hexdigest()[:12] / name


def mirror_of(storage: str, name: str) -> Mirror | None:
    """The mirror of a run; None where its storage is a folder."""
    return Mirror(join(storage, name), working_folder(storage, name)) if is_remote(storage) else None


def check_storage(storage: str) -> None:
    """Refuse a storage that cannot be written to, before any work is done.

    Raises:
        InputError: saying why.
    """
    if not is_remote(storage):
        check_folder_writable(storage, setting="--storage")
        return
    Store(storage).check()
    check_folder_writable(working_folder(storage, "x").parent, setting=f"the working folder ({WORK_ENV})")


def find_mirror(address: str) -> tuple[Mirror, str]:
    """Find the run that an address in a store means: a run folder, or a checkpoint in one.

    Returns:
        Its mirror, and the path of the checkpoint in it; empty for the run folder itself.

    Raises:
        InputError: if there is no run at the address, or the store does not answer.
    """
    base, mark, options = address.partition("?")
    parts = base.rstrip("/").split("/")
    for levels in range(3):
        run, rest = parts[: len(parts) - levels], parts[len(parts) - levels :]
        if len(run) < 4:  # scheme, nothing, bucket, run
            break
        storage = "/".join(run[:-1]) + mark + options
        mirror = Mirror(join(storage, run[-1]), working_folder(storage, run[-1]))
        try:
            if mirror.store.size(RECORD_FILE) is not None:
                return mirror, "/".join(rest)
        except OSError as error:
            raise InputError(f"{address} cannot be read: {first_line(error)}") from None
    raise InputError(f"{address} is neither a run folder nor a checkpoint in one")


def bring_back(path: str | Path, *, may_be_gone: bool = False) -> Path:
    """Give the folder on this machine for a path that may be an address in a store, brought up to date from there.

    Args:
        path: A folder, or an address in a store.
        may_be_gone: Whether a checkpoint that is named need not be there, nor be brought here.

    Raises:
        InputError: if there is nothing at the address, or it is damaged.
    """
    if not is_remote(path):
        return Path(path)
    mirror, rest = find_mirror(str(path))
    try:
        mirror.pull()
        return mirror.fetch(rest) if rest and not may_be_gone else mirror.folder / rest
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None


def place_here(path: str | Path) -> Path:
    """The resolved path on this machine that a path, or an address in a store, stands for; nothing is fetched.

    Args:
        path: A run folder or a checkpoint, which may be gone.

    Raises:
        InputError: if there is no run at the address, or the store does not answer.
    """
    if not is_remote(path):
        return Path(path).expanduser().resolve()
    mirror, rest = find_mirror(str(path))
    return (mirror.folder / rest).resolve()


def restorable(path: str | Path, report: Callable[[str], None] = print) -> Path:
    """Make a run folder ready for ``Tuner.restore``: brought up to date from its store, verified, Tune's files mended.

    From then on this process holds the run, until it ends or ``let_go`` is called: no other may write to it meanwhile.

    Args:
        path: A run folder, or its address in a store.
        report: Told one line about each file that is damaged or stale.

    Returns:
        The absolute path of the folder on this machine.

    Raises:
        InputError: if there is no run, it is a search, another process writes to it, its checkpoints are damaged or
            gone, Tune's files are damaged, of another run, or say that all is done, and have no copies, or its number
            of env runners has changed, for which Tune has reserved no processors.
        WriteError: if the disk does not take what has to be mended.
    """
    if not is_remote(path):
        folder = Path(path).expanduser().absolute()
        if not (folder / RECORD_FILE).is_file():
            raise InputError(f"{path} is no run folder: it has no {RECORD_FILE}")
        with _hold(folder, None):
            _mend(folder, path, report, mirror=None)
        return folder
    mirror, rest = find_mirror(str(path))
    if rest:
        raise InputError(f"{path} is not a run folder: name {mirror.address}")
    try:
        with _hold(mirror.folder, mirror):
            mirror.pull(report)
            _mend(mirror.folder, path, report, mirror=mirror)
    except WriteError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None
    return mirror.folder


@contextmanager
def _hold(folder: Path, mirror: Mirror | None) -> Iterator[None]:
    """Hold a run while the block runs, and where nothing is raised in it for as long as this process lives.

    Raises:
        InputError: if another process holds it, saying which.
    """
    place = folder.resolve()
    if place in _held:
        yield
        return
    with ExitStack() as hold:
        if mirror is not None:
            hold.enter_context(mirror.lease())
        hold.enter_context(run_lock(folder))
        yield
        _held[place] = hold.pop_all()


@atexit.register
def let_go() -> None:
    """Let go of the runs that this process has made ready for Tune, so that others may write to them."""
    while _held:
        _held.popitem()[1].close()


def _mend(folder: Path, path: str | Path, report: Callable[[str], None], *, mirror: Mirror | None) -> None:
    """Verify a run's checkpoints and mend Tune's own files, in a run folder that is held.

    Raises:
        InputError: if Tune cannot restore what is there, or would start over it.
    """
    from experiments.tuning.resume import check_checkpoints  # only now: it is built on this module

    if (folder / SEARCH_FILE).is_file():
        raise InputError(f"{path} is a search: carry it on with its own command")
    for line in check_checkpoints(folder, mirror=mirror):
        report(line)
    by_hand = f"carry it on with experiments/run.py --name {folder.name}"
    record = read_json(folder / RECORD_FILE)
    config = record["config"]
    address = None if mirror is None else mirror.address
    settings = {name: config[name] for name in ("algo", "seed", "max_failures")} | {"address": address}
    if not mend_tune_files(folder, report, settings=settings, resume_from=record.get("resume_from")):
        raise InputError(f"{path} cannot be restored by Tune alone: {by_hand}")
    wanted, planned = config["scaling"]["num_env_runners"], planned_scaling(folder).get("num_env_runners")
    if planned != wanted:
        raise InputError(f"{path} was planned for {planned} env runners and now has {wanted}: {by_hand}")
    summary = read_json(folder / SUMMARY_FILE) if (folder / SUMMARY_FILE).is_file() else {}
    if (summary.get("episodes") or 0) < config["episodes"] and not reopen(folder, report):
        raise InputError(f"{path} was interrupted, and Tune alone takes it for ended: {by_hand}")
    forget_request(folder)  # of a signal that another one has overtaken


def place_of(path: str | Path, folder: Path) -> tuple[str, str]:
    """Give storage and name of the run that a path lies in.

    Args:
        path: A run folder or a checkpoint, in a store or on this machine.
        folder: The run folder on this machine, as ``find_run_folder`` found it.
    """
    if not is_remote(path):
        return str(folder.parent), folder.name
    address = find_mirror(str(path))[0].address
    base, mark, options = address.partition("?")
    return base.rsplit("/", 1)[0] + mark + options, folder.name


def pulled(storage: str, name: str) -> Path:
    """The folder on this machine of a run, brought up to date from its store where it has one.

    Raises:
        InputError: if the store does not answer.
    """
    mirror = mirror_of(storage, name)
    if mirror is not None:
        try:
            mirror.pull()
        except OSError as error:
            raise InputError(f"--storage {storage} cannot be read: {first_line(error)}") from None
    return working_folder(storage, name)
