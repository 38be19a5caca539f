"""How far apart bars are, and how many of them make a year: as set, or as their dates say."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.market_years import bars_in_a_year, days_in_a_year

_DAY_S = 86_400.0
_SHORT = 0.8  # of a day; bars closer than that are intraday
_CLOSER = 0.9  # of a frequency; bars that usually stand closer than that are none of it
_LONGER_THAN_A_DAY = ((5, 9, "1w", 52.0), (26, 33, "1mo", 12.0), (85, 95, "3mo", 4.0), (350, 380, "1y", 1.0))
_UNITS_S = {"h": 3600.0, "min": 60.0, "s": 1.0}
_OTHER_WORDS = {
    "second": "1s", "minute": "1min", "hour": "1h", "hourly": "1h", "day": "1d", "daily": "1d", "24h": "1d",
    "week": "1w", "weekly": "1w", "7d": "1w", "month": "1mo", "monthly": "1mo", "quarter": "3mo", "quarterly": "3mo",
    "year": "1y", "yearly": "1y", "annual": "1y",
}  # fmt: skip
IRREGULAR = "irregular"
"""Frequency of bars whose spacing fits none, where nothing depends on it."""


def settle_frequency(
    dates: NDArray[np.datetime64], *, frequency: str | None, periods_per_year: float | None, source: str
) -> tuple[str, float, tuple[str, ...]]:
    """Tell the frequency of the bars and how many there are in a year: what is set wins, the rest is inferred.

    Args:
        dates: Increasing, [T] datetime64.
        frequency: As ``Bars.frequency`` has it, where inference is wrong (data with many holes); None infers it.
        periods_per_year: Bars in a year; None takes ``periods_in_a_year`` of the frequency.
        source: Where the bars come from, for messages.

    Returns:
        Frequency, bars in a year, and notes: what was inferred, and where a set frequency is not that of the dates.

    Raises:
        InputError: if a setting makes no sense, there are fewer than two dates, or nothing is set and their spacing
            fits no frequency.
    """
    if periods_per_year is not None and not periods_per_year > 0:
        raise InputError(f"data.periods_per_year is {periods_per_year}: it must be above 0")
    wanted = None if frequency is None else parse_frequency(frequency)
    try:
        seen = infer_frequency(dates, source=source)
    except InputError:
        if len(dates) < 2 or (wanted is None and periods_per_year is None):
            raise
        seen = IRREGULAR
    words = wanted or seen
    notes = []
    if periods_per_year is None:
        periods_per_year, how = periods_in_a_year(words, dates, is_every_bar=words == seen)
        told = f"inferred from {how}; data.frequency and data.periods_per_year set it"
        told = told if wanted is None else f"from data.frequency and {how}"
        notes.append(f"bars are {words} apart, {periods_per_year:.10g} a year ({told})")
    if words != seen:
        notes.append(f"frequency set to {words}; dates look {seen if seen == IRREGULAR else f'like {seen}'}")
    return words, float(periods_per_year), tuple(notes)


def check_no_closer(dates: NDArray[np.datetime64], frequency: str, *, source: str) -> None:
    """Refuse a frequency that was set for bars that usually stand closer: too few of them would count as a year.

    Raises:
        InputError: saying how far apart they are.
    """
    wanted = parse_frequency(frequency)
    if len(dates) > 1 and _usual_gap_s(dates) < _CLOSER * _spacing_s(wanted):
        raise InputError(
            f"data.frequency is {wanted}, but the bars of {source} stand {gap_words(_usual_gap_s(dates))} apart: it "
            "says what bars are and makes no others of them; give bars of that length, or leave it out"
        )


def parse_frequency(text: str) -> str:
    """Read a frequency as the user writes it, and give it as ``Bars.frequency`` has it (``"60min"`` is ``"1h"``).

    Raises:
        InputError: if it is none; names the nearest that is one.
    """
    whole = [words for _, _, words, _ in _LONGER_THAN_A_DAY]
    if text in ("1d", *whole):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(h|min|s)", text)
    if found is not None:
        spacing_s = float(found[1]) * _UNITS_S[found[2]]
        if 0 < spacing_s < _SHORT * _DAY_S:
            return _spacing_words(spacing_s)
    plain = re.sub(r"^1?[ -]*", "", text.lower())
    known = ("1s", "1min", "5min", "15min", "30min", "1h", "4h", "1d", *whole)
    hint = f" (did you mean {_OTHER_WORDS[plain]!r}?)" if plain in _OTHER_WORDS else nearest(text, known)
    raise InputError(
        f"data.frequency is {text!r}{hint}: write a number of s, min or h below a day (5min, 1h), "
        f"or one of 1d, {', '.join(whole)}"
    )


def infer_frequency(dates: NDArray[np.datetime64], *, source: str) -> str:
    """Tell the spacing of the bars from their dates.

    Args:
        dates: Increasing, [T] datetime64, T >= 2.
        source: Where the bars come from, for messages.

    Returns:
        Frequency in words: ``"1d"``, ``"1h"``, ``"5min"``, ``"1w"``.

    Raises:
        InputError: if there are fewer than two dates, or their spacing fits no frequency.
    """
    if len(dates) < 2:
        raise InputError(f"{source}: {len(dates)} bar is no history: give at least two")
    gaps_s = _gaps_s(dates)
    spacing_s = _usual_gap_s(dates)
    is_days = not is_intraday(spacing_s) and spacing_s < 5 * _DAY_S and gaps_s.min() < 1.2 * _DAY_S
    if is_days:  # with holes where assets did not overlap
        return "1d"
    words = gap_words(spacing_s)
    if words.endswith(" days"):
        raise InputError(
            f"{source}: bars stand {words} apart, which is no frequency that can be inferred: set data.frequency or "
            "data.periods_per_year"
        )
    return words


def periods_in_a_year(frequency: str, dates: NDArray[np.datetime64], *, is_every_bar: bool = True) -> tuple[float, str]:
    """Bars of a frequency in a year of the market that has these dates, and what they were told by, in words.

    Weekly bars count 52 a year, monthly 12; ``envs.market_years`` says how many days and intraday bars there are.

    Args:
        frequency: As ``parse_frequency`` or ``infer_frequency`` give it.
        dates: Increasing, [T] datetime64, T >= 2.
        is_every_bar: Whether the dates are those of the frequency; bars that are missing cannot be counted.
    """
    for _, _, words, periods in _LONGER_THAN_A_DAY:
        if frequency == words:
            return periods, "their distance"
    gap_s = _usual_gap_s(dates)
    if frequency == "1d" or gap_s >= _SHORT * _DAY_S:  # then no bar says when the market opens and closes
        days = np.unique(dates.astype("datetime64[D]"))
        periods, how = days_in_a_year(days, is_every_day=gap_s < _SHORT * _DAY_S or is_every_bar)
    else:
        periods, how = bars_in_a_year(dates, gap_s)
        periods *= gap_s / _DAY_S
    if frequency == "1d":
        return periods, how
    return periods * _DAY_S / _spacing_s(frequency), how


def _spacing_s(frequency: str) -> float:
    """The shortest gap between bars of a frequency."""
    for least, _, words, _ in ((1, 1, "1d", 0.0), *_LONGER_THAN_A_DAY):
        if frequency == words:
            return least * _DAY_S
    number, unit = re.fullmatch(r"(.*?)([a-z]+)", frequency).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS_S[unit]


def _gaps_s(dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return np.diff(dates.astype("datetime64[us]")).astype(np.int64) / 1e6


def _usual_gap_s(dates: NDArray[np.datetime64]) -> float:
    return float(np.quantile(_gaps_s(dates), 0.5, method="lower"))


def is_intraday(gap_s: float) -> bool:
    """Whether bars that stand so many seconds apart are shorter than a day."""
    return gap_s < _SHORT * _DAY_S


def gap_words(gap_s: float) -> str:
    """How far apart bars are, in words: ``5min``, ``1d``, ``1mo``; ``2.5 days`` where that is no frequency."""
    if is_intraday(gap_s):
        return _spacing_words(gap_s)
    days = gap_s / _DAY_S
    if days < 1.2:
        return "1d"
    return next((words for least, most, words, _ in _LONGER_THAN_A_DAY if least <= days <= most), f"{days:.3g} days")


def _spacing_words(spacing_s: float) -> str:
    for unit_s, word in ((3600, "h"), (60, "min")):
        if spacing_s % unit_s == 0:
            return f"{spacing_s / unit_s:g}{word}"
    return f"{spacing_s:g}s"
