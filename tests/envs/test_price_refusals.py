"""What is wrong with a price file is said in one line, with its place."""

from __future__ import annotations

import bz2
import gzip
import lzma
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from common.errors import InputError
from envs import price_tables
from envs.bars import load_bars


def rows_of_price(price) -> pd.DataFrame:
    frame = long_table()
    frame.loc[4, "close"] = price
    return frame


def test_missing_file_names_the_nearest_one(tmp_path):
    write(tmp_path, long_table(), "prices.csv")
    message = refusal(str(tmp_path / "price.csv"))
    assert "does not exist" in message
    assert "did you mean 'prices.csv'?" in message


@pytest.mark.parametrize("name", ["junk.csv", "junk.parquet", "junk.feather", "junk.xlsx"])
def test_file_that_is_no_table_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)) * 8)
    refusal(str(tmp_path / name))


@pytest.mark.parametrize("text", ["", "date,tic,open,high,low,close,volume\n"])
def test_empty_file_is_refused(tmp_path, text):
    (tmp_path / "empty.csv").write_text(text)
    refusal(str(tmp_path / "empty.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html>\n<html>404</html>\n", "holds a web page, and no table: line 1 is '<!DOCTYPE html>'"),
        ('\n{"error": "rate limit"}\n', "holds JSON, and no table: line 2 is"),
        ("[\n[1609459200, 1, 2]]\n", "holds JSON, and no table: line 1 is '['"),
        ("hello world\n", "holds no rows below the names 'hello world': it is no table of prices"),
    ],
)
def test_what_is_no_table_is_called_what_it_looks_like(tmp_path, text, words):
    (tmp_path / "notes.txt").write_text(text)
    write(tmp_path, long_table(), "prices.csv")
    assert f"notes.txt {words}" in refusal(str(tmp_path / "notes.txt"))
    with pytest.raises(InputError, match=r"notes\.txt holds "):
        load_bars(tmp_path)


@pytest.mark.parametrize(
    ("column", "misspelled"),
    [("date", "dte"), ("close", "clsoe"), ("high", "hihg"), ("open", "opne"), ("volume", "volum")],
)
def test_misspelled_column_is_named_with_the_nearest(tmp_path, column, misspelled):
    message = refusal(write(tmp_path, long_table().rename(columns={column: misspelled})))
    assert f"column {column!r} is missing" in message
    assert f"did you mean {misspelled!r}?" in message


@pytest.mark.parametrize("column", ["date", "close", "high"])
def test_missing_column_is_named(tmp_path, column):
    assert f"column {column!r} is missing" in refusal(write(tmp_path, long_table().drop(columns=column)))


def test_misspelled_asset_column_shows_up_as_a_double_date(tmp_path):
    message = refusal(write(tmp_path, long_table().rename(columns={"tic": "tik"})))
    assert "no asset column found" in message


@pytest.mark.parametrize(("price", "word"), [(np.nan, "missing"), (0.0, "is 0"), (-3.0, "is -3"), (np.inf, "is inf")])
def test_price_that_is_none_is_refused_with_its_place(tmp_path, price, word):
    message = refusal(write(tmp_path, rows_of_price(price)))
    for part in ("line 6", "column 'close'", "asset AAA", "2020-01-08", word):
        assert part in message


def test_line_numbers_hold_after_blank_lines(tmp_path):
    path = tmp_path / "prices.csv"
    lines = rows_of_price(0.0).to_csv(index=False).split("\n")
    path.write_text("\n".join([*lines[:3], "", "", *lines[3:]]))
    assert "line 8" in refusal(str(path))


def test_text_in_a_price_column_is_refused(tmp_path):
    frame = long_table().astype({"close": object})
    frame.loc[4, "close"] = "12,5"
    message = refusal(write(tmp_path, frame))
    assert "line 6, column 'close', asset AAA, 2020-01-08: '12,5' is not a number" in message


def test_wide_table_refuses_a_zero_price(tmp_path):
    frame = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    frame.loc[2, "AAA"] = 0.0
    assert "line 4, column 'AAA', asset AAA, 2020-01-08" in refusal(write(tmp_path, frame))


def test_negative_or_missing_volume_is_refused(tmp_path):
    frame = long_table()
    frame.loc[3, "volume"] = -1.0
    assert "line 5, column 'volume', asset BBB, 2020-01-07: volume is negative" in refusal(write(tmp_path, frame))
    frame.loc[3, "volume"] = np.nan
    assert "there is no volume" in refusal(write(tmp_path, frame))


def test_high_below_low_is_refused(tmp_path):
    frame = long_table()
    frame.loc[5, ["high", "low"]] = [10.0, 20.0]
    assert "line 7, column 'high', asset BBB, 2020-01-08: high is below low" in refusal(write(tmp_path, frame))


@pytest.mark.parametrize("field", ["open", "close"])
def test_open_or_close_outside_the_range_is_refused(tmp_path, field):
    frame = long_table()
    frame.loc[5, field] = 250.0
    assert f"line 7, column {field!r}, asset BBB" in refusal(write(tmp_path, frame))


def test_range_too_narrow_by_rounding_is_widened_and_counted(tmp_path):
    frame = long_table()
    frame.loc[5, "close"] = frame.loc[5, "high"] + 0.01
    bars = load_bars(write(tmp_path, frame))
    assert (bars.high >= bars.close).all()
    assert any("widened the range of 1 bars" in note for note in bars.notes)


def test_duplicate_date_of_an_asset_is_refused_with_both_lines(tmp_path):
    frame = pd.concat([long_table(), long_table().iloc[[2]]])
    message = refusal(write(tmp_path, frame))
    for part in ("line 14", "asset AAA", "2020-01-07", "line 4"):
        assert part in message


def test_unsorted_dates_are_refused_and_it_says_how_to_sort(tmp_path):
    frame = long_table().iloc[[0, 1, 4, 5, 2, 3, 6, 7]]
    message = refusal(write(tmp_path, frame))
    assert "line 6, asset AAA, 2020-01-07: dates go back in time" in message
    assert "sort the file by tic and date" in message


@pytest.mark.parametrize(
    ("date", "reason"),
    [
        ("2020-13-45", "is not a date"),
        ("", "the date is missing"),
        ("2020-01-08 10:00:00+01:00", "have a time zone and others none"),
    ],
)
def test_bad_date_is_refused_with_its_line(tmp_path, date, reason):
    frame = long_table()
    frame.loc[4, "date"] = date
    message = refusal(write(tmp_path, frame))
    assert "line 6, column 'date'" in message
    assert reason in message


def test_day_or_month_first_that_cannot_be_told_is_refused(tmp_path):
    frame = long_table(assets=("X",), num_bars=3)
    frame["date"] = ["01/02/2020", "02/02/2020", "03/02/2020"]
    assert "could begin with the day or the month" in refusal(write(tmp_path, frame))


def test_unknown_asset_names_the_nearest(tmp_path):
    path = write(tmp_path, long_table(assets=("AAPL", "MSFT")))
    message = refusal(path, assets=("APPL",))
    assert "there is no asset 'APPL' (did you mean 'AAPL'?)" in message


def test_one_bar_is_no_history(tmp_path):
    assert "no history" in refusal(write(tmp_path, long_table(num_bars=1)))


def wide_table(columns, *, num_bars=8) -> pd.DataFrame:
    days = [str(day.date()) for day in pd.bdate_range("2020-01-06", periods=num_bars)]
    frame = pd.DataFrame({i: 100.0 * i + np.arange(num_bars) for i in range(len(columns))})
    frame[0] = days
    return frame.set_axis(columns, axis=1)


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["date", "A0", "", "A1"], "column 3 has no name"),
        (["date", "A0", " "], "column 3 has no name"),
        (["date", "A0", "Unnamed: 2"], "column 3 has no name"),
        (["date", "A0", "A0 "], "column 'a0' stands twice"),
        (["date", "A0", "a0"], "column 'a0' stands twice"),
        (["date", "A0", "Date"], "column 'date' stands twice"),
    ],
)
def test_no_asset_of_a_wide_table_is_lost_in_silence(tmp_path, name, columns, words):
    assert words in refusal(write(tmp_path, wide_table(columns), name))


def test_nameless_column_that_counts_the_rows_is_told_and_a_blank_one_let_be(tmp_path):
    path = tmp_path / "prices.csv"
    frame = wide_table(["date", "A0", ""])
    frame[""] = ""
    frame.to_csv(path)
    bars = load_bars(path)
    assert bars.assets == ("A0",)
    assert "column not used: the first, which has no name and counts the rows" in bars.notes


@pytest.mark.parametrize(("name", "first"), [("index", 0), ("level_0", 1), ("id", 1001)])
def test_a_count_of_the_rows_that_has_a_name_is_no_asset_and_told(tmp_path, name, first):
    frame = wide_table(["date", name, "A0"])
    frame[name] = np.arange(len(frame)) + first
    bars = load_bars(write(tmp_path, frame))
    assert bars.assets == ("A0",)
    assert f"column not used: {name!r}, which counts the rows" in bars.notes
    assert load_bars(write(tmp_path, frame.assign(**{name: frame["A0"] ** 1.1}))).assets == (name, "A0")


@pytest.mark.parametrize("price", [1e308, 1e13, 1e-10, 5e-324])
def test_price_that_float64_books_cannot_hold_is_refused_with_its_place(tmp_path, price):
    long = refusal(write(tmp_path, rows_of_price(price)))
    assert "line 6, column 'close', asset AAA" in long
    assert "prices must lie from 1e-09 to 1e+12" in long
    frame = wide_table(["date", "A0", "A1"])
    frame.loc[3, "A1"] = price
    assert "row 4, column 'A1', asset A1" in refusal(write(tmp_path, frame, "wide.parquet"))


@pytest.mark.parametrize("table", [long_table, lambda: wide_table(["date", "AAA", "BBB"])], ids=["long", "wide"])
def test_price_of_four_hundred_digits_is_refused_with_its_place(tmp_path, table):
    frame, column = table().astype(object), str(table().columns[-2])
    frame[column] = ["9" * 400, *[""] * (len(frame) - 1)]  # of nothing else than digits pandas makes a whole number
    assert f"column {column!r}" in refusal(write(tmp_path, frame))


@pytest.mark.parametrize("volume", [1e308, 1e19, 1e-10, 5e-324])
def test_volume_that_float64_books_cannot_hold_is_refused_with_its_place(tmp_path, volume):
    frame = long_table()
    frame.loc[4, "volume"] = volume
    message = refusal(write(tmp_path, frame))
    assert "line 6, column 'volume', asset AAA" in message
    assert "volume must be 0, or from 1e-09 to 1e+18" in message


@pytest.mark.parametrize(("unit", "factor"), [(1e-10, 1e18), (1.0, 1e-8), (1.0, 2e6)])
def test_bar_in_which_a_price_leaps_as_no_market_does_is_refused_with_its_asset_and_date(tmp_path, unit, factor):
    frame = long_table(assets=("AAA",))
    frame.loc[3:, ["open", "high", "low", "close"]] *= factor
    frame[["open", "high", "low", "close"]] *= unit
    assert "prices.csv: asset AAA, 2020-01-09: the price leaps by a factor" in refusal(write(tmp_path, frame))
    wide = frame.pivot_table(index="date", columns="tic", values="close").reset_index()
    assert "asset AAA, 2020-01-09: the price leaps by" in refusal(write(tmp_path, wide))


def test_bar_whose_low_and_high_are_a_world_apart_is_refused(tmp_path):
    frame = long_table()
    frame.loc[5, "low"] = 1e-5
    said = refusal(write(tmp_path, frame))
    assert "asset BBB, 2020-01-08: the price leaps by a factor of 2.04e+07 from low to high" in said


def test_largest_leap_that_is_taken(tmp_path):
    frame = long_table(assets=("AAA",))
    frame["close"] = [1.0, 1e6, 1.0, 1.0, 1e6, 1e6]
    frame["open"] = frame["close"]
    frame["low"], frame["high"] = 1.0, 1e6
    load_bars(write(tmp_path, frame))
    frame.loc[1, ["close", "high"]] = 1.1e6
    refusal(write(tmp_path, frame))


TEXT = long_table(num_bars=300).to_csv(index=False).encode()


def damaged(content: bytes) -> bytes:
    """The same bytes with the last but a few changed."""
    return content[:-9] + bytes(byte ^ 0xFF for byte in content[-9:-5]) + content[-5:]


NO_TABLES = {
    **{f"cut{end}.csv.gz": gzip.compress(TEXT)[:end] for end in (5, 500, -4)},
    "damaged.csv.gz": damaged(gzip.compress(TEXT)),
    "unpacked.csv.gz": TEXT,
    **{f"cut.csv.{ending}": pack(TEXT)[:500] for ending, pack in (("bz2", bz2.compress), ("xz", lzma.compress))},
    "cut.csv.zst": b"\x28\xb5\x2f\xfd" + bytes(500),
    "cut.csv.zip": b"PK\x03\x04" + bytes(500),
    "packed.csv": gzip.compress(TEXT),
    "utf16.csv": TEXT.decode().encode("utf-16-le"),
    "utf16_mark.csv": TEXT.decode().encode("utf-16"),
    "latin.csv": TEXT.replace(b"AAA", b"A\xe9", 1),
    "random.csv": np.random.default_rng(0).bytes(4096),
    "nothing.csv": bytes(4096),
    "nothing_within.csv": TEXT[:300] + bytes(4096) + TEXT[300:],
    "cells.csv": TEXT.replace(b",1000.0\n", b",1000.0,1\n"),
    "quote.csv": TEXT.replace(b",AAA", b',"AAA', 1),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_bytes_that_are_no_table_are_refused_in_one_short_line(tmp_path, name):
    (tmp_path / name).write_bytes(NO_TABLES[name])
    message = refusal(str(tmp_path / name))
    assert message.isprintable()
    assert len(message) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["prices.parquet", "prices.feather"])
def test_changed_table_is_refused_or_read(tmp_path, name):
    path = Path(write(tmp_path, long_table(num_bars=300), name))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, len(content), 8):
            content[at] = rng.integers(0, 256)
        path.write_bytes(content)
        with suppress(InputError):
            load_bars(path)


def test_text_whose_place_lies_outside_the_file_is_refused(tmp_path):
    path = tmp_path / "prices.feather"
    long_table().to_feather(path, compression="uncompressed")
    content, places = path.read_bytes(), np.arange(0, 12, 3).tobytes()
    assert places in content, "where each ticker begins"
    path.write_bytes(content.replace(places, np.array([0, 3, 1 << 40, 9]).tobytes()))
    assert refusal(path).startswith(f"{path} cannot be read as a feather table: ArrowInvalid")


def test_table_that_claims_more_than_memory_holds_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, long_table(), "prices.feather")

    def too_large(file):
        raise MemoryError("malloc of size 58828270132527232 failed")

    monkeypatch.setitem(price_tables._READERS, "feather", too_large)
    assert refusal(path).startswith(f"{path} does not fit into memory, or is damaged: MemoryError: malloc of size")


def test_path_that_is_too_long_is_refused_in_one_short_line(tmp_path):
    with pytest.raises(InputError, match=r"\.\.\. cannot be opened: File name too long$") as caught:
        load_bars("a" * 5000 + ".csv")
    assert len(str(caught.value)) < 200
