"""What the name and the config of a trainable stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algos.registry import RLLIB, Algorithm, algorithm, algorithms
from experiments.recovery.names import RESULT_FILE
from experiments.settings.layers import merge, nested
from experiments.settings.run_config import RunConfig, config_from_json

PREFIX = "Floor"
"""How the names of trainables begin, by which Ray and Tune know them."""


def is_trainable(name: str) -> bool:
    """Whether a class of this name can be one of ours that Tune trains."""
    return name.startswith(PREFIX)


def run_of(config: Mapping[str, Any]) -> RunConfig:
    """The settings of a trainable: its run's, and what a search has drawn for it."""
    return config_from_json(merge(config["run"], nested(config.get("overrides") or {})))


def is_to_check(config: Mapping[str, Any], storage: Any) -> bool:
    """Whether a trainable refuses settings that do not go together: if it is asked to, and nothing was reported yet."""
    return bool(config.get("is_to_check")) and not (Path(storage.trial_fs_path) / RESULT_FILE).exists()


def name_of(algo: str, runner: str) -> str:
    """Name of a trainable: FloorQMIX; where runners can be chosen, FloorPPO of ours and FloorRLlibPPO."""
    declared = algorithm(algo)
    return _name(declared, declared.runner(runner))


def declared_as(name: str) -> tuple[Algorithm, str]:
    """The algorithm and the runner of a trainable's name.

    Raises:
        AttributeError: if there is none.
    """
    for declared in algorithms().values():
        for runner in declared.configs:
            if _name(declared, runner) == name:
                return declared, runner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: there is no algorithm of that name")


def _name(declared: Algorithm, runner: str) -> str:
    is_other = len(declared.configs) > 1 and runner == RLLIB
    return f"{PREFIX}{'RLlib' if is_other else ''}{declared.name.upper()}"
