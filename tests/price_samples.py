"""Small price tables, written to files, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.errors import FaultsError, InputError
from envs.bars import load_bars


def long_table(assets=("AAA", "BBB"), num_bars=6, start="2020-01-06") -> pd.DataFrame:
    rows = []
    for i, day in enumerate(pd.bdate_range(start, periods=num_bars)):
        for k, asset in enumerate(assets):
            price = 100.0 * (k + 1) + i
            rows.append((str(day.date()), asset, price, price + 2, price - 2, price + 1, 1000.0 + i))
    return pd.DataFrame(rows, columns=["date", "tic", "open", "high", "low", "close", "volume"])


def write(tmp_path, frame: pd.DataFrame, name="prices.csv") -> str:
    path = tmp_path / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_feather(path)
    return str(path)


def refusal(path: str, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load_bars(path, **kwargs)
    first, *others = str(caught.value).split("\n")
    assert Path(path).name in first
    assert all(Path(path).name in line or line.endswith(" more faults") for line in others)
    assert bool(others) == isinstance(caught.value, FaultsError)
    return str(caught.value)
