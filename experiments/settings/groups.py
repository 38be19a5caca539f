"""Groups of settings of the algorithms, which a config has one field each for."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeVar

from algos.registry import TEAM, algorithm, algorithms
from common.errors import InputError
from experiments.settings.fields import hyphens

C = TypeVar("C", bound=type)


def with_groups(*, runner: str | None = None) -> Callable[[C], C]:
    """Add a field for each group of settings to a class that is about to become a dataclass, and say what algo may be.

    Args:
        runner: Name of a runner, for the groups of the algorithms alone that it samples for.
    """

    def add(cls: C) -> C:
        try:
            found = [a for a in algorithms().values() if runner is None or runner in a.configs]
        except InputError as error:  # while modules are imported, where no verb can catch it and say it in one line
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        cls.__annotations__["algo"] = Literal[tuple(a.name for a in found)]  # type: ignore[valid-type]
        first = algorithm(cls.__dict__["algo"]).group  # a bare name that several groups have means the default's
        found.sort(key=lambda a: a.group != first)
        for name, settings in {a.group: a.settings for a in found}.items():
            cls.__annotations__[name] = settings
            setattr(cls, name, dataclasses.field(default_factory=settings))
        return cls

    return add


def settings_of_algo(config: Any) -> Any:
    """The settings of the algorithm that a config names in ``algo``."""
    return getattr(config, algorithm(config.algo).group)


def is_on_team_path(config: Any) -> bool:
    """Whether the batched team runner samples for the algorithm that a config names, or RLlib's own runner."""
    return algorithm(config.algo).runner(config.runner) == TEAM


def replicas(config: Any) -> int:
    """Replicas that one runner steps at once: as scaled, or the algorithm's own default."""
    own = settings_of_algo(config)
    return config.scaling.num_envs_per_env_runner or int(own.num_envs_per_env_runner)


def check_groups(algo: str, by_flag: Collection[str]) -> None:
    """Refuse flags of settings that the algorithm does not use.

    Raises:
        InputError: naming the flag.
    """
    chosen, others = algorithm(algo), {a.group for a in algorithms().values()}
    for name in by_flag:
        group, _, leaf = name.partition(".")
        if group not in others:
            continue
        if group != chosen.group:
            raise InputError(
                f"--{hyphens(name)} has no effect on --algo {algo}, which uses the settings of {chosen.group}.*"
            )
        if leaf in chosen.unused:
            raise InputError(f"--{hyphens(name)} has no effect on --algo {algo}: leave it out")
