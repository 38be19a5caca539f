from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from floors import FREE
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.accounts import Layout
from envs.costs import costs_of
from envs.execution import (
    MAX_IMPACT,
    Quotes,
    average_move,
    clearing_price,
    commission,
    execute,
    share_taken,
    temporary_impact,
    whole_lots,
)
from envs.mandates import Mandate
from envs.settings import CostConfig


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def one_account(num_assets: int) -> Layout:
    names = tuple(f"A{i}" for i in range(num_assets))
    return Layout([Mandate(name="x", role="x", account=0, assets=names, feature_groups=())], names)


def test_commission_is_a_rate_with_a_floor_and_a_fixed_fee_and_nothing_for_nothing() -> None:
    costs = costs_of(CostConfig(commission_bps=10, commission_min_usd=5, commission_fixed_usd=1))
    assert commission(column(0.0, 100.0, 5_000.0, 100_000.0), costs)[:, 0].tolist() == [0.0, 6.0, 6.0, 101.0]
    assert commission(column(100_000.0), costs_of(CostConfig(commission_bps=10))).item() == pytest.approx(100.0)


def test_impact_laws_match_their_formulas_and_their_bound() -> None:
    flow = column(400.0, -400.0, 0.0, 1e12)
    root = temporary_impact(flow, column(*[0.01] * 4), "square_root")[:, 0].tolist()
    assert root == pytest.approx([0.2, -0.2, 0.0, MAX_IMPACT])
    linear = temporary_impact(flow, column(*[1e-4] * 4), "linear")[:, 0].tolist()
    assert linear == pytest.approx([0.04, -0.04, 0.0, MAX_IMPACT])


def test_clearing_price_is_the_recorded_price_where_nothing_has_impact() -> None:
    quotes = Quotes(column(1.0), column(2.0), column(3.0), None, None, None, None)
    price, mid = clearing_price(column(1e9), quotes, column(0.0), FREE)
    assert price is mid is quotes.fill


def test_round_trip_under_permanent_impact_returns_its_money_in_any_pieces() -> None:
    quotes = Quotes(column(100.0), column(100.0), column(100.0), None, None, None, column(1e-5))

    def paid(pieces, offset=0.0):
        total = 0.0
        for shares in pieces:
            price, _ = clearing_price(column(shares), quotes, column(offset), FREE)
            total, offset = total + shares * price.item(), offset + shares * 1e-5
        return total

    assert paid([3_000.0]) == pytest.approx(paid([1_000.0, 500.0, 1_500.0]), rel=1e-12)
    assert paid([3_000.0, -2_500.0, 1_000.0, -500.0, -1_000.0]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("move", [0.0, 1e-12, -1e-6, 3e-3, -0.1, 0.1])
def test_average_of_a_move_is_its_integral(move) -> None:
    exact = math.expm1(move) / move if move else 1.0
    assert average_move(column(move)).item() == pytest.approx(exact, rel=4e-16)


def test_market_takes_the_same_part_of_all_orders_and_none_where_nothing_trades() -> None:
    share = share_taken(column(100.0, 100.0, 0.0, 0.0, np.inf), column(50.0, 400.0, 10.0, 0.0, 1e300))
    assert share[:, 0].tolist() == [1.0, 0.25, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("shares", "lots"), [(250.0, 200.0), (-250.0, -200.0), (99.0, 0.0), (300.0 - 1e-10, 300.0), (0.0, 0.0)]
)
def test_lots_round_toward_zero_but_not_for_rounding_errors(shares, lots) -> None:
    assert whole_lots(column(shares), 100.0).item() == lots
    assert whole_lots(column(shares), 0.0).item() == shares


def fill(orders, *, costs=FREE, cash=1_000.0, held=None, price=10.0, credit=0.0, borrow_rate=0.0):
    n = len(orders)
    prices = (column(*[price] * n),) * 2
    return execute(
        one_account(n), costs_of(costs), column(*orders), column(*(held or [0.0] * n)), column(cash),
        column(1_000.0), prices,
        credit=credit, borrow_rate=borrow_rate,
    )  # fmt: skip


def test_purchases_are_cut_by_one_factor() -> None:
    fills = fill([150.0, 50.0])
    assert fills.shares[:, 0].tolist() == pytest.approx([75.0, 25.0])


def test_sales_fill_in_full_and_pay_for_purchases() -> None:
    fills = fill([-50.0, 200.0], held=[50.0, 0.0], cash=500.0)
    assert fills.shares[:, 0].tolist() == pytest.approx([-50.0, 100.0])


def test_credit_allows_purchases_beyond_cash() -> None:
    assert fill([200.0], credit=1.0).shares.item() == pytest.approx(200.0)
    assert fill([300.0], credit=1.0).shares.item() == pytest.approx(200.0)


def test_a_sale_that_brings_less_than_its_fee_is_dropped() -> None:
    costs = CostConfig(commission_min_usd=5.0, half_spread_bps=0.0)
    assert fill([-0.4], held=[1.0], costs=costs).shares.item() == 0.0
    assert fill([-0.6], held=[1.0], costs=costs).shares.item() == -0.6


def test_an_order_too_small_to_have_a_value_costs_nothing() -> None:
    fills = fill([5e-324], cash=0.0, price=0.5)
    assert (fills.value.item(), fills.fees.item()) == (0.0, 0.0)


@settings(max_examples=200, deadline=None)
@given(
    orders=st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
    held=st.lists(st.floats(-50, 200), min_size=3, max_size=3),
    cash=st.floats(0, 1e5),
    price=st.floats(0.01, 5_000),
    fees=st.tuples(
        st.floats(0, 100), st.floats(0, 20), st.floats(0, 20), st.floats(0, 100), st.sampled_from([0.0, 1.0, 100.0])
    ),
    rate=st.sampled_from([0.0, 1e-3]),
)
def test_cash_after_fills_and_fees_is_never_negative(orders, held, cash, price, fees, rate) -> None:
    bps, least, fixed, spread, lot = fees
    costs = CostConfig(
        commission_bps=bps, commission_min_usd=least, commission_fixed_usd=fixed, half_spread_bps=spread, lot_size=lot
    )
    # the account can pay the borrow fee on the shorts it already has: equity is never all short
    cash = cash + sum(-h for h in held if h < 0) * price * 1.5 + sum(-o for o in orders if o < 0) * price * rate
    fills = fill(orders, costs=costs, cash=cash, held=held, price=price, borrow_rate=rate)
    paid = fills.value + fills.fees + (fills.borrow if fills.borrow is not None else 0.0)
    assert cash - float(paid.sum()) >= -1e-9
    shares, wanted = fills.shares[:, 0].numpy(), np.array(orders)
    assert (np.abs(shares) <= np.abs(wanted) * (1 + 1e-9) + 1e-9 * max(lot, 1e-9)).all()
    assert (shares * wanted >= 0).all()
