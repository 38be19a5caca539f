"""A local Ray: only this machine reaches it, with a token, and it lives as long as the command that started it.

It outlives the signal by which a machine is taken away.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray

from common.errors import InputError
from experiments.tuning.ray_folder import check_ray_folder, mark_session, remove_session
from experiments.tuning.ray_internals import SERVANTS, Node, local_node, services
from experiments.tuning.ray_token import keep_token

_LOOPBACK = "127.0.0.1"
_LEFT_TO_THE_COMMAND = {signal.SIGTERM}
"""Sent to all processes of a group, of a unit or of a machine that stops. Ray blocks SIGINT in its processes itself."""


def start_local_ray(**settings: Any) -> None:
    """Start Ray on this machine; it ends with this process.

    Ray's own processes would end at once on SIGTERM, before the checkpoint that the command has written on it. That it
    is blocked in them is handed down to all that they start; at the end they are killed, for they do not hear it then.

    Args:
        settings: Of ``ray.init``.

    Raises:
        InputError: if Ray's folder cannot be written to, or its path is too long for a socket.
    """
    keep_token()
    check_ray_folder()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_COMMAND)
    try:
        with _without_servants(), _on_loopback():
            ray.init(address="local", _node_ip_address=_LOOPBACK, **settings)
    except OSError as error:
        if "AF_UNIX path length" not in str(error):
            raise
        named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "RAY_TMPDIR")
        raise InputError(
            f"the folder for temporary files is too deep for Ray's sockets, {os.environ.get(named, '/tmp')}: "
            f"let {named} name a shorter path"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    node = local_node()
    mark_session(Path(node.get_session_dir_path()))
    # Else a shutdown would ask each of them by SIGTERM, and wait a second for it.
    node.kill_all_processes = partial(_kill_all, node.kill_all_processes)
    atexit.register(stop_local_ray)


@contextmanager
def _without_servants() -> Iterator[None]:
    """While the block runs, let Ray start none of the processes that a run on one machine has no use for.

    They serve the dashboard, the autoscaler, and what workers print on the screen of the command.
    """
    own = {name: getattr(Node, name) for name in SERVANTS}

    def start_api_server(node: Node, **_: Any) -> None:
        node._webui_url = None  # as where it could not be started

    try:
        Node.start_api_server = start_api_server
        Node.start_monitor = Node.start_log_monitor = lambda node: None
        yield
    finally:
        for name, start in own.items():
            setattr(Node, name, start)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """While the block runs, let Ray take the loopback address for what it is: else it listens to the whole network.

    Where a node has another address each of its processes listens on all of the machine's.
    """
    own = services.resolve_ip_for_localhost
    try:
        services.resolve_ip_for_localhost = lambda host: host
        yield
    finally:
        services.resolve_ip_for_localhost = own


def stop_local_ray() -> None:
    """End Ray, and those of its processes that would only see by and by that the others have ended."""
    node, started = local_node(), psutil.Process().children(recursive=True)
    ray.shutdown()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            if _is_of_ray(process):
                process.kill()
    if node is not None:
        psutil.wait_procs(started, timeout=5.0)  # what they still write would come after the folder has gone
        remove_session(Path(node.get_session_dir_path()))


def _kill_all(own: Any, *, check_alive: bool = True, allow_graceful: bool = False, wait: bool = False) -> None:
    own(check_alive=check_alive, allow_graceful=False, wait=wait)


def _is_of_ray(process: psutil.Process) -> bool:
    return process.is_running() and any(part.startswith("ray::") for part in process.cmdline())
