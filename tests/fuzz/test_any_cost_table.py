"""Tables of costs in which something is wrong: numbers that can be charged, or one line that names the file."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import FUZZ, refused
from hypothesis import given
from hypothesis import strategies as st
from price_samples import long_table, write
from test_any_prices import as_text, rows_changed

from envs.bars import load_bars
from envs.cost_tables import with_cost_table
from envs.settings import CostConfig

pytestmark = pytest.mark.fuzz
TABLE = pd.DataFrame({"tic": ["AAA", "BBB"], "half_spread_bps": [1.5, 20], "lot_size": [1, 100]})


@FUZZ
@given(data=st.data())
def test_any_table_of_costs_is_charged_or_refused(data):
    rows = data.draw(rows_changed(TABLE))
    with tempfile.TemporaryDirectory() as place:
        bars = load_bars(write(Path(place), long_table()))
        path = Path(place) / "costs.csv"
        path.write_text(as_text(rows, data.draw(st.sampled_from([",", ";"])), csv.QUOTE_MINIMAL))
        found = []
        said = refused(
            lambda: found.append(with_cost_table(bars, CostConfig(table=str(path)).settled(has_volume=True)))
        )
    if said:
        assert "costs.csv" in said
        return
    for name, values in found[0].costs.items():
        assert values.shape == (1, 2)
        assert (np.isnan(values) | (values >= 0) & np.isfinite(values)).all(), name  # NaN: the setting's
