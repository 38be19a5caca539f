"""Joining a Ray cluster that is there already, within seconds or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import ray

from common.errors import InputError
from common.store import first_line
from experiments.tuning.ray_internals import show_token
from experiments.tuning.ray_token import token_file

_CONNECTED_S, _JOINED_S = 4.0, 15.0
_JOIN = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="critical")
except Exception as error:
    sys.exit("reason: " + " ".join(str(error).split()))
"""


def join_cluster(address: str) -> None:
    """Join the cluster that RAY_ADDRESS names.

    Another process tries first, for Ray would wait for a quarter of an hour, deaf to signals, and end this one.

    Args:
        address: ``host:port`` of the head, or ``auto``.

    Raises:
        InputError: if there is no such cluster, or it is of another Ray or Python, or asks for another token.
    """
    if address != "auto":
        _check_listens(address)
    show_token()
    command = [sys.executable, "-c", _JOIN, address]
    try:
        tried = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_JOINED_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no cluster answers within {_JOINED_S:.0f} s") from None
    if tried.returncode:
        reason = tried.stderr.rpartition("reason: ")[2] if "reason: " in tried.stderr else "Ray gave up"
        raise _unreachable(address, reason.strip().partition(". ")[0])
    hash_seed = {"env_vars": {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env=hash_seed)
    except (ray.exceptions.AuthenticationError, ConnectionError) as error:
        raise _unreachable(address, first_line(error).partition(". ")[0]) from None


def _check_listens(address: str) -> None:
    """Refuse an address at which nothing listens.

    Raises:
        InputError: saying so, or that it is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            f"RAY_ADDRESS is {address!r}, which is no address: give host:port of the cluster's head, or auto on one of "
            "its machines, or unset it to run on this machine"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTED_S).close()
    except (OSError, UnicodeError) as error:
        raise _unreachable(address, str(getattr(error, "strerror", None) or error)) from None


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(
        f"RAY_ADDRESS is {address}, which cannot be joined ({reason}): is it up, and its token here, in {token_file()} "
        "(docs/cluster.md)? Unset RAY_ADDRESS to run on this machine"
    )
