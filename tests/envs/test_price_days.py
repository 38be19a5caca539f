from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from price_samples import refusal, write

from common.errors import InputError
from envs.bars import build_bars, load_bars, split_bars
from envs.settings import DataConfig

WEEKDAYS = pd.bdate_range("2021-01-04", "2022-03-31")
SUNDAYS_TO_THURSDAYS = pd.bdate_range("2021-01-03", "2022-03-31", freq="C", weekmask="Sun Mon Tue Wed Thu")
EVERY_DAY = pd.date_range("2021-01-01", "2022-03-31")
ZONES = ("Asia/Tokyo", "Australia/Sydney", "Europe/London", "Europe/Berlin", "America/New_York")


def prices(dates, assets=("X",)) -> pd.DataFrame:
    closes = 100.0 + np.arange(len(dates))
    return pd.concat([pd.DataFrame({"date": dates, "tic": asset, "close": closes}) for asset in assets])


def load(tmp_path, dates, name="prices.csv", **settings):
    return load_bars(write(tmp_path, prices(dates), name), **settings)


def midnights(days, zone) -> pd.DatetimeIndex:
    return days.tz_localize(zone)


def same_dates(bars, days) -> bool:
    return bars.dates.tolist() == days.to_numpy(dtype="datetime64[us]").tolist()


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "written",
    [
        lambda stamps: stamps.astype(str),
        lambda stamps: stamps.strftime("%Y-%m-%dT%H:%M:%S%z"),
        lambda stamps: stamps.tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda stamps: stamps.tz_convert("UTC").tz_localize(None).astype(str),
        lambda stamps: stamps.as_unit("s").astype("int64"),
    ],
    ids=["offset", "offset without colon", "UTC", "UTC without Z", "seconds since 1970"],
)
def test_daily_bars_of_any_zone_have_the_dates_of_their_exchange(tmp_path, zone, written):
    plain = load(tmp_path, WEEKDAYS.astype(str), "plain.csv")
    bars = load(tmp_path, written(midnights(WEEKDAYS, zone)))
    assert same_dates(bars, WEEKDAYS)
    assert bars.periods_per_year == plain.periods_per_year == 252
    assert any("date" in note for note in bars.notes)


@pytest.mark.parametrize("zone", [*ZONES, "UTC", "Pacific/Auckland", "Asia/Kolkata"])
def test_columns_of_timestamps_keep_their_zone(tmp_path, zone):
    stamps = midnights(WEEKDAYS, zone)
    assert same_dates(load(tmp_path, stamps, "prices.parquet"), WEEKDAYS)
    assert same_dates(load(tmp_path, stamps.tz_convert("UTC"), "utc.parquet"), WEEKDAYS)


def test_splits_by_date_are_those_of_the_file_without_zones(tmp_path):
    starts = {"validation_start": "2021-07-01", "test_start": "2021-11-02"}
    found = []
    for dates in (WEEKDAYS, midnights(WEEKDAYS, "Asia/Tokyo")):
        config = DataConfig(path=write(tmp_path, prices(dates.astype(str))), end="2022-03-01", **starts)
        bars = build_bars(config)
        found.append((bars.fingerprint, split_bars(bars, config, lookback_bars=5, embargo_bars=5, horizon_bars=5)))
        assert str(bars.dates[found[-1][1].test.start])[:10] == "2021-11-02"
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("days", "zone"),
    [
        (SUNDAYS_TO_THURSDAYS, "Asia/Riyadh"),
        (SUNDAYS_TO_THURSDAYS, "Asia/Jerusalem"),
        (EVERY_DAY, "Europe/London"),
        (pd.date_range("2021-01-04", "2022-03-31", freq="7D"), "Asia/Tokyo"),
        (pd.date_range("2018-01-01", "2022-03-31", freq="MS"), "Asia/Tokyo"),
    ],
    ids=["Riyadh", "Tel Aviv", "every day in London", "weeks", "months"],
)
def test_midnights_in_utc_are_found_in_other_weeks_and_longer_bars_too(tmp_path, days, zone):
    assert same_dates(load(tmp_path, midnights(days, zone).tz_convert("UTC").astype(str)), days)


@pytest.mark.parametrize(
    ("days", "hour"), [(WEEKDAYS, 21), (EVERY_DAY, 15), (SUNDAYS_TO_THURSDAYS, 7), (SUNDAYS_TO_THURSDAYS[:4], 12.1)]
)
def test_bars_stamped_at_another_hour_keep_their_day(tmp_path, days, hour):
    bars = load(tmp_path, (days + pd.Timedelta(hours=hour)).astype(str))
    assert same_dates(bars, days)
    assert any("time of day left out" in note for note in bars.notes)


def test_hour_at_which_two_zones_are_possible_is_refused_until_one_is_named(tmp_path):
    path = write(tmp_path, prices((SUNDAYS_TO_THURSDAYS + pd.Timedelta(hours=12)).astype(str)))
    assert "set data.timezone to Pacific/Auckland or Asia/Riyadh" in refusal(path)
    assert same_dates(load_bars(path, timezone="Asia/Riyadh"), SUNDAYS_TO_THURSDAYS)
    assert str(load_bars(path, timezone="Pacific/Auckland").dates[0])[:10] == "2021-01-04"


def test_exchanges_of_several_zones_in_one_file_meet_on_their_dates(tmp_path):
    for convert in (lambda stamps: stamps, lambda stamps: stamps.tz_convert("UTC")):
        parts = [prices(convert(midnights(WEEKDAYS, zone)).astype(str), (zone,)) for zone in ZONES]
        bars = load_bars(write(tmp_path, pd.concat(parts)), calendar="strict")
        assert bars.num_assets == len(ZONES)
        assert same_dates(bars, WEEKDAYS)


def test_intraday_bars_stay_in_utc(tmp_path):
    hours = pd.DatetimeIndex(np.add.outer(WEEKDAYS[:40], pd.to_timedelta(np.arange(9, 15), "h")).ravel())
    path = write(tmp_path, prices(midnights(hours, "Asia/Tokyo").astype(str)))
    assert same_dates(load_bars(path), hours - pd.Timedelta(hours=9))
    with pytest.raises(InputError, match=r"data\.timezone is Asia/Tokyo.*several bars a day"):
        load_bars(path, timezone="Asia/Tokyo")


def test_intraday_stamps_without_a_zone_are_times_in_the_one_that_is_set(tmp_path):
    utc = pd.date_range("2021-10-30", "2021-11-09", freq="h", tz="UTC")
    local = utc.tz_convert("America/New_York").tz_localize(None)
    for order in (slice(None), slice(None, None, -1)):
        path = write(tmp_path, prices(local[order].astype(str), ("X", "Y")))
        assert "where clocks were set back, set --data.timezone" in refusal(path)
        assert same_dates(load_bars(path, timezone="America/New_York"), utc.tz_localize(None))
    for first in ("2021-03-14", "2021-11-07"):  # an hour that was not, and one of two that is not there
        hours = pd.date_range(first, periods=24, freq="h")
        with pytest.raises(
            InputError, match=r"data\.timezone is America/New_York, .* did not show once: .*: write the"
        ):
            load_bars(write(tmp_path, prices(hours.astype(str))), timezone="America/New_York")


def test_plain_dates_stay_what_they_are_in_any_zone(tmp_path):
    bars = load(tmp_path, WEEKDAYS.astype(str), timezone="America/New_York")
    assert same_dates(bars, WEEKDAYS)
    assert any("data.timezone changes nothing" in note for note in bars.notes)


@pytest.mark.parametrize("zone", ["Asia/Tokio", "Asia", "../etc", "", "JST "])
def test_zone_that_does_not_exist_is_refused(tmp_path, zone):
    for days in (WEEKDAYS, midnights(WEEKDAYS, "Asia/Tokyo")):
        path = write(tmp_path, prices(days.astype(str)))
        with pytest.raises(InputError, match=r"data\.timezone is .*no time zone"):
            build_bars(DataConfig(path=path, timezone=zone))
