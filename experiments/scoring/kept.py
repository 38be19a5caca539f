"""What each seed has learned, kept in the folder of a score as soon as it is known: the same command carries on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.errors import InputError
from experiments.reporting.files import plain, read_json, write_text
from experiments.scoring.results import Learned


def keep(folder: Path, head: Mapping[str, Any], one: Learned) -> None:
    """Write what a seed has learned.

    Args:
        folder: Of the score.
        head: All that it was asked for and what it is held against, as JSON gives it back.
        one: What was learned.

    Raises:
        WriteError: if it cannot be written.
    """
    write_text(_path(folder, one.seed), json.dumps({"head": head, "learned": plain(dataclasses.asdict(one))}) + "\n")


def kept(folder: Path, head: Mapping[str, Any], seed: int) -> Learned | None:
    """What a seed has learned before; None where it has not, or was asked for something else.

    Raises:
        InputError: if the file is damaged.
    """
    path = _path(folder, seed)
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["head"] != head:
            return None
        fields = found["learned"]
        numbers = {name: _with_nan(fields[name]) for name in ("curve", "of_each_agent", "standard_error")}
        distance = None if fields["distance"] is None else _with_nan(fields["distance"])
        return Learned(**fields | numbers | {"distance": distance})
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: remove it, and seed {seed} is learned again") from error


def _path(folder: Path, seed: int) -> Path:
    return folder / "seeds" / f"{seed}.json"


def _with_nan(value: Any) -> Any:
    """Numbers as they were before they were JSON, which has none that are not finite."""
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value
