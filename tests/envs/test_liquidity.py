from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from price_samples import write
from real_prices import days_of, real_prices

from envs.bar_data import Bars
from envs.liquidity import impact_of_a_share, most_shares, trailing_volatility, trailing_volume
from envs.price_files import load_bars


def bars_of(close, volume, dates, **kwargs) -> Bars:
    close = np.asarray(close, dtype=np.float64).reshape(len(close), -1)
    names = tuple(f"A{i}" for i in range(close.shape[1]))
    return Bars(dates=dates, assets=names, open=close, high=close, low=close, close=close, volume=volume, **kwargs)


def test_trailing_figures_use_what_there_is_and_nothing_later() -> None:
    volume = np.arange(1.0, 41.0)[:, None]
    always = np.ones_like(volume, dtype=bool)
    got = trailing_volume(volume, always, 20)[:, 0]
    assert got[[0, 1, 19, 39]] == pytest.approx([1.0, 1.5, 10.5, 30.5])
    assert trailing_volume(np.zeros((3, 1)), always[:3])[0, 0] > 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), share=st.sampled_from((0.1, 0.5, 0.9)), window=st.integers(1, 9))
def test_trailing_figures_are_those_of_the_last_traded_bars(seed, share, window) -> None:
    rng = np.random.default_rng(seed)
    close, volume = np.exp(rng.standard_normal((30, 2)).cumsum(0)), rng.uniform(1, 9, (30, 2))
    tradable = rng.random((30, 2)) < share
    sigma = trailing_volatility(close, tradable, window)
    average = trailing_volume(volume, tradable, window)
    for a in range(2):
        for t in range(30):
            rows = [s for s in range(t + 1) if tradable[s, a]]
            returns = [0.0, *(math.log(close[b, a] / close[c, a]) for b, c in zip(rows[1:], rows, strict=False))]
            squares = [r * r for r in returns[-window:]] if rows else [0.0]
            assert sigma[t, a] == pytest.approx(max(math.sqrt(sum(squares) / len(squares)), 1e-6), rel=1e-9)
            last = rows[-window:]
            assert average[t, a] == pytest.approx(sum(volume[s, a] for s in last) / len(last) if last else 1e-9)


def test_a_share_moves_the_price_alike_on_minutes_hours_and_days() -> None:
    """The same thousand coins: one market, written in bars of three lengths."""
    days, rng = 120, np.random.default_rng(4)
    close = 100 * np.exp((rng.standard_normal(days * 1440) * 0.02 / math.sqrt(1440)).cumsum())
    volume = rng.uniform(1, 3, len(close))
    moves = {}
    for minutes in (1, 60, 1440):
        stamps = np.datetime64("2020-01-01", "us") + np.arange(0, days * 1440, minutes) * np.timedelta64(1, "m")
        bars = bars_of(close[minutes - 1 :: minutes], volume.reshape(-1, minutes).sum(1)[:, None], stamps)
        moves[minutes] = impact_of_a_share(bars, slice(bars.num_bars))[0] * 1_000
    assert moves[1] == pytest.approx(1_000 * 0.02 / (2 * 1440), rel=0.02)
    assert moves[60] == pytest.approx(moves[1], rel=0.05)
    assert moves[1440] == pytest.approx(moves[1], rel=0.15)  # 120 returns tell a deviation to 6 %


def test_a_thousand_bitcoin_move_the_price_alike_on_hours_and_days(tmp_path) -> None:
    """Where .032 and .0012 were told."""
    path = real_prices("btcusd_1h_2018_2022.csv")
    market = load_bars(path), load_bars(write(tmp_path, days_of(path)))
    by_hour, by_day = (1_000 * impact_of_a_share(bars, slice(round(0.6 * bars.num_bars)))[0] for bars in market)
    assert by_hour == pytest.approx(0.00463, abs=1e-5)
    assert by_day == pytest.approx(by_hour, rel=0.05)


def test_a_share_moves_the_price_alike_on_days_and_weeks() -> None:
    days, rng = 1_250, np.random.default_rng(5)
    close, volume = 100 * np.exp((rng.standard_normal(days) * 0.02).cumsum()), rng.uniform(1, 3, days)
    dates = np.busday_offset("2015-01-05", np.arange(days)).astype("datetime64[us]")
    daily = impact_of_a_share(bars_of(close, volume[:, None], dates), slice(days))[0]
    weekly = bars_of(close[4::5], volume.reshape(-1, 5).sum(1)[:, None], dates[4::5])
    assert impact_of_a_share(weekly, slice(weekly.num_bars))[0] == pytest.approx(daily, rel=0.1)


def test_an_asset_that_lists_later_is_moved_as_others_are_by_the_same_money() -> None:
    rng = np.random.default_rng(0)
    close = np.exp(rng.standard_normal((60, 3)).cumsum(0) * 0.01) * [10.0, 20.0, 50.0]
    close[:40, 2] = close[40, 2]
    volume = np.full((60, 3), 100.0)
    volume[:40, 2] = 0.0
    dates = np.datetime64("2020-01-01", "us") + np.arange(60) * np.timedelta64(1, "D")
    unit = impact_of_a_share(bars_of(close, volume, dates), slice(30))
    price = close[[0, 0, 40], [0, 1, 2]]
    assert unit[2] / price[2] == pytest.approx(np.mean(unit[:2] / price[:2]))  # the median of two
    assert np.isnan(impact_of_a_share(bars_of(close, None, dates), slice(30))).all()


def test_the_market_takes_a_part_of_the_volume_and_any_number_where_none_is_known() -> None:
    dates = np.datetime64("2020-01-01", "us") + np.arange(3) * np.timedelta64(1, "D")
    volume = np.array([[50.0, 0.0], [0.0, 0.0], [30.0, 0.0]])
    bars = bars_of(np.ones((3, 2)), volume, dates, tradable=np.array([[1, 1], [1, 1], [0, 1]]))
    assert most_shares(bars, [0, 1], 0.1).tolist() == [[5.0, np.inf], [0.0, np.inf], [0.0, np.inf]]
    assert most_shares(bars, [0], np.inf).tolist() == [[np.inf], [0.0], [0.0]]
