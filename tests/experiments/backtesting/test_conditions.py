"""What is said of a backtest's conditions, and how its picture shows them."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sample_runs import config_of

from envs.bar_data import Bars
from envs.market import build_market
from experiments.backtesting.conditions import books_in_words, capital_in_words, costs_in_words, fill_in_words
from experiments.builders.environments import environment_of
from experiments.reporting.plots import _DatesWithYear, _draw_equity
from experiments.runs.run import Run
from experiments.settings.run_config import SearchConfig, floor_spec
from experiments.tuning.opening import announce


def market_of(**settings):
    return build_market(floor_spec(config_of("ppo", **settings)))


def test_rivals_are_told_their_accounts():
    assert capital_in_words(market_of()) == "$1M"
    assert capital_in_words(market_of(desk={"preset": "rivals", "num_agents": 4})) == "$4M (4 accounts of $1M)"


def test_a_limit_of_some_assets_alone_is_told():
    market = market_of(floor={"costs": {"max_participation": None}})
    assert "of a bar's volume" not in costs_in_words(market)
    assert "waits" not in costs_in_words(market)
    assert "what is unfilled waits" in costs_in_words(market_of(floor={"costs": {"carry_orders": True}}))
    own = np.full((1, market.bars.num_assets), np.nan)
    own[0, 0] = 0.05
    limited = replace(market, bars=replace(market.bars, costs={"max_participation": own}))
    assert "orders fill up to 0.05 to any part of a bar's volume" in costs_in_words(limited)


@pytest.mark.parametrize("fill", ["next_open", "next_vwap"])
def test_closes_alone_fill_at_the_next_close(fill):
    market = market_of(floor={"fill": fill})
    assert fill_in_words(market) == fill.replace("_", " ")
    close = market.bars.close
    bars = Bars(dates=market.bars.dates, assets=market.bars.assets, open=close, high=close, low=close, close=close)
    costs = {"temporary_impact": 0.0, "permanent_impact": 0.0}
    closes = build_market(floor_spec(config_of("ppo", floor={"fill": fill, "costs": costs})), bars=bars)
    assert fill_in_words(closes) == "next close (the prices are closes only)"
    assert "fills at next close" in costs_in_words(closes)


def test_interest_on_cash_is_told_where_there_is_any():
    assert "cash earns" not in costs_in_words(market_of())
    assert "cash earns 4.00% a year" in costs_in_words(market_of(floor={"costs": {"cash_rate_annual": 0.04}}))


def test_costs_of_single_assets_are_told_from_the_least_to_the_most():
    market = market_of()
    own = {"half_spread_bps": np.arange(market.bars.num_assets)[None] * 1.0}
    words = costs_in_words(replace(market, bars=replace(market.bars, costs=own)))
    assert f"half spread 0 to {market.bars.num_assets - 1} bps" in words
    assert "borrowed cash" not in words


def test_funding_and_the_loans_that_may_pay_it_are_told():
    market = market_of()
    bars = replace(market.bars, costs={"funding": np.zeros_like(market.bars.close)})
    words = costs_in_words(replace(market, bars=bars))
    assert "longs pay shorts the file's funding, borrowed cash costs 0.50% a year" in words


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([1, 1, 1], "books of 1 asset each"),
        ([4, 4], "books of 4 assets each"),
        ([3, 3, 2], "books of 3, 3 and 2 assets"),
    ],
)
def test_books(sizes, words):
    assert books_in_words(sizes) == words


def test_planted_signal_is_announced_with_what_it_is_worth(capsys):
    config = config_of("qmix", data={"synthetic": {"signal_strength": 3.0}})
    announce(Run.of(config), environment_of(config))
    assert "the best Sharpe ratio is 3 an asset and year before costs" in capsys.readouterr().out
    plain = config_of("qmix")
    announce(Run.of(plain), environment_of(plain))
    assert "planted" not in capsys.readouterr().out


def test_preset_without_its_prices_and_steps_of_the_clock_are_announced(capsys):
    config = config_of("qmix", preset="dow", episodes=60, checkpoint_interval=10, qmix={"num_envs_per_env_runner": 16})
    announce(Run.of(config), environment_of(config))
    shown = capsys.readouterr().out
    assert "without --data.path FILE it runs on the built-in market" in shown
    assert "16 replicas end their episodes together: checkpoints come every 16, not 10; the run ends at 64" in shown
    of_run = shown.splitlines()[1:]
    announce(Run.of(replace(config, search=SearchConfig(num_trials=2))), environment_of(config))
    first, *of_search = capsys.readouterr().out.splitlines()
    assert first.startswith("searching ")
    assert first.endswith(": 2 trials, by sharpe, of qmix, 60 episodes")
    assert of_search == of_run


def curve(name, equity):
    dates = pd.bdate_range("2017-03-01", periods=len(equity)).to_numpy()
    return SimpleNamespace(name=name, dates=dates, equity=np.asarray(equity, dtype=float))


def test_curve_that_lies_on_another_is_dashed():
    rising = np.linspace(1e6, 2e6, 50)
    axis = Figure().subplots()
    _draw_equity(axis, [curve("strategy", rising[::-1])], [curve("a", rising), curve("b", rising * 1.0001)])
    styles = {
        line.get_label().split()[0]: line.get_linestyle() for line in axis.get_lines() if len(line.get_xdata()) > 2
    }
    assert styles == {"a": "-", "b": "--", "strategy": "-"}


def test_first_date_names_its_year():
    axis = Figure().subplots()
    first, last = np.datetime64("2017-03-01"), np.datetime64("2017-09-01")
    axis.plot([first, last], [0, 1])
    locator = mdates.AutoDateLocator(minticks=5, maxticks=12)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(_DatesWithYear(locator))
    axis.set_xlim(first, last)
    ticks = axis.get_xticks()
    shown = [
        label
        for tick, label in zip(ticks, axis.xaxis.get_major_formatter().format_ticks(ticks), strict=True)
        if mdates.date2num(first) <= tick <= mdates.date2num(last)
    ]
    assert shown[0].endswith("2017")
    assert not any("2017" in label for label in shown[1:])
