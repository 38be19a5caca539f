"""The token by which processes of one Ray know each other: in a file that only its user can read."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

TOKEN, TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Ray's environment variables: the token, and the file that holds it. A local Ray asks for one by itself."""


def token_file() -> Path:
    """Where Ray looks for its token."""
    named = os.environ.get(TOKEN_PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def keep_token() -> None:
    """Make the token that Ray would make, before Ray does: its file would be readable by everybody on the machine.

    One that is there is kept, and closed to others. Where the home cannot be written to, the token lives in the
    environment of this command and of what it starts.
    """
    if os.environ.get(TOKEN):
        return
    path = token_file()
    try:
        if not path.exists() and TOKEN_PATH not in os.environ:
            _make(path)
    except OSError:
        os.environ[TOKEN] = secrets.token_hex(32)
        return
    with suppress(OSError):  # of another user, as a secret that is mounted
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _make(path: Path) -> None:
    """Write a token file whole; one that another command has made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, staged = tempfile.mkstemp(dir=path.parent)  # only this user can read it
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(staged, path)
    finally:
        os.unlink(staged)
