"""Who the agents of a floor are: role, assets, feature groups, account, limits and the mix of their reward."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from types import MappingProxyType
from typing import Any

from pydantic.dataclasses import dataclass

from common.errors import InputError, nearest
from common.strict import STRICT
from envs.bar_data import Bars
from envs.features import FEATURE_GROUPS, default_groups
from envs.settings import AgentConfig, DeskConfig, Preset

_MOST_DEFAULT_AGENTS = 5


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mandate(AgentConfig):
    """What one agent may see, trade and hold, and what it is paid for; nothing in it is left to be divided.

    A discrete agent that takes a rung which ``allow_short`` or ``max_rung_change`` masks moves to the nearest allowed
    one. Features averaged over the book make observations equally wide for books of any size.
    """

    name: str
    """Name of the agent: its id in every API."""
    role: str
    """What it is there for; agents of one role can share a network."""
    account: int
    """Index of the account it trades through; agents with the same index share one pot of capital."""
    assets: tuple[str, ...]
    """Its book: the assets it trades."""
    feature_groups: tuple[str, ...] = field()
    """Groups of features it sees."""
    limit: float = 1.0
    """Largest gross exposure of its book, as a fraction of its account's equity."""

    @property
    def is_discrete(self) -> bool:
        """Whether the agent picks a rung of its ladder."""
        return self.action == "discrete"


ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "momentum": ("momentum", "volume"),
        "trend": ("trend", "market"),
        "mean_reversion": ("mean_reversion", "momentum"),
        "volatility": ("volatility", "volume"),
        "risk": ("risk", "market"),
    }
)
"""The five roles of the ``roles`` preset, and the feature groups that each sees."""


def build_mandates(config: DeskConfig, bars: Bars, *, max_leverage: float = 1.0) -> tuple[Mandate, ...]:
    """Write the mandates of a preset for the assets of a market.

    Args:
        config: The preset and the settings common to its agents.
        bars: The market; its assets become books, and what it lacks (volumes, a signal) is left out of the features.
        max_leverage: Leverage of an account, which agents without a limit of their own share equally.

    Returns:
        One mandate for each agent, in the order of the agent axis N.

    Raises:
        InputError: if the preset does not fit the number of assets, or a setting makes no sense.
    """
    _check(config)
    mandates = _PRESETS[preset_of(config, bars)](config, bars)
    sharers: dict[int, int] = {}
    for row in mandates:
        sharers[row["account"]] = sharers.get(row["account"], 0) + 1
    for row in mandates:
        if config.observe_tradable and "tradable" not in row["feature_groups"]:
            row["feature_groups"] = (*row["feature_groups"], "tradable")
    common: dict[str, Any] = {item.name: getattr(config, item.name) for item in fields(AgentConfig)}
    return tuple(
        Mandate(
            **{
                **common,
                "limit": config.limit if config.limit is not None else max_leverage / sharers[row["account"]],
                **row,
            }
        )
        for row in mandates
    )


def preset_of(config: DeskConfig, bars: Bars) -> Preset:
    """The preset that is set, or where none is the desk; one asset alone, which a desk cannot divide, has roles."""
    return config.preset or ("desk" if bars.num_assets > 1 else "roles")


def _check(config: DeskConfig) -> None:
    ladder = config.ladder
    if len(ladder) < 2 or any(low >= high for low, high in itertools.pairwise(ladder)):
        raise InputError(f"desk.ladder is {ladder}: give at least two rungs in rising order")
    if ladder[0] < -1 or ladder[-1] > 1:
        raise InputError(f"desk.ladder is {ladder}: rungs are multiples of the limit and lie within -1 and 1")
    if 0.0 not in ladder:
        raise InputError(f"desk.ladder is {ladder}: it must hold 0, the rung on which every episode starts")


def _groups(config: DeskConfig, bars: Bars, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """Feature groups of one agent: as set, or those wanted that these bars can feed (and a planted signal)."""
    if config.feature_groups is not None:
        for name in config.feature_groups:
            if name not in FEATURE_GROUPS:
                raise InputError(
                    f"desk.feature_groups: {name!r} does not exist{nearest(name, FEATURE_GROUPS)}: "
                    f"choose from {', '.join(FEATURE_GROUPS)}"
                )
        return config.feature_groups
    possible = default_groups(bars)
    if wanted is None:
        return possible
    return tuple(name for name in possible if name in wanted or name == "signal")


def _desk(config: DeskConfig, bars: Bars) -> list[dict[str, Any]]:
    """One account; assets are dealt to the agents in contiguous groups whose sizes differ by one at most."""
    if bars.num_assets < 2:
        raise InputError(
            f"desk.preset 'desk' divides assets among agents, but {bars.source} has one asset ({bars.assets[0]}): "
            "choose --desk.preset roles or --desk.preset rivals, or give prices of several assets"
        )
    num_agents = config.num_agents or min(bars.num_assets, _MOST_DEFAULT_AGENTS)
    if num_agents > bars.num_assets:
        raise InputError(
            f"desk.num_agents is {num_agents}, but {bars.source} has {bars.num_assets} assets: "
            "the desk preset gives each agent at least one"
        )
    small, larger = divmod(bars.num_assets, num_agents)
    sizes = [small + (i < larger) for i in range(num_agents)]
    firsts = [sum(sizes[:i]) for i in range(num_agents)]
    groups = _groups(config, bars)
    return [
        {
            "name": f"trader_{i}",
            "role": "trader",
            "account": 0,
            "assets": bars.assets[first : first + size],
            "feature_groups": groups,
        }
        for i, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    ]


def _roles(config: DeskConfig, bars: Bars) -> list[dict[str, Any]]:
    """Five roles pool their targets on the same assets and one account; more agents than roles start over."""
    num_agents = config.num_agents or len(ROLES)
    names = list(ROLES)
    rows = []
    for i in range(num_agents):
        role, again = names[i % len(names)], i // len(names)
        rows.append(
            {
                "name": f"{role}_{again + 1}" if again else role,
                "role": role,
                "account": 0,
                "assets": bars.assets,
                "feature_groups": _groups(config, bars, ROLES[role]),
            }
        )
    return rows


def _rivals(config: DeskConfig, bars: Bars) -> list[dict[str, Any]]:
    """Each agent trades every asset through an account of its own; they meet in the price impact."""
    groups = _groups(config, bars)
    return [
        {"name": f"rival_{i}", "role": "rival", "account": i, "assets": bars.assets, "feature_groups": groups}
        for i in range(config.num_agents or 4)
    ]


_PRESETS: Mapping[str, Callable[[DeskConfig, Bars], list[dict[str, Any]]]] = MappingProxyType(
    {"desk": _desk, "roles": _roles, "rivals": _rivals}
)
