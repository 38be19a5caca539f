"""What Tune trains, by name: a trainable of each algorithm. Nothing large is imported before one is asked for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from algos.registry import RLLIB, Algorithm, algorithm, algorithms
from common.imports import quick_imports
from experiments.settings.run_config import RunConfig

if TYPE_CHECKING:
    from experiments.tuning.run_trainable import RunTrainable


def trainable_class(run: RunConfig) -> type[RunTrainable]:
    """The trainable of a run."""
    declared = algorithm(run.algo)
    return _trainable(_name(declared, declared.runner(run.runner)))


def __getattr__(name: str) -> Any:
    """Give a trainable by its name, by which Ray's workers and ``Tuner.restore`` find it."""
    if name.startswith("Floor"):
        return _trainable(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _name(declared: Algorithm, runner: str) -> str:
    """Name of a trainable: FloorQMIX; where there is a choice of runners, FloorPPO of ours and FloorRLlibPPO."""
    is_other = len(declared.configs) > 1 and runner == RLLIB
    return f"Floor{'RLlib' if is_other else ''}{declared.name.upper()}"


@cache
def _trainable(name: str) -> type[RunTrainable]:
    """Make a trainable, once, of the algorithm that it is named after; no other algorithm is imported."""
    for declared in algorithms().values():
        for runner in declared.configs:
            if _name(declared, runner) == name:
                with quick_imports():
                    from experiments.tuning.run_trainable import RunTrainable

                    config = declared.config(declared.settings(), runner=runner, steps_per_iteration=1)
                about = {"__module__": __name__, "__doc__": f"{declared.name} on the trading floor."}
                return type(name, (RunTrainable, config.algo_class), about)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: there is no algorithm of that name")
