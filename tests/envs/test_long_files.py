"""A million bars are read in seconds, and in a gigabyte."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

_LOAD = """
import json, resource, sys, time
from envs.bars import load_bars
before = time.process_time()
bars = load_bars(sys.argv[1])
took = time.process_time() - before
print(json.dumps([bars.num_bars, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def minutes(num_bars: int, form: str) -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 5e-4, num_bars)))
    dates = pd.date_range("2021-01-01", periods=num_bars, freq="1min").strftime(form)
    frame = pd.DataFrame({"date": dates, "open": close, "high": close * 1.001, "low": close * 0.999, "close": close})
    return frame.round(4).assign(volume=5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S+00:00", "%d.%m.%Y %H:%M"])
def test_a_million_minute_bars_are_read_in_five_seconds_and_a_gigabyte(tmp_path, form):
    path = tmp_path / "BTC.csv"
    minutes(1_000_000, form).to_csv(path, index=False)
    said = subprocess.run([sys.executable, "-c", _LOAD, str(path)], check=True, capture_output=True, text=True).stdout
    num_bars, seconds, gibibytes = json.loads(said)
    assert num_bars == 1_000_000
    assert seconds < 5
    assert gibibytes < 1
