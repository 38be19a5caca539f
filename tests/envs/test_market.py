from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from common.errors import InputError
from envs.cost_tables import asset_costs
from envs.floor import build_floor
from envs.market import build_market, spec_from_json, spec_to_json
from envs.settings import CostConfig
from tests.envs.floors import flat_bars, market_of, spec_of

RISING = [[1.0 + 0.01 * i, 2.0] for i in range(100)]
NO_IMPACT = "no volumes: orders move no prices (price impact is 0), however large they are"


@pytest.mark.parametrize("volume", [None, 0.0])
def test_prices_without_volumes_trade_without_impact_and_say_so(volume) -> None:
    market = build_market(spec_of(), bars=flat_bars(RISING, volume=volume))
    costs = market.spec.floor.costs
    assert (costs.temporary_impact, costs.permanent_impact) == (0.0, 0.0)
    assert market.bars.notes == (NO_IMPACT,)
    assert build_floor(market).reset().obs.isfinite().all()


def test_impact_is_priced_where_there_are_volumes_and_nothing_is_said() -> None:
    market = build_market(spec_of(), bars=flat_bars(RISING))
    costs = market.spec.floor.costs
    assert (costs.temporary_impact, costs.permanent_impact) == (0.5, 0.314)
    assert market.bars.notes == ()


def test_impact_that_is_turned_off_by_hand_needs_no_note() -> None:
    free = {"temporary_impact": 0.0, "permanent_impact": 0.0}
    assert build_market(spec_of(floor={"costs": free}), bars=flat_bars(RISING, volume=None)).bars.notes == ()


def test_volumes_of_some_assets_alone_are_refused() -> None:
    bars = flat_bars(RISING)
    volume = np.stack((bars.volume[:, 0], np.zeros(bars.num_bars)), axis=1)
    half = dataclasses.replace(bars, volume=volume, tradable=None, without_volume=None)
    with pytest.raises(InputError, match="only zeros for A1"):
        build_floor(build_market(spec_of(), bars=half))


def test_one_asset_alone_has_roles_and_says_so() -> None:
    market = build_market(spec_of(), bars=flat_bars([price for price, _ in RISING]))
    assert [mandate.role for mandate in market.mandates][:2] == ["momentum", "trend"]
    assert market.spec.desk.preset == "roles"
    assert market.bars.notes == ("one asset alone: its agents are roles (desk.preset roles or rivals)",)
    by_hand = build_market(spec_of(desk={"preset": "roles"}), bars=flat_bars([price for price, _ in RISING]))
    assert by_hand.bars.notes == ()


def test_a_market_is_shared_with_those_who_build_it_from_its_own_spec() -> None:
    market = market_of(seed=7)
    assert market.spec != spec_of(seed=7)
    assert build_market(spec_from_json(spec_to_json(market.spec))) is build_market(spec_of(seed=7)) is market


def test_fewer_bars_of_an_evaluation_are_told_and_are_those_that_are_traded() -> None:
    spec = spec_of()
    market = build_market(dataclasses.replace(spec, data=dataclasses.replace(spec.data, evaluation_bars=5)))
    assert any(note.startswith("evaluations and backtests take the last 5 decisions") for note in market.bars.notes)
    assert build_floor(market, split="validation", start="first").split.num_decisions == 5


def test_costs_that_are_left_to_the_prices_are_no_number_before_these_are_known() -> None:
    with pytest.raises(ValueError, match="build_market settles it"):
        asset_costs("temporary_impact", CostConfig(), flat_bars(RISING))
    assert CostConfig().settled(has_volume=True).permanent_impact == 0.314
    assert CostConfig().settled(has_volume=False).permanent_impact == 0
    assert CostConfig(temporary_impact=0.1).settled(has_volume=False).temporary_impact == 0.1
