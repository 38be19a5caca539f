from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from price_samples import write

from common.errors import InputError
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig, SyntheticConfig

WEEKDAYS = pd.bdate_range("2020-01-06", periods=60)
EVERY_DAY = pd.date_range("2020-01-01", periods=60, freq="D")
AROUND_THE_CLOCK = pd.date_range("2020-01-01", periods=500, freq="h")


def session(num_bars: int, minutes: int) -> pd.DatetimeIndex:
    """Bars of some minutes from half past nine, on weekdays."""
    times = pd.to_timedelta(np.arange(num_bars) * minutes + 570, "min")
    return pd.DatetimeIndex(np.add.outer(pd.bdate_range("2020-01-06", periods=20), times).ravel())


def closes(tmp_path, dates) -> str:
    return write(tmp_path, pd.DataFrame({"date": dates.astype(str), "close": 100.0}))


@pytest.mark.parametrize(
    ("dates", "frequency", "periods"),
    [
        (WEEKDAYS, "1d", 252),
        (EVERY_DAY, "1d", 365),
        (AROUND_THE_CLOCK, "1h", 8760),
        (pd.date_range("2020-01-03", periods=60, freq="W-FRI"), "1w", 52),
        (pd.date_range("2020-01-31", periods=30, freq="ME"), "1mo", 12),
        (session(7, 30), "30min", 7 * 252),
    ],
)
def test_frequency_and_periods_per_year_are_inferred_and_shown_and_may_be_repeated(tmp_path, dates, frequency, periods):
    path = closes(tmp_path, dates)
    bars = load_bars(path)
    assert (bars.frequency, bars.periods_per_year) == (frequency, periods)
    assert any(f"bars are {frequency} apart, {periods} a year (inferred" in note for note in bars.notes)
    same = load_bars(path, frequency=frequency)
    assert (same.frequency, same.periods_per_year) == (frequency, periods)
    assert not any("look" in note for note in same.notes)
    assert load_bars(path, periods_per_year=100).periods_per_year == 100


@pytest.mark.parametrize(
    ("dates", "frequency", "periods", "seen"),
    [
        (AROUND_THE_CLOCK[::2], "1h", 8760, "2h"),  # every other bar is missing
        (session(14, 30)[::2], "30min", 14 * 252, "1h"),
        (session(14, 30), "15min", 28 * 252, "30min"),
        (EVERY_DAY, "1h", 8760, "1d"),
        (WEEKDAYS, "1h", 24 * 252, "1d"),
    ],
)
def test_set_frequency_wins_over_the_dates_and_says_so(tmp_path, dates, frequency, periods, seen):
    bars = load_bars(closes(tmp_path, dates), frequency=frequency)
    assert (bars.frequency, bars.periods_per_year) == (frequency, periods)
    assert f"frequency set to {frequency}; dates look like {seen}" in bars.notes
    assert any(f"{periods} a year (from data.frequency and" in note for note in bars.notes)


@pytest.mark.parametrize(
    ("dates", "frequency", "seen"),
    [
        (WEEKDAYS, "1w", "1d"),
        (WEEKDAYS, "1mo", "1d"),
        (AROUND_THE_CLOCK, "1d", "1h"),
        (session(7, 30), "1d", "30min"),
        (session(7, 30), "1h", "30min"),
    ],
)
def test_bars_closer_than_the_set_frequency_are_refused(tmp_path, dates, frequency, seen):
    """Daily bars that are called weekly have a Sharpe ratio that is 2.2 times too small."""
    with pytest.raises(InputError, match=f"data.frequency is {frequency}, but the bars of .* stand {seen} apart"):
        load_bars(closes(tmp_path, dates), frequency=frequency)
    with pytest.raises(InputError, match="makes no others of them"):
        load_bars(closes(tmp_path, dates), frequency=frequency, periods_per_year=50)


def test_set_periods_per_year_win_over_a_set_frequency(tmp_path):
    bars = load_bars(closes(tmp_path, WEEKDAYS), frequency="1h", periods_per_year=50)
    assert (bars.frequency, bars.periods_per_year) == ("1h", 50)


def test_dates_that_fit_no_frequency_can_be_given_one(tmp_path):
    path = closes(tmp_path, EVERY_DAY[::3])
    with pytest.raises(InputError, match=r"3 days apart.*set data.frequency or data.periods_per_year"):
        load_bars(path)
    assert load_bars(path, periods_per_year=120).frequency == "irregular"
    bars = load_bars(path, frequency="1d")
    assert (bars.frequency, bars.periods_per_year) == ("1d", 365)
    assert "frequency set to 1d; dates look irregular" in bars.notes


def test_other_spellings_of_a_frequency_become_the_shown_one(tmp_path):
    path = closes(tmp_path, AROUND_THE_CLOCK)
    assert [load_bars(path, frequency=text).frequency for text in ("60min", "3600s", "1h")] == ["1h"] * 3


@pytest.mark.parametrize(
    ("frequency", "meant"),
    [("daily", "1d"), ("1 hour", "1h"), ("24h", "1d"), ("5m", "5min"), ("1D", "1d"), ("Monthly", "1mo"), ("2d", None)],
)
def test_word_that_is_no_frequency_is_refused_with_the_nearest(tmp_path, frequency, meant):
    with pytest.raises(InputError) as caught:
        load_bars(closes(tmp_path, WEEKDAYS), frequency=frequency)
    message = str(caught.value)
    assert message.startswith(f"data.frequency is {frequency!r}")
    assert "or one of 1d, 1w, 1mo, 3mo, 1y" in message
    assert "\n" not in message
    assert (f"did you mean {meant!r}?" in message) == (meant is not None)


@pytest.mark.parametrize("periods", [0, -1.0, float("nan")])
def test_year_without_bars_is_refused(tmp_path, periods):
    with pytest.raises(InputError, match=r"data.periods_per_year is .*: it must be above 0"):
        load_bars(closes(tmp_path, WEEKDAYS), periods_per_year=periods)


def test_both_settings_reach_files_and_the_built_in_market(tmp_path):
    path, small = closes(tmp_path, AROUND_THE_CLOCK), SyntheticConfig(num_assets=2, num_bars=300)
    for config, expected in (
        (DataConfig(path=path, frequency="30min"), ("30min", 17520)),
        (DataConfig(path=path, periods_per_year=99), ("1h", 99)),
        (DataConfig(synthetic=small), ("1d", 252)),
        (DataConfig(synthetic=small, frequency="1w"), ("1w", 52)),
        (DataConfig(synthetic=small, periods_per_year=99), ("1d", 99)),
    ):
        bars = build_bars(config)
        assert (bars.frequency, bars.periods_per_year) == expected
    assert "frequency set to 1w; dates look like 1d" in build_bars(DataConfig(synthetic=small, frequency="1w")).notes
