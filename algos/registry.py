"""Which algorithms there are: every folder that declares some, of this package and of your own.

Each folder's ``__init__.py`` holds ``ALGORITHMS``, a tuple of ``Algorithm``, and imports only its pure ``config.py``.
Folders of your own are named in the environment variable ``TRADING_FLOOR_ALGORITHMS``. What takes seconds to import is
named as ``module:attribute`` and imported when it is needed.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import algos
from common.errors import InputError, nearest
from common.paths import home_path
from common.strict import Range, about

FOLDERS = "TRADING_FLOOR_ALGORITHMS"
"""Environment variable: folders of your own algorithms, each a package, parted as in PATH. Ray's workers inherit it."""
DISCRETE, CONTINUOUS = "discrete", "continuous"
TEAM, RLLIB = "team", "rllib"
RENAMED = {"iql": "indq"}
"""Algorithms by names that they had before."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What is known of an algorithm by its name.

    Attributes:
        name: What ``--algo`` takes.
        settings: Class of its settings.
        group: Name of the group of settings, which several algorithms may share; empty: the algorithm's own name.
        configs: For each runner that can sample for it (``team``: the batched one; ``rllib``: RLlib's own) the function
            ``(settings, *, steps_per_iteration) -> AlgorithmConfig``, as ``module:function``.
        actions: Kinds of actions that it can take.
        has_replay: Whether it learns from a replay buffer, or from what it has just sampled.
        is_joint: Whether it has one module for the whole team, or one for each policy.
        unused: Settings of the group that it has no use for.
        searched: Settings that a search draws, in this order; None: all that have a range, in the order of the source.
        modules: Classes of its networks, as ``module:Class``: exported networks are built again by these alone.
        optimizers: For each optimizer the beginnings of the names of its weights, in their order; one that is not named
            here has all.
    """

    name: str
    settings: type
    configs: Mapping[str, str]
    group: str = ""
    actions: frozenset[str] = frozenset({DISCRETE, CONTINUOUS})
    has_replay: bool = False
    is_joint: bool = False
    unused: tuple[str, ...] = ()
    searched: tuple[str, ...] | None = None
    modules: tuple[str, ...] = ()
    optimizers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the group, and check what the declaration says of its settings.

        Raises:
            ValueError: if it names a setting or runner that does not exist.
        """
        object.__setattr__(self, "group", self.group or self.name)
        if not self.configs or not self.configs.keys() <= {TEAM, RLLIB}:
            raise ValueError(f"{self.name}: configs are for {TEAM} or {RLLIB}, not {sorted(self.configs)}")
        known = {item.name for item in dataclasses.fields(self.settings)}
        if unknown := sorted({*self.unused, *(self.searched or ())} - known):
            raise ValueError(f"{self.name}: {self.settings.__name__} has no setting {unknown[0]!r}")
        if rangeless := [name for name in self.searched or () if name not in self.ranges]:
            raise ValueError(f"{self.name}: {rangeless[0]!r} is searched, but has no range or is unused")

    @property
    def ranges(self) -> dict[str, Range]:
        """What each searched setting is drawn from, in the order of drawing."""
        found = {item.name: about(item.default).search for item in dataclasses.fields(self.settings)}
        names = found if self.searched is None else self.searched
        return {name: r for name in names if name not in self.unused and (r := found[name]) is not None}

    def may_change(self, name: str) -> bool:
        """Whether a setting of the group may differ where training goes on exactly."""
        found = {item.name: item.default for item in dataclasses.fields(self.settings)}
        return about(found[name]).may_change

    def runner(self, asked: str) -> str:
        """Who samples: as asked where there is a choice, else the only one there is."""
        return asked if asked in self.configs else next(iter(self.configs))

    def config(self, settings: Any, *, runner: str, steps_per_iteration: int) -> Any:
        """Make RLlib's config of the algorithm, without an environment.

        Args:
            settings: Of the algorithm's group.
            runner: One of ``configs``.
            steps_per_iteration: Environment steps in an iteration, where the algorithm leaves a choice.
        """
        make: Callable[..., Any] = load(self.configs[runner])
        return make(settings, steps_per_iteration=steps_per_iteration)


def load(path: str) -> Any:
    """Import what is named as ``module:attribute``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@cache
def algorithms() -> dict[str, Algorithm]:
    """All algorithms by name.

    Raises:
        InputError: naming the folder that cannot be used.
    """
    found: dict[str, Algorithm] = {}
    for name, folder in _packages():
        for algorithm in _declared(name, folder):
            if algorithm.name in found:
                raise InputError(f"{folder}: there is an algorithm {algorithm.name!r} already: give it another name")
            if any(a.group == algorithm.group and a.settings is not algorithm.settings for a in found.values()):
                raise InputError(f"{folder}: there are other settings {algorithm.group}.* already: name another group")
            found[algorithm.name] = algorithm
    return found


def algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        InputError: if there is none; the nearest is named, or what it is called now.
    """
    known = algorithms()
    if name not in known and name in RENAMED:
        now = known[RENAMED[name]]
        raise InputError(
            f"--algo {name} is called {now.name} now: give --algo {now.name}, and --{now.group}.* for its settings"
        )
    if name not in known:
        meant = nearest(name, known) or f": choose one of {', '.join(known)}"
        raise InputError(f"--algo is {name!r}, which does not exist{meant}")
    return known[name]


def groups(runner: str | None = None) -> dict[str, type]:
    """Groups of settings and their classes; of the algorithms alone that a runner samples for, where one is named."""
    return {a.group: a.settings for a in algorithms().values() if runner is None or runner in a.configs}


def _packages() -> Iterator[tuple[str, Path]]:
    for info in pkgutil.iter_modules(algos.__path__):
        if info.ispkg:
            yield f"algos.{info.name}", Path(algos.__path__[0]) / info.name
    for entry in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        folder = home_path(entry).absolute()
        if not (folder / "__init__.py").is_file():
            raise InputError(f"{folder}, named in {FOLDERS}, is no package: it has no __init__.py")
        if str(folder.parent) not in sys.path:
            sys.path.append(str(folder.parent))  # here, and in Ray's workers, which unpickle classes of the folder
            inherited = filter(None, (os.environ.get("PYTHONPATH"), str(folder.parent)))
            os.environ["PYTHONPATH"] = os.pathsep.join(inherited)
        yield folder.name, folder


def _declared(name: str, folder: Path) -> tuple[Algorithm, ...]:
    try:
        module = importlib.import_module(name)
        declared = tuple(getattr(module, "ALGORITHMS", ()))
    except Exception as error:  # whatever a folder's own code may raise
        raise InputError(f"{folder} cannot be used: {type(error).__name__}: {error}") from error
    if folder.resolve() != Path(module.__file__ or "").resolve().parent:
        raise InputError(f"{folder} has the name of another package, {module.__file__}: rename the folder")
    if not declared or not all(isinstance(item, Algorithm) for item in declared):
        raise InputError(f"{folder} declares no algorithm: its __init__.py needs ALGORITHMS = (Algorithm(...),)")
    return declared
