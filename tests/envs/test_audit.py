from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from floors import market_of, spec_of

import envs.features
import envs.trading
from common.errors import InputError
from envs import accounts, execution
from envs.audit import AuditResult, audit_books, audit_lookahead, perturb_after, random_costs
from envs.bar_data import Bars
from envs.market import Market, build_market
from envs.price_checks import LARGEST, LARGEST_VOLUME, SMALLEST
from envs.settings import CostConfig, DataConfig, DeskConfig, FloorSpec
from envs.trading import Trading

DESKS = (
    {"preset": "desk", "num_agents": 3, "max_rung_change": 1},
    {"preset": "roles", "action": "continuous", "allow_short": False, "own_share": 0.5},
    {"preset": "rivals", "num_agents": 2, "observe": "each", "book_rule": "inverse_volatility"},
)


def failures(result: AuditResult) -> list[str]:
    return [row.check for row in result.rows if not row.passed]


@pytest.mark.parametrize("desk", DESKS)
@pytest.mark.parametrize("window", [1, 3])
def test_no_preset_looks_ahead(desk, window) -> None:
    result = audit_lookahead(spec_of(desk=desk, floor={"window": window}), num_bars_checked=2)
    assert result.passed, result.rows
    assert all(row.worst == 0 for row in result.rows)


@pytest.mark.parametrize("desk", DESKS)
def test_books_of_every_preset_balance(desk) -> None:
    result = audit_books(spec_of(desk=desk), num_settings=12, num_steps=24)
    assert result.passed, result.rows
    assert result.to_json()["passed"] is True


@pytest.mark.parametrize("volume", [0.0, SMALLEST, LARGEST_VOLUME])
def test_books_balance_from_bound_to_bound_of_the_prices_that_are_accepted(tmp_path, volume) -> None:
    close = np.exp(np.linspace(np.log(SMALLEST), np.log(LARGEST), 300)).clip(SMALLEST, LARGEST)
    frame = pd.DataFrame({"date": pd.bdate_range("2015-01-01", periods=300)})
    tables = []
    for tic, path in (("A", close), ("B", close[::-1]), ("C", close[::2].repeat(2))):
        tables.append(frame.assign(tic=tic, open=path, high=path, low=path, close=path, volume=volume))
    pd.concat(tables).to_parquet(tmp_path / "prices.parquet")
    costs = {} if volume else {"temporary_impact": 0.0, "permanent_impact": 0.0}
    spec = spec_of(floor={"costs": CostConfig(**costs)})
    data = DataConfig(path=str(tmp_path / "prices.parquet"))
    result = audit_books(dataclasses.replace(spec, data=data), num_settings=4, num_steps=24)
    assert result.passed, result.rows


@pytest.mark.parametrize("name", ["djia29_daily_2013_2018.csv", "btcusd_1h_2018_2022.csv"])
def test_real_prices_pass_both_audits(name) -> None:
    path = Path(os.environ.get("TRADING_FLOOR_DATA") or "no folder of real prices") / name
    if not path.exists():
        pytest.skip("TRADING_FLOOR_DATA names no folder of real prices")
    spec = FloorSpec(data=DataConfig(path=str(path)), desk=DeskConfig(preset="roles"))
    for result in (audit_lookahead(spec, num_bars_checked=1), audit_books(spec, num_settings=3, num_steps=16)):
        assert result.passed, result.rows


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


def test_books_balance_with_log_growth_and_penalties_switched_off_for_the_audit() -> None:
    reward = {"kind": "log_growth", "lambda_turn": 0.5, "scale": 100.0}
    assert audit_books(spec_of(floor={"reward": reward}), num_settings=4, num_steps=24).passed


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


def test_books_audit_finds_a_commission_charged_twice(monkeypatch) -> None:
    honest = execution.commission

    def twice(notional, costs):
        return 2 * honest(notional, costs)

    monkeypatch.setattr(envs.trading, "commission", twice)
    monkeypatch.setattr(execution, "commission", twice)
    result = audit_books(spec_of(), num_settings=3, num_steps=8)
    assert "commission once per side" in failures(result)


def test_books_audit_finds_a_commission_that_spares_sales(monkeypatch) -> None:
    execute = envs.trading.execute

    def spare_sales(*args, **kwargs):
        fills = execute(*args, **kwargs)
        return fills._replace(fees=fills.fees * (fills.shares > 0))

    monkeypatch.setattr(envs.trading, "execute", spare_sales)
    result = audit_books(spec_of(), num_settings=3, num_steps=8)
    assert "cash moves by trades, fees and interest alone" in failures(result)


def test_books_audit_finds_a_fee_that_never_leaves_the_account(monkeypatch) -> None:
    settle = Trading._settle

    def forget_fees(self, cash, fills):
        free = fills._replace(fees=fills.fees * 0)
        return settle(self, cash, free)

    monkeypatch.setattr(Trading, "_settle", forget_fees)
    found = failures(audit_books(spec_of(), num_settings=3, num_steps=8))
    assert "cash moves by trades, fees and interest alone" in found
    assert "agents' profits sum to the account's profit" in found


def test_books_audit_finds_equity_that_leaves_something_out(monkeypatch) -> None:
    marked = accounts.marked

    def without_shorts(layout, cash, value):
        return marked(layout, cash, value.clamp_min(0.0))

    monkeypatch.setattr(envs.trading, "marked", without_shorts)
    assert "cash + positions = equity" in failures(audit_books(spec_of(), num_settings=2, num_steps=8))


def test_books_audit_finds_a_reward_that_is_not_the_change(monkeypatch) -> None:
    reward = envs.trading.reward
    monkeypatch.setattr(envs.trading, "reward", lambda *args: reward(*args) * 1.001)
    assert failures(audit_books(spec_of(), num_settings=2, num_steps=8)) == [
        "rewards sum to the change of account value"
    ]


def test_an_audit_that_tried_nothing_has_not_passed() -> None:
    result = audit_books(spec_of(), num_settings=1, num_steps=2)
    result.rows[0].tried = 0
    assert not result.passed


def test_perturbation_leaves_the_past_alone_and_changes_all_of_the_future() -> None:
    bars = market_of().bars
    other = perturb_after(bars, 100, np.random.default_rng(0))
    for name in ("open", "high", "low", "close", "volume"):
        mine, theirs = getattr(bars, name), getattr(other, name)
        assert np.array_equal(mine[:101], theirs[:101])
        assert (mine[101:] != theirs[101:]).all()
    assert (other.high >= other.low).all()


def test_random_costs_switch_each_term_on_and_off() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_costs(rng) for _ in range(60)]
    for field in dataclasses.fields(drawn[0]):
        assert len({getattr(costs, field.name) for costs in drawn}) > 1
    assert not random_costs(rng, has_volume=False).needs_volume


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_books_audit_finds_fills_at_a_price_that_was_never_quoted(monkeypatch, share) -> None:
    quoted = envs.tape._fill_prices
    monkeypatch.setattr(envs.tape, "_fill_prices", lambda *args: quoted(*args) * share)
    assert "orders meet the price of their fill rule" in failures(audit_books(spec_of(), num_settings=2, num_steps=6))
