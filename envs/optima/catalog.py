"""The problems with a known optimum by name, as commands and configs speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import ValidationError

from common.errors import InputError, nearest
from envs.optima.almgren_chriss import AlmgrenChrissConfig, rival_sellers
from envs.optima.games import ClimbingConfig, PenaltyConfig, TwoStepConfig
from envs.optima.garleanu_pedersen import GarleanuPedersenConfig
from envs.optima.kyle import KyleConfig
from envs.optima.market_making import MarketMakingConfig
from envs.optima.merton import MertonConfig
from envs.optima.merton_relative import MertonRelativeConfig
from envs.optima.problem import Problem


class ProblemConfig(Protocol):
    """Settings of a problem."""

    def build(self, device: torch.device | str = "cpu") -> Problem:
        """Make the problem."""


class Entry(NamedTuple):
    """A problem in the catalog.

    Attributes:
        config: Its settings.
        for_agents: Makes settings for a number of agents, and others by name; None where their number is fixed.
    """

    config: type[Any]
    for_agents: Callable[..., ProblemConfig] | None = None


def _sellers(num_agents: int, **settings: Any) -> ProblemConfig:
    return AlmgrenChrissConfig(**settings) if num_agents == 1 else rival_sellers(num_agents, **settings)


def _assets(num_agents: int, **settings: Any) -> ProblemConfig:
    kind = "joint" if num_agents == 1 else "per_asset"
    return GarleanuPedersenConfig(**{"num_assets": num_agents, "agents": kind, **settings})


def _traders(num_agents: int, **settings: Any) -> ProblemConfig:
    return KyleConfig(**{"num_traders": num_agents, **settings})


CATALOG: dict[str, Entry] = {
    "two-step": Entry(TwoStepConfig),
    "climbing": Entry(ClimbingConfig),
    "penalty": Entry(PenaltyConfig),
    "merton": Entry(MertonConfig),
    "merton-relative": Entry(MertonRelativeConfig),
    "garleanu-pedersen": Entry(GarleanuPedersenConfig, _assets),
    "almgren-chriss": Entry(AlmgrenChrissConfig, _sellers),
    "kyle": Entry(KyleConfig, _traders),
    "market-making": Entry(MarketMakingConfig),
}
"""Every problem that is scored."""


_NUMBERS = ("num_agents", "num_sellers", "num_assets", "num_traders")
"""Settings that say how many agents there are."""


def problem_config(name: str, *, num_agents: int | None = None, settings: Mapping[str, Any] | None = None) -> Any:
    """Settings of a problem.

    Args:
        name: Of the catalog.
        num_agents: How many agents, where that can be chosen; several sellers of ``almgren-chriss`` are those of
            ``rival_sellers``.
        settings: What differs from the defaults.

    Raises:
        InputError: if the name or a setting does not exist, a value is refused, or the number of agents is fixed.
    """
    if name not in CATALOG:
        raise InputError(f"market {name!r} does not exist{nearest(name, CATALOG)}: choose of {', '.join(CATALOG)}")
    entry, chosen = CATALOG[name], dict(settings or {})
    try:
        if num_agents is None:
            return entry.config(**chosen)
        if num_agents < 1:
            raise InputError(f"num_agents is {num_agents}: it must be at least 1")
        check_said_once(name, chosen)
        if entry.for_agents is not None:
            return entry.for_agents(num_agents, **chosen)
        config = entry.config(**chosen)
    except ValidationError as error:
        raise refused_setting(name, error) from None
    fixed = config.build().num_agents
    if num_agents != fixed:
        raise InputError(f"market {name} has {fixed} agents with these settings, not {num_agents}")
    return config


def check_said_once(market: str, settings: Mapping[str, Any]) -> None:
    """Refuse a setting that says how many agents there are, where that is said apart from the settings.

    Raises:
        InputError: naming the setting.
    """
    if twice := [name for name in _NUMBERS if name in settings]:
        raise InputError(
            f"market {market}: setting {twice[0]!r} is the number of agents, which num_agents says already"
        )


def refused_setting(market: str, error: ValidationError) -> InputError:
    """What is said of the first setting that a market's config has refused."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return InputError(f"market {market}: setting {where!r}: {first['msg']}")


def make_problem(
    name: str,
    *,
    num_agents: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> Problem:
    """Make a problem of the catalog; arguments and errors as of ``problem_config``."""
    problem: Problem = problem_config(name, num_agents=num_agents, settings=settings).build(device)
    return problem
