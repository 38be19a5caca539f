"""Where a result comes from: everything that is needed to repeat it."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.store import without_keys

PACKAGES = ("ray", "torch", "numpy", "pandas", "gymnasium", "trading-floor")
ROOT = Path(__file__).resolve().parents[1]


def collect_provenance(*, data_fingerprint: str | None, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Gather versions, commit, data, machine and command.

    Args:
        data_fingerprint: ``Bars.fingerprint`` of the prices; None where none were loaded.
        argv: The command line, program first; None takes ``sys.argv``.

    Returns:
        ``versions``, ``git_commit`` and ``git_dirty`` (None outside a checkout), ``data_fingerprint``, ``platform``,
        ``command``, ``started_at`` (UTC, ISO 8601). All of it plain JSON.
    """
    commit, dirty = git_state(ROOT)
    return {
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in PACKAGES},
        "git_commit": commit,
        "git_dirty": dirty,
        "data_fingerprint": data_fingerprint,
        "platform": platform.platform(),
        "command": shlex.join(without_keys(list(sys.argv if argv is None else argv))),
        "started_at": utc_now(),
    }


def utc_now() -> str:
    """Now, in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Read the commit of a checkout and whether tracked files differ from it; None for both where there is no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed_version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
