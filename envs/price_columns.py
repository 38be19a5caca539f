"""Which column of a price table is which: dates, assets, open, high, low, close and volume, under many names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from common.errors import InputError, nearest
from envs.bar_data import PRICE_FIELDS
from envs.price_assets import NO_ASSETS, all_assets, asset_and_field, group_columns, only, refuse_fields_by_value
from envs.price_checks import to_numbers
from envs.price_names import ACTION_NAMES, FIELD_NAMES, NAMES, ROLES, bare, folded, plain_name
from envs.price_tables import PriceTable, is_nameless
from envs.settings import BAR_COSTS, FUNDING

CHOOSABLE = ("date", "time", "asset", *FIELD_NAMES, *ACTION_NAMES, *BAR_COSTS, FUNDING)
"""What ``data.columns`` may name."""
_PLAIN_ASSETS = NAMES["asset"][:5]
_LETTERS = dict(zip("ohlcv", FIELD_NAMES, strict=True))
_FUNDING_NAMES = (FUNDING, "funding_rate", "fundingrate")
_BESIDE_LETTERS = {"t", "n", "vw"}
_LEAST_DATE = 1e7
_RULE = "it is a rule that holds at all times"
_CONSTANT_COSTS = {
    "permanent_impact": "permanent impact that changes would pay those who buy while it is small and sell while it is "
    "large",
    "max_participation": _RULE,
    "lot_size": _RULE,
    "delisting_haircut": _RULE,
}
_DAY = r"\d{8}|\d{1,4}\D\d{1,2}\D\d{1,4}\D?( 00:00:00)?"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
_HALF_DAYS = r"(?i)^(\d{1,2})(:.*?)\s*([ap])\.?m\.?$"
_CLOCK_DIGITS = r"^(\d{2})(\d{2})(\d{2})?$"
_HOURS = ("hour", "hours", "hr")
_MINUTES = ("minute", "minutes")
_NEAR = 0.78
_MOST_TOLD = 20
_TICKER = r"[A-Z][A-Z0-9]{0,4}([.-][A-Z]{1,3})?"


@dataclass(frozen=True)
class Columns:
    """What each column of a table is.

    Attributes:
        date: The column of dates.
        asset: That of the names of assets; None where the file is one asset, or wide.
        fields: Field (one of ``FIELD_NAMES``) -> column; empty where the table is wide: a column of closes per asset.
        notes: What was understood that does not go without saying.
        actions: Corporate actions (of ``ACTION_NAMES``) -> column.
        costs: Cost (one of ``BAR_COSTS``, or ``FUNDING``) -> column.
    """

    date: str
    asset: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    actions: dict[str, str] = field(default_factory=dict)
    costs: dict[str, str] = field(default_factory=dict)


def recognise_columns(
    table: PriceTable, chosen: Sequence[str] = (), assets: Sequence[str] | None = None
) -> tuple[PriceTable, Columns]:
    """Tell what the columns of a table are.

    A table whose columns are the fields of several assets (``BTC:open``, ``ETH:open``) is stacked: what comes back has
    a row for each date and asset, with the row numbers of the file.

    Args:
        table: As read.
        chosen: What the user says, ``"close=Last"``; it counts before any name.
        assets: The assets that the user names: a table of closes is taken for what it says it is.

    Raises:
        InputError: where dates or closes are missing, a column is nearly called like a field, or what a column is
            could be told in two ways.
    """
    given = _given(table, chosen)
    names = [str(name) for name in table.frame.columns]
    is_wide = assets is not None and _are_assets(table, names, assets, given)
    roles = () if is_wide else FIELD_NAMES
    fields = {role: found for role in roles if (found := given.get(role) or _find(table, role, names))}
    fields = fields or ({} if is_wide else _letters(table, names))
    date = given.get("date") or _find(table, "date", names) or (_named(names, "t") if "open" in fields else None)
    date = date or _first_without_name(table)
    if date is None:
        raise InputError(missing_column(table, "date"))
    table, time_notes = _join_time(table, date, given.get("time"))
    table = replace(table, notes=(*table.notes, *time_notes))
    names = [str(name) for name in table.frame.columns]
    fields = {role: column for role, column in fields.items() if column != date}
    asset = given.get("asset") or (None if is_wide else _find(table, "asset", names))
    if asset is not None and "close" not in fields and folded(asset) not in _PLAIN_ASSETS and "asset" not in given:
        asset = None
    costs = _costs(names, given)
    used = {date, asset, *fields.values(), *costs.values()}
    others = [name for name in names if name not in used and not is_nameless(name)]
    if _is_long(fields, asset, others) or given.keys() & set(ACTION_NAMES):
        _refuse_doubt(table, fields, others, chosen)
        _refuse_missing(table, fields, others)
        _refuse_constant_costs(table, others)
        actions = {role: found for role in ACTION_NAMES if (found := given.get(role) or _find(table, role, others))}
        charged = (f"charged as the file says, bar by bar: {', '.join(costs)}",) if costs else ()
        notes = (*_told(fields), *_untold_volume(fields, others), *charged)
        return table, Columns(date, asset, fields, notes, actions, costs)
    if chosen_cost := next((name for name in (*BAR_COSTS, FUNDING) if name in given), None):
        raise InputError(
            f"{table.path}: data.columns names a column for {chosen_cost}, but this table has a column for each asset: "
            "give it a row for each date and asset"
        )
    closes = [name for name in names if name != date and not is_nameless(name)]
    return _by_asset(table, date, closes, assets)


def _are_assets(table: PriceTable, names: Sequence[str], assets: Sequence[str], given: Mapping[str, str]) -> bool:
    """Whether the user names every column that is called like a field as an asset: LOW, O or VOL are tickers too.

    Of a file that is called like one of them, and has closes, these are prices of that asset.
    """
    if given.keys() - {"date", "time"} or not set(assets) <= {name.strip() for name in names}:
        return False
    roles = {name: ROLES.get(folded(name), ROLES.get(bare(name))) for name in names}
    if set("ohlc") <= {folded(name) for name in names}:
        roles |= {name: _LETTERS[letter] for name in names if (letter := folded(name)) in set("ohlc")}
    like = {name.strip() for name, role in roles.items() if role in (*FIELD_NAMES, "asset")}
    return like <= set(assets) and not (table.name in assets and "close" in roles.values())


def _costs(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Cost -> its column, which is called so, or said to be it."""
    by_name = {folded(name).replace(" ", "_"): name for name in names}
    spellings = {name: (name,) for name in BAR_COSTS} | {FUNDING: _FUNDING_NAMES}
    own = {cost: next((by_name[word] for word in words if word in by_name), None) for cost, words in spellings.items()}
    return {cost: found for cost in spellings if (found := given.get(cost) or own[cost])}


def _refuse_constant_costs(table: PriceTable, others: Sequence[str]) -> None:
    """Refuse costs that are an asset's at all times, and that a column would let change."""
    for name in others:
        if (cost := folded(name).replace(" ", "_")) in _CONSTANT_COSTS:
            raise InputError(
                f"{table.path}: column {name!r}: {_CONSTANT_COSTS[cost]}: give it for each asset in a table, "
                "--floor.costs.table FILE, and remove the column"
            )


def _first_without_name(table: PriceTable) -> str | None:
    """The first column where it has no name, as an index without one leaves it, and holds what may be dates."""
    name = str(table.frame.columns[0])
    cells = table.frame[name]
    is_count = pd.api.types.is_numeric_dtype(cells.dtype) and not (cells.abs() >= _LEAST_DATE).all()
    return name if is_nameless(name) and table.has_header and not is_count else None


def _join_time(table: PriceTable, date: str, chosen: str | None) -> tuple[PriceTable, tuple[str, ...]]:
    """Add the time of day in a second column to the dates, where these have none."""
    names = [str(name) for name in table.frame.columns if name != date]
    days = table.frame[date].astype(str).str.strip()
    is_one_day = bool((days == days.iloc[0]).all())
    wanted = [name for name in names if name == chosen or folded(name) in NAMES["time"]]
    clocks = {name: _clock(table, name, is_one_day) for name in wanted}
    times = [name for name, clock in clocks.items() if clock.str.fullmatch(_CLOCK).all()]
    if chosen is None and (not times or not days.str.fullmatch(_DAY).all()):
        return table, ()
    time = chosen or times[0]
    if chosen is None and folded(time) in _HOURS and not days.duplicated().any():  # a ticker HR, or nothing needs it
        return table, ()
    used, clock = [time], clocks[time]
    minute = next((name for name in names if folded(name) in _MINUTES and folded(time) in _HOURS), None)
    if (
        minute is not None
        and (minutes := table.frame[minute].astype(str).str.strip()).str.fullmatch("[0-5]?[0-9]").all()
    ):
        used, clock = [time, minute], clock.str[:-2] + minutes.str.zfill(2)
    dates = (days + " " + clock).where(table.frame[date].notna())
    frame = table.frame.assign(**{date: dates}).drop(columns=used)
    return replace(table, frame=frame), (f"time of day read from column {' and '.join(map(repr, used))}",)


def _clock(table: PriceTable, name: str, is_one_day: bool) -> pd.Series:
    """The cells of a column as times of day: 930, 93000 and 9:30 AM as 09:30, 09:30:00 and 09:30, hour 9 as 09:00.

    Where all are below 24 they are hours, but for the first minutes of one day: on several they would have later ones.
    Of an hour 24 nothing is made, and the date is refused.
    """
    clock = table.frame[name].astype(str).str.strip()
    is_short = clock.str.fullmatch(r"\d{1,2}")
    if is_short.all() and (folded(name) in _HOURS or (not is_one_day and clock.astype(int).max() <= 24)):
        return clock.str.zfill(2) + ":00"
    clock = clock.str.zfill(6 if clock.str.len().max() > 4 else 4).where(clock.str.isdigit(), clock)
    clock = clock.str.replace(_CLOCK_DIGITS, _as_clock, regex=True)
    return clock.str.replace(_HALF_DAYS, _of_whole_day, regex=True)


def _as_clock(digits: re.Match[str]) -> str:
    return ":".join(part for part in digits.groups() if part)


def _of_whole_day(found: re.Match[str]) -> str:
    """``4:30 PM`` is ``16:30``, and ``12:30 AM`` is ``00:30``."""
    return f"{int(found[1]) % 12 + 12 * (found[3].lower() == 'p'):02d}{found[2]}"


def missing_column(table: PriceTable, wanted: str, *, candidates: Sequence[object] | None = None) -> str:
    """Message for a column that is not there, with the nearest of the candidates (default: all columns)."""
    names = [str(name) for name in table.frame.columns]
    if not table.has_header:
        words = to_numbers(table.frame[names[0]]).isna().all() and table.frame[names[0]].astype(str).str.isalpha().all()
        count = [*(("asset",) if words else ()), "date", *FIELD_NAMES]
        return (
            f"{table.path}: line {table.first_row} holds numbers: the file has no header: write one, or count the "
            f"columns, as --data.columns {','.join(f'{role}={i + 1}' for i, role in enumerate(count))}"
        )
    near = nearest(wanted, names if candidates is None else [str(name) for name in candidates])
    found = ", ".join(names[:_MOST_TOLD]) + (f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else "")
    return (
        f"{table.path}: column {wanted!r} is missing{near}; the file has {found}: rename one, or set "
        f"--data.columns {wanted}=NAME"
    )


def _given(table: PriceTable, chosen: Sequence[str]) -> dict[str, str]:
    """What ``data.columns`` says: role -> column."""
    names = {plain_name(name): str(name) for name in table.frame.columns}
    given: dict[str, str] = {}
    for words in chosen:
        role, sign, column = words.partition("=")
        if not sign or role not in CHOOSABLE or role in given:
            raise InputError(
                f"data.columns has {words!r}: write date=Time close=Last, each of {', '.join(CHOOSABLE)} at most once"
            )
        if plain_name(column) not in names:
            raise InputError(
                f"{table.path}: data.columns names column {column!r}, which is not there"
                f"{nearest(column, names.values())}; the file has {', '.join(names.values())}"
            )
        other = next((name for name, taken in given.items() if taken == names[plain_name(column)]), None)
        if other is not None:
            raise InputError(f"data.columns names column {column!r} for {other} and for {role}: it is one of them")
        given[role] = names[plain_name(column)]
    return given


def _find(table: PriceTable, role: str, names: Sequence[str]) -> str | None:
    """The column that has a role by its name; with a number or a unit (``1. open (USD)``) if no other is like it."""
    by_name = {folded(name): name for name in reversed(names)}
    found = [by_name[spelling] for spelling in NAMES[role] if spelling in by_name]
    if found and (role != "volume" or len(found) == 1 or plain_name(found[0]) == role):
        return found[0]
    found = found or [name for name in names if bare(name) in NAMES[role]]
    if len(found) > 1 and role not in ("volume", "date"):
        if all(name.rstrip().endswith((")", "]")) and asset_and_field(name) for name in found):  # Open (AAPL)
            return None
        raise InputError(
            f"{table.path}: columns {', '.join(map(repr, found))} could all be {role}: set --data.columns "
            f"{role}={found[0]!r} or another"
        )
    return found[0] if len(found) == 1 else None


def _named(names: Sequence[str], wanted: str) -> str | None:
    return next((name for name in names if folded(name) == wanted), None)


def _letters(table: PriceTable, names: Sequence[str]) -> dict[str, str]:
    """Fields of a table whose columns are called o, h, l, c and perhaps v; tickers of one letter are no fields."""
    by_name = {folded(name): name for name in names}
    if not set("ohlc") <= set(by_name):
        return {}
    others = set(by_name) - set(_LETTERS) - _BESIDE_LETTERS - {""}
    others = {name for name in others if ROLES.get(name) not in ("date", "asset")}
    if others:
        raise InputError(
            f"{table.path}: columns o, h, l, c could be open, high, low and close or four assets: set --data.columns "
            f"open=o,high=h,low=l,close=c, {_all_assets(names)}"
        )
    found = {_LETTERS[letter]: by_name[letter] for letter in _LETTERS if letter in by_name}
    cells = [to_numbers(table.frame[found[name]]).to_numpy(dtype=np.float64, na_value=np.nan) for name in PRICE_FIELDS]
    opened, high, low, close = (x[np.isfinite(cells).all(axis=0)] for x in cells)
    is_bar = (low <= np.minimum(opened, close)) & (np.maximum(opened, close) <= high)
    if is_bar.sum() < len(is_bar) / 2:
        raise InputError(
            f"{table.path}: columns {', '.join(found.values())} are called like open, high, low and close, but most "
            f"rows are no bars: set --data.columns open={found['open']},high={found['high']},low={found['low']},"
            f"close={found['close']}, {_all_assets(names)}"
        )
    return found


def _all_assets(names: Sequence[str]) -> str:
    return all_assets([name for name in names if ROLES.get(folded(name)) != "date" and not is_nameless(name)])


def _is_long(fields: dict[str, str], asset: str | None, others: Sequence[str]) -> bool:
    """Whether a table has fields in its columns; an asset OPEN or LOW among other assets makes none of it."""
    if asset is not None or "close" in fields or "volume" in fields or len(fields) >= 3:
        return True
    near = any(difflib.get_close_matches(name, [folded(other) for other in others], 1, _NEAR) for name in FIELD_NAMES)
    return bool(fields) and (near or not others)


def _refuse_doubt(table: PriceTable, fields: dict[str, str], others: Sequence[str], chosen: Sequence[str]) -> None:
    """Refuse a table that could be wide, with an asset that is called LAST or PRICE."""
    name = fields.get("close", "")
    unknown = [other for other in others if folded(other) not in ROLES and bare(other) not in ROLES]
    is_word = folded(name).isascii() and " " not in folded(name) and folded(name) != "close"
    if set(fields) == {"close"} and is_word and unknown and not any(words.startswith("close=") for words in chosen):
        raise InputError(
            f"{table.path}: column {name!r} could be the close of one asset, or an asset beside {unknown[0]!r}: set "
            f"--data.columns close={name}, {_all_assets([str(column) for column in table.frame.columns])}"
        )


def _refuse_missing(table: PriceTable, fields: dict[str, str], others: Sequence[str]) -> None:
    """Refuse a long table that lacks a field, or has a column that is nearly called like one."""
    spare = {folded(name): name for name in others}
    names = [str(name) for name in table.frame.columns if ROLES.get(folded(name)) != "date" and not is_nameless(name)]
    way_out = f", {all_assets(names)}" if all(re.fullmatch(_TICKER, name.strip()) for name in names) else ""
    if "close" not in fields:
        raise InputError(missing_column(table, "close", candidates=list(spare.values())) + way_out)
    needed = PRICE_FIELDS if any(name in fields for name in ("open", "high", "low")) else ()
    for name in FIELD_NAMES:
        if name not in fields and (name in needed or difflib.get_close_matches(name, list(spare), 1, _NEAR)):
            raise InputError(missing_column(table, name, candidates=list(spare.values())) + way_out)


def _told(fields: dict[str, str]) -> tuple[str, ...]:
    """A note that names the columns that are not called like their field."""
    other = [f"{name} from {column!r}" for name, column in fields.items() if plain_name(column) != name]
    return (f"columns read as {', '.join(other)}; data.columns sets them",) if other else ()


def _untold_volume(fields: dict[str, str], others: Sequence[str]) -> tuple[str, ...]:
    found = [name for name in others if bare(name) in NAMES["volume"] or re.match("vol(ume)? ", folded(name))]
    if "volume" in fields or not found:
        return ()
    return (f"{' and '.join(found)} could be the volume: not used, set data.columns volume={found[0]} for one of them",)


def _by_asset(
    table: PriceTable, date: str, names: Sequence[str], assets: Sequence[str] | None
) -> tuple[PriceTable, Columns]:
    """A table with columns for each asset: of closes alone (wide), or of fields (``BTC:open``), which are stacked."""
    groups = group_columns(table.path, names, assets)
    if not groups:
        if assets is None:
            refuse_fields_by_value(table, names)
        return table, Columns(date)
    first = only(FIELD_NAMES, next(iter(groups.values())))
    if folded(next(iter(groups))) in NO_ASSETS:
        _refuse_missing(table, first, ())
        return table, Columns(date, None, first, _told(first))
    note = f"columns read as {', '.join(first)} of {', '.join(groups)}"
    if "adj" in folded(first.get("close", "")):
        note += ": the closes are adjusted ones"
    shared = [role for role in ACTION_NAMES if all(role in group for group in groups.values())]
    groups = {asset: only((*first, *shared), group) for asset, group in groups.items()}
    rows = [
        table.frame[[date, *group.values()]].rename(columns={column: name for name, column in group.items()})
        for group in groups.values()
    ]
    labels = np.repeat(np.array(list(groups), dtype=object), len(table.frame))
    stacked = pd.concat(rows).assign(asset=labels)
    used = [column for group in groups.values() for column in group.values()]
    unused = [name for name in names if name not in used]
    notes = (note, f"columns not used: {', '.join(unused)}") if unused else (note,)
    fields, actions = ({name: name for name in roles} for roles in (first, shared))
    return replace(table, frame=stacked), Columns(date, "asset", fields, notes, actions)
