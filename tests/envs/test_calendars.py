from __future__ import annotations

import numpy as np
import pandas as pd
from price_samples import long_table, refusal, write

from envs.bars import load_bars


def gappy(tmp_path) -> str:
    frame = long_table()
    return write(tmp_path, frame.drop(index=[1, 6]))  # BBB lacks day 0, AAA lacks day 3


def test_intersect_drops_dates_that_some_asset_lacks_and_counts_them(tmp_path):
    bars = load_bars(gappy(tmp_path))
    assert bars.num_bars == 4
    assert any("dropped 2 of 6 dates" in note for note in bars.notes)


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
    assert "no date is common to all 2 assets" in refusal(write(tmp_path, frame))


def test_blank_cell_in_a_wide_table_is_a_missing_bar(tmp_path):
    frame = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    frame.loc[2, "AAA"] = np.nan
    path = write(tmp_path, frame)
    assert load_bars(path).num_bars == 5
    assert "asset AAA has no bar at 2020-01-08" in refusal(path, calendar="strict")
