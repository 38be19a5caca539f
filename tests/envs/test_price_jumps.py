"""Prices that jump as by a split they are not adjusted for are refused; what a market does is not."""

import numpy as np
import pandas as pd
import pytest
from price_samples import refusal, write

from envs.bar_data import PRICE_FIELDS
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig

NUM_BARS, AT = 120, 60


def market(assets=("AAA", "BBB", "CCC"), *, seed=0, volatility=0.015) -> pd.DataFrame:
    """Random walks that open near the close before and trade about a thousand shares."""
    rng = np.random.default_rng(seed)
    parts = []
    for asset in assets:
        close = 100.0 * np.exp(np.cumsum(volatility * rng.standard_normal(NUM_BARS)))
        opened = np.append(100.0, close[:-1]) * np.exp(0.2 * volatility * rng.standard_normal(NUM_BARS))
        fields = {"open": opened, "high": np.maximum(opened, close) * 1.003, "low": np.minimum(opened, close) * 0.997}
        volume = 1_000.0 * np.exp(0.3 * rng.standard_normal(NUM_BARS))
        days = pd.bdate_range("2020-01-06", periods=NUM_BARS).astype(str)
        parts.append(pd.DataFrame({"date": days, "tic": asset, **fields, "close": close, "volume": volume}))
    return pd.concat(parts, ignore_index=True)


def split(frame: pd.DataFrame, asset: str, ratio: float, at: int = AT) -> pd.DataFrame:
    """The table as it stands unadjusted for ``ratio`` new shares for an old one from bar ``at`` on."""
    frame = frame.copy()
    later = frame.index[frame["tic"] == asset][at:]
    frame.loc[later, list(PRICE_FIELDS)] /= ratio
    frame.loc[later, "volume"] *= ratio
    return frame


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.pivot_table(index="date", columns="tic", values="close").reset_index()


@pytest.mark.parametrize(("ratio", "words"), [(2, "2:1"), (1.5, "3:2"), (4, "4:1"), (20, "20:1"), (0.1, "1:10")])
def test_split_is_refused_with_asset_date_ratio_and_the_setting_that_accepts_it(tmp_path, ratio, words):
    frame = split(market(), "BBB", ratio)
    adjusted = frame.assign(volume=market()["volume"])
    tables = {"long": frame, "wide": wide(frame), "one": frame[frame["tic"] == "BBB"], "adjusted volume": adjusted}
    for name, table in tables.items():
        path = write(tmp_path, table, f"{name}.csv")
        said = refusal(path)
        assert "asset BBB, 2020-03-30: the price goes from" in said
        assert f"as by a {words} split that it is not adjusted for" in said
        assert said.endswith("set --data.jumps accept if it is a real move")
        assert load_bars(path, jumps="accept").num_bars == build_bars(DataConfig(path=path, jumps="accept")).num_bars


def test_split_in_an_archive_of_relatives_is_refused(tmp_path):
    closes = wide(split(market(), "AAA", 3)).drop(columns="date").to_numpy()
    np.savez(tmp_path / "x.npz", x=closes[1:] / closes[:-1])
    assert "asset asset_1, 1900-03-26: the price goes from" in refusal(str(tmp_path / "x.npz"))


def test_all_splits_are_told_at_once(tmp_path):
    frame = split(split(split(market(), "CCC", 10, at=50), "AAA", 2), "AAA", 2, at=90)
    said = refusal(write(tmp_path, frame)).split("\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in said] == [
        "asset CCC, 2020-03-16", "asset AAA, 2020-03-30", "asset AAA, 2020-05-11"
    ]  # fmt: skip


def test_split_on_a_day_on_which_all_assets_fall_is_refused(tmp_path):
    frame = split(market(), "BBB", 2)
    fallen = frame.groupby("tic").cumcount() >= AT
    frame.loc[fallen, list(PRICE_FIELDS)] *= 0.85
    assert "asset BBB, 2020-03-30" in refusal(write(tmp_path, frame))


def changed(frame: pd.DataFrame, how: str) -> pd.DataFrame:
    """A move of half the price, or so, of another kind than a split."""
    frame, own = frame.copy(), frame.index[frame["tic"] == "BBB"]
    prices, at, later = list(PRICE_FIELDS), own[AT], own[AT:]
    if how == "odd":
        frame.loc[later, prices] *= 0.42
    elif how == "within a bar":
        frame.loc[later, prices] *= 0.5
        frame.loc[at, ["open", "high"]] *= 2
    elif how == "with news":
        frame.loc[later, prices] *= 0.5
        frame.loc[at, "volume"] *= 30
    elif how == "reverses":
        frame.loc[own[AT : AT + 3], prices] *= 0.5
    elif how == "of all":
        frame.loc[frame.groupby("tic").cumcount() >= AT, prices] *= 0.5
    elif how == "of a price below two":
        frame[prices] /= 100
        frame.loc[later, prices] *= 0.5
    elif how == "usual":
        frame = split(market(volatility=0.12), "BBB", 2)
    return frame


@pytest.mark.parametrize(
    "how", ["odd", "within a bar", "with news", "reverses", "of all", "of a price below two", "usual"]
)
def test_what_a_market_does_is_no_split(tmp_path, how):
    frame = changed(market(), how)
    assert load_bars(write(tmp_path, frame)).num_bars == NUM_BARS
    if how in ("odd", "reverses", "of all"):
        assert load_bars(write(tmp_path, wide(frame), "wide.csv")).num_bars == NUM_BARS


@pytest.mark.parametrize("how", ["within a bar", "with news", "reverses", "of all"])
def test_each_of_these_is_refused_without_what_tells_it_from_a_split(tmp_path, how):
    frame = changed(market(), how)
    own = frame["tic"] == "BBB"
    if how == "within a bar":
        frame = wide(frame)
    elif how == "with news":
        frame = frame.drop(columns="volume")
    elif how == "reverses":
        frame.loc[own & (frame.groupby("tic").cumcount() >= AT + 3), list(PRICE_FIELDS)] *= 0.5
    else:
        frame = frame[own]
    assert "2020-03-30: the price goes from" in refusal(write(tmp_path, frame))


def test_a_few_bars_are_no_evidence(tmp_path):
    frame = split(market(), "BBB", 2)
    early = frame[frame.groupby("tic").cumcount().between(AT - 8, AT + 8)]
    assert load_bars(write(tmp_path, early)).num_bars == 17


def test_first_bar_of_an_asset_is_no_jump_however_the_others_move_in_it(tmp_path):
    frame, row = market(), market().groupby("tic").cumcount()
    frame.loc[row >= AT, list(PRICE_FIELDS)] *= 2
    frame.loc[(frame["tic"] == "BBB") & (row == AT), ["open", "high"]] *= 2
    assert load_bars(write(tmp_path, frame[(frame["tic"] != "BBB") | (row >= AT)])).num_bars == NUM_BARS


def test_built_in_market_has_no_splits(tmp_path):
    bars = build_bars(DataConfig())
    frame = pd.DataFrame(bars.close, columns=list(bars.assets))
    frame.insert(0, "date", bars.dates.astype("datetime64[D]").astype(str))
    assert load_bars(write(tmp_path, frame)).num_bars == bars.num_bars
