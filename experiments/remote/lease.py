"""Lease: one machine writes to a run in a store, and notices when another one has taken over.

A store has no locks: a lease is an object that says who holds the run, renewed while its owner lives. One that has not
been renewed for ``LEASE_S`` may be taken over, and at once where its owner worked in the same folder of this machine
and holds the file beside it no more. An owner may live all the same, as after a pause or where the store did not
answer: it finds out at the next renewal, and whatever writes for it at the next write.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.store import Store, first_line
from experiments.recovery.lock import file_lock, leaving
from experiments.recovery.signals import ask_to_stop, forget_request

LEASE_FILE = "lease.json"
LEASE_S = 60.0
"""How long a lease holds that is not renewed."""
_RENEWED_S = LEASE_S / 4
_DECIDED_S = 1.0
"""After this long, two that have taken a lease at the same time see whose it is."""


class LostLeaseError(OSError):
    """Another process has taken over: nothing more is to be written to the store."""


@contextmanager
def hold_lease(store: Store, folder: Path) -> Iterator[None]:
    """Hold a run in the store while the block runs, so that no command on another machine writes to it too.

    If another process takes over all the same, the run is asked to stop, as by a signal.

    Args:
        store: The run's.
        folder: The run's working folder; whose lease it works under stands beside it, for the processes that write.

    Raises:
        InputError: if another process holds it, saying which, or the store does not answer.
    """
    me: dict[str, Any] = {"owner": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    with ExitStack() as hold:
        try:
            try:
                file = hold.enter_context(file_lock(_owner_file(folder), waits=False))
            except BlockingIOError:
                raise _refusal(store, store.get_json(LEASE_FILE)) from None
            _take(store, me, ended=file.read())
        except OSError as error:
            raise InputError(f"{store.address} cannot be held: {first_line(error)}") from None
        hold.enter_context(leaving(file, me["owner"]))
        forget_request(folder)
        ended = threading.Event()
        thread = threading.Thread(target=_renew, args=(store, folder, me, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(OSError):
                if (store.get_json(LEASE_FILE) or {}).get("owner") == me["owner"]:
                    store.delete(LEASE_FILE)


def check_lease(store: Store, folder: Path) -> None:
    """Refuse to write to a store that another process holds than the one that works in a folder.

    Raises:
        LostLeaseError: saying which process.
        OSError: if the store does not answer.
    """
    owner = _owner_file(folder)
    mine = owner.read_text(encoding="utf-8") if owner.is_file() else ""
    found = store.get_json(LEASE_FILE)
    if mine and _is_lost(found, mine):
        raise LostLeaseError(_lost(store, found))
    if not mine and found and not _is_stale(found):  # whoever holds it elsewhere must not be disturbed
        raise LostLeaseError(f"{store.address} is being written by {_name(found)}")


def _take(store: Store, me: Mapping[str, Any], *, ended: str) -> None:
    """Take a lease that nobody holds, has not been renewed, or is of a process of this machine that has ended."""
    found = store.get_json(LEASE_FILE)
    if not found or found.get("owner") == ended or _is_stale(found):
        store.put(LEASE_FILE, _lease(me))
        time.sleep(_DECIDED_S)
        found = store.get_json(LEASE_FILE)
        if not _is_lost(found, me["owner"]):
            return
    raise _refusal(store, found)


def _refusal(store: Store, found: Mapping[str, Any] | None) -> InputError:
    return InputError(
        f"{store.address} is being written by {_name(found)}: wait for it, stop it first, or try again "
        f"{LEASE_S:.0f} s after it has died"
    )


def _renew(store: Store, folder: Path, me: Mapping[str, Any], ended: threading.Event) -> None:
    """Renew a lease until the end, or until another process has it: then ask the run to stop until it does."""
    is_lost, store = False, Store(store.address, patience_s=0)
    while not ended.wait(_RENEWED_S):
        with suppress(OSError):  # the next time, perhaps
            found = None if is_lost else store.get_json(LEASE_FILE)
            if is_lost or _is_lost(found, me["owner"]):
                if not is_lost:
                    line = f"{_lost(store, found)}; this run stops, after a checkpoint on this machine"
                    print(line, file=sys.stderr, flush=True)
                is_lost = True
                ask_to_stop(folder, "lease lost")
            else:
                store.put(LEASE_FILE, _lease(me))
    if is_lost:
        forget_request(folder)


def _is_lost(found: Mapping[str, Any] | None, mine: str) -> bool:
    """Whether a lease is another one's by now. Only its owner deletes one: whoever has taken over may have ended."""
    return found is None or found.get("owner", mine) != mine


def _lost(store: Store, found: Mapping[str, Any] | None) -> str:
    return f"{store.address} has been taken over by {_name(found)}: nothing more is brought there from here"


def _name(lease: Mapping[str, Any] | None) -> str:
    if not lease:
        return "another process"
    return f"process {lease.get('pid')} on {lease.get('host')}"


def _owner_file(folder: Path) -> Path:
    """What says whose lease it is: beside the folder, which may be moved aside meanwhile, and held by its owner."""
    return folder.with_name(f".{folder.name}.lease")


def _lease(me: Mapping[str, Any]) -> bytes:
    return json.dumps({**me, "renewed": datetime.now(UTC).isoformat()}).encode()


def _is_stale(lease: Mapping[str, Any]) -> bool:
    try:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(lease["renewed"])).total_seconds()
        return age_s > LEASE_S
    except (KeyError, TypeError, ValueError):
        return True  # damaged, or not ours
