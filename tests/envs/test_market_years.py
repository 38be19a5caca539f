"""Files of many markets, each with the bars that it has in a year."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.tseries.holiday import USFederalHolidayCalendar
from price_samples import write

from envs.bars import load_bars

START, END = "2019-01-01", "2021-12-31"
HOLIDAYS = USFederalHolidayCalendar().holidays(START, END)
NEW_YORK = pd.bdate_range(START, END).difference(HOLIDAYS)
TEL_AVIV = pd.bdate_range(START, END, freq="C", weekmask="Sun Mon Tue Wed Thu")
TEL_AVIV = TEL_AVIV[TEL_AVIV.day_of_year % 25 != 7]  # 14 holidays a year
TOKYO = pd.bdate_range(START, END)
TOKYO = TOKYO[TOKYO.day_of_year % 22 != 3]  # 16 holidays a year
EVERY_DAY = pd.date_range(START, END)


def hours(first, last, zone=None, minutes=60):
    """Times of a session on a day, as stamps in UTC, from hours of the day in a zone."""
    times = pd.to_timedelta(np.arange(first * 60, last * 60, minutes), "min")
    return lambda days: in_utc(pd.DatetimeIndex(np.add.outer(days, times).ravel()), zone)


def in_utc(stamps, zone):
    return stamps if zone is None else stamps.tz_localize(zone).tz_convert("UTC").tz_localize(None)


def currencies(freq, start=START, end=END):
    """From Sunday 22:00 to Friday 22:00 in UTC."""
    stamps = pd.date_range(start, f"{end} 23:59", freq=freq)
    opening = (stamps.day_of_week * 24 + stamps.hour - (6 * 24 + 22)) % 168
    return stamps[opening < 120]


def half_days(stamps):
    """The third day of each January, July and October ends after three hours."""
    is_half = (stamps.day < 4) & stamps.month.isin([1, 7, 10])
    return stamps[~is_half | (stamps.hour < 12)]


MARKETS = {
    "New York, days": (NEW_YORK, "1d", 252),
    "New York, 50 days": (NEW_YORK[:50], "1d", 252),
    "New York, 50 days and a Saturday": (NEW_YORK[:50].union([pd.Timestamp("2019-02-09")]), "1d", 252),
    "Tokyo, days": (TOKYO, "1d", 252),
    "no holidays, days": (pd.bdate_range(START, END), "1d", 252),
    "Tel Aviv, days": (TEL_AVIV, "1d", 252),
    "Tel Aviv, 20 days": (TEL_AVIV[:20], "1d", 252),
    "New York and Tel Aviv, days of both": (NEW_YORK.intersection(TEL_AVIV), "1d", 192),
    "New York and Tel Aviv, 100 days of both": (NEW_YORK.intersection(TEL_AVIV)[:100], "1d", 209),
    "New York and Tel Aviv, days of either": (NEW_YORK.union(TEL_AVIV), "1d", 309),
    "New York and Tokyo, days of both": (NEW_YORK.intersection(TOKYO), "1d", 240),
    "six days a week": (pd.bdate_range(START, END, freq="C", weekmask="Mon Tue Wed Thu Fri Sat"), "1d", 313),
    "crypto, days": (EVERY_DAY, "1d", 365),
    "crypto, 60 days": (EVERY_DAY[:60], "1d", 365),
    "New York, a year of the three missing": (NEW_YORK[(NEW_YORK.year != 2020)], "1d", 252),
    "crypto, hours": (pd.date_range(START, END, freq="h"), "1h", 8760),
    "crypto, hours with holes": (pd.date_range(START, END, freq="h")[np.arange(26281) % 50 > 0], "1h", 8760),
    "crypto, hours of which a third is missing": (
        pd.date_range(START, END, freq="h")[np.arange(26281) % 9 > 2], "1h", 5840,
    ),
    "crypto, 5 minutes": (pd.date_range("2021-03-01", "2021-04-30", freq="5min"), "5min", 105_120),
    "crypto, 4 hours": (pd.date_range(START, END, freq="4h"), "4h", 2190),
    "currencies, hours": (currencies("h"), "1h", 6261),
    "currencies, hours of 9 months": (currencies("h", "2021-01-20", "2021-10-20"), "1h", 6261),
    "currencies, hours of 3 days": (currencies("h", "2021-01-19", "2021-01-21"), "1h", 6261),
    "currencies, 4 hours": (currencies("4h"), "4h", 1565),
    "currencies, days": (pd.bdate_range(START, END), "1d", 252),
    "stocks, hours": (half_days(hours(9.5, 16)(NEW_YORK)), "1h", 7 * 252),
    "stocks, hours of 20 days": (hours(9.5, 16)(NEW_YORK[:20]), "1h", 7 * 252),
    "stocks, hours of 3 days": (hours(9.5, 16)(NEW_YORK[:3]), "1h", 7 * 252),
    "stocks, 5 minutes": (hours(9.5, 16, minutes=5)(NEW_YORK[-120:]), "5min", 78 * 252),
    "New York, hours in UTC": (hours(9.5, 16, "America/New_York")(NEW_YORK), "1h", 7 * 252),
    "Sydney, hours in UTC": (hours(10, 16, "Australia/Sydney")(TOKYO), "1h", 6 * 252),
    "Riyadh, hours in UTC": (hours(10, 15, "Asia/Riyadh")(TEL_AVIV), "1h", 5 * 252),
    "Tokyo, 5 minutes, noon off": (
        hours(9, 11.5, minutes=5)(TOKYO[:99]).union(hours(12.5, 15, minutes=5)(TOKYO[:99])), "5min", 60 * 252,
    ),
    "London and New York, hours of both": (
        hours(8, 16, "Europe/London")(NEW_YORK).intersection(hours(9, 16, "America/New_York")(NEW_YORK)), "1h", 2 * 252,
    ),
    "futures, 23 hours on 5 days": (currencies("h")[currencies("h").hour != 21], "1h", 6000),
    "weeks": (pd.date_range(START, END, freq="W-FRI"), "1w", 52),
    "months": (pd.date_range(START, END, freq="MS"), "1mo", 12),
    "ends of months on weekdays": (pd.date_range(START, END, freq="BME"), "1mo", 12),
    "quarters": (pd.date_range("2010-01-01", END, freq="QS"), "3mo", 4),
}  # fmt: skip


@pytest.mark.parametrize("market", MARKETS)
def test_year_of_a_market_has_the_bars_that_its_file_shows(tmp_path, market):
    dates, frequency, periods = MARKETS[market]
    bars = load_bars(write(tmp_path, pd.DataFrame({"date": dates.astype(str), "close": 100.0})))
    assert (bars.frequency, bars.periods_per_year) == (frequency, pytest.approx(periods, rel=0.002))
    assert any(f"{bars.periods_per_year:.10g} a year (inferred from" in note for note in bars.notes)
