"""Price files in text: their endings, what stands above the data, and rows that do not fit the header."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from price_samples import long_table, refusal, write

from envs.bars import load_bars

ONE = long_table(assets=("X",)).drop(columns="tic")
TEXT = ONE.to_csv(index=False)


def put(tmp_path, text, name="X.csv"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(tmp_path / name)


def zipped(content, *names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    "zip": lambda content: zipped(content, "prices.csv"),
}


@pytest.fixture
def plain(tmp_path):
    return load_bars(put(tmp_path, TEXT))


def test_asset_is_named_after_the_file_without_the_endings_of_its_format(tmp_path):
    for name, asset in (("BRK.B.csv", "BRK.B"), ("BRK.B.csv.gz", "BRK.B"), ("a.b.c.TXT", "a.b.c"), ("csv.csv", "csv")):
        content = gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT
        assert load_bars(put(tmp_path, content, name)).assets == (asset,)
    ONE.to_parquet(tmp_path / "BF.B.parquet")
    assert load_bars(tmp_path / "BF.B.parquet").assets == ("BF.B",)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", ["X.csv", "X.txt", "X.tsv", "X"])
def test_packed_text_is_read(tmp_path, plain, packing, name):
    packed = put(tmp_path, PACKERS[packing](TEXT.encode()), f"{name}.{packing}")
    assert load_bars(packed).fingerprint == plain.fingerprint


def test_archive_of_two_files_and_packed_parquet_are_refused(tmp_path):
    assert "holds 2 files" in refusal(put(tmp_path, zipped(TEXT, "a.csv", "b.csv"), "X.zip"))
    assert "unpack it first" in refusal(put(tmp_path, b"PAR1", "X.parquet.gz"))


@pytest.mark.parametrize(
    "above",
    [
        "Prices of X\n",
        "# made by hand\n# in US dollars\n",
        "X, in dollars\n\n",
        "https://example.com\n",
        "#comment,of,many,cells,and,more,than,six\n",
    ],
)
def test_lines_above_the_header_are_passed_over_and_told(tmp_path, plain, above):
    bars = load_bars(put(tmp_path, above + TEXT))
    assert bars.fingerprint == plain.fingerprint
    assert bars.notes[0].startswith("lines not used above the header: 1")
    bad = (above + TEXT).replace("1003.0", "x")
    line = next(i for i, row in enumerate(bad.split("\n"), 1) if "x" in row.split(","))
    assert f"line {line}, column" in refusal(put(tmp_path, bad))


def test_header_behind_a_hash_is_the_header(tmp_path, plain):
    assert load_bars(put(tmp_path, "#" + TEXT)).fingerprint == plain.fingerprint


def test_a_separator_at_the_end_of_each_row_is_no_field(tmp_path, plain):
    lines = TEXT.splitlines()
    rows = [lines[0], *(line + "," for line in lines[1:])]
    assert load_bars(put(tmp_path, "\n".join(rows))).fingerprint == plain.fingerprint
    assert load_bars(put(tmp_path, "\n".join(line + "," for line in lines))).fingerprint == plain.fingerprint
    rows[4] += "7"
    assert "line 5 has 7 fields, the header 6" in refusal(put(tmp_path, "\n".join(rows)))


@pytest.mark.parametrize("line", [2, 4])
@pytest.mark.parametrize("more", [",7", ",7,8,9"])
def test_a_row_with_more_fields_than_the_header_is_refused_with_its_line(tmp_path, line, more):
    rows = TEXT.splitlines()
    rows[line - 1] += more
    said = refusal(put(tmp_path, "\n".join(rows)))
    assert f"line {line} has {6 + more.count(',')} fields, the header 6" in said


@pytest.mark.parametrize("assets", [("AAPL",), ("AAPL", "LOW", "BRK.B"), ("OPEN", "LOW")])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
@pytest.mark.parametrize("index", ["Date", None])
def test_header_of_two_levels_as_yfinance_writes_it(tmp_path, assets, swapped, name, index):
    table = long_table(assets=assets)
    frame = table.assign(adj=table["close"]).rename(columns=str.capitalize).rename(columns={"Adj": "Adj Close"})
    frame = frame.pivot_table(
        index="Date", columns="Tic", values=["Adj Close", "Open", "High", "Low", "Close", "Volume"]
    )
    frame.index = pd.DatetimeIndex(frame.index, name=index)
    frame.columns.names = ["Price", "Ticker"]
    frame = frame.swaplevel(axis=1) if swapped else frame
    path = tmp_path / name
    frame.to_csv(path) if name.endswith("csv") else frame.to_parquet(path)
    bars, same = load_bars(path, assets=assets), load_bars(write(tmp_path, table, "long.csv"))
    assert bars.fingerprint == same.fingerprint


def test_klines_without_a_header_are_read_and_told(tmp_path):
    rows = [
        [1609459200000 + i * 3_600_000, 1, 3, 1, 2, 5, 1609462799999 + i * 3_600_000, 1, 1, 1, 1, 0] for i in range(4)
    ]
    bars = load_bars(put(tmp_path, "\n".join(",".join(map(str, row)) for row in rows)))
    assert str(bars.dates[0]) == "2021-01-01T00:00:00.000000"
    np.testing.assert_array_equal(bars.close[:, 0], 2.0)
    assert "read as Binance's klines" in bars.notes[0]


def test_other_files_without_a_header_are_read_as_the_user_says(tmp_path, plain):
    path = put(tmp_path, TEXT.split("\n", 1)[1])
    assert "line 1 holds numbers: the file has no header" in refusal(path)
    chosen = ("date=1", "open=2", "high=3", "low=4", "close=5", "volume=6")
    assert load_bars(path, columns=chosen).fingerprint == plain.fingerprint


def test_whole_numbers_in_a_header_are_assets_and_others_are_none(tmp_path):
    rows = ["2020-01-06,1,2", "2020-01-07,1,2", "2020-01-08,1,2"]
    assert load_bars(put(tmp_path, "\n".join([",0700,0005", *rows]))).assets == ("0700", "0005")
    assert "line 1 holds numbers" in refusal(put(tmp_path, "\n".join([",101.0,201.0", *rows])))


@pytest.mark.parametrize("extra", ["Repaired?", "Foo"])
@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_a_field_of_two_levels_that_is_not_known_is_not_used_and_told(tmp_path, extra, name):
    table = long_table(assets=("X", "Y"))
    frame = table.pivot_table(index="date", columns="tic", values=["close", "high", "low", "open", "volume"])
    frame[(extra, "X")] = 1.0
    frame.columns = pd.MultiIndex.from_tuples([(str(a), str(b)) for a, b in frame.columns], names=["Price", "Ticker"])
    path = tmp_path / name
    frame.to_csv(path) if name.endswith("csv") else frame.to_parquet(path)
    bars = load_bars(path)
    assert bars.assets == ("X", "Y")
    np.testing.assert_array_equal(bars.close[:, 1], table[table["tic"] == "Y"]["close"])
    assert f"columns not used: X:{extra}" in bars.notes


def test_an_unknown_field_of_two_levels_beside_closes_alone_is_no_asset(tmp_path):
    (tmp_path / "prices.csv").write_text(",Close,Close,Foo\n,X,Y,X\nDate,,,\n2020-01-06,1,2,3\n2020-01-07,1,2,3\n")
    refusal(str(tmp_path / "prices.csv"))


def test_titles_that_a_spreadsheet_has_padded_are_passed_over(tmp_path, plain):
    path = tmp_path / "X.csv"
    path.write_text("Apple Inc,,,,,\nExported,2021-04-01,,,,\n,,,,,\n" + TEXT)
    bars = load_bars(path)
    np.testing.assert_array_equal(bars.close, plain.close)
    assert "lines not used above the header: 1, 2, 3" in bars.notes


@pytest.mark.parametrize("day", ["%Y-%m-%d", "%Y%m%d"])
def test_a_ticker_in_front_of_a_file_without_a_header_is_counted_too(tmp_path, day):
    table = long_table(assets=("AAPL",))[["tic", "date", "open", "high", "low", "close", "volume"]]
    table["date"] = pd.to_datetime(table["date"]).dt.strftime(day)
    path = tmp_path / "prices.csv"
    table.to_csv(path, header=False, index=False)
    count = "asset=1,date=2,open=3,high=4,low=5,close=6,volume=7"
    assert f"the file has no header: write one, or count the columns, as --data.columns {count}" in refusal(str(path))
    bars = load_bars(path, columns=count.split(","))
    assert bars.assets == ("AAPL",)
    np.testing.assert_array_equal(bars.close[:, 0], table["close"])


@pytest.mark.parametrize("ticker", ["0700", "NA", "1e5"])
def test_tickers_of_a_column_that_the_user_names_are_what_stands_there(tmp_path, ticker):
    path = write(tmp_path, long_table(assets=(ticker,)).rename(columns={"tic": "what"}))
    assert load_bars(path, columns=("asset=what",)).assets == (ticker,)


def test_a_line_of_units_below_the_header_is_passed_over_and_told(tmp_path, plain):
    header, rows = TEXT.split("\n", 1)
    bars = load_bars(put(tmp_path, f"{header}\n,USD,USD,USD,USD,shares\n{rows}"))
    assert bars.assets == ("X",)
    np.testing.assert_array_equal(bars.close, plain.close)
    np.testing.assert_array_equal(bars.volume, plain.volume)
    assert "line not used below the header: , USD, USD, USD, USD, shares" in bars.notes
