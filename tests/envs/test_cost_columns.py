"""Columns of costs in price files: read, refused, and charged bar by bar."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from floors import FREE, spec_of
from price_samples import long_table, write

from common.errors import InputError
from envs.audit_lookahead import audit_lookahead
from envs.bars import load_bars
from envs.floor import build_floor
from envs.market import build_market

TABLE = long_table(num_bars=200)
SPREAD = np.arange(len(TABLE), dtype=float) % 7


def with_columns(**columns):
    return TABLE.assign(**columns)


def market_on(bars, **costs):
    desk = {"preset": "rivals", "num_agents": 1, "action": "continuous"}
    return build_market(spec_of(desk=desk, floor={"costs": dataclasses.replace(FREE, **costs)}), bars=bars)


def test_columns_named_like_costs_are_read_and_told(tmp_path):
    bars = load_bars(write(tmp_path, with_columns(Half_Spread_Bps=SPREAD, borrow_rate_annual=0.1)))
    found = with_columns(spread=SPREAD).pivot_table(index="date", columns="tic", values="spread")[list(bars.assets)]
    assert np.array_equal(bars.costs["half_spread_bps"], found.to_numpy())
    assert (bars.costs["borrow_rate_annual"] == 0.1).all()
    assert "charged as the file says, bar by bar: half_spread_bps, borrow_rate_annual" in bars.notes
    assert bars.fingerprint != load_bars(write(tmp_path, TABLE)).fingerprint


def test_a_column_of_another_name_is_a_cost_where_the_user_says_so(tmp_path):
    path = write(tmp_path, with_columns(taker=SPREAD))
    assert load_bars(path).costs == {}
    assert set(load_bars(path, columns=("commission_bps=taker",)).costs) == {"commission_bps"}


def test_an_order_pays_what_the_row_of_its_decision_says(tmp_path):
    market = market_on(load_bars(write(tmp_path, with_columns(half_spread_bps=SPREAD))))
    floor = build_floor(market, split="test", start="first", record=True)
    weights, paid = np.zeros((1, 1, len(floor.layout.assets))), []
    for bar in range(4):
        weights[:] = 0.2 if bar % 2 == 0 else 0.0
        floor.step(weights)
        detail = floor.detail
        rate = market.bars.costs["half_spread_bps"][int(detail.bar)] * 1e-4
        traded = (detail.line_fills.abs() * detail.price)[:, 0].numpy()
        assert detail.attributed.spread[:, 0].numpy() == pytest.approx(traded * rate)
        paid += rate.tolist()
    assert len(set(paid)) > 4


def test_a_missing_bar_costs_what_the_one_before_it_did(tmp_path):
    table = with_columns(half_spread_bps=SPREAD)
    name = table["tic"].iloc[0]
    days = table.loc[table["tic"] == name, "date"].tolist()
    gone = table[~((table["tic"] == name) & table["date"].isin([days[0], days[5]]))]
    found = load_bars(write(tmp_path, gone), calendar="union")
    of_name = table[table["tic"] == name]["half_spread_bps"].to_numpy(copy=True)
    of_name[[0, 5]] = of_name[[1, 4]]
    assert found.costs["half_spread_bps"][:, found.assets.index(name)].tolist() == of_name.tolist()


def test_parts_of_bars_keep_their_costs(tmp_path):
    bars = load_bars(write(tmp_path, with_columns(half_spread_bps=SPREAD)))
    bars = dataclasses.replace(bars, costs={**bars.costs, "lot_size": np.array([[1.0, 2.0]])})
    part = bars.between(3, 9).select(bars.assets[1:])
    assert np.array_equal(part.costs["half_spread_bps"], bars.costs["half_spread_bps"][3:9, 1:])
    assert part.costs["lot_size"].tolist() == [[2.0]]


def test_no_cost_looks_ahead(tmp_path):
    rng = np.random.default_rng(0)
    own = {
        name: rng.uniform(0, 1, len(TABLE)) for name in ("half_spread_bps", "temporary_impact", "commission_min_usd")
    }
    bars = load_bars(write(tmp_path, with_columns(**own)))
    assert audit_lookahead(market_on(bars, permanent_impact=0.1), num_bars_checked=1).passed


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"half_spread_bps": -1.0},
            r"line 2, column 'half_spread_bps', asset .*half_spread_bps must be a number, from 0",
        ),
        ({"commission_bps": 5_000.0}, r"commission_bps must be a number, from 0 to below 5,000"),
        ({"borrow_rate_annual": np.nan}, r"borrow_rate_annual must be a number, 0 or above"),
        ({"temporary_impact": "much"}, r"'much' is not a number"),
        ({"permanent_impact": 0.1}, r"column 'permanent_impact': .*would pay those who .*--floor\.costs\.table FILE"),
        ({"lot_size": 10.0}, r"column 'lot_size': it is a rule that holds at all times.*--floor\.costs\.table FILE"),
    ],
)
def test_what_a_column_cannot_say_is_refused(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        load_bars(write(tmp_path, with_columns(**columns)))


def test_files_of_which_some_lack_a_cost_are_refused(tmp_path):
    one, other = (group for _, group in TABLE.groupby("tic"))
    paths = [write(tmp_path, one.assign(half_spread_bps=1.0), "a.csv"), write(tmp_path, other, "b.csv")]
    with pytest.raises(InputError, match=r"a\.csv has a column half_spread_bps and .*b\.csv has none"):
        load_bars(paths)


def test_a_cost_in_a_column_and_in_the_table_is_refused(tmp_path):
    bars = load_bars(write(tmp_path, with_columns(half_spread_bps=SPREAD)))
    path = tmp_path / "costs.csv"
    path.write_text(f"tic,half_spread_bps\n{bars.assets[0]},1\n")
    with pytest.raises(InputError, match=r"half_spread_bps is a column of both .*costs\.csv: leave it out of one"):
        market_on(bars, table=str(path))


def test_a_wide_table_has_no_column_of_costs(tmp_path):
    wide = TABLE.pivot_table(index="date", columns="tic", values="close").reset_index()
    path = write(tmp_path, pd.DataFrame(wide).assign(taker=1.0))
    with pytest.raises(InputError, match=r"data\.columns names a column for commission_bps, but"):
        load_bars(path, columns=("commission_bps=taker",))
