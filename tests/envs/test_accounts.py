from __future__ import annotations

import pytest
import torch

from envs.accounts import Layout, RowSum, agent_profit, marked, open_books, positions
from envs.mandates import Mandate

CPU = torch.device("cpu")


def mandate(name: str, account: int, *assets: str) -> Mandate:
    return Mandate(name=name, role="x", account=account, assets=assets, feature_groups=())


def pooled() -> Layout:
    team = [mandate("a", 0, "X", "Y"), mandate("b", 0, "Y"), mandate("c", 7, "Y", "Z")]
    return Layout(team, ("W", "X", "Y", "Z"))


def test_layout_pools_slots_of_an_account_and_asset_into_a_line() -> None:
    layout = pooled()
    assert layout.assets == ("X", "Y", "Z")
    assert (layout.num_slots, layout.num_lines, layout.num_accounts, layout.num_assets) == (5, 4, 2, 3)
    assert layout.slot_agent == (0, 0, 1, 2, 2)
    assert layout.slot_line == (0, 1, 1, 2, 3)
    assert layout.line_account == (0, 0, 1, 1)
    assert layout.agent_account == (0, 0, 1)
    assert layout.is_pooled
    assert not Layout([mandate("a", 0, "X"), mandate("b", 0, "Y")], ("X", "Y")).is_pooled


@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[0, 1, 2]], [[0, 2], [1]], [[2], [0, 1]], [[1, 2]]])
@pytest.mark.parametrize("num_replicas", [1, 7, 63, 64, 200])
def test_row_sums_add_in_one_order_for_any_number_of_replicas(groups, num_replicas) -> None:
    x = torch.randn(2, 3, num_replicas, dtype=torch.float64) * torch.logspace(-9, 9, 3)[:, None]
    total = torch.stack(tuple(RowSum(groups, 3, CPU).each(x[0], x[1])))
    assert torch.equal(RowSum(groups, 3, CPU)(x[0]), total[0])
    for g, group in enumerate(groups):
        expected = x[:, group[0]]
        for row in group[1:]:
            expected = expected + x[:, row]
        assert torch.equal(total[:, g], expected)


def test_books_open_with_all_capital_in_cash() -> None:
    books = open_books(pooled(), 500.0, 3)
    assert (books.cash == 500).all()
    assert (books.equity == 500).all()
    assert not books.holdings.any()


def test_equity_is_cash_plus_positions() -> None:
    layout = pooled()
    holdings = torch.tensor([[1.0], [2.0], [-3.0], [4.0], [-5.0]], dtype=torch.float64)
    lines = positions(layout, holdings)
    assert lines[:, 0].tolist() == [1.0, -1.0, 4.0, -5.0]
    equity, gross = marked(layout, torch.tensor([[10.0], [20.0]], dtype=torch.float64), lines * 2)
    assert equity[:, 0].tolist() == [10.0, 18.0]
    assert gross[:, 0].tolist() == [4.0, 18.0]


def test_agent_profits_add_up_to_the_accounts() -> None:
    layout = pooled()
    before, after, traded, costs = (torch.rand(5, 2, dtype=torch.float64) for _ in range(4))
    financing = torch.tensor([[4.0, 6.0], [1.0, 1.0]], dtype=torch.float64)
    profit = agent_profit(layout, before=before, after=after, traded=traded, costs=costs, financing=financing)
    change = after - before - traded - costs
    assert torch.allclose(profit[0] + profit[1], change[:3].sum(0) + financing[0])
    assert torch.allclose(profit[1], change[2] + financing[0] / 2)
    assert torch.allclose(profit[2], change[3:].sum(0) + financing[1])
