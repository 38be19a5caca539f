"""Bars of two lengths in one market are refused; holes, weekends and nights make no other length."""

import numpy as np
import pandas as pd
import pytest
from price_samples import refusal, write

from envs.bars import load_bars

DAYS = pd.bdate_range("2021-01-04", periods=60)
HOURS = pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in DAYS for hour in range(9, 17)])
AROUND_THE_CLOCK = pd.date_range("2021-01-04", periods=24 * 30, freq="h")
MINUTES = pd.date_range("2021-01-04", periods=600, freq="min")


def prices(dates, asset="A"):
    closes = 100.0 * np.exp(np.cumsum(0.001 * np.random.default_rng(0).standard_normal(len(dates))))
    return pd.DataFrame({"date": dates, "tic": asset, "close": closes, "volume": 1e6})


@pytest.mark.parametrize("calendar", [None, "union", "fill"])
@pytest.mark.parametrize("hours", [HOURS, AROUND_THE_CLOCK])
def test_days_beside_hours_are_refused_whatever_is_set(tmp_path, hours, calendar):
    """A day's close stands at its midnight, and would be seen a day before it is known."""
    path = write(tmp_path, pd.concat([prices(DAYS), prices(hours, "B")]))
    for frequency in (None, "1h"):
        said = refusal(path, calendar=calendar, frequency=frequency)
        assert "asset A has bars 1d apart from 2021-01-04 to 2021-02-01, and asset B has bars 1h apart from" in said
        assert "choose assets or dates that have it (--data.assets, --data.start, --data.end)" in said
        assert "--data.frequency" not in said
    assert load_bars(path, assets=["B"]).frequency == "1h"


def test_files_of_two_lengths_are_refused(tmp_path):
    for name, dates in (("A.csv", DAYS), ("B.csv", HOURS)):
        write(tmp_path, prices(dates).drop(columns="tic"), name)
    assert "asset A has bars 1d apart" in refusal(str(tmp_path))


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        (DAYS - pd.Timedelta(days=120), HOURS, ("1d", "1h")),
        (AROUND_THE_CLOCK - pd.Timedelta(days=40), MINUTES, ("1h", "1min")),
        (pd.date_range("2015-01-01", periods=70, freq="MS"), DAYS, ("1mo", "1d")),
    ],
)
def test_history_that_changes_its_length_is_refused_with_both_and_their_dates(tmp_path, first, then, words):
    said = refusal(write(tmp_path, prices(first.append(then))))
    longer, shorter = words
    assert f"asset A has bars {longer} apart from {first[0]:%Y-%m-%d}" in said
    assert f", and bars {shorter} apart from" in said


def test_where_longer_gaps_are_holes_the_frequency_says_so(tmp_path):
    path = write(tmp_path, pd.concat([prices(DAYS), prices(DAYS[::5], "FUND")]))
    assert "asset FUND has bars 1w apart" in refusal(path)
    assert "or set --data.frequency 1d where the others are holes" in refusal(path)
    assert load_bars(path, frequency="1d", calendar="union").num_bars == len(DAYS)


@pytest.mark.parametrize(
    "dates",
    [
        DAYS,
        HOURS,
        AROUND_THE_CLOCK,
        pd.date_range("2015-01-01", periods=70, freq="MS"),
        pd.date_range("2015-01-02", periods=70, freq="W-FRI"),
        HOURS[HOURS.hour.isin([9, 15])],
        HOURS[HOURS.hour.isin([9, 12, 15])],
        HOURS[np.random.default_rng(0).random(len(HOURS)) < 0.4],
        MINUTES[np.random.default_rng(1).random(len(MINUTES)) < 0.3],
        DAYS[:20].append(DAYS[-20:]),
        AROUND_THE_CLOCK[:100].append(AROUND_THE_CLOCK[-100:]),
        DAYS.append(pd.DatetimeIndex(["2021-06-01", "2022-01-03"])),
    ],
)
def test_holes_nights_and_weekends_are_no_other_length(tmp_path, dates):
    path = write(tmp_path, pd.concat([prices(dates), prices(dates[len(dates) // 3 :], "B")]))
    assert load_bars(path, calendar="union").num_assets == 2
