"""What a column is, told by its name: fields are never taken for assets, nor assets for fields."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from common.errors import InputError
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig

FIELDS = ["date", "open", "high", "low", "close", "volume"]
ONE = long_table(assets=("X",)).drop(columns="tic")


def renamed(*names):
    return ONE.set_axis(list(names), axis=1)


@pytest.mark.parametrize(
    "names",
    [
        ("date", "1. open", "2. high", "3. low", "4. close", "5. volume"),
        ("date", "1. open (USD)", "2. high (USD)", "3. low (USD)", "4. close (USD)", "5. volume"),
        ("Date", "Open Price", "High Price", "Low Price", "Close Price", "No.of Shares"),
        ("Date", "PX_OPEN", "PX_HIGH", "PX_LOW", "PX_LAST", "Volume"),
        ("Date", "Open", "High", "Low", "Close/Last", "Volume"),
        ("t", "o", "h", "l", "c", "v"),
        ("date", "adj_open", "adj_high", "adj_low", "adj_close", "adj_volume"),
        ("<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
        ("日期", "开盘", "最高", "最低", "收盘", "成交量"),
        ("trade_date", "open", "high", "low", "close", "vol"),
        ("Datum", "Eröffnung", "Hoch", "Tief", "Schlusskurs", "Volumen"),
        ("Date", "Ouverture", "Plus Haut", "Plus Bas", "Clôture", "Volume"),
        ("Fecha", "Apertura", "Máximo", "Mínimo", "Último", "Vol."),
        ("날짜", "시가", "고가", "저가", "종가", "거래량"),
        ("open_time", "open", "high", "low", "close", "volume"),
    ],
)
def test_vendors_names_are_one_asset_and_told(tmp_path, names):
    bars = load_bars(write(tmp_path, renamed(*names), "X.csv"))
    assert bars.fingerprint == load_bars(write(tmp_path, ONE, "X.csv")).fingerprint
    if names[1].lower() != "open":
        assert f"open from {names[1]!r}" in bars.notes[0]


def test_plain_names_are_read_without_a_word(tmp_path):
    assert len(load_bars(write(tmp_path, long_table())).notes) == 1


@pytest.mark.parametrize("form", ["{0}:{1}", "{0} {1}", "{1}_{0}", "{0}.{1}", "('{1}', '{0}')"])
def test_fields_of_several_assets_in_columns_are_these_assets(tmp_path, form):
    table = long_table(assets=("BTC/USD", "BRK.B"))
    wide = table.pivot_table(index="date", columns="tic", values=FIELDS[1:])
    wide.columns = [form.format(asset, field) for field, asset in wide.columns]
    bars = load_bars(write(tmp_path, wide.reset_index()))
    assert set(bars.assets) == {"BTC/USD", "BRK.B"}
    same = load_bars(write(tmp_path, table, "long.csv"), assets=bars.assets)
    for field in FIELDS[1:]:
        np.testing.assert_array_equal(getattr(bars, field), getattr(same, field))
    assert "columns read as open, high, low, close, volume of" in bars.notes[0]


def test_bad_cell_of_one_asset_among_columns_is_shown_with_its_line(tmp_path):
    frame = renamed("date", "X open", "X high", "X low", "X close", "X volume")
    frame.loc[3, "X high"] = -1.0
    assert "line 5, column 'high', asset X, 2020-01-09: the price is -1" in refusal(write(tmp_path, frame))


@pytest.mark.parametrize(
    "names",
    [("AAPL", "OPEN", "LOW", "KO", "C"), ("O", "H", "C", "V", "T"), ("LOW.US", "OPEN.US", "A.US", "MIN.AX", "KO")],
)
def test_assets_that_are_called_like_fields_stay_assets(tmp_path, names):
    bars = load_bars(write(tmp_path, renamed("date", *names)))
    assert bars.assets == names
    np.testing.assert_array_equal(bars.close[:, 2], ONE["low"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("date", "BTC:open", "BTC:high", "BTC:low", "BTC:end", "BTC:n"), "close cannot be found"),
        (("date", "o", "h", "l", "c", "KO"), "could be open, high, low and close or four assets"),
        (("date", "LAST", "KO", "AAPL", "MSFT", "T"), "set --data.columns close=LAST"),
        (("date", "bid open", "bid high", "bid low", "bid close", "ask close"), "name those to be used"),
        (("date", "open", "high", "low", "finish", "volume"), "set --data.columns close=NAME"),
        (("date", "1a. open", "1b. open", "low", "close", "volume"), "could all be open"),
        (("when", "open", "high", "low", "close", "volume"), "set --data.columns date=NAME"),
    ],
)
def test_what_could_be_told_in_two_ways_is_refused_with_the_setting_that_decides(tmp_path, names, words):
    assert words in refusal(write(tmp_path, renamed(*names)))


@pytest.mark.parametrize("form", ["Volume_({})", "Volume {}"])
def test_two_columns_that_could_be_the_volume_are_told(tmp_path, form):
    coins, dollars = form.format("BTC"), form.format("USD")
    path = write(tmp_path, renamed("date", "open", "high", "low", "close", coins).assign(**{dollars: 5.0}))
    assert load_bars(path).volume is None
    assert any(f"set data.columns volume={coins}" in note for note in load_bars(path).notes)
    assert load_bars(path, columns=(f"volume={dollars}",)).volume[0, 0] == 5.0


def test_columns_are_what_the_user_says(tmp_path):
    frame = renamed("when", "first", "top", "bottom", "final", "close")
    chosen = ("date=when", "open=first", "high=top", "low=bottom", "close=final", "volume=close")
    bars = build_bars(DataConfig(path=write(tmp_path, frame), columns=chosen))
    assert bars.fingerprint == load_bars(write(tmp_path, ONE)).fingerprint


@pytest.mark.parametrize("words", ["close", "closing=close", "close=clsoe"])
def test_columns_that_cannot_be_are_refused(tmp_path, words):
    with pytest.raises(InputError, match=r"data\.columns (has|names column) '"):
        load_bars(write(tmp_path, ONE), columns=(words,))


def test_a_column_that_is_named_for_two_fields_is_refused(tmp_path):
    with pytest.raises(InputError, match="names column 'Open' for close and for open: it is one of them"):
        load_bars(write(tmp_path, ONE), columns=("close=open", "open=Open"))


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
@pytest.mark.parametrize("table", [ONE, ONE[["date", "close"]].rename(columns={"close": "AAPL"})], ids=["long", "wide"])
def test_first_column_without_a_name_is_the_dates(tmp_path, name, table):
    named = load_bars(write(tmp_path, table, name))
    assert load_bars(write(tmp_path, table.rename(columns={"date": ""}), name)).fingerprint == named.fingerprint
    by_day = table.assign(date=20200106 + np.arange(len(table))).rename(columns={"date": ""})
    np.testing.assert_array_equal(load_bars(write(tmp_path, by_day, name)).close, named.close)


def test_first_column_without_a_name_that_counts_is_not_the_dates(tmp_path):
    message = refusal(write(tmp_path, ONE.assign(date=np.arange(len(ONE))).rename(columns={"date": ""})))
    assert "column 'date' is missing" in message


@pytest.mark.parametrize(
    ("days", "times"),
    [
        (["2021-01-04"] * 3, ["09:30:00", "10:30:00", "11:30:00"]),
        (["2021-01-04"] * 3, ["9:30", "10:30", "11:30"]),
        ([20210104] * 3, [93000, 103000, 113000]),
        ([20210104] * 3, ["0930", "1030", "1130"]),
        (["2021.01.04"] * 3, ["09:30", "10:30", "11:30"]),
        (["1/13/2021"] * 3, ["09:30", "10:30", "11:30"]),
        (["2021-01-04"] * 3, ["9:30 AM", "10:30:00 am", "11:30 a.m."]),
    ],
)
@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
@pytest.mark.parametrize("names", [("Date", "Time"), ("<DATE>", "<TIME>"), ("Datum", "Uhrzeit"), ("日期", "时间")])
def test_time_of_day_in_a_second_column_is_joined_and_told(tmp_path, days, times, name, names):
    frame = ONE.iloc[:3].assign(date=days)
    frame.insert(1, "time", times)
    bars = load_bars(write(tmp_path, frame.rename(columns=dict(zip(("date", "time"), names, strict=True))), name))
    assert [str(day)[11:16] for day in bars.dates] == ["09:30", "10:30", "11:30"]
    assert bars.notes[0] == f"time of day read from column {names[1]!r}"


def test_hours_of_half_days_are_told_apart(tmp_path):
    frame = ONE.iloc[:4].assign(date="2021-01-04", time=["12:30 AM", "1:30 AM", "12:30 PM", "1:30 PM"])
    found = [str(day)[11:16] for day in load_bars(write(tmp_path, frame)).dates]
    assert found == ["00:30", "01:30", "12:30", "13:30"]


def test_first_minutes_of_a_day_in_digits_are_hours_and_minutes(tmp_path):
    frame = ONE.iloc[:3].assign(date=20210104, time=[0, 1, 2])
    assert [str(day)[11:16] for day in load_bars(write(tmp_path, frame)).dates] == ["00:00", "00:01", "00:02"]


@pytest.mark.parametrize("name", ["hour", "Hour", "HHMM", "Timestamp"])
def test_hours_in_a_second_column_are_joined(tmp_path, name):
    times = {"hhmm": ["0900", "1000", "1100"], "timestamp": ["09:00", "10:00", "11:00"]}.get(name.lower(), [9, 10, 11])
    frame = ONE.iloc[:3].assign(date="2021-01-04", **{name: times})
    assert [str(day)[11:16] for day in load_bars(write(tmp_path, frame)).dates] == ["09:00", "10:00", "11:00"]


def test_a_ticker_called_hr_is_no_hour(tmp_path):
    frame = ONE[["date"]].assign(HR=np.arange(len(ONE)) + 15, AAPL=ONE["close"])
    assert load_bars(write(tmp_path, frame)).assets == ("HR", "AAPL")


@pytest.mark.parametrize(
    "names",
    [
        ("openTime", "open", "max_price", "min_price", "last_price", "vol"),
        ("Date", "PX_OPEN", "PX_HIGH", "PX_LOW", "PX_LAST", "PX_VOLUME"),
        ("Дата", "Открытие", "Максимум", "Минимум", "Закрытие", "Объём"),
        ("Tarih", "Açılış", "Yüksek", "Düşük", "Kapanış", "Hacim"),
        ("Data", "Otwarcie", "Najwyższy", "Najniższy", "Zamknięcie", "Wolumen"),
        ("Datum", "Öppning", "Högst", "Lägst", "Stängning", "Volym"),
        ("日期", "開盤價", "最高價", "最低價", "收盤價", "成交股數"),
        ("Data", "Apertura", "Massimo", "Minimo", "Ultimo", "Volume"),
        ("Datum", "Erster", "Hoch", "Tief", "Schlusskurs", "Stücke"),
    ],
)
def test_names_of_vendors_and_languages_are_understood(tmp_path, names):
    assert load_bars(write(tmp_path, renamed(*names))).fingerprint == load_bars(write(tmp_path, ONE)).fingerprint


def moving_bars(num_bars=40):
    rng = np.random.default_rng(3)
    close = 100 * np.exp((rng.standard_normal(num_bars) * 0.01).cumsum())
    first = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.standard_normal(num_bars) * 0.002)
    days = pd.bdate_range("2021-01-04", periods=num_bars).strftime("%Y-%m-%d")
    top, bottom = np.maximum(first, close) * 1.002, np.minimum(first, close) * 0.998
    return pd.DataFrame({"date": days, "aa": first, "bb": top, "cc": bottom, "dd": close, "ee": 1e5})


def test_fields_of_one_asset_under_unknown_names_are_never_taken_for_assets(tmp_path):
    path = write(tmp_path, moving_bars())
    assert "set --data.columns open=aa,high=bb,low=cc,close=dd" in refusal(path)
    assert load_bars(path, assets=["aa", "bb", "cc", "dd", "ee"]).num_assets == 5


def test_assets_of_which_one_is_the_dearest_and_one_the_cheapest_are_assets(tmp_path):
    rng = np.random.default_rng(3)
    closes = np.array([10.0, 50.0, 70.0, 200.0]) * np.exp((rng.standard_normal((40, 4)) * 0.01).cumsum(axis=0))
    days = pd.bdate_range("2021-01-04", periods=40).strftime("%Y-%m-%d")
    frame = pd.DataFrame(closes, columns=["KO", "MSFT", "AAPL", "GS"]).assign(date=days)
    assert load_bars(write(tmp_path, frame)).num_assets == 4


def test_dates_that_have_a_time_need_no_second_column(tmp_path):
    frame = ONE.iloc[:3].assign(date=["2021-01-04 16:00", "2021-01-04 17:00", "2021-01-04 18:00"], time="09:30")
    bars = load_bars(write(tmp_path, frame))
    assert [str(day)[11:16] for day in bars.dates] == ["16:00", "17:00", "18:00"]
    assert "columns not used: time" in bars.notes
