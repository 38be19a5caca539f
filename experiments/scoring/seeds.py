"""What each seed has learned, kept in the folder of a score as soon as it is known: the same command carries on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from common.errors import InputError
from common.files import read_text, write_text
from common.provenance import ROOT, installed_version
from experiments.scoring.results import Learned

_SOURCES = ("common", "algos", "envs", "experiments/scoring")
_PACKAGES = ("gymnasium", "lbforaging", "mpe2", "numpy", "ray", "torch")


def keep(folder: Path, head: Mapping[str, Any], one: Learned) -> None:
    """Write what a seed has learned, with numbers that are not finite as Python's JSON has them.

    Args:
        folder: Of the score.
        head: All that it was asked for and what it is held against, as JSON gives it back.
        one: What was learned.

    Raises:
        WriteError: if it cannot be written.
    """
    text = json.dumps({"head": head, "code": code_digest(), "learned": dataclasses.asdict(one)})
    write_text(_path(folder, one.seed), text + "\n")
    shutil.rmtree(seeds_folder(folder) / str(one.seed), ignore_errors=True)  # what it went on from


def kept(folder: Path, head: Mapping[str, Any], seed: int) -> Learned | None:
    """What a seed has learned before; None where it has not, was asked for something else, or by another program.

    Raises:
        InputError: if the file cannot be read or is damaged.
    """
    path = _path(folder, seed)
    if not path.is_file():
        return None
    text = read_text(path)
    try:
        found = json.loads(text)
        if (found["head"], found["code"]) != (head, code_digest()):
            return None
        one = TypeAdapter(Learned).validate_python(found["learned"])
        if one.seed == seed:
            return one
    except (json.JSONDecodeError, KeyError, TypeError, ValidationError):
        pass
    raise InputError(f"{path} is damaged: remove it, and seed {seed} is learned again")


@cache
def code_digest() -> str:
    """SHA-256 of the sources that a score is made by and of the versions of the packages below them."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _SOURCES for path in (ROOT / folder).rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(json.dumps({name: installed_version(name) for name in _PACKAGES}).encode())
    return digest.hexdigest()


def seeds_folder(folder: Path) -> Path:
    """Where what each seed has learned is kept, and what those that learn go on from."""
    return folder / "seeds"


def _path(folder: Path, seed: int) -> Path:
    return seeds_folder(folder) / f"{seed}.json"
