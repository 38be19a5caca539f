from __future__ import annotations

import numpy as np
import pytest
import torch
from floors import market_of

from envs.accounts import Layout
from envs.settings import CostConfig
from envs.tape import Tape, trailing_volatility, trailing_volume


def test_tape_reads_this_bar_and_fills_on_the_next() -> None:
    market = market_of()
    bars = market.bars
    layout = Layout(market.mandates, bars.assets)
    tape = Tape(bars, layout, market.mandates, CostConfig(temporary_impact=0.7, permanent_impact=0.2), "next_open")
    at = torch.tensor([70, 100, 70])
    quotes, weights = tape.read(at)
    assert weights is None
    for b, t in enumerate(at.tolist()):
        assert quotes.close[:, b].tolist() == bars.close[t].tolist()
        assert quotes.fill[:, b].tolist() == bars.open[t + 1].tolist()
        assert quotes.next_close[:, b].tolist() == bars.close[t + 1].tolist()
        returns = np.diff(np.log(bars.close[t - 20 : t + 1]), axis=0)
        sigma, adv = np.sqrt((returns**2).mean(0)), bars.volume[t - 19 : t + 1].mean(0)
        assert quotes.temporary[:, b].numpy() == pytest.approx(0.7 * sigma / np.sqrt(adv), rel=1e-9)
        assert quotes.permanent[:, b].numpy() == pytest.approx(0.2 / adv, rel=1e-9)


def test_costs_that_are_off_take_no_rows() -> None:
    market = market_of()
    layout = Layout(market.mandates, market.bars.assets)
    tape = Tape(market.bars, layout, market.mandates, CostConfig(temporary_impact=0, permanent_impact=0), "next_open")
    quotes, _ = tape.read(torch.tensor([70]))
    assert quotes.temporary is quotes.permanent is None
    assert len(tape.table) == 3 * 4


def test_book_weights_sum_to_one_and_favour_calm_assets() -> None:
    market = market_of(desk={"num_agents": 2, "book_rule": "inverse_volatility"})
    layout = Layout(market.mandates, market.bars.assets)
    costs = market.spec.floor.costs
    _, weights = Tape(market.bars, layout, market.mandates, costs, "next_open").read(torch.tensor([150]))
    assert weights[:2].sum().item() == pytest.approx(1.0)
    sigma = trailing_volatility(market.bars.close, 60)[150]
    assert (weights[0] > weights[1]).item() == (sigma[0] < sigma[1])
    assert weights[0].item() == pytest.approx(sigma[1] / (sigma[0] + sigma[1]))


def test_trailing_figures_use_what_there_is_and_nothing_later() -> None:
    volume = np.arange(1.0, 41.0)[:, None]
    got = trailing_volume(volume, 20)[:, 0]
    assert got[[0, 1, 19, 39]] == pytest.approx([1.0, 1.5, 10.5, 30.5])
    assert trailing_volume(np.zeros((3, 1)))[0, 0] > 0
