"""All faults of a price file are told at once, each with its row and column."""

from __future__ import annotations

import numpy as np
from price_samples import long_table, refusal, write


def lines_of(path, **kwargs) -> list[str]:
    return [line.removeprefix(f"{path}: ") for line in refusal(path, **kwargs).split("\n")]


def test_faults_of_every_kind_are_told_at_once_in_the_order_of_the_file(tmp_path):
    frame = long_table(num_bars=8).astype({"close": object, "volume": object})
    frame.loc[2, "date"] = "2020-13-45"
    frame.loc[4, "close"] = "abc"
    frame.loc[5, ["open", "close"]] = -1.0, 0.0
    frame.loc[7, "volume"] = -5.0
    frame.loc[8, "tic"] = ""
    frame.loc[9, "high"] = 1.0
    frame.loc[12, "date"] = ""
    frame.loc[15, "date"] = frame.loc[13, "date"]
    found = [line.partition(":")[0] for line in lines_of(write(tmp_path, frame))]
    assert found == [
        "line 4, column 'date'",
        "line 6, column 'close', asset AAA, 2020-01-08",
        "line 7, column 'open', asset BBB, 2020-01-08",
        "line 7, column 'close', asset BBB, 2020-01-08",
        "line 9, column 'volume', asset BBB, 2020-01-09",
        "line 10, column 'tic'",
        "line 11, column 'high', asset BBB, 2020-01-10",
        "line 14, column 'date'",
        "line 17, asset BBB, 2020-01-14",
    ]


def test_ten_faults_are_told_and_the_others_counted(tmp_path):
    frame = long_table(num_bars=20)
    frame.loc[3:, "close"] = np.nan
    *told, last = lines_of(write(tmp_path, frame))
    assert [line.partition(",")[0] for line in told] == [f"line {row}" for row in range(5, 15)]
    assert last == "and 27 more faults"


def test_faults_of_a_wide_table_are_told_row_by_row(tmp_path):
    frame = long_table(num_bars=8).pivot_table(index="date", columns="tic", values="close").reset_index()
    frame.loc[5, "AAA"], frame.loc[2, "BBB"], frame.loc[3, "AAA"] = 0.0, -1.0, np.nan
    assert [line.partition(": ")[0] for line in lines_of(write(tmp_path, frame))] == [
        "line 4, column 'BBB', asset BBB, 2020-01-08",
        "line 7, column 'AAA', asset AAA, 2020-01-13",
    ]


def test_a_date_that_is_none_among_dates_of_a_kind_is_the_only_fault(tmp_path):
    frame = long_table(assets=("X",), num_bars=20)
    frame["date"] = [f"{day[8:]}/{day[5:7]}/{day[:4]}" for day in frame["date"]]
    frame.loc[11, "date"] = "2020-01-21"
    assert "line 13, column 'date': '2020-01-21' is not a date" in refusal(write(tmp_path, frame))


def test_leaps_are_told_at_once(tmp_path):
    frame = long_table()
    frame.loc[4:, ["open", "high", "low", "close"]] *= 1e8
    assert [line.partition(": ")[0] for line in lines_of(write(tmp_path, frame))] == [
        "asset AAA, 2020-01-08",
        "asset BBB, 2020-01-08",
    ]


def test_a_file_none_of_whose_dates_is_one_is_refused(tmp_path):
    assert len(lines_of(write(tmp_path, long_table(num_bars=3).assign(date="soon")))) == 6
