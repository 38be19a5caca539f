"""Baselines by name, and rules of the user's own: what they may be and how they fail."""

import numpy as np
import pytest
from sample_runs import ScriptedPolicy, make_run

from common.errors import InputError
from envs.baseline_names import DEFAULT_BASELINES
from envs.baselines import BASELINES
from envs.portfolio_rules import History, equal
from experiments.backtest import run
from experiments.backtesting.baselines import own_rules
from experiments.backtesting.compare import backtest_models
from experiments.command_line import exit_code
from experiments.runs.models import find_models

OWN = """
import numpy as np
from envs.portfolio_rules import monthly

def first(history):
    return np.eye(len(history.assets))[0] / 2

first_of_month = monthly(first)
answer = None

def any_answer(history):
    return answer

def fails(history):
    return history.prices
"""
SEEN = History(np.ones((2, 3)), np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), ("A", "B", "C"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_rules_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_rules_of_a_test

    return own_rules_of_a_test


def test_rule_of_ones_own_is_run_beside_those_that_are_there(own, tmp_path):
    make_run(tmp_path / "dow")
    names = ["equal_weight", "own_rules_of_a_test:first", "own_rules_of_a_test:first_of_month"]
    done = backtest_models(find_models([tmp_path / "dow"]), load=lambda _: ScriptedPolicy(), baselines=names)
    assert [result.name for result in done.baselines] == names
    daily, by_month = (result.trades["date"].nunique() for result in done.baselines[1:])
    assert daily > 3 * by_month > 0
    assert (done.baselines[1].weights.iloc[:, 1:] == 0).all(axis=None)


def test_names_that_are_known_need_no_import():
    assert own_rules(DEFAULT_BASELINES) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("equal_wieght", "--baselines equal_wieght is unknown .did you mean 'equal_weight'.*module:function"),
        ("own_rules_of_a_test:frist", "--baselines own_rules_of_a_test:frist cannot be imported"),
        ("own_rules_of_a_test:answer", "is NoneType: name a class or a function"),
        ("nowhere:rule", "--baselines nowhere:rule cannot be imported.*PYTHONPATH"),
    ],
)
def test_baseline_that_is_none_is_one_line(own, name, message):
    with pytest.raises(InputError, match=message):
        own_rules([name])


def test_baseline_that_is_none_is_refused_before_anything_runs(tmp_path, capsys):
    make_run(tmp_path / "dow")
    words = ["--model", str(tmp_path / "dow"), "--baselines", "cash", "momentun"]
    assert exit_code(run, words) == 2
    assert "--baselines momentun is unknown (did you mean 'momentum'?)" in capsys.readouterr().err
    assert not list((tmp_path / "dow").glob("backtest*"))


def test_baseline_that_stands_twice_is_refused():
    with pytest.raises(InputError, match="names one twice: cash cash"):
        own_rules(["cash", "cash"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0.5, 0.5], r"2020-01-02 returns weights of shape \(2,\): return 3, one for each asset"),
        ([0.5, 0.5, np.nan], "no finite numbers"),
        ([0.9, -0.2, 0.0], "weights of 1.1 in all"),
        ("all", "returns str: return weights"),
    ],
)
def test_answer_that_is_no_portfolio_is_one_line(own, answer, message):
    name = "own_rules_of_a_test:any_answer"
    own.answer = answer
    with pytest.raises(InputError, match=message):
        own_rules([name])[name](SEEN)
    own.answer = [0.25, 0.25, -0.5]
    np.testing.assert_array_equal(own_rules([name])[name](SEEN), own.answer)


def test_rule_that_fails_says_where(own):
    name = "own_rules_of_a_test:fails"
    with pytest.raises(InputError, match=r"own_rules_of_a_test:fails on 2020-01-02 fails: AttributeError: .*prices"):
        own_rules([name])[name](SEEN)


def test_default_baselines_exist_and_the_table_cannot_be_changed():
    assert set(DEFAULT_BASELINES) - {"random"} <= set(BASELINES)
    with pytest.raises(TypeError):
        BASELINES["mine"] = equal
