"""The names under which vendors and languages write the columns of prices: the one table of them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

from envs.bar_data import PRICE_FIELDS

FIELD_NAMES = (*PRICE_FIELDS, "volume")
ACTION_NAMES = ("adj_close", "dividends", "splits")
"""Columns of corporate actions, by which prices are adjusted."""
NAMES: dict[str, tuple[str, ...]] = {
    "date": (
        "date", "datetime", "timestamp", "time", "open time", "trade date", "trading date", "date time", "gmt time",
        "local time", "unix", "snapped at", "日期", "交易日期", "日付", "날짜", "일자", "datum", "fecha", "data",
        "дата", "tarih",
    ),
    "time": (
        "time", "zeit", "uhrzeit", "heure", "hora", "ora", "时间", "交易时间", "time of day", "hour", "hours", "hr",
        "hhmm", "время", "saat", "godzina", "timestamp",
    ),
    "asset": (
        "tic", "symbol", "ticker", "name", "asset", "ts code", "code", "instrument", "股票代码", "证券代码", "代码",
    ),
    "open": (
        "open", "open price", "price open", "opening price", "opening", "px open", "openprice", "开盘", "开盘价",
        "始値", "시가", "eroffnung", "eroffnungskurs", "erster", "ouverture", "ouv", "apertura", "abertura",
        "開盤", "開盤價", "открытие", "откр", "acılıs", "otwarcie", "openingskoers", "oppning",
    ),
    "high": (
        "high", "high price", "price high", "highest", "px high", "highprice", "最高", "最高价", "高値", "고가", "hoch",
        "hochst", "tageshoch", "haut", "plus haut", "maximo", "maxima", "max", "alto",
        "massimo", "max price", "最高價", "максимум", "макс", "yuksek", "najwyzszy", "hoog", "hoogste", "hogst",
        "hogsta",
    ),
    "low": (
        "low", "low price", "price low", "lowest", "px low", "lowprice", "最低", "最低价", "安値", "저가", "tief",
        "tiefst", "tagestief", "bas", "plus bas", "minimo", "minima", "min", "bajo",
        "min price", "最低價", "минимум", "мин", "dusuk", "najnizszy", "laag", "laagste", "lagst", "lagsta",
    ),
    "close": (
        "close", "close price", "price close", "closing price", "closing", "px close", "closeprice", "close last",
        "last", "last price", "px last", "price", "收盘", "收盘价", "終値", "종가", "schluss", "schlusskurs", "letzter",
        "zuletzt", "dernier", "cloture", "cierre", "ultimo", "fechamento", "chiusura",
        "收盤", "收盤價", "закрытие", "цена", "kapanıs", "zamkniecie", "slot", "slotkoers", "stangning", "settle",
        "settlement price",
    ),
    "volume": (
        "volume", "vol", "tickvol", "tick volume", "no of shares", "number of shares",
        "total traded quantity", "ttl trd qnty", "tottrdqty", "shares traded", "trade volume",
        "px volume", "成交量", "成交股數", "出来高", "거래량", "volumen", "объем", "hacim", "wolumen",
        "volym", "stuck", "stucke", "stuecke",
    ),
    "adj_close": ("adj close", "adjusted close", "adjclose", "close adj", "close adjusted", "adj closing price"),
    "dividends": ("dividends", "dividend", "dividend amount", "divcash", "ex dividend"),
    "splits": (
        "stock splits", "stock split", "splits", "split ratio", "split coefficient", "split factor", "splitfactor",
    ),
    "unused": (
        "open interest", "openinterest", "openint", "oi", "change", "change %", "pct chg", "prev close", "pre close",
        "capital gains", "spread", "ret", "return", "returns", "log return", "vwap", "turnover",
        "repaired",
    ),
}  # fmt: skip
"""Every spelling that is understood, as ``folded`` writes it; of several in a file the first of these counts."""
NAMES |= {
    role: tuple(dict.fromkeys((*spellings, *(spelling.replace(" ", "") for spelling in spellings))))
    for role, spellings in NAMES.items()
}
ROLES = {spelling: role for role, spellings in reversed(NAMES.items()) for spelling in spellings}
"""The same, the other way round."""
BESIDE_ASSETS = (*FIELD_NAMES, *ACTION_NAMES, "unused")
"""What a column of one asset's may hold."""


def plain_name(name: object) -> str:
    """Fold a column name: no blanks around it, lower case."""
    return str(name).strip().lower()


def folded(name: object) -> str:
    """Write a column's name so that spellings compare: lower case, no accents, one blank for each run of signs."""
    text = unicodedata.normalize("NFKD", str(name).casefold())
    text = unicodedata.normalize("NFKC", "".join(sign for sign in text if not unicodedata.combining(sign)))
    return re.sub(r"[^\w%]+|_+", " ", text).strip()


def bare(name: str) -> str:
    """A folded name without the number before it and the unit in brackets after it."""
    return folded(re.sub(r"^\s*\d+\w?[.)]\s*|[\s_]*[(\[][^)\]]*[)\]]\s*$", "", name))


def level_names(columns: Sequence[tuple[str, str]]) -> list[str] | None:
    """Names for columns whose header has two levels, one of them the field: ``AAPL:Close``; None where none is.

    A few fields may be unknown, beside closes and volumes or two prices more of assets that have all of these.
    """
    for taken, (field, asset) in itertools.product(("closes", "known", "unknown"), ((0, 1), (1, 0))):
        roles = [ROLES.get(folded(levels[field])) for levels in columns]
        known = [role in BESIDE_ASSETS for role in roles]
        are_fields = "close" in roles and ("volume" in roles or len(set(roles) & set(PRICE_FIELDS)) > 2)
        owners = {levels[asset] for levels, is_known in zip(columns, known, strict=True) if is_known}
        is_clear = are_fields and sum(known) > len(known) / 2 and owners == {levels[asset] for levels in columns}
        is_it = {"closes": all(known) and "close" in roles, "known": all(known), "unknown": is_clear}[taken]
        if columns and is_it:
            return [f"{levels[asset].strip()}:{levels[field].strip()}" for levels in columns]
    return None
