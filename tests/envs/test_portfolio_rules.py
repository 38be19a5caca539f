import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs import portfolio_rules as rules
from envs.baselines import BASELINES, DEFAULT_BASELINES, RANDOM


def history(closes, days=None, **more):
    """What a rule is shown after so many closes, [D, A]; business days unless others are given."""
    closes = np.asarray(closes, dtype=float)
    days = pd.bdate_range("2015-01-01", periods=len(closes)) if days is None else days
    assets = tuple(f"A{i}" for i in range(closes.shape[1]))
    return rules.History(closes, days.to_numpy(dtype="datetime64[D]"), assets, **more)


@pytest.mark.parametrize(
    ("last", "first"), [("2015-10-30", "2015-04-30"), ("2015-08-31", "2015-02-27"), ("2015-03-02", "2015-01-01")]
)
def test_momentum_is_long_what_rose_and_short_what_fell_in_six_months(last, first):
    days = pd.bdate_range("2015-01-01", last)
    closes = np.full((len(days), 2), [2.0, 1.0])
    closes[days == first] = [1.0, 2.0]
    closes[-1] = 1.5
    weights = rules.momentum(history(closes, days))
    np.testing.assert_array_equal(weights, [0.5, -0.5])


def test_rule_of_the_page_of_baselines_is_one():
    page = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text()
    names = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    closes = np.ones((100, 3))
    closes[-1, 1] = 2.0
    np.testing.assert_array_equal(names["mine"](history(closes)), [0.0, 0.5, 0.0])
    assert names["mine"](history(closes, chosen=np.zeros(3))) is None
    assert names["mine"](history(closes, chosen=np.zeros(3), ends_month=True)) is not None


def test_page_of_baselines_has_them_all_and_marks_the_default():
    page = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text()
    rows = re.findall(r"^\| `(\w+)`( \*)? \|", page, flags=re.MULTILINE)
    assert {name for name, _ in rows} == {*BASELINES, RANDOM}
    assert tuple(name for name, star in rows if star) == DEFAULT_BASELINES
