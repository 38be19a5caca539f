"""What is wrong with a price file is said in one line, with its place."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from common.errors import InputError
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
    frame = long_table()
    message = refusal(write(tmp_path, frame.iloc[::-1]))
    assert "line 4, asset BBB" in message
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


def test_column_without_a_name_is_no_asset_that_is_lost(tmp_path):
    frame = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    assert "column 3 has no name" in refusal(write(tmp_path, frame.rename(columns={"BBB": ""})))
    spaced = write(tmp_path, frame.rename(columns={"BBB": "AAA "}), "prices.parquet")
    assert "columns 'AAA' and 'AAA ' have the same name" in refusal(spaced)
    path = tmp_path / "with_index.csv"
    frame.to_csv(path)
    assert load_bars(str(path)).assets == ("AAA", "BBB")


@pytest.mark.parametrize("price", [1e308, 5e-324])
def test_price_beyond_all_that_is_traded_is_refused(tmp_path, price):
    assert f"line 6, column 'close', asset AAA, 2020-01-08: the price is {price:g}" in refusal(
        write(tmp_path, rows_of_price(price))
    )


def test_first_row_with_more_cells_than_the_header_is_refused(tmp_path):
    lines = long_table().to_csv(index=False).split("\n")
    (tmp_path / "prices.csv").write_text("\n".join([lines[0], f"{lines[1]},9", *lines[2:]]))
    assert "more cells than the header" in refusal(str(tmp_path / "prices.csv"))


def test_cut_gzip_and_a_name_that_is_too_long_are_refused(tmp_path):
    (tmp_path / "prices.csv.gz").write_bytes(gzip.compress(b"date,AAA,BBB\n" * 99)[:-9])
    assert "cannot be read as a csv table" in refusal(str(tmp_path / "prices.csv.gz"))
    with pytest.raises(InputError, match="too long"):
        load_bars("x" * 5000 + ".csv")
