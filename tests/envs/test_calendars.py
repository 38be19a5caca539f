from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from common.errors import InputError
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig


def gappy(tmp_path) -> str:
    frame = long_table()
    return write(tmp_path, frame.drop(index=[1, 6]))  # BBB lacks day 0, AAA lacks day 3


def test_intersect_drops_dates_that_some_asset_lacks_and_counts_them(tmp_path):
    bars = load_bars(gappy(tmp_path))
    assert bars.num_bars == 4
    assert (
        "dropped 2 of 6 bars that some assets lack: AAA lacks 1, BBB lacks 1 (without AAA 1 would be dropped; "
        "--data.calendar union keeps all)"
    ) in bars.notes


@pytest.mark.parametrize("num_holed", [1, 5])
def test_intersect_says_because_of_whom_bars_are_dropped(tmp_path, num_holed):
    frame = long_table(assets=("AAA", "ACME", "BBB", "CCC", "DDD"), num_bars=500)
    row = frame.groupby("tic").cumcount()
    gone = (frame["tic"] == "ACME") & (row < 300)
    for k, asset in enumerate(("AAA", "BBB", "CCC", "DDD")[: num_holed - 1]):
        gone |= (frame["tic"] == asset) & (row == 400 + k)
    (note,) = (note for note in load_bars(write(tmp_path, frame[~gone]), calendar="intersect").notes if "drop" in note)
    expected = {
        1: "dropped 300 of 500 bars that some assets lack: ACME lacks 300 (without ACME 0 would be dropped;",
        5: "dropped 304 of 500 bars that some assets lack: ACME lacks 300, AAA lacks 1, BBB lacks 1 and 2 more lack "
        "some (without ACME 4 would be dropped;",
    }
    assert note.startswith(expected[num_holed])


def test_fill_repeats_the_last_close_with_no_volume_and_counts(tmp_path):
    bars = load_bars(gappy(tmp_path), calendar="fill")
    assert bars.num_bars == 5
    assert bars.open[2, 0] == bars.high[2, 0] == bars.low[2, 0] == bars.close[2, 0] == bars.close[1, 0] == 103.0
    assert bars.volume[2, 0] == 0
    assert any("filled 1 missing bars" in note for note in bars.notes)
    assert any("dropped 1 dates before 2020-01-07" in note for note in bars.notes)


def test_strict_refuses_a_difference_and_says_where(tmp_path):
    message = refusal(gappy(tmp_path), calendar="strict")
    assert "asset BBB has no bar at 2020-01-06" in message


def test_assets_without_a_common_date_are_refused(tmp_path):
    frame = pd.concat([long_table(("AAA",)), long_table(("BBB",), start="2021-01-04")])
    assert "no date is common to all 2 assets" in refusal(write(tmp_path, frame), calendar="intersect")


def test_blank_cell_in_a_wide_table_is_a_missing_bar(tmp_path):
    frame = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    frame.loc[2, "AAA"] = np.nan
    path = write(tmp_path, frame)
    assert load_bars(path).num_bars == 5
    assert "asset AAA has no bar at 2020-01-08" in refusal(path, calendar="strict")


def without_prices(rows, value=np.nan, **table):
    frame = long_table(**table)
    frame.loc[rows, ["open", "high", "low", "close", "volume"]] = value
    return frame


@pytest.mark.parametrize(("value", "missing"), [(np.nan, "blanks"), (np.nan, "zeros"), (0.0, "zeros")])
def test_row_without_prices_is_a_missing_bar_by_the_calendar(tmp_path, value, missing):
    path = write(tmp_path, without_prices([3, 4], value))
    bars = load_bars(path, missing=missing)
    assert bars.num_bars == 4
    assert "2 rows without prices are missing bars" in bars.notes
    filled = load_bars(path, calendar="fill", missing=missing)
    assert (filled.num_bars, filled.close[1, 1], filled.volume[1, 1]) == (6, filled.close[0, 1], 0.0)
    assert "asset BBB has no bar at 2020-01-07" in refusal(path, calendar="strict", missing=missing)


def test_rows_without_prices_of_one_asset_are_missing_bars_too(tmp_path):
    path = write(tmp_path, without_prices([2, 3], assets=("X",)))
    assert load_bars(path).num_bars == 4
    assert load_bars(path, calendar="fill").num_bars == 6
    assert "has no bar at 2020-01-08" in refusal(path, calendar="strict")
    wide = write(
        tmp_path, without_prices([2, 3], assets=("X",))[["date", "close"]].rename(columns={"close": "X"}), "w.csv"
    )
    assert [load_bars(wide, calendar=policy).num_bars for policy in ("intersect", "fill")] == [4, 6]


def test_rows_of_which_some_prices_are_blank_are_dropped_or_filled_as_the_user_says(tmp_path):
    frame = long_table()
    frame.loc[3, ["open", "high", "low"]] = np.nan  # as of some rows of the S&P 500's on Kaggle
    frame.loc[5, "low"] = np.nan
    frame.loc[6, "close"] = np.nan
    path = write(tmp_path, frame)
    message = refusal(path)
    assert "line 5, column 'open', asset BBB, 2020-01-07: the price is missing: correct or remove the row" in message
    assert "set --data.missing drop for a missing bar, or --data.missing fill to take it from the close" in message
    assert "--data.start" not in message
    assert "line 8, column 'close', asset AAA, 2020-01-09: the price is missing: correct or remove the row" in message
    assert message.count("fill") == 4
    dropped = load_bars(path, missing="drop", calendar="union")
    np.testing.assert_array_equal(np.argwhere(~dropped.tradable), [[1, 1], [2, 1], [3, 0]])
    assert "3 rows of which some prices are blank are missing bars: BBB 2, AAA 1" in dropped.notes
    filled = load_bars(path, missing="fill", calendar="union")
    np.testing.assert_array_equal(np.argwhere(~filled.tradable), [[3, 0]])
    for field in ("open", "high", "low", "close"):
        assert getattr(filled, field)[1, 1] == frame.loc[3, "close"]
    assert filled.low[2, 1] == frame.loc[5, "open"] < frame.loc[5, "close"]
    assert filled.volume[1, 1] == frame.loc[3, "volume"]
    assert "2 rows have a blank open, high or low, taken from their close: BBB 2" in filled.notes
    assert "1 rows of which some prices are blank are missing bars: AAA 1" in filled.notes


def test_early_rows_are_left_out_by_a_start_and_later_ones_are_not(tmp_path):
    frame = long_table()
    frame.loc[[1, 9], ["open", "high", "low", "close", "volume"]] = 0.0
    early, late = (line for line in refusal(write(tmp_path, frame)).split("\n") if "column 'open'" in line)
    assert early.endswith("set --data.missing zeros for a missing bar, or leave early rows out with --data.start")
    assert late.endswith("correct or remove the row, or set --data.missing zeros for a missing bar")
    wide = write(tmp_path, frame.pivot_table(index="date", columns="tic", values="close").reset_index(), "wide.csv")
    early, late = refusal(wide).split("\n")
    assert early.endswith("set --data.missing zeros for a missing bar, or leave early rows out with --data.start")
    assert late.endswith("correct or remove the row, or set --data.missing zeros for a missing bar")
    frame.loc[9, "close"] = 5.0
    assert "--data.missing zeros" not in refusal(write(tmp_path, frame.drop(index=1)))


def test_zeros_are_missing_bars_only_where_the_user_says_so_and_only_all_together(tmp_path):
    assert "the price is 0" in refusal(write(tmp_path, without_prices([3], 0.0)))
    frame = long_table()
    frame.loc[3, "open"] = 0.0
    assert "line 5, column 'open'" in refusal(write(tmp_path, frame), missing="zeros")
    frame.loc[3, "open"] = np.nan
    assert "line 5, column 'open', asset BBB, 2020-01-07: the price is missing" in refusal(write(tmp_path, frame))
    wide = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    wide.loc[2, "AAA"] = 0.0
    assert "the price is 0" in refusal(write(tmp_path, wide))
    assert load_bars(write(tmp_path, wide), missing="zeros").num_bars == 5


def test_rows_outside_start_and_end_are_not_looked_at(tmp_path):
    frame = long_table()
    frame.loc[:3, "open"] = 0.0
    frame.loc[frame["date"] >= "2020-01-10", "close"] = -1.0
    frame.loc[0, "tic"] = ""
    path = write(tmp_path, frame)
    assert "2020-01-10: the price is -1" in refusal(path, start="2020-01-08")
    assert build_bars(DataConfig(path=path, start="2020-01-08", end="2020-01-10")).num_bars == 2
    assert "line 4, column 'open', asset AAA, 2020-01-07" in refusal(path, start="2020-01-07")
    for config in (DataConfig(path=path, start="2030-01-01"), DataConfig(start="2030-01-01")):
        with pytest.raises(InputError, match=r"^data\.start is 2030-01-01, but the history of .* ends on"):
            build_bars(config)
    assert str(build_bars(DataConfig(start="2016-01-01")).dates[0])[:10] == "2016-01-01"
    with pytest.raises(InputError, match=r"^data\.start is 'soon'"):
        build_bars(DataConfig(path=path, start="soon"))
