from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from floors import FREE, market_of

from envs.accounts import Layout
from envs.liquidity import trailing_volatility
from envs.tape import Tape


def tape_of(market, bars=None) -> Tape:
    market = market if bars is None else dataclasses.replace(market, bars=bars)
    return Tape(market, Layout(market.mandates, market.bars.assets))


def test_tape_reads_this_bar_and_fills_on_the_next() -> None:
    market = market_of(floor={"costs": {"temporary_impact": 0.7, "permanent_impact": 0.2}})
    bars, tape = market.bars, tape_of(market)
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
        assert quotes.most[:, b].numpy() == pytest.approx(0.1 * bars.volume[t + 1], rel=1e-12)
    assert quotes.permanent[:, 0].numpy() == pytest.approx(0.2 * market.impact_unit, rel=1e-12)


def test_costs_that_are_off_take_no_rows() -> None:
    tape = tape_of(market_of(floor={"costs": FREE}))
    quotes, _ = tape.read(torch.tensor([70]))
    assert quotes.temporary is quotes.permanent is quotes.most is None
    assert len(tape.table) == 3 * 4


def test_book_weights_sum_to_one_and_favour_calm_assets() -> None:
    market = market_of(desk={"num_agents": 2, "book_rule": "inverse_volatility"})
    _, weights = tape_of(market).read(torch.tensor([150]))
    assert weights[:2].sum().item() == pytest.approx(1.0)
    sigma = trailing_volatility(market.bars.close, market.bars.tradable, 60)[150]
    assert (weights[0] > weights[1]).item() == (sigma[0] < sigma[1])
    assert weights[0].item() == pytest.approx(sigma[1] / (sigma[0] + sigma[1]))


@pytest.mark.parametrize("most", [None, 0.1])
@pytest.mark.parametrize(("fill", "bar"), [("next_open", 101), ("same_close_unsafe", 100)])
def test_nothing_is_taken_where_the_bar_of_the_fill_does_not_trade(fill, bar, most) -> None:
    market = market_of(floor={"fill": fill, "costs": {"max_participation": most}})
    volume = market.bars.volume.copy()
    volume[bar, 1] = 0.0
    quotes, _ = tape_of(market, dataclasses.replace(market.bars, volume=volume)).read(torch.tensor([100]))
    assert (quotes.most[:, 0] > 0).tolist() == [True, False, True, True]
