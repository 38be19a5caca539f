"""What earlier versions meant by their settings, in today's words.

Independent Q-learning was ``iql``, and took its settings from qmix's group, which also held those that it alone uses.
Floors showed agents figures of the episode, and filled orders of any size. Prices were taken as their file has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algos.registry import RENAMED, groups
from common.errors import InputError, shown

_OLD, _GROUP = "iql", "qmix"
_NEW = RENAMED[_OLD]
_MOVED = ("reward", "num_quantiles", "huber_kappa")
"""Settings of the old group that independent Q-learning alone has now."""
_OLD_VOLATILITY = 0.01
"""Of a day, in which impacts of before are told."""
_OLD_PRICES = {"adjust": "none", "jumps": "accept"}
_OF_THE_MIXER = ("mixing_embed_dim", "hypernet_hidden")
"""Settings of the old group that it never used."""


def settings_of_today(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as this version names them, from those of any version.

    Args:
        recorded: Nested settings, as a ``config.json`` holds them; this version's name every group.
    """
    recorded = _market_of_its_time(_prices_of_its_time(recorded))
    before = recorded.get(_GROUP, {})
    if _NEW in recorded or not isinstance(before, Mapping):
        return dict(recorded)
    today = {**recorded, _GROUP: {name: value for name, value in before.items() if name not in _MOVED}}
    if recorded.get("algo") == _OLD:
        own = {name: value for name, value in before.items() if name not in _OF_THE_MIXER}
        if own.get("reward", "own") is None:  # which meant what is the default now
            del own["reward"]
        today |= {"algo": _NEW, _NEW: own}
    return today


def _prices_of_its_time(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a record from before jumps of prices were looked at; it has all settings but the new ones."""
    data = recorded.get("data")
    if not isinstance(data, Mapping) or "train" not in data or data.get("path") is None:
        return recorded
    return {**recorded, "data": {**_OLD_PRICES, **data}}


def _market_of_its_time(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a record that was written before they existed: what its agents have seen, and what its market took.

    Such a record has all costs but the new ones. One rate was paid on borrowed shares and cash. Permanent impact was
    told as a move of the log price by the volume of a bar; today it is in daily volatilities.
    """
    floor = recorded.get("floor")
    if not isinstance(floor, Mapping):
        return recorded
    costs = floor.get("costs")
    if not isinstance(costs, Mapping) or not {"permanent_impact", "lot_size", "borrow_rate_annual"} <= costs.keys():
        return recorded
    if "loan_rate_annual" not in costs:
        costs = {**costs, "loan_rate_annual": costs["borrow_rate_annual"]}
        recorded = {**recorded, "floor": {**floor, "costs": costs}}
    if "max_participation" in costs:
        return recorded
    moved = costs["permanent_impact"]
    if isinstance(moved, float):
        costs = {**costs, "permanent_impact": moved / _OLD_VOLATILITY}
    desk = recorded.get("desk")
    return {
        **recorded,
        "desk": {"observe_tradable": False, **desk} if isinstance(desk, Mapping) else desk,
        "floor": {"observe_episode": True, **floor, "costs": {"max_participation": None, **costs}},
    }


def file_of_today(values: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a user's file says, and the names in it that stand for others, where it chooses an algorithm by an old name.

    Args:
        values: The file's settings, nested.
        known: All settings that there are, by dotted name.

    Returns:
        The settings with today's algorithm, and today's dotted names by the old ones.
    """
    if values.get("algo") != _OLD:
        return dict(values), {}
    names = (name for name in known if name.startswith(f"{_NEW}."))
    return {**values, "algo": _NEW}, {name.replace(_NEW, _GROUP, 1): name for name in names}


def drawn_name_of_today(name: Any, algo: Any, *, source: Path) -> str:
    """The dotted name of a setting that a search has drawn, which is one of an algorithm's.

    Args:
        name: As any version has recorded it.
        algo: Today's name of the search's algorithm.
        source: Where it was read, for the message.

    Raises:
        InputError: if it is any other setting: some name code that would run, or folders that would be written to.
    """
    if not isinstance(name, str) or name.split(".")[0] not in groups():
        raise InputError(f"{source} is damaged: a search draws settings of algorithms alone, and not {shown(name)}")
    return name.replace(_GROUP, _NEW, 1) if algo == _NEW and name.startswith(f"{_GROUP}.") else name
