import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from floors import spec_of
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from envs.bar_data import PRICE_FIELDS, Bars
from envs.bars import split_bars
from envs.floor import build_floor
from envs.folds import combinatorial, walk_forward
from envs.market import build_market
from envs.settings import DataConfig


def history(num_bars):
    dates = np.datetime64("2001-01-01", "us") + np.arange(num_bars) * np.timedelta64(1, "D")
    close = np.linspace(1.0, 2.0, num_bars)[:, None]
    return Bars(dates=dates, assets=("x",), open=close, high=close, low=close, close=close)


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
    parts = walk_forward(
        bars,
        num_folds=num_folds,
        first_test=first_test,
        validation=validation,
        lookback_bars=lookback,
        embargo_bars=lookback,
    )
    assert [fold.number for fold in parts.folds] == list(range(1, num_folds + 1))
    assert parts.paths == (tuple(range(num_folds)),)
    tested = []
    for fold, start in zip(parts.folds, parts.starts, strict=True):
        config = DataConfig(validation_start=fold.data["validation_start"], test_start=fold.data["test_start"])
        splits = split_bars(bars, config, lookback_bars=lookback, embargo_bars=lookback, horizon_bars=1)
        assert splits.train.start == lookback, "training is on all that came before"
        assert splits.validation.start - splits.train.stop == lookback
        assert splits.test.start - splits.validation.stop == lookback
        ((first, last),) = fold.tests
        assert first == start == str(bars.dates[splits.test.start])
        usable = splits.train.num_bars + splits.validation.num_bars
        assert splits.validation.num_bars == pytest.approx(validation * usable, abs=1)
        tested += range(splits.test.start, int(np.searchsorted(bars.dates, np.datetime64(last))) + 1)
    assert tested == list(range(tested[0], num_bars)), "every bar from the first test on is tested once"
    assert tested[0] == round(first_test * num_bars)


def test_history_that_is_too_short_for_the_folds_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="history too short: memory has 100 bars; fold 1 of 4 would have 0 usable"):
        walk_forward(history(100), num_folds=4, first_test=0.5, validation=0.2, lookback_bars=20, embargo_bars=20)


@st.composite
def cross_validations(draw):
    """Folds, splits of each, and first bar of each group with the end; of histories long enough for any of them."""
    num_groups, embargo = draw(st.integers(2, 7)), draw(st.integers(0, 20))
    num_tested, lookback = draw(st.integers(1, num_groups - 1)), draw(st.integers(0, embargo))
    horizon, validation = draw(st.integers(1, 8)), draw(st.floats(0.3, 1)) / (num_groups - num_tested + 1)
    bars = history(lookback + num_groups * draw(st.integers(160, 220)) + draw(st.integers(0, num_groups - 1)))
    data = DataConfig(groups=num_groups, validation=validation, embargo_bars=embargo)
    lengths = {"lookback_bars": lookback, "embargo_bars": lookback, "horizon_bars": horizon}
    parts = combinatorial(bars, data=data, num_tested=num_tested, **lengths)
    splits = [split_bars(bars, DataConfig(**fold.data, embargo_bars=embargo), **lengths) for fold in parts.folds]
    edges = [int(np.searchsorted(bars.dates, np.datetime64(start))) for start in parts.starts] + [bars.num_bars]
    return parts, splits, edges, num_tested, lookback, embargo


@given(cross_validations())
def test_no_bar_that_trains_or_selects_is_within_an_embargo_of_a_test(made):
    """What is looked at for a decision goes back ``lookback``, and what it is paid by is on the next bar."""
    parts, all_splits, edges, _, lookback, embargo = made
    for fold, splits in zip(parts.folds, all_splits, strict=True):
        tests = [
            (edges[group - 1], min(edges[group], edges[-1] - 1)) for group in fold.data["test_groups"]
        ]  # marked on
        for block in (*splits.train.blocks, splits.validation):
            assert lookback <= block.start < block.stop <= edges[-1]
            for first, last in tests:
                assert block.stop <= first - embargo or block.start - embargo > last
                looked_at = set(range(block.start - lookback, block.stop))
                assert looked_at.isdisjoint(range(first - lookback, last + 1))
        train, validation = splits.train.rows, splits.validation
        assert len(train) == splits.train.num_bars
        apart = np.maximum(validation.start - train, train - (validation.stop - 1))
        assert (apart > embargo).all()


@given(cross_validations())
def test_nothing_else_than_tests_embargoes_and_too_short_blocks_is_left_out(made):
    parts, all_splits, edges, _, _, embargo = made
    for fold, splits in zip(parts.folds, all_splits, strict=True):
        tested = fold.data["test_groups"]
        free = [g for g in range(1, len(edges)) if g not in tested]
        sides = sum((g - 1 in tested) * (embargo + 1) + (g + 1 in tested) * embargo for g in free)
        usable = sum(edges[g] - edges[g - 1] for g in free) - sides - embargo
        left_out = usable - splits.train.num_bars - splits.validation.num_bars
        assert splits.validation.num_bars == pytest.approx(DataConfig(**fold.data).validation * usable, abs=1)
        assert 0 <= left_out <= 8, "a block shorter than an episode, where validation has taken the rest of it"


@given(cross_validations())
def test_each_group_is_tested_as_often_and_paths_cover_each_bar_by_models_that_have_not_seen_it(made):
    parts, _, edges, num_tested, _, _ = made
    N = len(edges) - 1
    often, num_paths = math.comb(N - 1, num_tested - 1), num_tested * math.comb(N, num_tested) // N
    assert len(parts.folds) == math.comb(N, num_tested)
    assert len({fold.data["test_groups"] for fold in parts.folds}) == len(parts.folds)
    assert Counter(group for fold in parts.folds for group in fold.data["test_groups"]) == dict.fromkeys(
        range(1, N + 1), often
    )
    assert len(parts.paths) == num_paths == often
    assert max(np.diff(edges)) - min(np.diff(edges)) <= 1
    for path in parts.paths:
        assert len(path) == N
        assert all(g + 1 in parts.folds[i].data["test_groups"] for g, i in enumerate(path))
    assert all(len(set(column)) == num_paths for column in zip(*parts.paths, strict=True)), "each test counts once"


def test_paths_of_two_of_six_groups_are_those_of_the_book():
    """Lopez de Prado 2018, figures 12.1 and 12.2: 15 splits S1 to S15, and the path that each test belongs to."""
    parts = combinatorial(
        history(900), data=DataConfig(groups=6), num_tested=2, lookback_bars=0, embargo_bars=0, horizon_bars=1
    )
    book = [
        [1, 2, 3, 4, 5],
        [1, 6, 7, 8, 9],
        [2, 6, 10, 11, 12],
        [3, 7, 10, 13, 14],
        [4, 8, 11, 13, 15],
        [5, 9, 12, 14, 15],
    ]
    assert [[parts.folds[i].number for i in column] for column in zip(*parts.paths, strict=True)] == book


@pytest.fixture(scope="module")
def market():
    """Five groups, of which the second and the fourth are tested, so that training has two holes."""
    spec = spec_of(num_bars=700)
    data = DataConfig(synthetic=spec.data.synthetic, groups=5, test_groups=(2, 4))
    market = build_market(replace(spec, data=data))
    assert len(market.splits.train.holes) == 2
    return market


def test_episodes_of_training_cross_no_hole_and_may_begin_on_every_bar_that_leaves_room(market):
    floor = build_floor(market, num_replicas=5_000, seed=3)
    starts = set(floor.get_state()["clock.bar"].tolist())
    assert starts == {bar for block in market.splits.train.blocks for bar in range(block.start, block.stop - 12)}
    with pytest.raises(InputError, match="the train split has holes"):
        build_floor(market, start="first")


def test_what_is_measured_before_training_does_not_look_at_the_tests(market):
    """Prices and volumes of the tests are others, and so are features and returns that look back into them."""
    bars, train = market.bars, market.splits.train
    factor = np.ones((bars.num_bars, 1))
    for start, stop in [(0, train.start), *train.holes][1:]:
        factor[start + 1 + market.splits.embargo_bars : stop - market.splits.embargo_bars] = 1.5
    assert (factor > 1).sum() > 200
    prices = {name: getattr(bars, name) * factor for name in PRICE_FIELDS}
    other = build_market(market.spec, bars=replace(bars, volume=bars.volume * factor, **prices))
    np.testing.assert_array_equal(other.scaler.mean, market.scaler.mean)
    np.testing.assert_array_equal(other.scaler.scale, market.scaler.scale)
    np.testing.assert_array_equal(other.impact_unit, market.impact_unit)
    rows = market.features.values[train.rows]
    np.testing.assert_allclose(market.scaler.mean, rows.reshape(-1, rows.shape[-1]).mean(axis=0))


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"groups": 4}, r"data.test_groups are \[\]: set both"),
        ({"test_groups": (1,)}, "data.groups is None"),
        ({"groups": 4, "test_groups": (0,)}, "from 1"),
        ({"groups": 4, "test_groups": (5,)}, "from 1"),
        ({"groups": 2, "test_groups": (1, 2)}, "one for training"),
        ({"groups": 2, "test_groups": (1,), "test_start": "2002-01-01"}, "not both"),
        ({"groups": 2, "test_groups": (1,), "validation": 0.9}, "another share of validation"),
        ({"groups": 3, "test_groups": (2,), "validation": 0.6}, "longest stretch of 290 bars, of which .* have 341"),
        ({"groups": 500, "test_groups": (2,)}, "fewer groups"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups, said):
    with pytest.raises(InputError, match=said):
        split_bars(history(900), DataConfig(**groups), lookback_bars=0, embargo_bars=10, horizon_bars=50)


def test_groups_may_be_shorter_than_an_episode():
    data = DataConfig(groups=40, test_groups=(2,))
    splits = split_bars(history(900), data, lookback_bars=0, embargo_bars=10, horizon_bars=50)
    assert (splits.test.start, splits.test.stop, splits.train.start) == (22, 45, 56)


def test_more_folds_than_anybody_trains_are_refused():
    lengths = {"lookback_bars": 0, "embargo_bars": 0, "horizon_bars": 1}
    with pytest.raises(InputError, match="10 of 40 groups are 847660528 folds, more than 1000"):
        combinatorial(history(900), data=DataConfig(groups=40), num_tested=10, **lengths)
