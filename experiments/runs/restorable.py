"""A run folder that plain ``Tuner.restore`` carries on from."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import InputError
from common.files import WriteError
from common.paths import home_path
from common.store import first_line, is_remote
from experiments.recovery.lock import run_lock
from experiments.recovery.names import RECORD_FILE, SEARCH_FILE
from experiments.recovery.signals import forget_request
from experiments.recovery.tune_files import planned_for, put_back
from experiments.remote.addresses import find_mirror
from experiments.remote.mirror import Mirror
from experiments.runs.record import read_run_record
from experiments.runs.repair import check_checkpoints

_held: dict[Path, ExitStack] = {}
"""Run folders that this process has made ready for Tune, with what ends the hold on each."""


def restorable(path: str | Path, report: Callable[[str], None] = print) -> Path:
    """Make a run folder ready for ``Tuner.restore``: brought here from its store, verified, Tune's files put back.

    From then on this process holds the run, until it ends or ``let_go`` is called: no other may write to it meanwhile.

    Args:
        path: A run folder, or its address in a store.
        report: Told one line about each checkpoint that is damaged.

    Returns:
        The absolute path of the folder on this machine.

    Raises:
        InputError: if there is no run, it is a search, another process writes to it, its checkpoints are damaged or
            gone, or Tune's files have no copies, or were planned for other settings, such as another number of env
            runners, for which Tune has reserved no processors.
        WriteError: if the disk does not take what has to be mended.
    """
    if not is_remote(path):
        folder, mirror = home_path(path).absolute(), None
        if not (folder / RECORD_FILE).is_file():
            raise InputError(f"{path} is no run folder: it has no {RECORD_FILE}")
    else:
        mirror, rest = find_mirror(str(path))
        folder = mirror.folder
        if rest:
            raise InputError(f"{path} is not a run folder: name {mirror.address}")
    with _hold(folder, mirror):
        if mirror is not None:
            try:
                mirror.pull(report)
            except WriteError:
                raise
            except OSError as error:
                raise InputError(f"{path} cannot be read: {first_line(error)}") from None
        if (folder / SEARCH_FILE).is_file():
            raise InputError(f"{path} is a search: carry it on with its own command")
        for line in check_checkpoints(folder, mirror=mirror):
            report(line)
        plan = planned_for(read_run_record(folder).config, None if mirror is None else mirror.address)
        if (reason := put_back(folder, plan)) is not None:
            by_hand = f"carry it on with experiments/run.py --name {folder.name}"
            raise InputError(f"{path} cannot be restored by Tune alone ({reason}): {by_hand}")
        forget_request(folder)  # of a signal that another one has overtaken
    return folder


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
