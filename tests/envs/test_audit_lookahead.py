from __future__ import annotations

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from floors import AUDITED, failures, market_of, spec_of

import envs.features
import envs.tape
import envs.trading
from common.errors import InputError
from envs.audit_books import audit_books
from envs.audit_draws import perturb_after
from envs.audit_lookahead import audit_lookahead
from envs.bar_data import Bars
from envs.market import Market, build_market


@pytest.mark.parametrize("desk", AUDITED)
@pytest.mark.parametrize("window", [1, 3])
def test_no_preset_looks_ahead(desk, window) -> None:
    result = audit_lookahead(spec_of(desk=desk, floor={"window": window}), num_bars_checked=2)
    assert result.passed, result.rows
    assert all(row.worst == 0 for row in result.rows)


def test_lookahead_audit_finds_a_feature_that_peeks_one_bar(monkeypatch) -> None:
    honest = envs.features.FEATURE_GROUPS["momentum"]

    def peek(bars: Bars) -> dict[str, np.ndarray]:
        columns = honest.compute(bars)
        return {**columns, "return_1": np.roll(columns["return_1"], -1, axis=0)}

    leaky = {**envs.features.FEATURE_GROUPS, "momentum": dataclasses.replace(honest, compute=peek)}
    market = market_of()
    monkeypatch.setattr(envs.features, "FEATURE_GROUPS", MappingProxyType(leaky))
    result = audit_lookahead(build_market(market.spec, bars=market.bars))
    assert "observations do not see the future" in failures(result)
    assert not result.passed
    assert "split, bar" in result.rows[0].first_failure


def test_lookahead_audit_finds_a_scaler_that_saw_the_test_split(monkeypatch) -> None:
    market = market_of()
    fit = envs.features.Scaler.fit

    def fit_everywhere(features, split, **kwargs):
        return fit(features, dataclasses.replace(split, stop=len(features.values)), **kwargs)

    monkeypatch.setattr(envs.features.Scaler, "fit", fit_everywhere)
    assert failures(audit_lookahead(market)) == ["the scaler does not see beyond the training split"]


def test_lookahead_audit_reports_the_unsafe_fill() -> None:
    result = audit_lookahead(spec_of(floor={"fill": "same_close_unsafe"}))
    assert failures(result) == ["orders fill at prices not seen when deciding"]


def market_with_splits(sizes) -> Market:
    """A market whose training, validation and test splits have these numbers of bars, at a horizon of one."""
    spec = spec_of(floor={"horizon_bars": 1})
    lookback = build_market(spec).splits.train.start
    shares = dict(zip(("train", "validation", "test"), (size / sum(sizes) for size in sizes), strict=True))
    synthetic = dataclasses.replace(spec.data.synthetic, num_bars=3 * lookback + sum(sizes))
    data = dataclasses.replace(spec.data, synthetic=synthetic, **shares)
    market = build_market(dataclasses.replace(spec, data=data))
    splits = market.splits
    assert [split.num_bars for split in (splits.train, splits.validation, splits.test)] == list(sizes)
    return market


@pytest.mark.parametrize("sizes", [(3, 2, 2), (2, 2, 3), (2, 4, 2)])
def test_splits_of_two_bars_are_audited(sizes) -> None:
    market = market_with_splits(sizes)
    for result in (audit_lookahead(market), audit_books(market, num_settings=4)):
        assert result.passed, result.rows


def test_splits_too_short_for_an_audit_are_named() -> None:
    market = market_with_splits((2, 2, 2))
    with pytest.raises(InputError, match=r"3 bars .*train 2, validation 2, test 2.*data\.train"):
        audit_lookahead(market)
    assert audit_books(market, num_settings=4).passed
    test = dataclasses.replace(market.splits.test, stop=market.splits.test.start + 1)
    market = dataclasses.replace(market, splits=dataclasses.replace(market.splits, test=test))
    with pytest.raises(InputError, match="the test split has 1 bars"):
        audit_lookahead(market)


def test_perturbation_leaves_the_past_alone_and_changes_all_of_the_future_that_trades() -> None:
    bars = market_of().bars
    other = perturb_after(bars, 100, np.random.default_rng(0))
    for name in ("open", "high", "low", "close", "volume", "tradable"):
        assert np.array_equal(getattr(bars, name)[:101], getattr(other, name)[:101])
    traded = other.tradable[101:]
    assert 0 < (~traded).sum() < traded.size / 5
    for name in ("open", "high", "low", "close", "volume"):
        assert (getattr(bars, name)[101:] != getattr(other, name)[101:])[traded].all()
    assert (other.close[101:] == other.close[100:-1])[~traded].all()  # the last price, as a filled calendar has it
    assert (other.volume[101:][~traded] == 0).all()
    assert (other.high >= other.low).all()


def stock_beside_a_coin(market: Market) -> Market:
    """The market in days of seven a week, on which the first two assets are closed on two of seven."""
    bars = market.bars
    dates = bars.dates[0] + np.arange(bars.num_bars) * np.timedelta64(1, "D")
    tradable = np.ones_like(bars.tradable)
    tradable[5::7, :2] = tradable[6::7, :2] = False
    newest = np.maximum.accumulate(np.where(tradable, np.arange(bars.num_bars)[:, None], 0), axis=0)
    close = np.take_along_axis(bars.close, newest, axis=0)
    prices = {name: np.where(tradable, getattr(bars, name), close) for name in ("open", "high", "low", "close")}
    volume = np.where(tradable, bars.volume, 0.0)
    bars = dataclasses.replace(bars, dates=dates, volume=volume, tradable=tradable, regimes=None, **prices)
    return build_market(market.spec, bars=bars)


def test_lookahead_audit_finds_fills_at_a_close_already_seen(monkeypatch) -> None:
    market = stock_beside_a_coin(market_of(desk={"action": "continuous"}))
    assert audit_lookahead(market, num_bars_checked=6).passed
    monkeypatch.setattr(
        envs.tape, "most_shares", lambda bars, columns, most: np.full((bars.num_bars, len(columns)), np.inf)
    )
    stale = failures(audit_lookahead(market, num_bars_checked=6))
    assert stale == ["orders fill at prices not seen when deciding"]


def test_lookahead_audit_finds_decisions_that_know_how_much_follows() -> None:
    market = market_of(desk={"action": "continuous"}, floor={"observe_episode": True})
    assert failures(audit_lookahead(market)) == ["decisions do not depend on how much history follows"]
