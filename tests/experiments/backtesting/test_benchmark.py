"""A benchmark is a price file, an asset or a baseline, aligned by date, or one line says why it is none."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sample_runs import SMALL, ScriptedPolicy, make_run

from common.errors import InputError
from envs.benchmark_figures import BENCHMARK_FIGURES
from envs.market import build_market
from experiments.backtesting.benchmark import is_baseline, prices_of
from experiments.backtesting.compare import backtest_models, print_backtest, summarise, write_backtest
from experiments.runs.models import find_models
from experiments.settings.run_config import config_from_json, floor_spec


@pytest.fixture
def market():
    return build_market(floor_spec(config_from_json(SMALL)))


@pytest.fixture
def compare(tmp_path):
    make_run(tmp_path / "dow")

    def compared(benchmark, **more):
        models = find_models([tmp_path / "dow"])
        return backtest_models(models, load=lambda _: ScriptedPolicy(), benchmark=str(benchmark), **more)

    return compared


def price_file(path, dates, closes):
    pd.DataFrame({"date": dates, "close": closes}).to_csv(path, index=False)
    return path


def test_figures_of_every_series_stand_in_the_file_and_on_the_screen(compare, market, tmp_path, capsys):
    done = compare("buy_and_hold", baselines=["cash", "buy_and_hold"])
    write_backtest(done, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "backtest.json").read_text())["benchmark"]
    assert list(found["series"]) == ["strategy", "cash", "buy_and_hold"]
    assert all(tuple(figures) == BENCHMARK_FIGURES for figures in found["series"].values())
    assert found["series"]["buy_and_hold"]["beta"] == pytest.approx(1)
    assert found["series"]["cash"]["alpha"] == found["series"]["cash"]["beta"] == 0
    assert (found["name"], found["num_bars"]) == ("buy_and_hold", len(done.strategies[0].dates))
    print_backtest(done, tmp_path / "out")
    shown = capsys.readouterr().out
    assert f"Against buy_and_hold, {found['num_bars']} bars" in shown
    assert all(name in shown for name in ("alpha", "beta", "tracking error", "information ratio", "down capture"))


def test_baseline_that_is_the_benchmark_is_run_too(compare):
    done = compare("sixty_forty", baselines=["cash"])
    assert [result.name for result in done.baselines] == ["cash", "sixty_forty"]
    assert summarise(done)["benchmark"]["series"]["sixty_forty"]["beta"] == pytest.approx(1)


def test_without_a_benchmark_nothing_is_said_of_one(tmp_path, capsys):
    make_run(tmp_path / "dow")
    done = backtest_models(find_models([tmp_path / "dow"]), load=lambda _: ScriptedPolicy(), baselines=["cash"])
    assert "benchmark" not in summarise(done)
    print_backtest(done, tmp_path)
    assert "Against" not in capsys.readouterr().out


def test_asset_and_file_of_its_closes_are_one_benchmark(compare, market, tmp_path):
    asset = market.bars.assets[1]
    path = price_file(tmp_path / "one.csv", market.bars.dates, market.bars.close[:, 1])
    by_asset, by_file = (summarise(compare(word, baselines=["equal_weight"]))["benchmark"] for word in (asset, path))
    assert by_asset["series"] == by_file["series"]
    assert 0 < by_asset["series"]["equal_weight"]["beta"] != 1
    assert (by_asset["name"], by_file["name"]) == (asset, str(path))


def test_benchmark_is_aligned_by_date_and_bars_that_it_lacks_are_told(compare, market, tmp_path):
    whole = compare("equal_weight", baselines=["equal_weight"])
    equity = whole.baselines[0]
    few = price_file(tmp_path / "few.csv", equity.dates[10:30], 1e-4 * equity.equity[10:30])
    done = compare(few, baselines=["equal_weight"])
    found = summarise(done)
    assert found["benchmark"]["num_bars"] == 20
    assert found["benchmark"]["start"] == str(equity.dates[10])
    assert found["benchmark"]["series"]["equal_weight"]["beta"] == pytest.approx(1)
    assert any(f"few.csv has 20 of the {len(equity.dates)} bars" in note for note in found["notes"])
    assert any("few.csv: bars are 1d apart" in note for note in found["notes"])
    assert not any("20 of the" in note for note in summarise(whole)["notes"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "buy_and_hodl",
            "neither a price file, nor an asset of synthetic, nor a baseline .did you mean 'buy_and_hold'",
        ),
        ("my_rules:mine", "a rule of your own stands among --baselines too"),
        ("nowhere.csv", "price file nowhere.csv does not exist"),
    ],
)
def test_benchmark_that_is_none_is_one_line(compare, word, message):
    with pytest.raises(InputError, match=message):
        compare(word)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda days: days - np.timedelta64(4000, "D"),
            r"other.csv goes from .* and shares 0 dates with the backtest, 20",
        ),
        (lambda days: days[0] + np.arange(len(days)) * np.timedelta64(1, "h"), "bars that are 1h apart, but .* are 1d"),
    ],
)
def test_dates_that_do_not_overlap_are_refused_before_anything_runs(compare, market, tmp_path, change, message):
    path = price_file(tmp_path / "other.csv", change(market.bars.dates), market.bars.close[:, 0])
    with pytest.raises(InputError, match=message):
        compare(path, baselines=[])


def test_file_of_several_assets_is_refused(compare, market, tmp_path):
    frame = pd.DataFrame(market.bars.close, index=market.bars.dates, columns=list(market.bars.assets))
    frame.rename_axis("date").to_csv(tmp_path / "all.csv")
    with pytest.raises(InputError, match=r"all.csv holds 4 assets: give a file of one"):
        compare(tmp_path / "all.csv")


def test_word_that_could_be_two_things_is_refused(market):
    named = replace(market, bars=replace(market.bars, assets=("cash", *market.bars.assets[1:])))
    with pytest.raises(InputError, match="--benchmark cash is a baseline and an asset: give its prices in a file"):
        is_baseline("cash", named, [])
    assert not is_baseline(market.bars.assets[0], market, [])
    assert is_baseline("my_rules:mine", market, ["my_rules:mine"])


def test_benchmark_is_adjusted_where_the_prices_of_the_market_are(market, tmp_path):
    dates, closes = market.bars.dates, market.bars.close[:, 0]
    adjusted = closes * np.linspace(0.9, 1.0, len(closes))
    path = str(tmp_path / "index.csv")
    pd.DataFrame({"date": dates, "close": closes, "adj_close": adjusted}).to_csv(path, index=False)
    for adjust, wanted in ((None, adjusted), ("total", adjusted), ("none", closes)):
        data = replace(market.spec.data, adjust=adjust)
        found = prices_of(path, replace(market, spec=replace(market.spec, data=data)), split="test")
        np.testing.assert_allclose(found.values, wanted, rtol=1e-9)
