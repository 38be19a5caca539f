import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from envs.bar_data import Bars
from envs.bars import split_bars
from envs.folds import walk_forward
from envs.settings import DataConfig


def history(num_bars):
    dates = np.datetime64("2001-01-01", "us") + np.arange(num_bars) * np.timedelta64(1, "D")
    close = np.linspace(1.0, 2.0, num_bars)[:, None]
    return Bars(dates=dates, assets=("x",), open=close, high=close, low=close, close=close)


def until(bars, end):
    return bars if end is None else bars.between(0, int(np.searchsorted(bars.dates, np.datetime64(end, "us"))))


@given(
    num_bars=st.integers(400, 900),
    num_folds=st.integers(1, 6),
    first_test=st.floats(0.4, 0.8),
    validation=st.floats(0.1, 0.5),
    lookback=st.integers(0, 30),
)
def test_tests_follow_one_another_and_every_split_before_them_lies_an_embargo_away(
    num_bars, num_folds, first_test, validation, lookback
):
    bars = history(num_bars)
    folds = walk_forward(
        bars,
        num_folds=num_folds,
        first_test=first_test,
        validation=validation,
        lookback_bars=lookback,
        embargo_bars=lookback,
    )
    assert [fold.number for fold in folds] == list(range(1, num_folds + 1))
    tested = []
    for fold in folds:
        config = DataConfig(validation_start=fold.validation_start, test_start=fold.test_start)
        own = until(bars, fold.end)
        splits = split_bars(own, config, lookback_bars=lookback, embargo_bars=lookback, horizon_bars=1)
        assert splits.train.start == lookback, "training is on all that came before"
        assert splits.validation.start - splits.train.stop == lookback
        assert splits.test.start - splits.validation.stop == lookback
        assert splits.test.stop == own.num_bars
        usable = splits.train.num_bars + splits.validation.num_bars
        assert splits.validation.num_bars == pytest.approx(validation * usable, abs=1)
        tested += range(splits.test.start, splits.test.stop)
    assert tested == list(range(tested[0], num_bars)), "every bar from the first test on is tested once"
    assert tested[0] == round(first_test * num_bars)


def test_history_that_is_too_short_for_the_folds_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="history too short: memory has 100 bars; fold 1 of 4 would have 0 usable"):
        walk_forward(history(100), num_folds=4, first_test=0.5, validation=0.2, lookback_bars=20, embargo_bars=20)
