"""Dates of price files, however they are written: read, or refused with their line."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from common.errors import InputError
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig

HOURS = pd.date_range("2024-12-31 22:00", periods=4, freq="h")
SECONDS = (HOURS - pd.Timestamp(0)) // pd.Timedelta(seconds=1)


def with_dates(tmp_path, dates, name="prices.csv"):
    frame = long_table(assets=("X",), num_bars=len(dates))
    frame["date"] = dates
    return write(tmp_path, frame, name)


def read(path, **kwargs):
    return [str(day)[:19] for day in load_bars(path, **kwargs).dates]


@pytest.mark.parametrize(
    "factors", [(1,) * 4, (10**3,) * 4, (10**9,) * 4, (10**3, 10**3, 10**6, 10**9), (10**6, 1, 1, 1)]
)
@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_unit_of_an_epoch_is_told_row_by_row(tmp_path, factors, name):
    dates = [int(s) * factor for s, factor in zip(SECONDS, factors, strict=True)]
    np.testing.assert_array_equal(load_bars(with_dates(tmp_path, dates, name)).dates, HOURS)


def test_fractions_of_a_second_and_days_before_1970_are_read(tmp_path):
    assert str(load_bars(with_dates(tmp_path, [1609459200.5, 1609459201.5, 1609459202.5])).dates[0])[-6:] == "500000"
    assert read(with_dates(tmp_path, [-86400, 0, 86400, 946684800]))[:2] == [
        "1969-12-31T00:00:00",
        "1970-01-01T00:00:00",
    ]


@pytest.mark.parametrize(
    "form", ["%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d %H%M%S", "%Y.%m.%d %H:%M", "%Y/%m/%d %H:%M"]
)
@pytest.mark.parametrize("start", ["1976-05-28 22:00", "2024-12-31 22:00"])
def test_digits_of_dates_are_read(tmp_path, form, start):
    dates = pd.date_range(start, periods=4, freq="h")
    np.testing.assert_array_equal(load_bars(with_dates(tmp_path, dates.strftime(form))).dates, dates)


@pytest.mark.parametrize(
    "dates",
    [
        ["2020年1月30日", "2020年1月31日", "2020年2月3日"],
        ["2020/1/30", "2020/1/31", "2020/2/3"],
        ["30-Jan-2020", "31-Jan-2020", "03-Feb-2020"],
        ["Jan 30, 2020", "Jan 31, 2020", "Feb 3, 2020"],
    ],
)
def test_other_ways_to_write_a_day_are_read(tmp_path, dates):
    assert [day[:10] for day in read(with_dates(tmp_path, dates))] == ["2020-01-30", "2020-01-31", "2020-02-03"]


def test_milliseconds_of_1976_are_no_digits_of_a_date(tmp_path):
    dates = [202101041530 + i * 3_600_000 for i in range(3)]
    assert read(with_dates(tmp_path, dates))[0] == "1976-05-28T03:10:41"


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("18991231", "must lie from 1900 to"),
        (str(datetime.now(UTC).year + 2) + "0101", "must lie from 1900 to"),
        ("16094592000", "is read as 2480-01-07, but dates must lie from 1900"),
        ("20201345", "20201345 is not a date"),
        ("44200", "44200 is not a date"),
        ("2020010", "2020010 is not a date"),
    ],
)
def test_number_that_is_no_likely_date_is_refused_with_its_line(tmp_path, date, words):
    said = refusal(with_dates(tmp_path, ["20200102", "20200103", date]))
    assert "line 4, column 'date'" in said
    assert words in said
    assert "--data.date-format" in said


def test_digits_that_could_begin_with_a_short_year_are_refused_and_the_setting_decides(tmp_path):
    for form, dates in (("%y%m%d%H%M", HOURS), ("%y%m%d%H%M%S", HOURS)):
        path = with_dates(tmp_path, [int(text) for text in dates.strftime(form)])
        said = refusal(path)
        assert "line 2, column 'date': 2412312200" in said
        assert f"set --data.date-format {form}, or" in said
        np.testing.assert_array_equal(load_bars(path, date_format=form).dates, HOURS)


def test_digits_keep_their_zeros_where_a_format_is_given(tmp_path):
    days = pd.to_datetime(["2005-01-03", "2005-02-03", "2005-03-03", "2005-04-04"])
    for form in ("%d%m%Y", "%y%m%d"):
        path = with_dates(tmp_path, days.strftime(form))
        np.testing.assert_array_equal(load_bars(path, date_format=form).dates, days)
        renamed = write(tmp_path, pd.read_csv(path, dtype=str).rename(columns={"date": "x"}), "x.csv")
        np.testing.assert_array_equal(load_bars(renamed, date_format=form, columns=("date=x",)).dates, days)
    path = with_dates(tmp_path, ["03022005", "04022005", "31022005"])
    assert "line 4, column 'date': '31022005' is not a date of data.date_format" in refusal(path, date_format="%d%m%Y")


def test_format_of_the_date_holds_beside_a_time_in_a_column_of_its_own(tmp_path):
    frame = pd.read_csv(with_dates(tmp_path, HOURS.strftime("%d/%m/%Y")))
    for times in (HOURS.strftime("%H:%M"), HOURS.strftime("%H:%M:%S"), HOURS.hour):
        path = write(tmp_path, frame.assign(Time=times))
        np.testing.assert_array_equal(load_bars(path, date_format="%d/%m/%Y").dates, HOURS)


def test_whole_hours_in_a_column_of_times_are_hours(tmp_path):
    hours = pd.DatetimeIndex([f"2025-01-0{day} {hour:02d}:00" for day in (2, 3) for hour in (9, 10, 11)])
    frame = pd.read_csv(with_dates(tmp_path, hours.strftime("%Y-%m-%d"))).assign(Time=hours.hour)
    np.testing.assert_array_equal(load_bars(write(tmp_path, frame)).dates, hours)


def test_an_hour_of_24_is_refused_and_no_minute(tmp_path):
    frame = pd.read_csv(with_dates(tmp_path, ["2025-01-02"] * 3 + ["2025-01-03"] * 3)).assign(Time=[22, 23, 24] * 2)
    assert "'2025-01-02 24:00' is not a date" in refusal(write(tmp_path, frame))


def test_hours_and_minutes_in_two_columns_are_joined(tmp_path):
    times = pd.date_range("2024-12-31 22:00", periods=12, freq="15min")
    frame = pd.read_csv(with_dates(tmp_path, times.strftime("%Y-%m-%d"))).assign(hour=times.hour, minute=times.minute)
    np.testing.assert_array_equal(load_bars(write(tmp_path, frame)).dates, times)


@pytest.mark.parametrize("text", ["2025-01-01", "20250101", "2025-01-01 00:00", "2025-01"])
def test_dates_of_settings_are_read_as_they_are_written(tmp_path, text):
    path = with_dates(tmp_path, HOURS.astype(str))
    assert read(path, start=text) == ["2025-01-01T00:00:00", "2025-01-01T01:00:00"]
    assert read(path, end=text) == ["2024-12-31T22:00:00", "2024-12-31T23:00:00"]


@pytest.mark.parametrize("text", ["20251301", "1/2/2025", "2025-01-01T00:00+02:00", "now", "202501", "0001-01-01"])
def test_dates_of_settings_that_are_none_are_refused(tmp_path, text):
    for setting in ("start", "end"):
        with pytest.raises(InputError, match=rf"^data\.{setting} is .*: write a date such as 2017-01-01"):
            load_bars(with_dates(tmp_path, HOURS.astype(str)), **{setting: text})


def test_double_dates_without_a_time_of_day_are_told_how_to_name_one(tmp_path):
    said = refusal(with_dates(tmp_path, ["2025-01-01", "2025-01-01", "2025-01-02"]))
    assert "where a column has the time of day, set --data.columns time=NAME" in said


def test_timestamps_out_of_the_bounds_are_refused_too(tmp_path):
    dates = pd.to_datetime(["1850-01-01", "1850-01-02"])
    assert "row 1, column 'date': '1850-01-01 00:00:00' is read as" in refusal(with_dates(tmp_path, dates, "p.parquet"))


def test_bars_less_than_a_second_apart_are_refused_with_their_line(tmp_path):
    path = with_dates(tmp_path, [1609459200000, 1609459201000, 1609459201500])
    assert "line 4, asset X" in refusal(path)
    assert "the bar before lies 0.5 s earlier" in refusal(path)


def test_date_format_decides(tmp_path):
    path = with_dates(tmp_path, ["01/02/20", "02/02/20", "03/02/20"])
    refusal(path)
    bars = build_bars(DataConfig(path=path, date_format="%d/%m/%y"))
    assert [str(day)[:10] for day in bars.dates] == ["2020-02-01", "2020-02-02", "2020-02-03"]
    path = with_dates(tmp_path, [200201, 200202, 200203])
    assert read(path, date_format="%y%m%d")[0] == "2020-02-01T00:00:00"
    path = with_dates(tmp_path, ["01/02/2020 00:00 +0100", "02/02/2020 00:00 +0100"])
    assert read(path, date_format="%d/%m/%Y %H:%M %z")[0] == "2020-02-01T00:00:00", "the exchange's own date"


def test_date_that_is_not_of_the_format_and_a_format_that_is_none_are_refused(tmp_path):
    path = with_dates(tmp_path, ["01/02/2020", "2020-02-02"])
    assert "line 3, column 'date': '2020-02-02' is not a date of data.date_format" in refusal(
        path, date_format="%d/%m/%Y"
    )
    with pytest.raises(InputError, match=r"data\.date_format is '%Q'"):
        load_bars(path, date_format="%Q")
