from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.bars import Bars, DataConfig, Split, build_bars, load_bars, split_bars
from envs.errors import InputError
from envs.synthetic import SyntheticConfig, generate_bars

REAL = Path(os.environ.get("TRADING_FLOOR_DATA") or "no folder of real prices")


def long_table(assets=("AAA", "BBB"), num_bars=6, start="2020-01-06") -> pd.DataFrame:
    rows = []
    for i, day in enumerate(pd.bdate_range(start, periods=num_bars)):
        for k, asset in enumerate(assets):
            price = 100.0 * (k + 1) + i
            rows.append((str(day.date()), asset, price, price + 2, price - 2, price + 1, 1000.0 + i))
    return pd.DataFrame(rows, columns=["date", "tic", "open", "high", "low", "close", "volume"])


def write(tmp_path, frame: pd.DataFrame, name="prices.csv") -> str:
    path = tmp_path / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_feather(path)
    return str(path)


def refusal(path: str, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load_bars(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert Path(path).name in message
    return message


def rows_of_price(price) -> pd.DataFrame:
    frame = long_table()
    frame.loc[4, "close"] = price
    return frame


# --- reading ---------------------------------------------------------------------------------------------------------


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


def test_time_zones_become_utc(tmp_path):
    frame = long_table(assets=("X",), num_bars=3)
    frame["date"] = ["2020-03-06 09:30:00-05:00", "2020-03-09 09:30:00-04:00", "2020-03-10T09:30:00-04:00"]
    bars = load_bars(write(tmp_path, frame))
    assert [str(day)[:16] for day in bars.dates] == ["2020-03-06T14:30", "2020-03-09T13:30", "2020-03-10T13:30"]
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
    ("dates", "frequency", "periods"),
    [
        (pd.bdate_range("2020-01-01", periods=60), "1d", 252),
        (pd.date_range("2020-01-01", periods=60, freq="D"), "1d", 365),
        (pd.date_range("2020-01-01", periods=500, freq="h"), "1h", 8760),
        (pd.date_range("2020-01-03", periods=60, freq="W-FRI"), "1w", 52),
        (pd.date_range("2020-01-31", periods=30, freq="ME"), "1mo", 12),
        (
            pd.DatetimeIndex(
                np.add.outer(
                    pd.bdate_range("2020-01-06", periods=10), pd.to_timedelta(np.arange(7) * 30 + 570, "min")
                ).ravel()
            ),
            "30min",
            7 * 252,
        ),
    ],
)
def test_frequency_and_periods_per_year_are_inferred_and_shown(tmp_path, dates, frequency, periods):
    frame = pd.DataFrame({"date": dates.astype(str), "close": 100.0})
    bars = load_bars(write(tmp_path, frame))
    assert (bars.frequency, bars.periods_per_year) == (frequency, periods)
    assert any(f"{periods} a year" in note for note in bars.notes)
    assert load_bars(write(tmp_path, frame), periods_per_year=100).periods_per_year == 100


# --- calendars -------------------------------------------------------------------------------------------------------


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


# --- bad input -------------------------------------------------------------------------------------------------------


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
    assert "sort the file by ['tic', date]" in message


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


# --- real files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "periods"),
    [("djia29_daily_2013_2018.csv", (1259, 29), 252), ("btcusd_1h_2018_2022.csv", (33259, 1), 8760)],
)
def test_real_files_load_whole(name, shape, periods):
    if not (REAL / name).exists():
        pytest.skip("TRADING_FLOOR_DATA names no folder of real prices")
    bars = load_bars(REAL / name)
    assert bars.close.shape == shape
    assert bars.periods_per_year == periods
    assert len(bars.notes) == 1


# --- Bars and splits -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Bars:
    return generate_bars(SyntheticConfig(num_bars=1000, num_assets=3))


def test_arrays_cannot_be_written(market):
    with pytest.raises(ValueError, match="read-only"):
        market.close[0, 0] = 1.0


def test_fingerprint_sees_every_price_date_and_name(market):
    close = market.close.copy()
    close[-1, -1] *= 1 + 1e-15
    changed = (
        dataclasses.replace(market, close=close),
        dataclasses.replace(market, assets=("P", "Q", "R")),
        dataclasses.replace(market, dates=market.dates + np.timedelta64(1, "D")),
        dataclasses.replace(market, volume=None),
        market.select(market.assets[::-1]),
        market.between(0, 999),
    )
    prints = {bars.fingerprint for bars in (market, *changed)}
    assert len(prints) == 7
    assert market.between(0, 1000).fingerprint == market.fingerprint


def test_select_refuses_an_unknown_asset(market):
    with pytest.raises(InputError, match="did you mean 'ALFA'"):
        market.select(("ALPA",))


def test_build_bars_reads_the_file_or_makes_the_market(tmp_path):
    built = build_bars(DataConfig(assets=("BRAV",)))
    assert built.assets == ("BRAV",)
    path = write(tmp_path, long_table())
    assert build_bars(DataConfig(path=path, assets=("BBB",))).assets == ("BBB",)


def test_splits_lie_in_order_with_an_embargo_between_them(market):
    splits = split_bars(market, DataConfig(), lookback_bars=70, embargo_bars=75, horizon_bars=100)
    assert splits.train.start == 70
    assert splits.validation.start - splits.train.stop == 75
    assert splits.test.start - splits.validation.stop == 75
    assert splits.test.stop == 1000
    assert splits.train.num_bars == 468  # 60 % of the 780 bars that are left
    assert splits["test"] == splits.test
    assert splits.train.num_decisions == 467


def test_splits_by_date_begin_on_their_dates(market):
    config = DataConfig(validation_start="2017-07-01", test_start="2018-02-03")
    splits = split_bars(market, config, lookback_bars=70, embargo_bars=75, horizon_bars=20)
    assert str(market.dates[splits.validation.start])[:10] == "2017-07-03"
    assert str(market.dates[splits.test.start])[:10] == "2018-02-05"
    assert splits.train == Split("train", 70, splits.validation.start - 75)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig(train=0.9), "sum at most 1"),
        (DataConfig(embargo_bars=10), "look back on 75 bars"),
        (DataConfig(test_start="2018-01-01"), "set both, or neither"),
        (DataConfig(validation_start="soon", test_start="2018-01-01"), "'soon'"),
        (DataConfig(validation_start="2010-01-01", test_start="2018-01-01"), "outside the history"),
        (DataConfig(validation_start="2018-01-01", test_start="2017-01-01"), "must come after"),
        (DataConfig(validation_start="2017-07-01", test_start="2017-08-01"), "validation split has 0 bars"),
        (DataConfig(test=0.05), "test split has 39 bars"),
    ],
)
def test_splits_that_make_no_sense_are_refused(market, config, words):
    with pytest.raises(InputError, match=words):
        split_bars(market, config, lookback_bars=70, embargo_bars=75, horizon_bars=100)


def test_short_history_is_refused_with_the_numbers():
    bars = generate_bars(SyntheticConfig(num_bars=300, num_assets=2))
    with pytest.raises(
        InputError, match=r"300 bars; 70 bars of look-back and two embargoes of 75 leave 80, .* at least 303"
    ):
        split_bars(bars, DataConfig(), lookback_bars=70, embargo_bars=75, horizon_bars=100)


def test_a_longer_embargo_is_kept(market):
    splits = split_bars(market, DataConfig(embargo_bars=90), lookback_bars=70, embargo_bars=75, horizon_bars=50)
    assert splits.validation.start - splits.train.stop == splits.embargo_bars == 90
