"""Real prices that are not part of the project, where a tester has them (see CONTRIBUTING.md)."""

import os
from pathlib import Path

import pandas as pd
import pytest


def real_prices(name: str) -> str:
    """The path of a file in the folder that ``TRADING_FLOOR_DATA`` names; the test is skipped where it is not there."""
    path = Path(os.environ.get("TRADING_FLOOR_DATA") or "no folder of real prices") / name
    if not path.is_file():
        pytest.skip(f"TRADING_FLOOR_DATA names no folder with {name}")
    return str(path)


def days_of(path: str) -> pd.DataFrame:
    """Bars of a day made of a file's bars of an hour, of one asset."""
    hours = pd.read_csv(path)
    how = {"tic": "first", "open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return hours.groupby(hours["date"].str[:10]).agg(how).reset_index()
