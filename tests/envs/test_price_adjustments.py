"""Prices are adjusted for splits and dividends by what the file has, once, and without a look ahead."""

import numpy as np
import pandas as pd
import pytest
from price_samples import refusal, write

from envs.bar_data import PRICE_FIELDS
from envs.bars import build_bars, load_bars
from envs.settings import DataConfig

NUM_BARS = 240
DAYS = pd.bdate_range("2020-01-06", periods=NUM_BARS).astype(str)
EVENTS = {"AAA": {"splits": {100: 4.0, 180: 0.5}, "dividends": {30: 1.0, 90: 0.9, 100: 0.3, 150: 0.4}}, "BBB": {}}
"""Of each asset: row -> new shares for an old one, or money a share."""


def histories(num_bars=NUM_BARS) -> dict[str, dict[str, np.ndarray]]:
    """Adjusted prices of two assets, what happened to them, and raw prices, worked out bar by bar from the first."""
    found = {}
    for seed, (asset, events) in enumerate(EVENTS.items()):
        rng = np.random.default_rng(seed)
        wealth = np.exp(np.cumsum(0.01 * rng.standard_normal(NUM_BARS)))
        gap = np.exp(0.002 * rng.standard_normal(NUM_BARS))
        close, open_, shares = np.empty(NUM_BARS), np.empty(NUM_BARS), 1.0  # that one of the first bar has become
        splits = np.array([events.get("splits", {}).get(t, 0.0) for t in range(NUM_BARS)])
        dividends = np.array([events.get("dividends", {}).get(t, 0.0) for t in range(NUM_BARS)])
        for t in range(NUM_BARS):
            ratio = splits[t] or 1.0
            close[t] = 80.0 if t == 0 else (close[t - 1] / ratio - dividends[t]) * wealth[t] / wealth[t - 1]
            open_[t] = close[0] if t == 0 else (close[t - 1] / ratio - dividends[t]) * gap[t]
            shares *= ratio
        raw = {"open": open_, "high": np.maximum(open_, close) * 1.001, "low": np.minimum(open_, close) * 0.999}
        raw |= {
            "close": close,
            "volume": 1e3 * np.exp(0.3 * rng.standard_normal(NUM_BARS)) * np.cumprod(splits + (splits == 0)),
        }
        found[asset] = raw | {"dividends": dividends, "splits": splits, "wealth": wealth}
        found[asset] = {name: values[:num_bars] for name, values in found[asset].items()}
    return found


def table(*columns: str, num_bars=NUM_BARS, assets=("AAA", "BBB")) -> pd.DataFrame:
    """A long table of raw prices with columns of corporate actions, as yfinance calls them."""
    parts = []
    for asset, data in histories(num_bars).items():
        adj_close = data["wealth"] / data["wealth"][-1] * data["close"][-1]
        extra = {"Adj Close": adj_close, "Dividends": data["dividends"], "Stock Splits": data["splits"]}
        prices = {name: data[name] for name in (*PRICE_FIELDS, "volume")}
        parts.append(
            pd.DataFrame({"date": DAYS[:num_bars], "tic": asset, **prices, **{name: extra[name] for name in columns}})
        )
    frame = pd.concat(parts, ignore_index=True)
    return frame[frame["tic"].isin(assets)]


def for_splits(frame: pd.DataFrame) -> pd.DataFrame:
    """Prices, volumes and dividends adjusted for the splits, which are told all the same: what Yahoo gives."""
    frame = frame.copy()
    for asset, data in histories().items():
        own = frame["tic"] == asset
        ratio = np.where(data["splits"] == 0, 1.0, data["splits"])
        later = np.append(np.cumprod(ratio[::-1])[::-1][1:], 1.0)
        for name in {*PRICE_FIELDS, "Dividends"} & set(frame.columns):
            frame.loc[own, name] /= later
        frame.loc[own, "volume"] *= later
    return frame


def returns(close: np.ndarray) -> np.ndarray:
    return close[1:] / close[:-1]


WEALTH = np.stack([data["wealth"] for data in histories().values()], axis=1)
ALL = ("Adj Close", "Dividends", "Stock Splits")
RAW, ACTIONS = table(*ALL), table(*ALL[1:])


@pytest.mark.parametrize("adjust", [None, "total"])
@pytest.mark.parametrize("frame", [RAW, ACTIONS, for_splits(RAW), for_splits(ACTIONS)])
def test_returns_are_those_of_reinvested_dividends_whatever_the_file_tells_them_by(tmp_path, frame, adjust):
    bars = load_bars(write(tmp_path, frame), adjust=adjust)
    np.testing.assert_allclose(returns(bars.close), returns(WEALTH), rtol=1e-9)
    np.testing.assert_allclose(bars.close[-1], [data["close"][-1] for data in histories().values()])
    assert any(note.startswith(("prices are adjusted", "closes are adjusted")) for note in bars.notes)


def test_bars_keep_their_shape_and_the_money_that_changed_hands(tmp_path):
    raw = load_bars(write(tmp_path, RAW), adjust="none", jumps="accept")
    for frame, adjust in ((RAW, "total"), (ACTIONS, "total"), (RAW, "split")):
        bars = load_bars(write(tmp_path, frame, "other.csv"), adjust=adjust)
        for name in ("open", "high", "low"):
            shape = getattr(bars, name) / bars.close
            np.testing.assert_allclose(shape, getattr(raw, name) / raw.close, rtol=1e-9)
        np.testing.assert_allclose(bars.close * bars.volume, raw.close * raw.volume, rtol=1e-9)


@pytest.mark.parametrize("frame", [RAW, for_splits(RAW)])
def test_split_adjusts_once_and_for_splits_alone(tmp_path, frame):
    bars = load_bars(write(tmp_path, frame), adjust="split")
    np.testing.assert_allclose(bars.close[:, 0], for_splits(RAW)["close"][:NUM_BARS], rtol=1e-9)
    assert "columns not used: Adj Close, Dividends" in bars.notes


def test_none_takes_prices_as_they_stand(tmp_path):
    path = write(tmp_path, for_splits(RAW))
    bars = build_bars(DataConfig(path=path, adjust="none"))
    np.testing.assert_array_equal(bars.close[:, 0], for_splits(RAW)["close"][:NUM_BARS])
    assert "columns not used: Adj Close, Dividends, Stock Splits" in bars.notes
    assert "asset AAA, 2020-05-25: the price goes from" in refusal(write(tmp_path, RAW, "raw.csv"), adjust="none")


def test_what_is_adjusted_for_everything_already_is_left_as_it_is(tmp_path):
    """As yfinance's Ticker.history gives it: adjusted closes under the name of closes."""
    frame = RAW.assign(**{name: RAW[name] * RAW["Adj Close"] / RAW["close"] for name in PRICE_FIELDS})
    frame["volume"] *= RAW["close"] / frame["close"]
    bars = load_bars(write(tmp_path, frame.drop(columns="Adj Close")))
    np.testing.assert_allclose(bars.close[:, 0], frame["close"][:NUM_BARS], rtol=1e-12)
    assert sum(note.endswith(("already", "already (data.adjust)")) for note in bars.notes) == 2


def test_dividends_too_small_to_be_seen_in_the_prices_are_refused_with_the_setting_that_decides(tmp_path):
    frame = table("Dividends", assets=("BBB",))
    frame.loc[frame.index[[50, 110]], "Dividends"] = 0.05
    path = write(tmp_path, frame)
    said = refusal(path)
    assert "has dividends, but its prices do not show whether they are adjusted for them already" in said
    assert "set --data.adjust none if they are" in said
    assert "--data.adjust total if they are not" in said
    raw, total = (load_bars(path, adjust=how).close[:, 0] for how in ("none", "total"))
    factors = [1 - 0.05 / raw[t - 1] for t in (50, 110)]
    np.testing.assert_allclose(total[[0, 49, 50, 109, 110]] / raw[[0, 49, 50, 109, 110]],
        [factors[0] * factors[1], factors[0] * factors[1], factors[1], factors[1], 1.0], rtol=1e-12)  # fmt: skip


@pytest.mark.parametrize("num_bars", [95, 170, 200])
@pytest.mark.parametrize("columns", [ALL, ALL[1:]])
def test_later_actions_change_no_earlier_return(tmp_path, columns, num_bars):
    early = load_bars(write(tmp_path, table(*columns, num_bars=num_bars), "early.csv"), adjust="total")
    late = load_bars(write(tmp_path, table(*columns), "late.csv"), adjust="total")
    assert num_bars == 200 or not np.allclose(early.close[:, 0], late.close[:num_bars, 0])
    for name in PRICE_FIELDS:
        prices, later = getattr(early, name), getattr(late, name)[:num_bars]
        np.testing.assert_allclose(prices[1:] / early.close[:-1], later[1:] / late.close[: num_bars - 1], rtol=1e-12)


def test_every_layout_of_a_table_is_adjusted_alike(tmp_path):
    wanted = load_bars(write(tmp_path, RAW))
    level = RAW.rename(columns=str.capitalize).rename(
        columns={"Adj close": "Adj Close", "Stock splits": "Stock Splits"}
    )
    level = (
        level.pivot_table(index="Date", columns="Tic", values=[*level.columns[2:]]).swaplevel(axis=1).sort_index(axis=1)
    )
    level.to_csv(tmp_path / "levels.csv")
    level.to_parquet(tmp_path / "levels.parquet")
    for asset, own in RAW.groupby("tic"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        write(tmp_path / "folder", own.drop(columns="tic"), f"{asset}.csv")
    for name in ("levels.csv", "levels.parquet", "folder"):
        bars = load_bars(str(tmp_path / name))
        assert bars.assets == wanted.assets
        np.testing.assert_allclose(bars.close, wanted.close, rtol=1e-12)
        np.testing.assert_allclose(bars.volume, wanted.volume, rtol=1e-12)


@pytest.mark.parametrize(
    ("columns", "adjust", "words"),
    [
        ((), "total", "has no column of adjusted closes, or of dividends, which data.adjust total needs"),
        (("Stock Splits",), "total", "has no column of adjusted closes, or of dividends"),
        (("Adj Close",), "split", "has no column of stock splits, which data.adjust split needs"),
    ],
)
def test_what_a_file_cannot_be_adjusted_by_is_refused(tmp_path, columns, adjust, words):
    said = refusal(write(tmp_path, table(*columns)), adjust=adjust)
    assert words in said
    assert "set --data.adjust none, or name it, --data.columns" in said


def test_column_of_another_name_is_chosen(tmp_path):
    path = write(tmp_path, table("Adj Close").rename(columns={"Adj Close": "mine"}))
    bars = load_bars(path, columns=("adj_close=mine",), adjust="total")
    np.testing.assert_allclose(returns(bars.close), returns(WEALTH), rtol=1e-9)


def test_adjusted_closes_of_a_table_without_closes_are_refused(tmp_path):
    path = write(tmp_path, pd.DataFrame({"date": DAYS, "AAA": 1.0, "BBB": 2.0}))
    assert "column 'close' is missing" in refusal(path, columns=("adj_close=AAA",))


def test_split_at_which_prices_do_not_do_what_they_do_at_others_is_refused(tmp_path):
    frame = for_splits(ACTIONS)
    frame.loc[:99, list(PRICE_FIELDS)] *= 4.0
    said = refusal(write(tmp_path, frame))
    assert ", 2020-09-14: from " in said
    assert (
        "at a split of 0.5, the price does not jump, unlike at other splits of the file: correct it, or set "
        "--data.adjust none"
    ) in said


@pytest.mark.parametrize("told", [3.0, 6.0])
def test_split_of_another_ratio_than_that_of_the_prices_is_refused(tmp_path, told):
    frame = ACTIONS.copy()
    frame.loc[frame["Stock Splits"] == 4.0, "Stock Splits"] = told
    said = refusal(write(tmp_path, frame))
    assert f"at a split of {told:g}, the price jumps as at another split: correct it, or set --data.adjust none" in said


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Adj Close", np.nan, "there is no adjusted price: correct the row"),
        ("Adj Close", 0.0, "there is no adjusted price: correct the row"),
        ("Adj Close", "x", "'x' is not a number"),
        ("Dividends", "?", "'?' is not a number: write the money that a share paid, or set --data.adjust none"),
        ("Dividends", -1.0, "dividends must be 0 where there are none, or above"),
        ("Stock Splits", "4:1", "'4:1' is not a number: write how many new shares there are for an old one, such as 2"),
        ("Stock Splits", np.inf, "splits must be 0 where there are none, or above"),
    ],
)
def test_bad_cells_are_refused_with_their_line(tmp_path, column, value, words):
    frame = table(column).astype({column: object})
    frame.loc[7, column] = value
    said = refusal(write(tmp_path, frame))
    assert f"line 9, column '{column}', asset AAA, 2020-01-15: " in said
    assert words in said


def test_dividend_as_large_as_the_price_is_refused(tmp_path):
    frame = table("Dividends", assets=("BBB",))
    frame.loc[frame.index[50], "Dividends"] = 500.0
    assert "asset BBB, 2020-03-16: a dividend of 500 is no less than the price before" in refusal(
        write(tmp_path, frame)
    )


def test_split_in_a_row_without_prices_is_refused(tmp_path):
    frame = table("Stock Splits")
    frame.loc[100, [*PRICE_FIELDS, "volume"]] = np.nan
    assert "splits stand in a row without prices: move them" in refusal(write(tmp_path, frame))
