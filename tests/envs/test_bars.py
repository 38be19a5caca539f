from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from price_samples import long_table, write

from common.errors import InputError
from envs.bars import Bars, Split, build_bars, split_bars
from envs.settings import DataConfig, SyntheticConfig
from envs.synthetic import generate_bars


@pytest.fixture(scope="module")
def market() -> Bars:
    return generate_bars(SyntheticConfig(num_bars=1000, num_assets=3))


def test_arrays_cannot_be_written(market):
    with pytest.raises(ValueError, match="read-only"):
        market.close[0, 0] = 1.0


def test_fingerprint_sees_every_price_date_and_name(market):
    close = market.close.copy()
    close[-1, -1] *= 1 + 1e-15
    changed = (
        dataclasses.replace(market, close=close),
        dataclasses.replace(market, assets=("P", "Q", "R")),
        dataclasses.replace(market, dates=market.dates + np.timedelta64(1, "D")),
        dataclasses.replace(market, volume=None),
        market.select(market.assets[::-1]),
        market.between(0, 999),
    )
    prints = {bars.fingerprint for bars in (market, *changed)}
    assert len(prints) == 7
    assert market.between(0, 1000).fingerprint == market.fingerprint


def test_which_assets_have_volumes_is_kept_where_bars_are_left_out(market):
    volume = market.volume * [1.0, 0.0, 1.0]
    volume[:500, 2] = 0.0
    bars = dataclasses.replace(market, volume=volume, tradable=None, without_volume=None)
    assert bars.has_volume.tolist() == [True, False, True]
    assert bars.between(0, 400).has_volume.tolist() == [True, False, True], "it was traded in another bar"
    assert bars.select(bars.assets[:0:-1]).has_volume.tolist() == [True, False]
    assert not dataclasses.replace(market, volume=None, tradable=None, without_volume=None).has_volume.any()


def test_select_refuses_an_unknown_asset(market):
    with pytest.raises(InputError, match="did you mean 'ALFA'"):
        market.select(("ALPA",))


def test_build_bars_reads_the_file_or_makes_the_market(tmp_path):
    built = build_bars(DataConfig(assets=("BRAV",)))
    assert built.assets == ("BRAV",)
    path = write(tmp_path, long_table())
    assert build_bars(DataConfig(path=path, assets=("BBB",))).assets == ("BBB",)


def test_history_ends_before_the_date_that_is_set(tmp_path):
    whole = build_bars(DataConfig())
    date = str(whole.dates[400])[:10]
    cut = build_bars(DataConfig(end=date))
    assert cut.num_bars == 400
    assert cut.fingerprint == whole.between(0, 400).fingerprint
    assert build_bars(DataConfig(end="2100-01-01")).num_bars == whole.num_bars
    path = write(tmp_path, long_table())
    dates = build_bars(DataConfig(path=path)).dates
    assert build_bars(DataConfig(path=path, end=str(dates[2]))).num_bars == 2


@pytest.mark.parametrize(("end", "words"), [("1990-01-01", "begins on"), ("soon", "write a date")])
def test_an_end_that_leaves_nothing_is_refused(end, words):
    with pytest.raises(InputError, match=rf"data\.end is.*{words}"):
        build_bars(DataConfig(end=end))


def test_evaluations_may_look_at_the_last_decisions_alone(market):
    lengths = {"lookback_bars": 70, "embargo_bars": 75, "horizon_bars": 100}
    whole = split_bars(market, DataConfig(), **lengths)
    few = split_bars(market, DataConfig(evaluation_bars=20), **lengths)
    assert few.train == whole.train
    for name in ("validation", "test"):
        assert (few[name].num_decisions, few[name].stop) == (20, whole[name].stop)
    assert split_bars(market, DataConfig(evaluation_bars=10_000), **lengths) == whole


def test_splits_lie_in_order_with_an_embargo_between_them(market):
    splits = split_bars(market, DataConfig(), lookback_bars=70, embargo_bars=75, horizon_bars=100)
    assert splits.train.start == 70
    assert splits.validation.start - splits.train.stop == 75
    assert splits.test.start - splits.validation.stop == 75
    assert splits.test.stop == 1000
    assert splits.train.num_bars == 468  # 60 % of the 780 bars that are left
    assert splits["test"] == splits.test
    assert splits.train.num_decisions == 467


def test_splits_by_date_begin_on_their_dates(market):
    config = DataConfig(validation_start="2017-07-01", test_start="2018-02-03")
    splits = split_bars(market, config, lookback_bars=70, embargo_bars=75, horizon_bars=20)
    assert str(market.dates[splits.validation.start])[:10] == "2017-07-03"
    assert str(market.dates[splits.test.start])[:10] == "2018-02-05"
    assert splits.train == Split("train", 70, splits.validation.start - 75)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig(train=0.9), "sum must be at most 1"),
        (DataConfig(embargo_bars=10), "look back on 75 bars"),
        (DataConfig(test_start="2018-01-01"), "set both, or neither"),
        (DataConfig(validation_start="soon", test_start="2018-01-01"), "'soon'"),
        (DataConfig(validation_start="2010-01-01", test_start="2018-01-01"), "outside the history"),
        (DataConfig(validation_start="2018-01-01", test_start="2017-01-01"), "must come after"),
        (DataConfig(validation_start="2017-07-01", test_start="2017-08-01"), "validation split has 0 bars"),
        (DataConfig(test=0.05), "test split has 39 bars"),
    ],
)
def test_splits_that_make_no_sense_are_refused(market, config, words):
    with pytest.raises(InputError, match=words):
        split_bars(market, config, lookback_bars=70, embargo_bars=75, horizon_bars=100)


def test_short_history_is_refused_with_the_numbers():
    bars = generate_bars(SyntheticConfig(num_bars=300, num_assets=2))
    with pytest.raises(
        InputError, match=r"300 bars; 70 bars of look-back and two embargoes of 75 leave 80, .* at least 303"
    ):
        split_bars(bars, DataConfig(), lookback_bars=70, embargo_bars=75, horizon_bars=100)


def test_a_longer_embargo_is_kept(market):
    splits = split_bars(market, DataConfig(embargo_bars=90), lookback_bars=70, embargo_bars=75, horizon_bars=50)
    assert splits.validation.start - splits.train.stop == splits.embargo_bars == 90
