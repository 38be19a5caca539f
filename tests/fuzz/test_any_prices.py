"""Price files in which something is wrong: what an independent reading finds, or one line that names the file."""

import csv
import gzip
import io
import math
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import FUZZ, fuzz, refused
from hypothesis import given
from hypothesis import strategies as st
from price_samples import long_table

from envs.bar_data import PRICE_FIELDS
from envs.bars import load_bars
from envs.universe import keep_members

pytestmark = pytest.mark.fuzz
NUMBERS = ("0", "-1", "1e308", "5e-324", "inf", "-inf", "1,5", "1e3", " 101 ", "0x10", "1_000", "101", "9" * 400)
DATES = ("2020-01-08", "2020-13-45", "08/01/2020", "1577836800", "2020-01-08T10:00:00Z", "10000-01-01", "NaT", "2020")
WORDS = ("", " ", "nan", "NA", "x", "AAA", "aaa", "AAA ", "CCC", "ü", '"', "\0", "True")
CELLS = st.sampled_from([*NUMBERS, *DATES, *WORDS])
LONG = long_table()
CHARGED = LONG.assign(half_spread_bps=1.5, funding=0.001)
WIDE = LONG.pivot_table(index="date", columns="tic", values="close").reset_index()


@st.composite
def rows_changed(draw, frame):
    """Rows of a table, header first, of which something is another, missing, or there twice."""
    rows = [[str(name) for name in frame.columns], *([str(cell) for cell in row] for row in frame.to_numpy())]
    for _ in range(draw(st.integers(0, 3))):
        kind, r = draw(st.integers(0, 8)), draw(st.integers(0, len(rows) - 1))
        c = draw(st.integers(0, max(len(rows[r]) - 1, 0)))
        if kind <= 2 and rows[r]:
            rows[r][c] = draw(CELLS)
        elif kind == 3:
            rows.insert(r, list(rows[draw(st.integers(0, len(rows) - 1))]))
        elif kind == 4 and len(rows) > 2:
            del rows[r]
        elif kind == 5 and rows[r]:
            del rows[r][c]
        elif kind == 6:
            rows[r].append(draw(CELLS))
        elif kind == 7 and rows[0]:
            rows[0][draw(st.integers(0, len(rows[0]) - 1))] = draw(
                st.sampled_from(["", " ", "Date", "tic ", "CLOSE", "BBB", "bbb"])
            )
        elif kind == 8:
            at = draw(st.integers(0, len(rows[0])))
            for row in rows:
                row.insert(at, draw(CELLS))
    return rows


def as_text(rows, separator=",", quoting=csv.QUOTE_MINIMAL):
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\n").writerows(rows)
    return out.getvalue()


def closes_of(rows):
    """Closes by asset and date, read cell by cell, as far as that can be told."""
    dates = ("date", "datetime", "timestamp", "time")
    is_header = [any(name.strip().lower() in dates for name in row) for row in rows]
    rows = rows[is_header.index(True) if any(is_header) else 0 :]  # lines above the header are passed over
    header = [name.strip().lower() for name in rows[0]]
    found = {}
    date = next((i for i, name in enumerate(header) if name in dates), 0)
    is_long = any(
        name in ("open", "high", "low", "close", "volume", "tic", "name", "asset", "symbol") for name in header
    )
    for row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        if is_long:
            asset = next((row[i].strip() for i, name in enumerate(header) if name == "tic"), None)
            cells = row[header.index("close") :][:1]  # none in a row that ends before it, which is a missing bar
            found.setdefault(asset, []).extend(map(float, cells))
            continue
        for i, name in enumerate(rows[0]):
            if i != date and i < len(row):
                cell = row[i].strip()
                found.setdefault(name.strip(), []).append(math.nan if cell in ("", "nan", "NA") else float(cell))
    return found


def check(path, rows):
    """Load a file; what it gives must be what stands in its rows."""
    bars = []
    said = refused(lambda: bars.append(load_bars(path)))
    if said:
        assert Path(path).name in said
        return
    (found,) = bars
    assert all(np.isfinite(getattr(found, name)).all() for name in ("open", "high", "low", "close"))
    assert all(np.isfinite(values).all() for values in found.costs.values())
    wanted = closes_of(rows)
    wanted = {name: v for name, v in wanted.items() if not (name == "" and all(map(math.isnan, v)))}
    if None not in wanted:
        counts = list(range(found.num_bars))
        assert set(found.assets) == {name for name, v in wanted.items() if name or v != counts}
        for a, asset in enumerate(found.assets):
            assert set(found.close[:, a]) <= set(wanted[asset]), asset


@pytest.mark.parametrize("frame", [LONG, WIDE, CHARGED], ids=["long", "wide", "charged"])
@fuzz(parts=3)
@given(data=st.data())
def test_any_csv_is_read_as_it_stands_or_refused(frame, data):
    rows = data.draw(rows_changed(frame))
    separator = data.draw(st.sampled_from([",", ";", "\t"]))
    content = as_text(rows, separator, data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))).encode()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "prices.csv").write_bytes(content)
        check(str(Path(place) / "prices.csv"), rows)


DIALECTS = (
    ("date", "open", "high", "low", "close", "volume"),
    ("Date", "Open Price", "High Price", "Low Price", "Close/Last", "Vol."),
    ("<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    ("timestamp", "1. open", "2. high", "3. low", "4. close", "5. volume"),
    ("", "AAA.Open", "AAA.High", "AAA.Low", "AAA.Close", "AAA.Volume"),
    ("t", "o", "h", "l", "c", "v"),
    ("日期", "开盘", "最高", "最低", "收盘", "成交量"),
    ("Datum", "Eröffnung", "Hoch", "Tief", "Schlusskurs", "Volumen"),
)
DAYS = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%Y%m%d%H%M",
    "%Y年%m月%d日",
    "%d-%b-%Y",
    "%Y-%m-%dT00:00:00Z",
    "s",
    "ms",
    "us",
)
ONE = long_table(assets=("AAA",), num_bars=12).drop(columns="tic")


@FUZZ
@given(data=st.data())
def test_one_table_in_any_dialect_is_the_same_market(data):
    frame = ONE.set_axis(list(data.draw(st.sampled_from(DIALECTS))), axis=1)
    order = data.draw(st.permutations(list(frame.columns)[1:]))
    days, form = pd.to_datetime(ONE["date"]), data.draw(st.sampled_from(DAYS))
    seconds = (days - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    units = {"s": 1, "ms": 10**3, "us": 10**6}
    dates = seconds * units[form] if form in units else days.dt.strftime(form)
    comma = data.draw(st.booleans())
    numbers = frame[order].map(lambda x: f"{x:.2f}".replace(".", ",") if comma else f"{x:.2f}")
    text = numbers.assign(**{frame.columns[0]: dates})[[frame.columns[0], *order]]
    content = text.to_csv(index=False, sep=data.draw(st.sampled_from([",", ";", "\t"])))
    content = data.draw(st.sampled_from(["", "Prices\n", "# made\n\n"])) + content
    packing = data.draw(st.sampled_from(["", ".gz"]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"AAA.csv{packing}"
        path.write_bytes(gzip.compress(content.encode()) if packing else content.encode())
        bars = load_bars(str(path))
    assert bars.assets == ("AAA",)
    np.testing.assert_array_equal(bars.dates, days.to_numpy("datetime64[us]"))
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(bars, name)[:, 0], ONE[name])


@FUZZ
@given(data=st.data())
def test_one_table_dealt_to_several_files_is_the_same_market(data):
    dealt = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(LONG), max_size=len(LONG))))
    with tempfile.TemporaryDirectory() as place:
        for file in np.unique(dealt):
            rows = LONG[dealt == file]
            rows = rows[::-1] if data.draw(st.booleans()) else rows
            suffix = data.draw(st.sampled_from(["csv", "csv.gz", "parquet"]))
            path = Path(place) / f"{file}.{suffix}"
            rows.to_parquet(path) if suffix == "parquet" else rows.to_csv(path, index=False)
        bars = load_bars(place, assets=("AAA", "BBB"))
    assert bars.fingerprint == load_whole().fingerprint


@cache
def load_whole():
    with tempfile.TemporaryDirectory() as place:
        LONG.to_csv(Path(place) / "prices.csv", index=False)
        return load_bars(Path(place) / "prices.csv")


@FUZZ
@given(data=st.data())
def test_any_bytes_are_read_or_refused(data):
    content = bytearray(
        as_text(data.draw(rows_changed(LONG))).encode(data.draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"])))
    )
    suffix = data.draw(st.sampled_from(["csv", "csv.gz", "parquet", "feather", "txt", "npz"]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"prices.{suffix}"
        if suffix == "csv.gz":
            content = bytearray(gzip.compress(bytes(content)))
        elif suffix in ("parquet", "feather"):
            getattr(LONG, f"to_{suffix}")(path)
            content = bytearray(path.read_bytes())
        elif suffix == "npz":
            np.savez(path, x=1.0 + np.arange(8.0).reshape(4, 2) / 100)
            content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
        said = refused(lambda: load_bars(str(path)))
        assert not said or path.name in said


@pytest.mark.parametrize("frame", [LONG, WIDE], ids=["long", "wide"])
@fuzz(parts=2)
@given(data=st.data())
def test_any_parquet_is_read_or_refused(frame, data):
    frame = frame.copy()
    column = data.draw(st.sampled_from(list(frame.columns)))
    made = data.draw(
        st.sampled_from(
            [
                lambda f: f.assign(**{f"{column} ": f[column]}),
                lambda f: f.assign(**{"": f[column]}),
                lambda f: f.rename(columns={column: ""}),
                lambda f: f.assign(**{column: [[1.0, 2.0]] * len(f)}),
                lambda f: f.assign(**{column: [{"a": 1}] * len(f)}),
                lambda f: f.assign(**{column: True}),
                lambda f: f.assign(**{column: b"x"}),
                lambda f: f.assign(**{column: f[column].astype("category")}),
                lambda f: f.assign(**{column: pd.Timedelta(days=1)}),
                lambda f: f.assign(**{column: np.nan}),
                lambda f: f.assign(**{column: [10**18, *range(1, len(f))]}),
                lambda f: f.assign(**{column: [np.inf, *np.arange(1.0, len(f))]}),
                lambda f: f.assign(**{column: 1e308}),
                lambda f: f.assign(**{column: 5e-324}),
                lambda f: f.set_index(column),
                lambda f: f.set_index(list(f.columns[:2])),
                lambda f: f.assign(date=pd.to_datetime(f["date"]).dt.tz_localize("UTC")),
                lambda f: f.assign(date=pd.to_datetime(f["date"]).dt.date),
                lambda f: f.iloc[:0],
            ]
        )
    )(frame)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "prices.parquet"
        made.to_parquet(path)
        assets, bars = [name for name in WIDE.columns if name != "date"], []
        said = refused(lambda: bars.append(load_bars(str(path))))
        assert (
            path.name in said
            if said
            else set(assets) <= {"AAA", "BBB"} and len(bars[0].assets) >= len(assets) - (column == "tic")
        )


@FUZZ
@given(data=st.data())
def test_any_archive_of_relatives_is_read_or_refused(data):
    numbers = st.sampled_from([1.0, 1.01, 0.5, 100.0, 0.0, -1.0, 1e300, 1e-300, np.nan, np.inf])
    values = st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=0, max_size=5)
    words = st.lists(st.sampled_from([*WORDS, *DATES]), max_size=3)
    arrays = data.draw(
        st.dictionaries(
            st.sampled_from(["x", "relatives", "assets", "names", "dates", "time", "open", "file"]),
            values | words | numbers | st.integers(),
            max_size=4,
        )
    )
    with tempfile.TemporaryDirectory() as place:
        path, bars = Path(place) / "x.npz", []
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.save(file, np.array(value))
        said = refused(lambda: bars.append(load_bars(str(path))))
        assert path.name in said if said else len(bars[0].assets) == 2


ACTIONS = LONG.assign(**{"Adj Close": LONG["close"] / 2, "Dividends": 0.5, "Stock Splits": 0.0})


@pytest.mark.parametrize("columns", [["Adj Close"], ["Dividends", "Stock Splits"]], ids=["adjusted", "actions"])
@fuzz(parts=2)
@given(data=st.data())
def test_any_corporate_actions_adjust_prices_or_are_refused(columns, data):
    rows = data.draw(rows_changed(ACTIONS[[*LONG.columns, *columns]]))
    adjust = data.draw(st.sampled_from([None, "total", "split", "none"]))
    with tempfile.TemporaryDirectory() as place:
        path, bars = Path(place) / "prices.csv", []
        path.write_text(as_text(rows))
        said = refused(lambda: bars.append(load_bars(path, adjust=adjust, jumps="accept")))
        if said:
            assert path.name in said
            return
    (found,) = bars
    assert all((getattr(found, name) >= 1e-9).all() for name in PRICE_FIELDS)
    assert (found.low <= np.minimum(found.open, found.close)).all()
    assert (found.high >= np.maximum(found.open, found.close)).all()
    assert found.volume is None or np.isfinite(found.volume).all()


UNIVERSE = pd.DataFrame(
    [("2020-01-07", "AAA", "in"), ("2020-01-09", "AAA", "out"), ("2019-01-01", "BBB", "in")],
    columns=["date", "tic", "in/out"],
)


@FUZZ
@given(data=st.data())
def test_any_universe_is_a_market_of_its_members_or_refused(data):
    rows = data.draw(rows_changed(UNIVERSE))
    with tempfile.TemporaryDirectory() as place:
        path, bars = Path(place) / "universe.csv", []
        path.write_text(as_text(rows))
        said = refused(lambda: bars.append(keep_members(load_whole(), str(path))))
        assert path.name in said if said else bars[0].alive.any(axis=0).all()
