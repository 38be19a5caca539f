import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs import portfolio_rules as rules
from envs.baseline_names import DEFAULT_BASELINES, RANDOM
from envs.baselines import BASELINES


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
    rows = re.findall(r"^\| `(\w+)`( \*)? \|", page.partition("## ")[0], flags=re.MULTILINE)
    assert {name for name, _ in rows} == {*BASELINES, RANDOM}
    assert tuple(name for name, star in rows if star) == DEFAULT_BASELINES


def walk(num_days, volatilities, drifts=0.0, seed=0):
    """Closes of assets with these daily volatilities and drifts, [num_days, A]."""
    returns = np.random.default_rng(seed).normal(size=(num_days, len(volatilities))) * volatilities + drifts
    return np.cumprod(1 + returns, axis=0)


@pytest.mark.parametrize("name", ["minimum_variance", "risk_parity", "max_sharpe"])
def test_estimates_are_of_the_last_year_alone(name):
    rule, closes = getattr(rules, name), walk(700, [0.01, 0.02, 0.03], [0.001, 0.002, 0.001])
    year = len(closes) - len(history(closes).last(months=12))
    assert 430 < year < 450
    other = closes.copy()
    other[:year] *= walk(year, [0.05, 0.01, 0.01], seed=1)
    np.testing.assert_array_equal(rule(history(other)), rule(history(closes)))
    other[year] *= 1.1
    assert (rule(history(other)) != rule(history(closes))).any()


def test_risk_parity_is_near_inverse_volatility_where_assets_are_strangers():
    weights = rules.risk_parity(history(walk(300, [0.01, 0.02, 0.04])))
    np.testing.assert_allclose(weights, np.array([4, 2, 1]) / 7, atol=0.04)


def test_max_sharpe_holds_what_gains_most_for_its_risk_and_cash_where_all_fall():
    weights = rules.max_sharpe(history(walk(300, [0.01, 0.01, 0.01], [0.004, 0.0, -0.004])))
    assert weights[0] > 0.6 > weights[1] >= weights[2] == 0
    falling = rules.max_sharpe(history(walk(300, [0.01, 0.01, 0.01], -0.003)))
    np.testing.assert_array_equal(falling, np.zeros(3))


def test_volatility_target_invests_what_varies_by_ten_percent_a_year_and_never_more_than_all():
    swings = np.where(np.arange(100) % 2, 0.02, -0.02)[:, None]
    closes = np.cumprod(1 + np.hstack([swings, swings]), axis=0)
    recent = history(closes).last(months=3)
    volatility = (recent[1:, 0] / recent[:-1, 0]).std(ddof=1) * np.sqrt(252)
    np.testing.assert_allclose(rules.volatility_target(history(closes)), np.full(2, 0.5 * 0.1 / volatility))
    np.testing.assert_allclose(rules.volatility_target(history(closes, days_per_year=63.0)).sum(), 0.2 / volatility)
    np.testing.assert_array_equal(rules.volatility_target(history(closes**0.1)), [0.5, 0.5])


@pytest.mark.parametrize("name", ["minimum_variance", "risk_parity", "max_sharpe", "volatility_target", "momentum"])
def test_rules_have_an_answer_on_the_first_day(name):
    weights = getattr(rules, name)(history(np.ones((1, 4))))
    np.testing.assert_array_equal(weights, np.zeros(4) if name == "momentum" else np.full(4, 0.25))
