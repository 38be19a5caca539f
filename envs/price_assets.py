"""Tables with columns for each asset: which column is what of which asset (``BTC:open``), or each an asset's closes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence

import numpy as np

from common.errors import InputError
from envs.bar_data import PRICE_FIELDS
from envs.price_checks import to_numbers
from envs.price_names import BESIDE_ASSETS, FIELD_NAMES, ROLES, folded, plain_name
from envs.price_tables import PriceTable

Groups = dict[str, dict[str, str]]
"""Asset -> what a column of it holds (of ``BESIDE_ASSETS``) -> that column."""
NO_ASSETS = {"adj", "adjusted", "raw", "unadjusted", "bid", "ask", "mid", "trade", "stock", "share", "price", "prev"}
"""Words beside a field that name no asset."""
_UNITS = {"USD", "EUR", "GBP", "JPY", "CHF", "CNY", "HKD", "INR", "AUD", "CAD", "KRW", "USDT", "%"}
"""What stands in brackets and is no asset."""
_QUOTES = {"bid", "ask", "offer"}
_ROWS_LOOKED_AT, _LEAST_ROWS, _MOST_LIKE = 1_000, 10, 8
"""Rows and columns of a wide table that are looked at for the fields of one asset, and the fewest that show them."""
_MOST_TOLD = 20


def group_columns(path: str, names: Sequence[str], assets: Sequence[str] | None = None) -> Groups:
    """Tell which column holds what of which asset.

    A column that is called like an asset alone is its close, where another holds its volume or the like.

    Args:
        path: The file, for messages.
        names: Its columns but the dates.
        assets: The assets that the user names: a column of such a name is one.

    Returns:
        What each asset has; empty where each column is an asset.

    Raises:
        InputError: where a column could be the volume of an asset that has no close, or columns are quotes, or not
            every asset has the same fields.
    """
    pairs = {name: pair for name in names if (pair := asset_and_field(name)) is not None}
    if assets is not None and any(name.strip() in assets for name in pairs):
        return {}
    spelled = {plain_name(asset): asset for asset, _ in pairs.values()}
    closed = {plain_name(asset) for asset, role in pairs.values() if role == "close"}
    own = {name for name in names if name not in pairs and plain_name(name) in spelled.keys() - closed}
    groups: Groups = {}
    for name in names:
        if name in pairs or own:
            asset, role = pairs.get(name, (spelled.get(plain_name(name), name.strip()), "close"))
            groups.setdefault(asset, {}).setdefault(role, name)
    for group in groups.values():
        if "adj_close" in group and not group.keys() & set(PRICE_FIELDS):
            group["close"] = group.pop("adj_close")
    fields = {asset: kept for asset, group in groups.items() if (kept := only(FIELD_NAMES, group))}
    is_clear = bool(own) or any(len(kept) >= 3 or ("close" in kept and len(kept) == 2) for kept in fields.values())
    if not fields or (len(pairs) < len(names) and not is_clear):
        if assets is None:
            _refuse_what_is_no_close(path, names, fields)
        return {}
    first = next(iter(fields.values()))
    for asset, group in fields.items():
        if folded(asset) in NO_ASSETS and len(fields) > 1:
            raise InputError(
                f"{path}: columns {', '.join(group.values())} look like {', '.join(group)}, and others do too: "
                f"name those to be used, --data.columns close={group.get('close', 'NAME')!r} and so on"
            )
        needed = PRICE_FIELDS if set(group) - {"close", "volume"} else ("close",)
        lacking = [name for name in FIELD_NAMES if name not in group and (name in needed or name in first)]
        if folded(asset) not in NO_ASSETS and (lacking or len(group) > len(first)):
            raise InputError(
                f"{path}: columns {', '.join(group.values())} look like {', '.join(group)} of {asset}, but "
                f"{', '.join(lacking or group)} cannot be found for every asset: add or remove columns, "
                f"{all_assets(names)}"
            )
    return {asset: groups[asset] for asset in fields}


def all_assets(names: Sequence[str]) -> str:
    """End of a message: the setting that says that each of these columns is an asset."""
    told = [name.strip() for name in names[:_MOST_TOLD]] + (["..."] if len(names) > _MOST_TOLD else [])
    return f"or where each is an asset set --data.assets {shlex.quote(','.join(told))}"


def only(roles: Sequence[str], group: dict[str, str]) -> dict[str, str]:
    """The columns of a group that have one of some roles, in their order."""
    return {name: group[name] for name in roles if name in group}


def _refuse_what_is_no_close(path: str, names: Sequence[str], fields: Groups) -> None:
    """Refuse columns among assets that are called like volumes, quotes or other prices than closes."""
    found = [(group["volume"], f"the volume of {asset}") for asset, group in fields.items() if "volume" in group]
    found += [
        (column, f"a {role} beside other columns")
        for asset, group in fields.items()
        if folded(asset) in NO_ASSETS
        for role, column in group.items()
    ]
    quotes = [name for name in names if _QUOTES & set(folded(name).split())]
    found += [(name, "a quote") for name in quotes] if len(quotes) > 1 else []
    if found:
        column, what = found[0]
        raise InputError(
            f"{path}: column {column!r} could be {what}, or an asset: remove it, set --data.columns close=NAME for the "
            f"close of one asset, {all_assets(names)}"
        )


def refuse_fields_by_value(table: PriceTable, names: Sequence[str]) -> None:
    """Refuse a wide table whose columns move like open, high, low and close of one asset, whatever they are called."""
    rows = table.frame[list(names[:_MOST_LIKE])][:_ROWS_LOOKED_AT]
    cells = {name: to_numbers(rows[name]).to_numpy(dtype=np.float64, na_value=np.nan) for name in rows}
    known = np.logical_and.reduce([np.isfinite(x) & (x > 0) for x in cells.values()]) if cells else np.array([])
    if known.sum() < _LEAST_ROWS:
        return
    prices = {name: x[known] for name, x in cells.items()}
    for low, high in itertools.permutations(prices, 2):
        inside = [
            name
            for name, x in prices.items()
            if name not in (low, high) and ((prices[low] <= x) & (x <= prices[high])).all()
        ]
        for first, last in itertools.permutations(inside, 2):
            opened, closed = prices[first], prices[last]
            gap, move = np.abs(np.log(opened[1:] / closed[:-1])), np.abs(np.log(closed[1:] / closed[:-1]))
            if np.median(gap) < np.median(move):
                raise InputError(
                    f"{table.path}: columns {first}, {high}, {low}, {last} move like open, high, low and close of one "
                    f"asset: set --data.columns open={first},high={high},low={low},close={last}, {all_assets(names)}"
                )


def asset_and_field(name: str) -> tuple[str, str] | None:
    """What a column of one asset's prices is of: ``BTC:open``, ``Close AAPL``, ``Close (AAPL)`` say it."""
    text = name.strip()
    pair = re.fullmatch(r"\(['\"](.*?)['\"], ['\"](.*?)['\"]\)", text)
    pair = pair or re.fullmatch(r"([^()\[\]]+)[(\[]([^()\[\]]+)[)\]]", text)
    if pair and pair[2] in _UNITS:
        return None
    cuts = [(pair[1], pair[2])] if pair else []
    cuts += [(text[: sign.start()], text[sign.end() :]) for sign in re.finditer(r"[\s:._|/-]+", text)]
    for head, tail in cuts:
        for asset, word in ((head, tail), (tail, head)):
            role = ROLES.get(folded(word))
            if asset.strip() and role in BESIDE_ASSETS:
                return asset.strip(), str(role)
    return None
