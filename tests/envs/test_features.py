from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from common.errors import InputError
from envs.bars import Bars, Split
from envs.features import FEATURE_GROUPS, Features, Scaler, compute_features, default_groups
from envs.settings import SyntheticConfig
from envs.synthetic import generate_bars

ALL = tuple(FEATURE_GROUPS)
ARRAYS = ("open", "high", "low", "close", "volume", "signal")


@pytest.fixture(scope="module")
def bars() -> Bars:
    bars = generate_bars(SyntheticConfig(num_assets=4, num_bars=300, signal_strength=2.0))
    tradable = np.random.default_rng(0).random(bars.close.shape) < 0.9
    tradable[180, 0], tradable[181:200, 0] = True, False
    return dataclasses.replace(bars, tradable=tradable)


@pytest.fixture(scope="module")
def features(bars) -> Features:
    return compute_features(bars, ALL)


def changed(bars: Bars, rows: slice, seed: int = 0) -> Bars:
    """The same market with every price, volume and signal in some rows redrawn, open where it was closed."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name in ARRAYS:
        array = getattr(bars, name).copy()
        array[rows] *= np.exp(rng.standard_normal(array[rows].shape))
        arrays[name] = array
    tradable = bars.tradable.copy()
    tradable[rows] ^= True
    return dataclasses.replace(bars, tradable=tradable, **arrays)


def column(features: Features, name: str) -> np.ndarray:
    return features.values[..., features.names.index(name)]


# --- causality -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [60, 61, 100, 173, 298])
def test_nothing_after_a_bar_changes_what_is_seen_on_it(bars, features, t):
    other = compute_features(changed(bars, slice(t + 1, None), seed=t), ALL)
    np.testing.assert_array_equal(other.values[: t + 1], features.values[: t + 1])
    assert not np.array_equal(other.values[t + 1 :], features.values[t + 1 :])


@pytest.mark.parametrize("group", ALL)
def test_memory_of_a_group_ends_at_its_lookback(bars, group):
    t = 200
    lookback = FEATURE_GROUPS[group].lookback_bars
    plain = compute_features(bars, (group,))
    before = compute_features(changed(bars, slice(0, t - lookback)), (group,))
    np.testing.assert_array_equal(before.values[t:], plain.values[t:])
    assert plain.lookback_bars == lookback
    assert not np.array_equal(before.values[t - 1], plain.values[t - 1])


def test_cutting_history_off_changes_no_bit(bars, features):
    short = compute_features(bars.between(100, 250), ALL)
    np.testing.assert_array_equal(short.values[60:], features.values[160:250])


def test_features_are_finite_from_the_lookback_on_and_unusable_before(features):
    assert features.lookback_bars == 60
    assert np.isfinite(features.values[60:]).all()
    assert np.isnan(features.values[:60]).all()


# --- what the features are -------------------------------------------------------------------------------------------


def test_features_do_not_depend_on_the_unit_of_prices(bars, features):
    prices = {name: getattr(bars, name) * 1000.0 for name in ("open", "high", "low", "close")}
    other = compute_features(dataclasses.replace(bars, **prices), ALL)
    np.testing.assert_allclose(other.values[60:], features.values[60:], atol=1e-8)


def test_returns_are_log_returns(bars, features):
    log_close = np.log(bars.close)
    for name, horizon in (("return_1", 1), ("return_5", 5), ("return_20", 20)):
        np.testing.assert_allclose(
            column(features, name)[60:], log_close[60:] - log_close[60 - horizon : -horizon], atol=1e-12
        )
    np.testing.assert_allclose(column(features, "gap")[60:], np.log(bars.open[60:] / bars.close[59:-1]), atol=1e-12)


def test_indicators_agree_with_pandas(bars, features):
    close = pd.DataFrame(bars.close)
    bollinger = (close - close.rolling(20).mean()) / close.rolling(20).std(ddof=0)
    np.testing.assert_allclose(column(features, "bollinger_20")[60:], bollinger.to_numpy()[60:], atol=1e-8)
    moves = np.log(close).diff()
    rsi = moves.clip(lower=0).rolling(14).sum() / moves.abs().rolling(14).sum()
    np.testing.assert_allclose(column(features, "rsi_14")[60:] + 0.5, rsi.to_numpy()[60:], atol=1e-8)
    low, high = pd.DataFrame(bars.low).rolling(14).min(), pd.DataFrame(bars.high).rolling(14).max()
    np.testing.assert_allclose(
        column(features, "stochastic_14")[60:] + 0.5, ((close - low) / (high - low))[60:], atol=1e-12
    )
    macd = np.log(close).ewm(span=12).mean() - np.log(close).ewm(span=26).mean()
    volatility = moves.rolling(60).std(ddof=0)
    ours, theirs = column(features, "macd")[60:].ravel(), (macd / volatility).to_numpy()[60:].ravel()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99  # ours forgets after 45 bars
    drawdown = np.log(close / close.rolling(61).max())
    np.testing.assert_allclose(column(features, "drawdown_60")[60:], drawdown.to_numpy()[60:], atol=1e-12)
    np.testing.assert_allclose(column(features, "skewness_60")[60:], _skewness(moves.to_numpy(), 60)[60:], atol=1e-6)


def _skewness(x, window):
    out = np.full_like(x, np.nan)
    for t in range(window, len(x)):
        part = x[t - window + 1 : t + 1] - x[t - window + 1 : t + 1].mean(axis=0)
        out[t] = (part**3).mean(axis=0) / (part**2).mean(axis=0) ** 1.5
    return out


def test_beta_is_the_regression_on_the_market(bars, features):
    r = np.diff(np.log(bars.close), axis=0)[-60:]
    market = r.mean(axis=1)
    expected = [(r[:, i] * market).mean() / (market**2).mean() for i in range(4)]
    np.testing.assert_allclose(column(features, "beta_60")[-1], expected, rtol=1e-9)
    assert column(features, "beta_60")[-1].mean() == pytest.approx(1.0)


def test_signal_is_shown_as_planted(bars, features):
    np.testing.assert_array_equal(column(features, "signal")[60:], bars.signal[60:])


def test_names_are_unique_and_know_their_group(features):
    assert len(set(features.names)) == len(features.names) == features.values.shape[2]
    assert tuple(dict.fromkeys(features.groups)) == ALL
    picked = features.columns(("trend", "signal"))
    assert {features.groups[i] for i in picked} == {"trend", "signal"}


def test_default_groups_are_those_that_the_bars_can_feed(bars):
    assert set(default_groups(bars)) == set(ALL) - {"tradable"}
    bare = dataclasses.replace(bars, volume=None, signal=None, tradable=None)
    assert set(ALL) - set(default_groups(bare)) == {"volume", "signal", "tradable"}
    usual = compute_features(
        dataclasses.replace(bars, signal=None), default_groups(dataclasses.replace(bars, signal=None))
    )
    assert 20 <= usual.num_features <= 40


@pytest.mark.parametrize("kind", ["flat", "close only", "one asset", "no volume traded", "one asset flat"])
def test_degenerate_markets_give_finite_features(bars, kind):
    if kind == "close only":
        market = dataclasses.replace(bars, open=bars.close, high=bars.close, low=bars.close)
    elif kind == "one asset":
        market = bars.select(bars.assets[:1])
    elif kind == "no volume traded":
        market = dataclasses.replace(bars, volume=np.zeros_like(bars.close))
    else:
        flat = np.full_like(bars.close, 42.0)
        market = dataclasses.replace(bars, open=flat, high=flat, low=flat, close=flat)
        market = market.select(market.assets[:1]) if kind == "one asset flat" else market
    values = compute_features(market, ALL).values[60:]
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 1e3


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (("trnd",), "did you mean 'trend'"),
        ((), "name at least one"),
        (("risk", "risk"), "each once"),
        (("volume",), "feature group 'volume' needs volumes"),
        (("signal",), "feature group 'signal' needs a planted signal"),
    ],
)
def test_groups_that_cannot_be_computed_are_refused(bars, groups, words):
    with pytest.raises(InputError, match=words):
        compute_features(dataclasses.replace(bars, volume=None, signal=None), groups)


def test_history_shorter_than_the_lookback_is_refused(bars):
    with pytest.raises(InputError, match=r"60 bars, but feature groups trend look back on 60"):
        compute_features(bars.between(0, 60), ("trend",))


# --- the scaler ------------------------------------------------------------------------------------------------------


def test_scaler_sees_the_training_split_only(bars, features):
    split = Split("train", 60, 180)
    scaler = Scaler.fit(features, split)
    other = Scaler.fit(compute_features(changed(bars, slice(180, None)), ALL), split)
    np.testing.assert_array_equal(other.mean, scaler.mean)
    np.testing.assert_array_equal(other.scale, scaler.scale)


def test_scaled_features_are_standard_and_clipped_on_the_training_split(features):
    split = Split("train", 60, 300)
    scaled = Scaler.fit(features, split, clip=3.0).transform(features)
    assert scaled.dtype == np.float32
    assert np.abs(scaled).max() == 3.0
    assert (scaled[:60] == 0).all()
    wide = Scaler.fit(features, split, clip=1e9).transform(features)[60:].reshape(-1, features.num_features)
    np.testing.assert_allclose(wide.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(wide.std(axis=0), 1.0, atol=1e-3)


def test_constant_column_is_scaled_to_nothing(bars):
    single = compute_features(bars.select(bars.assets[:1]), ("market",))
    scaled = Scaler.fit(single, Split("train", 60, 200)).transform(single)
    assert np.abs(scaled[..., single.names.index("beta_60")]).max() < 1e-6
    assert np.abs(scaled[..., single.names.index("relative_strength_20")]).max() == 0.0


def test_scaler_survives_json_to_the_last_bit(features):
    scaler = Scaler.fit(features, Split("train", 60, 180))
    restored = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    assert restored.names == scaler.names
    np.testing.assert_array_equal(restored.transform(features), scaler.transform(features))


def test_scaler_refuses_other_features_and_rows_without_any(bars, features):
    scaler = Scaler.fit(features, Split("train", 60, 180))
    with pytest.raises(InputError, match=r"missing .*'trend_60'"):
        scaler.transform(compute_features(bars, ("momentum",)))
    with pytest.raises(InputError, match="begin at or after bar 60"):
        Scaler.fit(features, Split("train", 10, 180))
    with pytest.raises(InputError, match="cannot be read"):
        Scaler.from_json({"names": ["a"]})
    with pytest.raises(InputError, match="1 names but 2 means"):
        Scaler.from_json({"names": ["a"], "mean": [0.0, 1.0], "scale": [1.0, 1.0], "clip": 5.0})


def test_an_asset_is_hidden_before_it_lists_and_after_it_is_gone(bars):
    first, stop = np.array([0, 90, 0, 0]), np.array([300, 300, 150, 300])
    listed = dataclasses.replace(bars, lives=(first, stop))
    features = compute_features(listed, ("momentum",))
    scaled = Scaler.fit(features, Split("train", 60, 200)).transform(features)
    assert not scaled[60:90, 1].any()
    assert not scaled[150:, 2].any()
    assert scaled[90:, 1].any(axis=1).all()
    assert scaled[60:150, 2].any(axis=1).all()
    of_all = Scaler.fit(compute_features(bars, ("momentum",)), Split("train", 60, 200))
    assert (Scaler.fit(features, Split("train", 60, 200)).mean != of_all.mean).all()


def test_the_market_is_that_of_the_assets_that_are_listed(bars):
    first, stop = np.array([0, 200, 0, 200]), np.full(4, 300)
    features = compute_features(dataclasses.replace(bars, lives=(first, stop)), ("market",))
    few = compute_features(bars.select([bars.assets[0], bars.assets[2]]), ("market",))
    np.testing.assert_allclose(features.values[100:200][:, [0, 2]], few.values[100:200], rtol=1e-9, atol=1e-12)
