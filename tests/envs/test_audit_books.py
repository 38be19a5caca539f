from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from floors import AUDITED, failures, market_of, spec_of
from real_prices import real_prices

import envs.attribution
import envs.execution
import envs.features
import envs.tape
import envs.trading
from envs import accounts, execution
from envs.audit_books import audit_books, audit_round_trips
from envs.audit_draws import random_costs
from envs.audit_lookahead import audit_lookahead
from envs.market import build_market
from envs.price_checks import LARGEST, LARGEST_VOLUME, SMALLEST
from envs.settings import CostConfig, DataConfig, DeskConfig, FloorSpec
from envs.trading import Trading


@pytest.mark.parametrize("desk", AUDITED)
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


def test_books_balance_with_log_growth_and_penalties_switched_off_for_the_audit() -> None:
    reward = {"kind": "log_growth", "lambda_turn": 0.5, "scale": 100.0}
    assert audit_books(spec_of(floor={"reward": reward}), num_settings=4, num_steps=24).passed


def test_books_audit_finds_a_commission_charged_twice(monkeypatch) -> None:
    honest = execution.commission

    def twice(notional, costs):
        return 2 * honest(notional, costs)

    monkeypatch.setattr(envs.attribution, "commission", twice)
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
    assert "cash moves by trades, fees, interest, funding and closings alone" in failures(result)


def test_books_audit_finds_a_fee_that_never_leaves_the_account(monkeypatch) -> None:
    settle = Trading._settle

    def forget_fees(self, cash, fills, *rest):
        free = fills._replace(fees=fills.fees * 0)
        return settle(self, cash, free, *rest)

    monkeypatch.setattr(Trading, "_settle", forget_fees)
    found = failures(audit_books(spec_of(), num_settings=3, num_steps=8))
    assert "cash moves by trades, fees, interest, funding and closings alone" in found
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


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_books_audit_finds_fills_at_a_price_that_was_never_quoted(monkeypatch, share) -> None:
    quoted = envs.tape._fill_prices
    monkeypatch.setattr(envs.tape, "_fill_prices", lambda *args: quoted(*args) * share)
    assert "orders meet the price of their fill rule" in failures(audit_books(spec_of(), num_settings=2, num_steps=6))


def test_random_costs_switch_each_term_on_and_off() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_costs(rng) for _ in range(60)]
    for name in (field.name for field in dataclasses.fields(CostConfig) if field.name != "table"):
        assert len({getattr(costs, name) for costs in drawn}) > 1
    still = random_costs(rng, has_volume=False)
    assert still.temporary_impact == still.permanent_impact == 0


def test_round_trip_audit_finds_an_impact_that_pays_those_who_buy_in_pieces(monkeypatch) -> None:
    costs = {"commission_bps": 0, "half_spread_bps": 0, "temporary_impact": 0, "permanent_impact": 50.0}
    market = market_of(desk={"preset": "rivals", "num_agents": 2}, floor={"costs": costs, "capital": 1e9})
    assert audit_round_trips(market).passed
    monkeypatch.setattr(envs.execution, "average_move", lambda move: (0.5 * move).exp())  # the price half way
    assert not audit_round_trips(market).passed


def test_round_trip_audit_finds_an_impact_that_depends_on_the_time(monkeypatch) -> None:
    costs = {"commission_bps": 0, "half_spread_bps": 0, "temporary_impact": 0, "permanent_impact": 5.0}
    market = market_of(desk={"preset": "rivals", "num_agents": 1}, floor={"costs": costs, "capital": 1e9})
    assert audit_round_trips(market).passed
    read = envs.tape.Tape.read

    def by_the_bars_volume(self, bar):
        quotes, weights = read(self, bar)
        volume = torch.tensor(market.bars.volume.T)[:, bar]
        return quotes._replace(permanent=0.1 / volume), weights

    monkeypatch.setattr(envs.tape.Tape, "read", by_the_bars_volume)
    assert not audit_round_trips(market).passed


def test_books_audit_finds_an_order_that_is_filled_where_nothing_trades(monkeypatch) -> None:
    market = market_of()
    volume = market.bars.volume.copy()
    volume[::3, 0] = 0.0
    market = build_market(market.spec, bars=dataclasses.replace(market.bars, volume=volume))
    assert audit_books(market, num_settings=2, num_steps=8).passed
    anything = lambda bars, columns, most: np.full((bars.num_bars, len(columns)), np.inf)  # noqa: E731
    monkeypatch.setattr(envs.tape, "most_shares", anything)
    found = failures(audit_books(market, num_settings=2, num_steps=8))
    assert "the market takes no more than it trades, and nothing where it is closed" in found


@pytest.mark.parametrize("name", ["djia29_daily_2013_2018.csv", "btcusd_1h_2018_2022.csv"])
def test_real_prices_pass_all_audits(name) -> None:
    spec = FloorSpec(data=DataConfig(path=real_prices(name)), desk=DeskConfig(preset="roles"))
    audits = audit_lookahead(spec, num_bars_checked=1), audit_books(spec, num_settings=3, num_steps=16)
    for result in (*audits, audit_round_trips(spec)):
        assert result.passed, result.rows
