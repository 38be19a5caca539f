"""What learners are set to, unless the user says otherwise; the recipes themselves stand in ``recipes.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from algos.registry import TEAM, algorithm, algorithms
from experiments.settings.layers import merge

SCORED = tuple(known.name for known in algorithms().values() if TEAM in known.configs)
"""Algorithms that can be scored: those that the batched team runner samples for."""


class Recipe(NamedTuple):
    """How long to learn, and with which differences from the defaults.

    Attributes:
        steps: Environment steps.
        settings: Of the algorithm's group.
        num_episodes: Episodes by which the chosen policy is valued.
        falling: Settings that say over how many steps something falls, and which part of all steps that is.
        num_evaluation_episodes: Episodes of each evaluation on the way.
    """

    steps: int
    settings: Mapping[str, Any]
    num_episodes: int = 4_096
    falling: Mapping[str, float] = MappingProxyType({"lr_decay_steps": 1.0})
    num_evaluation_episodes: int = 256


_RECIPES = yaml.safe_load(Path(__file__).with_name("recipes.yaml").read_text(encoding="utf-8"))
_OF_ANY = {"steps": 200_000, "settings": {}, "falling": {}}
"""For an algorithm of your own: its defaults, as nothing is known of its settings."""


def recipe(market: str, algo: str, steps: int | None = None) -> Recipe:
    """What is set for an algorithm on a market; ``falling`` sets what it names by the steps, unless the recipe does.

    Args:
        market: Of the catalog, or a benchmark's, of which the part before the colon counts where the whole name has no
            recipe of its own.
        algo: One of ``SCORED``.
        steps: In place of its own; None leaves them.
    """
    group = algorithm(algo).group
    like = _RECIPES["like"].get(group, group)
    general = _RECIPES["general"].get(like, _OF_ANY)
    markets = [_RECIPES["markets"].get(name, {}) for name in (market, market.partition(":")[0])]
    own = Recipe(**next((of[name] for of in markets for name in (algo, group, like) if name in of), general))
    total = steps or own.steps
    falling = {name: max(1, round(part * total)) for name, part in own.falling.items()}
    settings = merge(merge(general["settings"], falling), own.settings)
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return own._replace(steps=total, settings=tuples)
