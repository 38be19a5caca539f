"""Lease: one machine writes to a run in a store, and notices when another one has taken over.

A store has no locks: a lease is an object that says who holds the run, renewed while its owner lives. One that has not
been renewed for ``LEASE_S`` may be taken over. Its owner may live all the same, as after a pause or where the store did
not answer: it finds out at the next renewal, and whatever writes for it at the next write.
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
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from experiments.recovery.signals import ask_to_stop, forget_request
from experiments.remote.store import Store, first_line

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
    me |= {**_whereabouts(), "started": _started(os.getpid())}
    try:
        _take(store, me)
    except OSError as error:
        raise InputError(f"{store.address} does not answer: {first_line(error)}") from None
    owner = _owner_file(folder)
    owner.parent.mkdir(parents=True, exist_ok=True)
    owner.write_text(me["owner"], encoding="utf-8")
    forget_request(folder)
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(store, folder, me, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        owner.unlink(missing_ok=True)
        with suppress(OSError):
            if (store.get_json(LEASE_FILE) or {}).get("owner") == me["owner"]:
                store.delete(LEASE_FILE)


def check_lease(store: Store, folder: Path) -> None:
    """Refuse to write to a store that another process holds than the one that works in a folder.

    Raises:
        LostLeaseError: saying which process.
        OSError: if the store does not answer.
    """
    try:
        mine = _owner_file(folder).read_text(encoding="utf-8")
    except FileNotFoundError:  # nobody here holds it: whoever does elsewhere must not be disturbed
        found = store.get_json(LEASE_FILE)
        if found and not _is_stale(found):
            raise LostLeaseError(f"{store.address} is being written by {_name(found)}") from None
        return
    found = store.get_json(LEASE_FILE)
    if _is_lost(found, mine):
        raise LostLeaseError(_lost(store, found))


def _take(store: Store, me: Mapping[str, Any]) -> None:
    found = store.get_json(LEASE_FILE)
    if not found or _is_stale(found):
        store.put(LEASE_FILE, _lease(me))
        time.sleep(_DECIDED_S)
        found = store.get_json(LEASE_FILE)
        if not _is_lost(found, me["owner"]):
            return
    raise InputError(
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
        return "another process, which has ended"
    return f"process {lease.get('pid')} on {lease.get('host')}"


def _owner_file(folder: Path) -> Path:
    """Beside the folder, which may be moved aside meanwhile."""
    return folder.with_name(f".{folder.name}.lease")


def _lease(me: Mapping[str, Any]) -> bytes:
    return json.dumps({**me, "renewed": datetime.now(UTC).isoformat()}).encode()


def _is_stale(lease: Mapping[str, Any]) -> bool:
    try:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(lease["renewed"])).total_seconds()
        return age_s > LEASE_S or _is_dead(lease)
    except (KeyError, TypeError, ValueError):
        return True  # damaged, or not ours


def _is_dead(lease: Mapping[str, Any]) -> bool:
    """Whether the owner is known to have ended: only where its number means the same here as it does there.

    Machines may share a name, containers share numbers, and a number is given to another process in time.
    """
    here = _whereabouts()
    is_from_here = bool(here) and all(lease.get(name) == value for name, value in here.items())
    return is_from_here and _started(lease["pid"]) != lease["started"]


def _whereabouts() -> dict[str, Any]:
    """Boot, PID namespace and user, where a number is one process that can be seen; empty without ``/proc``."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return {"boot_id": boot, "pid_namespace": os.readlink("/proc/self/ns/pid"), "uid": os.getuid()}
    except OSError:
        return {}


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where there is none of this number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the second, in brackets, may hold blanks
