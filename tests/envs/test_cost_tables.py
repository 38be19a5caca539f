"""Tables of what single assets cost: read, refused, and charged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from floors import FREE, flat_bars, spec_of

from common.errors import InputError
from envs.audit_books import audit_round_trips
from envs.cost_tables import asset_costs
from envs.floor import build_floor
from envs.market import build_market

PRICES = np.full((100, 3), 100.0)


@pytest.fixture
def market_with(tmp_path):
    """A market of three assets, A0 to A2, at prices that never move, with a table."""

    def build(table, *, bars=None, **costs):
        path = tmp_path / "costs.csv"
        path.write_text(table)
        costs = dataclasses.replace(FREE, table=str(path), **costs)
        spec = spec_of(desk={"preset": "rivals", "num_agents": 1, "action": "continuous"}, floor={"costs": costs})
        return build_market(spec, bars=bars or flat_bars(PRICES))

    return build


def test_cells_of_the_table_count_and_the_settings_hold_for_all_else(market_with):
    market = market_with("tic,half_spread_bps,lot_size\nA2,7,\nA0,0,10\n", half_spread_bps=3.0, lot_size=2.0)
    costs, bars = market.spec.floor.costs, market.bars
    assert asset_costs("half_spread_bps", costs, bars).tolist() == [[0.0, 3.0, 7.0]]
    assert asset_costs("lot_size", costs, bars).tolist() == [[10.0, 2.0, 2.0]]
    assert asset_costs("commission_bps", costs, bars).tolist() == [[0.0, 0.0, 0.0]]
    (note,) = bars.notes
    assert note.endswith(
        "costs.csv counts before --floor.costs.half-spread-bps, --floor.costs.lot-size, for 2 of 3 assets"
    )


def test_only_what_a_table_says_belongs_to_the_prices(market_with):
    """A branch may change a setting; that it holds for the assets which the table leaves out makes them no others."""
    one, other = (market_with("tic,half_spread_bps\nA0,5\n", half_spread_bps=x) for x in (2.0, 10.0))
    assert one.bars.fingerprint == other.bars.fingerprint
    assert one.bars.fingerprint != market_with("tic,half_spread_bps\nA0,6\n", half_spread_bps=2.0).bars.fingerprint


def test_a_table_that_says_the_same_of_every_asset_counts_before_the_setting(market_with):
    market = market_with("tic,commission_bps\nA0,10\nA1,10\nA2,10\n", commission_bps=3.0)
    floor = build_floor(market, split="test", start="first", record=True)
    floor.step(np.array([[[0.4, 0.3, 0.3]]]))
    assert floor.detail.attributed.commission.sum().item() == pytest.approx(1_000.0, rel=2e-3)


def test_every_asset_is_charged_its_own(market_with):
    market = market_with("tic,half_spread_bps,commission_fixed_usd,borrow_rate_annual\nA0,10,5,0\nA1,20,0,.252\n")
    floor = build_floor(market, split="test", start="first", record=True)
    floor.step(np.array([[[0.4, -0.3, 0.3]]]))
    paid = floor.detail.attributed
    assert paid.spread[:, 0].tolist() == pytest.approx([400.0, 600.0, 0.0])
    assert paid.commission[:, 0].tolist() == pytest.approx([5.0, 0.0, 0.0])
    days = market.bars.periods_per_year
    assert paid.borrow[:, 0].tolist() == pytest.approx([0.0, 300_000 * 0.252 / days, 0.0])


def test_an_asset_without_volumes_trades_where_the_table_says_that_its_orders_move_no_price(market_with):
    bars = flat_bars(PRICES)
    volume = bars.volume * [1.0, 1.0, 0.0]
    half = dataclasses.replace(bars, volume=volume, tradable=None, without_volume=None)
    market = market_with("tic,temporary_impact\nA2,0\n", bars=half, temporary_impact=0.5)
    floor = build_floor(market, split="test", start="first", record=True)
    floor.step(np.array([[[0.4, 0.0, 0.4]]]))
    assert (floor.detail.price != floor.detail.mid)[:, 0].tolist() == [True, False, False]
    with pytest.raises(InputError, match="only zeros for A2"):
        build_floor(market_with("tic,temporary_impact\nA0,0\n", bars=half, temporary_impact=0.5))


def test_nobody_is_paid_where_the_permanent_impact_of_assets_differs(market_with):
    table = "tic,permanent_impact,temporary_impact\nA0,0,1\nA1,3,0\nA2,.2,.3\n"
    rng = np.random.default_rng(0)
    bars = flat_bars(100 * np.exp(np.cumsum(0.01 * rng.standard_normal((100, 3)), axis=0)))
    assert audit_round_trips(market_with(table, bars=bars), num_paths=4, num_steps=16).passed


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("tic,half_spread\nA0,1\n", r"costs\.csv: column 'half_spread' is no cost of single assets.*half_spread_bps"),
        ("tic,cash_rate_annual\nA0,.1\n", r"column 'cash_rate_annual' is no cost of single assets"),
        (
            "tic,lot_size\nA0,1\nB1,1\n",
            r"costs\.csv: line 3, column 'tic': asset 'B1' is not one of those of memory",
        ),
        ("tic,lot_size\nA0,1\nA0,1\n", r"line 3, column 'tic': asset A0 stands already in line 2"),
        ("tic,lot_size\nA0,-1\n", r"line 2, column 'lot_size', asset A0: lot_size is -1: .*greater than or equal to 0"),
        ("tic,lot_size\nA0,inf\n", r"line 2, column 'lot_size', asset A0: lot_size is inf: .*finite"),
        ("tic,lot_size\nA0,1\nA1,many\n", r"line 3, column 'lot_size', asset A1: 'many' is not a number"),
        ("tic,max_participation\nA0,0\n", r"max_participation is 0: .*greater than 0"),
        ("lot_size,half_spread_bps\n1,2\n", r"there is no column tic"),
        ("tic\nA0\n", r"there is no column beside 'tic'"),
    ],
)
def test_what_the_table_cannot_say_is_refused_with_its_place(market_with, table, message):
    with pytest.raises(InputError, match=message) as caught:
        market_with(table)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_refused(market_with):
    costs = dataclasses.replace(FREE, table="nowhere.csv")
    with pytest.raises(InputError, match=r"cost table nowhere\.csv does not exist"):
        build_market(spec_of(floor={"costs": costs}))


def test_a_table_that_has_changed_is_another_market(market_with, tmp_path):
    one, same, other = (market_with(f"tic,lot_size\nA0,{lot}\n").bars.fingerprint for lot in (1, 1, 2))
    assert one == same != other
