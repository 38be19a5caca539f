"""Columns for each asset: its close, its volume and its other fields are told apart, and nothing else is an asset."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from envs.bars import load_bars

LONG = long_table(assets=("AAPL", "BRK.B"))
ONE, TWO = (LONG[LONG["tic"] == asset].reset_index(drop=True) for asset in ("AAPL", "BRK.B"))


def wide(**columns):
    return pd.DataFrame({"date": ONE["date"], **columns})


@pytest.mark.parametrize("form", ["{}_volume", "Volume {}", "{} Vol", "{}.Volume", "VOL_{}", "{}|volume", "{}:VOLUME"])
def test_a_column_called_like_the_asset_is_the_close_of_what_has_a_volume(tmp_path, form):
    volume, other = form.format("AAPL"), form.format("BRK.B")
    path = write(tmp_path, wide(**{volume: ONE["volume"], "AAPL": ONE["close"]}), "one.csv")
    bars = load_bars(path)
    assert bars.assets == ("AAPL",)
    np.testing.assert_array_equal(bars.close[:, 0], ONE["close"])
    np.testing.assert_array_equal(bars.volume[:, 0], ONE["volume"])
    columns = {"AAPL": ONE["close"], volume: ONE["volume"], "BRK.B": TWO["close"], other: TWO["volume"] * 2}
    bars = load_bars(write(tmp_path, wide(**columns)))
    assert bars.assets == ("AAPL", "BRK.B")
    np.testing.assert_array_equal(bars.close, np.stack([ONE["close"], TWO["close"]], axis=1))
    np.testing.assert_array_equal(bars.volume, np.stack([ONE["volume"], TWO["volume"] * 2], axis=1))
    assert "columns read as close, volume of AAPL, BRK.B" in bars.notes


def test_an_adjusted_close_beside_the_close_adjusts_it(tmp_path):
    half = np.where(np.arange(len(ONE)) < 3, 0.5, 1.0)
    path = write(tmp_path, wide(AAPL=ONE["close"], AAPL_adj_close=ONE["close"] * half))
    np.testing.assert_allclose(load_bars(path, jumps="accept").close[:, 0], ONE["close"] * half)
    bars = load_bars(path, adjust="none")
    assert bars.assets == ("AAPL",)
    np.testing.assert_array_equal(bars.close[:, 0], ONE["close"])


@pytest.mark.parametrize("form", ["{}_adj_close", "Adj Close {}"])
def test_adjusted_closes_alone_are_closes_of_their_assets_and_told(tmp_path, form):
    frame = wide(**{form.format("AAPL"): ONE["close"], form.format("BRK.B"): TWO["close"]})
    bars = load_bars(write(tmp_path, frame))
    assert bars.assets == ("AAPL", "BRK.B")
    assert "columns read as close of AAPL, BRK.B: the closes are adjusted ones" in bars.notes


@pytest.mark.parametrize(
    ("names", "column"),
    [
        (("KO", "BRK.B_volume"), "'BRK.B_volume' could be the volume of BRK.B"),
        (("KO", "VOL.US"), "'VOL.US' could be the volume of US"),
        (("bid", "ask"), "'bid' could be a quote"),
        (("KO bid", "KO ask"), "'KO bid' could be a quote"),
        (("KO", "adj_close"), "'adj_close' could be a close beside other columns"),
    ],
)
def test_what_may_be_no_close_is_never_taken_for_an_asset(tmp_path, names, column):
    path = write(tmp_path, wide(**dict(zip(names, (ONE["close"], TWO["close"]), strict=True))))
    message = refusal(path)
    assert column in message
    assert f"--data.assets {shlex.quote(','.join(names))}" in message
    assert load_bars(path, assets=names).assets == names
    bars = load_bars(path, columns=(f"close={names[0]}",), adjust="none")
    np.testing.assert_array_equal(bars.close[:, 0], ONE["close"])


def test_an_asset_without_a_volume_beside_one_that_has_one_is_refused(tmp_path):
    path = write(tmp_path, wide(AAPL=ONE["close"], AAPL_volume=ONE["volume"], KO=TWO["close"]))
    message = refusal(path)
    assert "columns KO look like close of KO, but volume cannot be found for every asset" in message
    assert load_bars(path, assets=("AAPL", "AAPL_volume", "KO")).num_assets == 3


def test_returns_beside_an_asset_are_no_asset_and_told(tmp_path):
    bars = load_bars(write(tmp_path, wide(AAPL=ONE["close"], AAPL_ret=0.0, KO=TWO["close"])))
    assert bars.assets == ("AAPL", "KO")
    assert "columns not used: AAPL_ret" in bars.notes


@pytest.mark.parametrize(
    "names",
    [
        ("LOW",),
        ("OPEN", "HIGH"),
        ("OPEN", "LOW", "HIGH"),
        ("VOL", "AAPL"),
        ("LAST", "MSFT"),
        ("PRICE", "MSFT"),
        ("NAME", "MSFT"),
        ("O", "H", "L", "C"),
        ("O", "H", "L", "C", "V"),
        ("O", "H", "L", "C", "KO"),
        ("OPEN", "HIGH", "LOW", "CLOSE"),
    ],
)
def test_tickers_that_are_called_like_fields_are_assets_where_the_user_says_so(tmp_path, names):
    closes = {name: ONE["close"] * (3.0 - 0.4 * i) for i, name in enumerate(names)}
    path = write(tmp_path, wide(**closes))
    message = refusal(path)
    if "CLOSE" not in names:
        assert f"--data.assets {','.join(names)}" in message
    bars = load_bars(path, assets=names)
    assert bars.assets == names
    np.testing.assert_array_equal(bars.close, np.stack(list(closes.values()), axis=1))
    assert bars.volume is None


@pytest.mark.parametrize("names", [("OPEN", "HIGH", "LOW", "CLOSE"), ("O", "H", "L", "C")])
def test_prices_of_one_asset_are_never_taken_for_assets_by_a_name_that_a_file_has_too(tmp_path, names):
    prices = dict(zip(names, (ONE[field] for field in ("open", "high", "low", "close")), strict=True))
    paths = [write(tmp_path, wide(**prices), f"{name}.csv") for name in (names[0], "KO")]
    for assets in (names[:1], (names[0], "KO")):
        bars = load_bars(paths, assets=assets)
        assert bars.assets == assets
        np.testing.assert_array_equal(bars.close[:, 0], ONE["close"])
    assert "there is no asset" in refusal(paths[1], assets=names[:1])


@pytest.mark.parametrize("form", ["{field} ({asset})", "{field}[{asset}]"])
def test_assets_in_brackets_are_assets_and_currencies_are_none(tmp_path, form):
    fields = ["open", "high", "low", "close", "volume"]

    def table(*assets):
        tables = zip((ONE, TWO), assets, strict=True)
        columns = {form.format(field=f.title(), asset=asset): frame[f] for frame, asset in tables for f in fields}
        return write(tmp_path, wide(**columns))

    bars = load_bars(table("AAPL", "BRK.B"))
    assert bars.assets == ("AAPL", "BRK.B")
    for field in fields:
        np.testing.assert_array_equal(getattr(bars, field), np.stack([ONE[field], TWO[field]], axis=1))
    assert "could all be open" in refusal(table("USD", "EUR"))
