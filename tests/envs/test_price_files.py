from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write
from real_prices import real_prices

from envs.bars import load_bars


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet", "prices.feather"])
def test_every_format_gives_the_same_bars(tmp_path, name):
    frame = long_table()
    bars = load_bars(write(tmp_path, frame, name))
    assert bars.assets == ("AAA", "BBB")
    assert bars.open.shape == (6, 2)
    np.testing.assert_array_equal(bars.close[:, 1], 201.0 + np.arange(6))
    np.testing.assert_array_equal(bars.volume[:, 0], 1000.0 + np.arange(6))
    assert bars.dates.dtype == np.dtype("datetime64[us]")
    assert str(bars.dates[0])[:10] == "2020-01-06"
    assert bars.fingerprint == load_bars(write(tmp_path, frame, "other.csv")).fingerprint


@pytest.mark.parametrize(
    "names",
    [
        ("Date", "Name", "Open", "High", "Low", "Close", "Volume"),
        ("timestamp", "symbol", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME"),
        ("datetime", "Ticker", "open", "high", "low", "close", " volume "),
    ],
)
def test_usual_column_names_in_any_case_are_understood(tmp_path, names):
    frame = long_table()
    bars = load_bars(write(tmp_path, frame.set_axis(list(names), axis=1)))
    assert bars.fingerprint == load_bars(write(tmp_path, frame, "plain.csv")).fingerprint


def test_long_file_sorted_by_asset_then_date_is_the_same_market(tmp_path):
    frame = long_table()
    by_asset = frame.sort_values(["tic", "date"])
    assert load_bars(write(tmp_path, by_asset)).fingerprint == load_bars(write(tmp_path, frame, "b.csv")).fingerprint


@pytest.mark.parametrize("newest_first", [("AAA", "BBB"), ("BBB",)], ids=["all", "some"])
def test_rows_that_stand_newest_first_are_read_in_order_and_told(tmp_path, newest_first):
    frame = long_table()
    turned = pd.concat([rows[:: -1 if tic in newest_first else 1] for tic, rows in frame.groupby("tic")])
    bars = load_bars(write(tmp_path, turned))
    assert bars.fingerprint == load_bars(write(tmp_path, frame, "b.csv")).fingerprint
    assert "the newest rows stand first: read from the last one on" in bars.notes
    wide = frame.pivot_table(index="date", columns="tic", values="close").reset_index()
    bars = load_bars(write(tmp_path, wide[::-1], "wide.csv"))
    assert bars.fingerprint == load_bars(write(tmp_path, wide, "c.csv")).fingerprint
    assert "the newest rows stand first: read from the last one on" in bars.notes


def test_file_without_asset_column_is_one_asset_named_after_the_file(tmp_path):
    bars = load_bars(write(tmp_path, long_table(assets=("X",)).drop(columns="tic"), "spy.csv"))
    assert bars.assets == ("spy",)
    assert bars.num_assets == 1


def test_wide_table_of_closes_fills_at_the_same_bars_close(tmp_path):
    frame = long_table().pivot_table(index="date", columns="tic", values="close").reset_index()
    bars = load_bars(write(tmp_path, frame))
    assert bars.volume is None
    for field in ("open", "high", "low"):
        np.testing.assert_array_equal(getattr(bars, field), bars.close)
    assert any("only closes" in note for note in bars.notes)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_tabs_blank_lines_and_a_byte_order_mark_are_read(tmp_path, separator):
    path = tmp_path / "prices.csv"
    text = long_table().to_csv(index=False, sep=separator)
    path.write_text("\ufeff" + text.replace("\n", "\n\n", 2) + "\n\n", encoding="utf-8")
    assert load_bars(path).close.shape == (6, 2)


def test_tickers_that_look_like_numbers_or_blanks_stay_names(tmp_path):
    assert load_bars(write(tmp_path, long_table(assets=("0700", "NA", "TRUE")))).assets == ("0700", "NA", "TRUE")


def test_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "twice.csv").write_text("date,close,Close\n2020-01-01,1,2\n2020-01-02,1,2\n")
    assert "column 'close' stands twice" in refusal(str(tmp_path / "twice.csv"))


def test_missing_volume_column_is_allowed(tmp_path):
    assert load_bars(write(tmp_path, long_table().drop(columns="volume"))).volume is None


def test_chosen_assets_come_in_the_order_asked_for_and_others_are_not_looked_at(tmp_path):
    frame = long_table(assets=("AAA", "BBB", "CCC"))
    frame.loc[frame.tic == "AAA", "close"] = -1.0
    bars = load_bars(write(tmp_path, frame), assets=("CCC", "BBB"))
    assert bars.assets == ("CCC", "BBB")
    np.testing.assert_array_equal(bars.open[0], [300.0, 200.0])


def test_time_zones_of_intraday_bars_become_utc(tmp_path):
    frame = long_table(assets=("X",), num_bars=4)
    times = ("06 09:30:00-05:00", "06 10:30:00-05:00", "09T09:30:00-04", "09T10:30:00-0400")
    frame["date"] = [f"2020-03-{time}" for time in times]
    bars = load_bars(write(tmp_path, frame))
    assert [str(day)[8:16] for day in bars.dates] == ["06T14:30", "06T15:30", "09T13:30", "09T14:30"]
    frame["date"] = pd.to_datetime(frame["date"], utc=True, format="ISO8601").dt.tz_convert("America/New_York")
    np.testing.assert_array_equal(load_bars(write(tmp_path, frame, "z.parquet")).dates, bars.dates)


@pytest.mark.parametrize(
    "dates",
    [
        [20200130, 20200131, 20200203],
        [1580342400, 1580428800, 1580688000],
        [1580342400000, 1580428800000, 1580688000000],
        ["2020-01-30 00:00:00 UTC", "2020-01-31 00:00:00 UTC", "2020-02-03 00:00:00 UTC"],
        ["30/01/2020", "31/01/2020", "03/02/2020"],
        ["01/30/2020", "01/31/2020", "02/03/2020"],
    ],
)
def test_dates_in_other_notations_are_read(tmp_path, dates):
    frame = long_table(assets=("X",), num_bars=3)
    frame["date"] = dates
    days = [str(day)[:10] for day in load_bars(write(tmp_path, frame)).dates]
    assert days == ["2020-01-30", "2020-01-31", "2020-02-03"]


@pytest.mark.parametrize(
    ("name", "shape", "periods"),
    [("djia29_daily_2013_2018.csv", (1259, 29), 252), ("btcusd_1h_2018_2022.csv", (33259, 1), 8760)],
)
def test_real_files_load_whole(name, shape, periods):
    bars = load_bars(real_prices(name))
    assert bars.close.shape == shape
    assert bars.periods_per_year == periods
    assert len(bars.notes) == 1
