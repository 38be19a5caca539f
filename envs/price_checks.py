"""Whether the rows of a price table can be bars: their order, numbers, prices, volumes and ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.bar_data import PRICE_FIELDS
from envs.calendars import show_date
from envs.price_faults import MOST_TOLD, Faults, refuse_lines
from envs.price_tables import PriceTable
from envs.settings import MOST_BPS

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
SMALLEST, LARGEST = 1e-9, 1e12
"""Bounds of a price. Powers of prices, and a whole capital in shares times a price, stay far from the ends of float64,
in which the books are kept, and of float32, in which agents see them."""
LARGEST_VOLUME = 1e18
LARGEST_LEAP = 1e6
"""Factor between two neighbouring closes, and between low and high of a bar: no market has leapt so far, and after much
larger leaps float64 has no digits left in which books would balance."""
_DAY_US = 86_400_000_000
_LEAST_GAP_US = 1_000_000
_ROUNDING = 1e-3  # sources round open, high, low and close one by one; a larger gap is an error in the data

_ACTION_WAYS_OUT = {
    "splits": "write how many new shares there are for an old one, such as 2 or 0.1, or set --data.adjust none",
    "dividends": "write the money that a share paid, or set --data.adjust none",
}


@dataclass(frozen=True)
class RowChecks:
    """The checks of a table's rows; what they find is noted, and a cell is told once.

    Attributes:
        table: The table, T rows.
        dates: Its dates, [T].
        labels: The asset of each row, [T]; None where each column is one.
        faults: Where faults are noted.
    """

    table: PriceTable
    dates: NDArray[np.datetime64]
    labels: NDArray[np.object_] | None
    faults: Faults

    def note(self, rows: Rows, reason: str | Callable[[int], str], *, column: str | None, asset: object = None) -> None:
        """Note a fault of some rows: ``reason`` is its words, or makes them of a row's position."""

        def say(row: int) -> str:
            owner = asset if self.labels is None else self.labels[row]
            place = self.table.at(row, column, asset=owner or None, date=self.dates[row])
            return f"{place}: {reason if isinstance(reason, str) else reason(row)}"

        self.faults.add(self.table, rows, say)

    def numbers(
        self, column: str, keep: Rows, *, asset: object = None, way_out: str = "correct it"
    ) -> tuple[Array, Mask]:
        """A column's kept rows as float64, NaN where blank or text; and which of them are text, which is a fault."""
        series = self.table.frame[column]
        values = to_numbers(series).to_numpy(dtype=np.float64, na_value=np.nan)[keep]
        is_text = np.isnan(values) & series.notna().to_numpy()[keep]
        self.note(
            keep[is_text],
            lambda row: f"{str(series.iloc[row])[:30]!r} is not a number: {way_out}",
            column=column,
            asset=asset,
        )
        return values, is_text

    def prices(
        self,
        values: Array,
        is_text: Mask,
        column: str,
        keep: Rows,
        *,
        asset: object = None,
        raw: Mapping[str, Array] | None = None,
    ) -> Mask:
        """Note prices that are none; returns which they are, text included.

        Args:
            values: The prices, [K].
            is_text: Which of them are text, [K].
            column: Their column.
            keep: Positions of their rows, [K].
            asset: Their asset, where each column is one.
            raw: All fields of these rows; None where a blank is a missing bar, and a zero may be one.
        """
        bad = ~((values >= SMALLEST) & (values <= LARGEST)) & ~is_text
        if raw is None:
            bad &= ~np.isnan(values)
        if not bad.any():
            return is_text
        place = dict(zip(keep[bad].tolist(), np.flatnonzero(bad).tolist(), strict=True))
        owners = [asset] * len(keep) if self.labels is None else self.labels[keep].tolist()
        good = np.flatnonzero(~bad & ~is_text).tolist()
        first_good = pd.Series(self.dates[keep[good]]).groupby([owners[k] for k in good]).min().to_dict()

        def say(row: int) -> str:
            k = place[row]
            ways_out = ["correct or remove the row"]
            if np.isnan(values[k]):
                what = "is missing"
                ways_out.append("set --data.missing drop for a missing bar")
                if raw is not None and values is not raw["close"] and raw["close"][k] > 0:
                    ways_out.append("--data.missing fill to take it from the close")
            else:
                what = f"is {values[k]:g}, but prices must lie from {SMALLEST:g} to {LARGEST:g}"
                if values[k] == 0 and (raw is None or all(not x[k] > 0 for x in raw.values())):
                    ways_out.append("set --data.missing zeros for a missing bar")
                elif 0 < values[k] < np.inf:
                    ways_out.append("give prices in another unit")
            if owners[k] in first_good and self.dates[row] < first_good[owners[k]]:
                ways_out.append("leave early rows out with --data.start")
            return f"the price {what}: {', or '.join(ways_out)}"

        self.note(keep[bad], say, column=column, asset=asset)
        return bad | is_text

    def action(self, role: str, column: str, keep: Rows, given: Mask) -> Array:
        """Adjusted closes, dividends or splits of the kept rows, of which those of ``given`` have prices.

        Args:
            role: One of ``envs.price_names.ACTION_NAMES``.
            column: Its column.
            keep: Positions of the kept rows, [K].
            given: Which of them have prices, [K] bool.
        """
        values, is_text = self.numbers(column, keep, way_out=_ACTION_WAYS_OUT.get(role, "correct it"))
        if role == "adj_close":
            is_bad = given & ~is_text & ~((values >= SMALLEST) & (values <= LARGEST))
            reason = "there is no adjusted price: correct the row, or set --data.adjust none"
            self.note(keep[is_bad], reason, column=column)
            return values
        values = np.where(np.isnan(values), 0.0, values)
        reason = f"{role} must be 0 where there are none, or above: correct the row, or set --data.adjust none"
        self.note(keep[~((values >= 0) & (values <= LARGEST))], reason, column=column)
        reason = f"{role} stand in a row without prices: move them to the next row that has some"
        self.note(keep[~given & (values > 0) & ((values != 1) | (role != "splits"))], reason, column=column)
        return values

    def funding(self, column: str, keep: Rows, given: Mask) -> Array:
        """Read rates of funding of the kept rows with prices; note those that are none, or stand in another row.

        Args:
            column: Their column.
            keep: Positions of the kept rows, [K].
            given: Which of them have prices, [K] bool.
        """
        rates, _ = self.numbers(column, keep, way_out="write a fraction of the position, such as 0.0001")
        rates = np.where(np.isnan(rates), 0.0, rates)
        reason = "funding stands in a row without prices: move it to the next row that has some"
        self.note(keep[~given & (rates != 0)], reason, column=column)
        reason = "funding must lie between -1 and 1, a fraction of the position: correct it"
        self.note(keep[given & (np.abs(rates) >= 1)], reason, column=column)
        return rates[given]

    def bars(self, raw: dict[str, Array], texts: dict[str, Mask], columns: dict[str, str], keep: Rows) -> None:
        """Note prices that are none, bad volumes, and bars whose high and low do not hold their open and close.

        Args:
            raw: Fields of the kept rows, [K] each.
            texts: Which of them are text.
            columns: Field -> its column.
            keep: Positions of the kept rows, [K].
        """
        bad = np.zeros(len(keep), dtype=bool)
        for field in PRICE_FIELDS:
            if field in raw:
                bad |= self.prices(raw[field], texts[field], columns[field], keep, raw=raw)
        if "volume" in raw:
            volume, is_left = raw["volume"], ~texts["volume"]
            for wrong, reason in (
                (~np.isfinite(volume), "there is no volume: write a number (0 for no trade), or leave the column out"),
                (volume < 0, "volume is negative: correct the row"),
                (
                    (volume > LARGEST_VOLUME) | ((volume > 0) & (volume < SMALLEST)),
                    f"volume must be 0, or from {SMALLEST:g} to {LARGEST_VOLUME:g}: correct the row, or give another "
                    "unit",
                ),
            ):
                self.note(keep[wrong & is_left], reason, column=columns["volume"])
                is_left &= ~wrong
        if "high" in raw:
            is_left = ~bad
            low, high = raw["low"], raw["high"]
            crossed = (high < low * (1 - 1e-9)) & is_left
            self.note(keep[crossed], "high is below low: correct or remove the row", column=columns["high"])
            for field in ("open", "close"):
                outside = (raw[field] > high * (1 + _ROUNDING)) | (raw[field] < low * (1 - _ROUNDING))
                reason = f"{field} lies outside low to high: correct or remove the row"
                self.note(keep[outside & is_left & ~crossed], reason, column=columns[field])

    def costs(self, columns: Mapping[str, str], keep: Rows) -> dict[str, Array]:
        """Read costs of the kept rows, [K] each, and note those that cannot be charged.

        Args:
            columns: Cost -> its column.
            keep: Positions of the kept rows, [K].
        """
        read = {}
        for name, column in columns.items():
            values, is_text = self.numbers(column, keep)
            most = MOST_BPS if name.endswith("_bps") else np.inf
            bad = ~((values >= 0) & (values < most)) & ~is_text
            limit = f"from 0 to below {most:,}" if np.isfinite(most) else "0 or above"
            self.note(keep[bad], f"{name} must be a number, {limit}: correct it", column=column)
            read[name] = values
        return read

    def order(self, codes: Rows, keep: Rows, asset_column: str | None) -> tuple[str, ...]:
        """Note two rows for one date and asset, bars too close, and dates that go to and fro within an asset.

        Args:
            codes: Index of each row's asset, [T].
            keep: Positions of the kept rows.
            asset_column: The column that names assets.

        Returns:
            A note where the newest rows stand first.
        """
        by_asset = keep[np.argsort(codes[keep], kind="stable")]
        stamps, of = self.dates[by_asset].astype("datetime64[us]").astype(np.int64), codes[by_asset]
        is_same = np.diff(of) == 0
        if (np.diff(stamps)[is_same] >= _LEAST_GAP_US).all():
            return ()
        order = np.lexsort((by_asset, stamps, of))
        gaps, pairs = np.diff(stamps[order]), by_asset[order]
        again = (gaps == 0) & (np.diff(of[order]) == 0)
        if again.any():
            first_of = dict(zip(pairs[1:][again].tolist(), pairs[:-1][again].tolist(), strict=True))
            hints = [] if asset_column else ["no asset column found: name it tic, or set --data.columns asset=NAME"]
            if (stamps % _DAY_US == 0).all():
                hints.append("where a column has the time of day, set --data.columns time=NAME")
            else:
                hints.append("where clocks were set back, set --data.timezone, or write the dates with their zone")
            self.note(
                np.sort(pairs[1:][again]),
                lambda row: (
                    f"the same date stands already in {self.table.at(first_of[row]).rsplit(': ', 1)[1]}: "
                    f"remove one of them ({'; '.join(hints)})"
                ),
                column=None,
            )
            return ()
        goes_back = np.diff(stamps)[is_same] < 0
        all_back = np.ones(int(of.max()) + 1, dtype=bool)
        np.logical_and.at(all_back, of[1:][is_same], goes_back)
        if (goes_back & ~all_back[of[1:][is_same]]).any():
            sort_by = f"{asset_column} and date" if asset_column else "date"
            row = by_asset[1:][is_same][goes_back & ~all_back[of[1:][is_same]]].min()
            reason = f"dates go back in time: sort the file by {sort_by}, oldest first"
            self.note(np.array([row]), reason, column=None)
            return ()
        close = (gaps < _LEAST_GAP_US) & (np.diff(of[order]) == 0)
        gap_of = dict(zip(pairs[1:][close].tolist(), gaps[close].tolist(), strict=True))
        self.note(
            np.sort(pairs[1:][close]),
            lambda row: (
                f"the bar before lies {gap_of[row] / 1e6:g} s earlier, but bars are a second apart or more: correct "
                "the dates, or set --data.date-format"
            ),
            column=None,
        )
        return ("the newest rows stand first: read from the last one on",) if goes_back.any() else ()


def to_numbers(cells: pd.Series) -> pd.Series:
    """Cells as numbers: NaN where one is none, infinite where it has more digits than a float64 can be large."""
    try:
        return pd.to_numeric(cells, errors="coerce")
    except OverflowError:  # pandas reads such digits as one of Python's whole numbers
        return pd.to_numeric(cells.astype(str), errors="coerce")


def check_leaps(
    source: str, days: NDArray[np.datetime64], names: Sequence[str], fields: dict[str, NDArray[np.float64]]
) -> None:
    """Refuse bars in which the price of an asset leaps as no market does; fields are [T, A], without gaps.

    Raises:
        InputError: a line for each of the first ten.
    """
    close = fields["close"]
    growth = close / np.concatenate([close[:1], close[:-1]])
    leaps = {
        "from the close before": np.maximum(growth, 1 / growth),
        "from low to high": fields["high"] / fields["low"],
    }
    found = [(where, t, a) for where, factor in leaps.items() for t, a in np.argwhere(factor > LARGEST_LEAP)]
    lines = [
        f"{source}: asset {names[a]}, {show_date(days[t])}: the price leaps by a factor of {leaps[where][t, a]:.3g} "
        f"{where}, but at most {LARGEST_LEAP:g} is taken: correct or remove the row"
        for where, t, a in sorted(found, key=lambda leap: leap[1])[:MOST_TOLD]
    ]
    refuse_lines(lines, len(found))
