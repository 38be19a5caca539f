"""Names and places of what lies in a checkpoint folder beside RLlib's own files."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from algos.errors import IncompatibleError
from algos.policy import MODULES_FOLDER

META_FILE = "checkpoint_meta.json"
"""What a person and other programs read."""
STATE_FILE = "run_state.json"
"""What the trainable continues from."""
EXACT_FILE = "exact.pkl"
"""What RLlib leaves out of a checkpoint (see ``algos.exact``)."""
BEST_FOLDER = "best_checkpoint"
"""Beside Tune's ``checkpoint_*`` folders: a copy of the best one, which retention never touches."""


def utc_now() -> str:
    """Now, in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find_module_states(checkpoint: Path) -> dict[str, Any]:
    """Read the weights of every module in a checkpoint, by module id.

    Raises:
        IncompatibleError: if there are none.
    """
    folder = checkpoint / MODULES_FOLDER
    states = {}
    for path in sorted(folder.glob("*/module_state.pkl")):
        with path.open("rb") as file:
            states[path.parent.name] = pickle.load(file)
    if not states:
        raise IncompatibleError(f"{checkpoint} holds no weights: {folder} is missing or empty")
    return states
