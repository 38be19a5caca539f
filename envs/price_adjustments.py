"""Prices adjusted for stock splits and dividends: by an adjusted close, or by columns of the splits and dividends.

A factor multiplies open, high, low and close of a bar alike and divides its volume, so that price times volume stays
the money that changed hands. It is a product over all later splits and dividends: ``1 / r`` for r new shares for an old
one, and ``1 - D / close before`` for a dividend of D, which reinvests it (CRSP's factors to adjust prices). What
happens later multiplies all earlier prices alike, so that no return depends on what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from envs.bar_data import PRICE_FIELDS
from envs.calendars import last_traded, show_date
from envs.price_checks import LARGEST, LARGEST_VOLUME, SMALLEST
from envs.price_faults import refuse_lines
from envs.settings import Adjust

Array = NDArray[np.float64]

_CLEAR = 8.0
"""Usual moves in a split whose place in the prices shows by itself."""
_OTHER_SPLIT = 0.25
"""Log of a price over what a split leaves of it, from which on the split was another one: 4:1 and 3:1 differ by .29."""
_SURE = 4.0
"""Log of how much likelier the one must be than the other, with returns that are normal: an error in fifty."""
_OUTLIER = 3.0


def action_columns(found: Mapping[str, str], adjust: Adjust | None, path: str) -> dict[str, str]:
    """Those of a file's columns of corporate actions that its prices are to be adjusted by.

    Args:
        found: ``adj_close``, ``dividends``, ``splits`` -> column, those that the file has.
        adjust: The setting.
        path: The file, for messages.

    Raises:
        InputError: if the file lacks what the setting asks for.
    """
    if adjust == "none":
        return {}
    wanted: tuple[str, ...] = ("splits",)
    if adjust != "split":
        wanted = ("adj_close",) if "adj_close" in found else ("dividends", "splits")
    columns = {role: found[role] for role in wanted if role in found}
    if adjust is not None and wanted[0] not in columns:
        needed = "stock splits" if adjust == "split" else "adjusted closes, or of dividends"
        role = "splits" if adjust == "split" else "adj_close"
        raise InputError(
            f"{path} has no column of {needed}, which data.adjust {adjust} needs: set --data.adjust none, or name it, "
            f"--data.columns {role}=NAME"
        )
    return columns


def adjust_prices(
    path: str,
    days: NDArray[np.datetime64],
    names: Sequence[str],
    fields: dict[str, Array],
    actions: Mapping[str, Array],
    *,
    is_asked: bool,
) -> tuple[str, ...]:
    """Adjust the prices of a file, in place.

    Whether closes are adjusted for the splits, or dividends, of the columns already is seen in the closes: they fall by
    what was paid out, or they do not.

    Args:
        path: The file, for messages.
        days: Dates, [T].
        names: Assets, A of them.
        fields: Field -> [T, A], NaN where an asset has no bar.
        actions: ``adj_close``, or else ``splits`` (new shares for an old one; 0 or 1: none) and ``dividends`` (money a
            share), [T, A].
        is_asked: Whether the user set ``data.adjust``, and so says of what the prices do not show that it is missing.

    Returns:
        What was done.

    Raises:
        InputError: where prices contradict the columns, or do not show what was done with dividends.
    """
    if "adj_close" in actions:
        factor = actions["adj_close"] / fields["close"]
        if (factor[np.isfinite(factor)] == 1).all():
            return ()
        notes = ["prices are adjusted for splits and dividends, by the adjusted close"]
    elif not any(np.nan_to_num(values).any() for values in actions.values()):
        return ()
    else:
        factor, notes = _factor_of_actions(path, days, names, fields, actions, is_asked=is_asked)
    for name in PRICE_FIELDS:
        fields[name] *= factor
    if "volume" in fields:
        fields["volume"] /= factor
    _check_bounds(path, days, names, fields)
    return (f"{notes[0]} (data.adjust)", *notes[1:]) if notes else ()


@dataclass(frozen=True)
class _History:
    """What the prices of A assets do from bar to bar.

    Attributes:
        before: Close before each bar, [T, A]; NaN before a first.
        falls: By how much the log price falls into the bar, [T, A]: to its open, or close where it has no other.
        usual: Standard deviation of the falls of each asset, as their median shows it, [A].
    """

    before: Array
    falls: Array
    usual: Array

    @classmethod
    def of(cls, fields: Mapping[str, Array]) -> _History:
        close = fields["close"]
        newest = last_traded(np.isfinite(close))
        newest = np.concatenate([np.full_like(newest[:1], -1), newest[:-1]])
        before = np.where(newest >= 0, np.take_along_axis(close, np.maximum(newest, 0), axis=0), np.nan)
        falls = np.log(before / fields["open"])
        moves = np.ma.masked_invalid(np.where(falls == 0, np.nan, np.abs(falls)))
        usual = np.ma.median(moves, axis=0).filled(0.0) / 0.6745
        return cls(before, falls, np.maximum(usual, 1e-4))

    def shows(self, sizes: Array) -> bool | None:
        """Whether prices fall by sizes, [T, A], in logs and 0 where nothing happens; None where they do not show it.

        It is the slope of falls on sizes by weighted least squares: 1 where they do, and 0 where they do not.
        """
        rows, columns = np.nonzero(sizes)
        if not len(rows):
            return None
        usual, size = self.usual[columns], sizes[rows, columns]
        least, most = np.minimum(size, 0.0) - _OUTLIER * usual, np.maximum(size, 0.0) + _OUTLIER * usual
        falls = np.clip(self.falls[rows, columns], least, most)
        information = float(((size / usual) ** 2).sum())
        slope = float((size * falls / usual**2).sum()) / information
        return None if abs(slope - 0.5) * information < _SURE else slope > 0.5


def _factor_of_actions(
    path: str,
    days: NDArray[np.datetime64],
    names: Sequence[str],
    fields: Mapping[str, Array],
    actions: Mapping[str, Array],
    *,
    is_asked: bool,
) -> tuple[Array, list[str]]:
    """The factor of each bar, [T, A], and what it stands for."""
    history = _History.of(fields)
    takes = np.ones_like(fields["close"])  # what is left of a price after what happens at each bar
    can_show, notes = np.isfinite(history.before), []
    splits = np.nan_to_num(actions.get("splits", np.zeros_like(takes)))
    splits = np.where((splits == 0) | ~can_show, 1.0, splits)
    is_raw = history.shows(np.log(splits))
    num = int((splits != 1).sum())
    if num:
        _refuse_contradictions(path, days, names, fields, history, splits, is_raw)
        if is_raw is None and not is_asked:
            raise InputError(_undecided(path, "splits", "split"))
        if is_raw is False:
            notes.append(f"closes are adjusted for the splits of the file ({num}) already")
        else:
            notes.append(f"prices are adjusted for the splits of the file ({num})")
            takes /= splits
    dividends = np.where(can_show, np.nan_to_num(actions.get("dividends", np.zeros_like(takes))), 0.0)
    if dividends.any():
        share = dividends / (history.before * takes)
        bad = [
            f"{path}: asset {names[a]}, {show_date(days[t])}: a dividend of {dividends[t, a]:g} is no less than the "
            f"price before, {history.before[t, a] * takes[t, a]:g}: correct the row, or set --data.adjust split or none"
            for t, a in np.argwhere(share >= 1)
        ]
        refuse_lines(bad, len(bad))
        # where splits are missing from the closes, dividends are too
        pays = True if takes.min() < 1 or takes.max() > 1 else history.shows(-np.log1p(-np.where(can_show, share, 0.0)))
        if pays is None and not is_asked:
            raise InputError(_undecided(path, "dividends", "total"))
        num = int((dividends > 0).sum())
        if pays is False:
            notes.append(f"closes are adjusted for the dividends of the file ({num}) already")
        else:
            notes.append(f"prices are adjusted for the dividends of the file ({num}), as if they were reinvested")
            takes *= np.where(can_show, 1.0 - share, 1.0)
    later = np.cumprod(takes[::-1], axis=0)[::-1]
    return np.concatenate([later[1:], np.ones_like(later[:1])]), notes


def _undecided(path: str, what: str, adjust: str) -> str:
    return (
        f"{path} has {what}, but its prices do not show whether they are adjusted for them already: set --data.adjust "
        f"none if they are (as those of yfinance's auto_adjust), or --data.adjust {adjust} if they are not"
    )


def _refuse_contradictions(
    path: str,
    days: NDArray[np.datetime64],
    names: Sequence[str],
    fields: Mapping[str, Array],
    history: _History,
    splits: Array,
    is_raw: bool | None,
) -> None:
    """Refuse clear splits at which prices do not do what they do at the others, or what another split would do."""
    lines = []
    sizes, usual = np.log(splits), history.usual
    for t, a in np.argwhere(np.abs(sizes) >= _CLEAR * usual):
        fall, size = history.falls[t, a], sizes[t, a]
        does_jump = bool(fall / size > 0.5)
        if does_jump is not bool(is_raw):
            what = f"{'jumps' if does_jump else 'does not jump'}, unlike at other splits of the file"
        elif does_jump and abs(fall - size) > max(_CLEAR * usual[a], _OTHER_SPLIT):
            what = "jumps as at another split"
        else:
            continue
        lines.append(
            f"{path}: asset {names[a]}, {show_date(days[t])}: from {history.before[t, a]:g} to "
            f"{fields['open'][t, a]:g}, at a split of {splits[t, a]:g}, the price {what}: correct it, or set "
            "--data.adjust none"
        )
    refuse_lines(lines, len(lines))


def _check_bounds(path: str, days: NDArray[np.datetime64], names: Sequence[str], fields: Mapping[str, Array]) -> None:
    """Refuse adjusted prices and volumes that books could not be kept in."""
    low, high, volume = fields["low"], fields["high"], fields.get("volume")
    bad = (low < SMALLEST) | (high > LARGEST)
    if volume is not None:
        bad |= ((volume > 0) & (volume < SMALLEST)) | (volume > LARGEST_VOLUME)
    lines = [
        f"{path}: asset {names[a]}, {show_date(days[t])}: adjusted, the price goes from {low[t, a]:g} to "
        f"{high[t, a]:g}, but prices must lie from {SMALLEST:g} to {LARGEST:g}, and volumes to {LARGEST_VOLUME:g}: "
        "leave early years out with --data.start, or set --data.adjust none"
        for t, a in np.argwhere(bad)[:10]
    ]
    refuse_lines(lines, int(bad.sum()))
