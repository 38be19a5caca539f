"""Backtests of trained models, one or several side by side, with baselines, files, picture and table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import InputError, nearest, shown
from common.files import write_json, write_parquet
from common.pace import Pace
from envs.agents import check_agents, describe_agents
from envs.backtest import BacktestResult, OnBar, Policy, Trader, policy_trader, run_backtest
from envs.baseline_names import DEFAULT_BASELINES
from envs.baseline_traders import run_baselines
from envs.baselines import HINDSIGHT, best_baseline
from envs.features import Scaler
from envs.market import Market, build_market
from envs.metrics import simple_returns
from envs.paired_tests import PairedTests, paired_tests
from envs.settings import FloorConfig, FloorSpec
from experiments.backtesting.baselines import own_rules
from experiments.backtesting.benchmark import Benchmark, compare_with, equity_of, is_baseline, prices_of
from experiments.backtesting.conditions import books_in_words, capital_in_words, costs_in_words, period_in_words
from experiments.backtesting.networks import check_networks
from experiments.backtesting.overlap import Seen, dates_seen, overlap_notes, overlaps
from experiments.backtesting.results_folders import RESULTS_FILE
from experiments.recovery.checkpoints import require_meta
from experiments.reporting.plots import plot_backtest
from experiments.reporting.tables import BENCHMARK_COLUMNS, metrics_table, money, pairs_table, show, title_case
from experiments.runs.models import Model
from experiments.settings.arguments import build_settings, dump_settings
from experiments.settings.fields import settings_of
from experiments.settings.layers import flatten, merge
from experiments.settings.run_config import floor_spec

PICTURE = "backtest_results.png"
FILES = (PICTURE, RESULTS_FILE, "equity.parquet", "trades.parquet", "weights.parquet", "costs.parquet")
_RULES = ("fill", "max_leverage", "min_order", "ruin_fraction", "reward.mark", "costs.")
"""Settings of a floor by which a backtest goes, beside its capital."""


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Finished backtests over the same bars.

    Attributes:
        models: What was tested.
        strategies: One result for each model.
        baselines: What they must beat.
        market: Prices and rules, those of the first model; the baselines trade in it.
        rules: Those that each model was tested under.
        split: Name of the split.
        seen: What each model was trained or selected on; None where that is unknown.
        benchmark: What all series are compared with; None where nothing was asked for.
    """

    models: Sequence[Model]
    strategies: Sequence[BacktestResult]
    baselines: Sequence[BacktestResult]
    market: Market
    rules: Sequence[FloorConfig]
    split: str
    seen: Sequence[Seen | None]
    benchmark: Benchmark | None = None

    @cached_property
    def paired_tests(self) -> dict[str, PairedTests]:
        """Each strategy against the baselines that see no future, by its name; nothing where there is none."""
        rivals = {
            result.name: simple_returns(result.equity) for result in self.baselines if result.name not in HINDSIGHT
        }
        if not rivals:
            return {}
        cash, year = self.market.spec.floor.costs.cash_rate_annual, self.market.bars.periods_per_year
        return {
            result.name: paired_tests(simple_returns(result.equity), rivals, periods_per_year=year, risk_free=cash)
            for result in self.strategies
        }


def backtest_models(
    models: Sequence[Model],
    *,
    load: Callable[[Path], Policy],
    rules: str | None = None,
    capital: float | None = None,
    data: Mapping[str, Any] | None = None,
    split: str = "test",
    baselines: Sequence[str] = DEFAULT_BASELINES,
    benchmark: str | None = None,
) -> Backtest:
    """Run models over the same bars, each under the rules of its run, at the prices and capital of the first's.

    Args:
        models: At least one.
        load: Makes a greedy policy of a checkpoint folder.
        rules: Name of the model whose costs, fills and leverage hold for all; None: each has its own, and the baselines
            the first's.
        capital: Capital of each account in US dollars; None takes that of the first model's run.
        data: Settings of the data group that replace those of the run, such as ``{"path": "new.csv"}``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        baselines: Names of what they are held against; ``module:function`` for rules of the user's own.
        benchmark: Price file, asset or baseline with which all are compared; the baseline is run too.

    Raises:
        InputError: if a baseline or the benchmark is none, a model does not fit the prices, or the models cannot share
            a period or begin with different capital.
    """
    own = own_rules(baselines)
    for model in models:
        if model.config.env is not None:
            raise InputError(f"{model.name} was trained in {model.config.env}, which has no prices to backtest it on")
    asked: dict[str, Any] = {"rules": rules, "capital": capital, "data": data or {}}
    markets = [build_market(_spec(model, models, **asked)) for model in models]
    _check_capital(models, markets)
    markets = _same_period(markets, split)
    prices, names = None, list(baselines)
    if benchmark is not None and is_baseline(benchmark, markets[0], names):
        names = list(dict.fromkeys([*names, benchmark]))
    elif benchmark is not None:
        prices = prices_of(benchmark, markets[0], split=split)
    strategies, on_bar = [], told_now_and_then(len(models) + len(names))
    for model, market in zip(models, markets, strict=True):
        trader, scaler = trader_of(model, market, load=load)
        name = "strategy" if len(models) == 1 else model.name
        strategies.append(run_backtest(trader, market, name=name, split=split, scaler=scaler, on_bar=on_bar))
    seed = models[0].config.seed
    rivals = run_baselines(markets[0], split=split, seed=seed, names=names, own=own, on_bar=on_bar)
    return Backtest(
        models=models,
        strategies=strategies,
        baselines=rivals,
        market=markets[0],
        rules=[market.spec.floor for market in markets],
        split=split,
        seen=[dates_seen(model) for model in models],
        benchmark=prices or next((equity_of(rival) for rival in rivals if rival.name == benchmark), None),
    )


def trader_of(model: Model, market: Market, *, load: Callable[[Path], Policy]) -> tuple[Trader, Scaler | None]:
    """A trained model as a trader in a market, and the scaler of its run.

    Args:
        model: Which one.
        market: The prices that it is to trade, with the model's own agents.
        load: Makes a greedy policy of a checkpoint folder.

    Raises:
        InputError: if the model does not fit the market.
    """
    if model.record.agents is not None:
        agents = describe_agents(market.mandates)
        check_agents(model.record.agents, agents, model=model.name, prices=market.bars.source)
    policy = load(model.checkpoint)
    check_networks(policy, model, market)
    scaler = Scaler.from_json(model.record.scaler) if model.record.scaler is not None else None
    return policy_trader(policy), scaler


def told_now_and_then(num_passes: int) -> OnBar:
    """Print of each pass how long it will take, and every ten seconds how far it is, where it takes so long."""
    paces: dict[str, Pace] = {}

    def on_bar(name: str, done: int, total: int) -> None:
        if name not in paces:
            paces[name] = Pace(f"backtest of {name} ({len(paces) + 1} of {num_passes})", total)
        pace = paces[name]
        words = pace.words(done)
        if words is not None:
            print(words, file=sys.stderr, flush=True)

    return on_bar


def summarise(backtest: Backtest) -> dict[str, Any]:
    """Give a backtest as ``backtest.json`` holds it."""
    strategies, market = backtest.strategies, backtest.market
    first, bars, rules = strategies[0], market.bars, market.spec.floor
    overlapping = [overlaps(first.dates, seen) for seen in backtest.seen]
    summary: dict[str, Any] = {
        "period": {
            "split": backtest.split,
            "start": str(first.dates[0]),
            "end": str(first.dates[-1]),
            "num_bars": len(first.dates),
            "frequency": bars.frequency,
            "periods_per_year": bars.periods_per_year,
        },
        "overlaps_training": True if True in overlapping else None if None in overlapping else False,
        "costs": _costs_of(rules),
        "capital": float(first.equity[0]),
        "strategy": dict(first.metrics),
        "baselines": {result.name: dict(result.metrics) for result in backtest.baselines},
        "paired_tests": {name: asdict(tests) for name, tests in backtest.paired_tests.items()},
        "costs_paid": {kind: float(total) for kind, total in first.costs.sum().items()},
        "agent_profit": {agent: float(value) for agent, value in first.agent_profit.iloc[-1].items()},
        "ruined": first.ruined,
        "ruined_series": [result.name for result in (*strategies, *backtest.baselines) if result.ruined],
        "notes": _notes(backtest),
        "files": list(FILES),
        "data": {"source": bars.source, "fingerprint": bars.fingerprint, "notes": list(bars.notes)},
        "models": [
            {
                "name": model.name,
                "checkpoint": str(model.checkpoint),
                "which": model.which,
                **_worth(model),
                "capital": rules.capital,
                "costs": _costs_of(own),
                "last_date_seen": None if seen is None else str(seen.last),
                "overlaps_training": overlaps_it,
            }
            for model, own, seen, overlaps_it in zip(
                backtest.models, backtest.rules, backtest.seen, overlapping, strict=True
            )
        ],
    }
    if len(strategies) > 1:
        summary["strategies"] = {result.name: dict(result.metrics) for result in strategies}
    if backtest.benchmark is not None:
        summary["benchmark"] = compare_with(backtest.benchmark, [*strategies, *backtest.baselines], market)
    return summary


def _costs_of(rules: FloorConfig) -> dict[str, Any]:
    return dump_settings(rules.costs) | {"fill": rules.fill, "max_leverage": rules.max_leverage}


def write_backtest(backtest: Backtest, out: str | Path) -> dict[str, Any]:
    """Write ``backtest.json``, the tables and the picture into a folder; return what ``backtest.json`` holds.

    With several models the tables have a ``series`` column in front that names the model.

    Raises:
        WriteError: if the folder cannot be written to.
    """
    out = Path(out)
    strategies = backtest.strategies
    summary = summarise(backtest)
    equity = _stack(
        [*strategies, *backtest.baselines], lambda r: pd.DataFrame({"date": r.dates, "equity": r.equity}), named=True
    )
    write_parquet(out / "equity.parquet", equity[["date", "series", "equity"]])
    several, period = len(strategies) > 1, period_in_words(backtest.split, strategies[0].dates)
    write_parquet(out / "trades.parquet", _stack(strategies, lambda r: r.trades, named=several))
    write_parquet(out / "weights.parquet", _stack(strategies, _weights_table, named=several))
    write_parquet(out / "costs.parquet", _stack(strategies, lambda r: r.costs.reset_index(), named=several))
    plot_backtest(
        out / PICTURE,
        strategies,
        backtest.baselines,
        title=f"{' and '.join(model.name for model in backtest.models)}: {period}",
        subtitle=f"capital {capital_in_words(backtest.market)}; {costs_in_words(backtest.market)}",
    )
    write_json(out / RESULTS_FILE, summary)
    return summary


def print_backtest(backtest: Backtest, out: str | Path) -> None:
    """Print what was tested, the table of metrics, and where the files are."""
    rows = {}
    for model in backtest.models:
        rows[f"model {model.name}"] = f"{model.which} checkpoint{_worth_in_words(model)}, {model.checkpoint}"
    bars = backtest.market.bars
    rows["prices"] = f"{bars.source}, {bars.frequency}, {bars.periods_per_year:g} bars a year"
    rows["period"] = period_in_words(backtest.split, backtest.strategies[0].dates)
    rows["capital"] = capital_in_words(backtest.market)
    rows["costs"] = costs_in_words(backtest.market)
    for i, note in enumerate(_notes(backtest)):
        rows[f"note {i + 1}"] = note
    results = [*backtest.strategies, *backtest.baselines]
    names = [result.name for result in backtest.strategies]
    table = metrics_table({result.name: result.metrics for result in results}, title="Backtest", strategies=names)
    show(pairs_table(rows, title="What was tested"), table)
    if backtest.benchmark is not None:
        against = compare_with(backtest.benchmark, results, backtest.market)
        title = f"Against {against['name']}, {against['num_bars']} bars"
        show(metrics_table(against["series"], title=title, strategies=names, names=BENCHMARK_COLUMNS))
    sharpes = {result.name: result.metrics["sharpe"] for result in backtest.baselines}
    for name, tests in backtest.paired_tests.items():
        best = best_baseline({name: sharpes[name] for name in tests.against})
        paired = tests.against[best]
        show(
            f"{name} against {title_case(best)}, the best baseline by its Sharpe ratio: {paired.mean_confidence:.2f} "
            f"sure of a larger mean return, {paired.sharpe_confidence:.2f} of a larger Sharpe ratio; "
            f"p-value of no baseline earning more: {tests.not_beaten_p:.2f}"
        )
    for result in results:
        if result.ruined:
            show(f"{result.name} lost its capital before the end; its value is carried forward from there")
    show(f"files in {out}: {', '.join(FILES)}")


def _notes(backtest: Backtest) -> list[str]:
    """What must be known to read the figures: dates seen before, what was done to the prices, books that differ."""
    overlap = overlap_notes(backtest.models, backtest.strategies[0].dates, backtest.seen)
    against = backtest.benchmark.notes if backtest.benchmark is not None else ()
    differing = [*_rules_that_differ(backtest), *_leveraged(backtest), *_books_that_differ(backtest)]
    return [*overlap, *backtest.market.bars.notes, *against, *differing, *_unfilled(backtest)]


def _unfilled(backtest: Backtest) -> list[str]:
    """Say where the market did not take what was ordered."""
    notes = []
    for result in backtest.strategies:
        unfilled = result.metrics["unfilled_notional"]
        if unfilled > 0:
            notes.append(
                f"{result.name}: orders of {money(unfilled)} stayed unfilled, beyond what bars traded "
                "(floor.costs.max_participation)"
            )
    return notes


def _worth(model: Model) -> dict[str, Any]:
    """How long a checkpoint was trained, what it reached on the validation split, and the hash of its weights."""
    meta = require_meta(model.checkpoint)
    return {name: meta.get(name) for name in ("episode", "metric_name", "metric_value", "weights_sha256")}


def _worth_in_words(model: Model) -> str:
    worth = _worth(model)
    words = "" if worth["episode"] is None else f" of episode {worth['episode']}"
    if worth["metric_value"] is not None:
        words += f" (validation {title_case(worth['metric_name'])} {worth['metric_value']:.2f})"
    return words


def _rules_that_differ(backtest: Backtest) -> list[str]:
    """Say where a model is tested under other rules than the first, or than in its training."""
    first, notes = backtest.models[0], []
    for model, rules in zip(backtest.models, backtest.rules, strict=True):
        trained = floor_spec(model.config).floor
        trained = replace(trained, costs=trained.costs.settled(has_volume=backtest.market.bars.volume is not None))
        if differing := _differing(rules, trained):
            notes.append(f"{model.name} is tested under rules that are not those of its training: {differing}")
        if differing := _differing(rules, backtest.rules[0]):
            notes.append(
                f"{model.name} is tested under its own rules, which are not those of {first.name} and the baselines: "
                f"{differing}; --rules {first.name} tests all under one"
            )
    return notes


def _leveraged(backtest: Backtest) -> list[str]:
    """Say where a model may hold more than its capital, which no baseline does."""
    return [
        f"{result.name} may hold {rules.max_leverage:g} times its equity, baselines no more than theirs: compare their "
        "exposures"
        for result, rules in zip(backtest.strategies, backtest.rules, strict=True)
        if rules.max_leverage > 1
    ]


def _differing(rules: FloorConfig, others: FloorConfig) -> str:
    """The settings of a floor that are not as in another, among those that a backtest depends on."""
    mine, theirs = (flatten(dump_settings(each), settings_of(FloorConfig)) for each in (rules, others))
    return ", ".join(
        f"{name} {shown(mine[name])} and not {shown(theirs[name])}"
        for name in mine
        if mine[name] != theirs[name] and name.startswith(_RULES)
    )


def _books_that_differ(backtest: Backtest) -> list[str]:
    """Say where agents that see averages over their book now have books of another size than in training."""
    here = [len(mandate.assets) for mandate in backtest.market.mandates]
    trained = [agent["num_assets"] for agent in backtest.models[0].record.agents or []]
    if not trained or trained == here:
        return []
    return [f"agents trained with {books_in_words(trained)} trade {books_in_words(here)} here"]


def _spec(
    model: Model, models: Sequence[Model], *, rules: str | None, capital: float | None, data: Mapping[str, Any]
) -> FloorSpec:
    """A model's own agents and rules, or the rules that are asked for, at the first model's prices and capital."""
    own, first = floor_spec(model.config), floor_spec(models[0].config)
    prices = first.data
    if data:
        prices = build_settings(type(prices), merge(dump_settings(prices), data), where="")
    names = {each.name: floor_spec(each.config).floor for each in models}
    if rules is not None and rules not in names:
        meant = nearest(rules, names)
        raise InputError(f"--rules {rules} is none of the models{meant}: choose from {', '.join(names)}")
    floor = replace(
        own.floor if rules is None else names[rules],
        window=own.floor.window,
        observe_episode=own.floor.observe_episode,
        horizon_bars=first.floor.horizon_bars,
        capital=first.floor.capital if capital is None else capital,
    )
    return FloorSpec(data=prices, desk=own.desk, floor=floor)


def _check_capital(models: Sequence[Model], markets: Sequence[Market]) -> None:
    """Refuse to put curves of US dollars side by side that begin at different heights."""
    accounts = [len({mandate.account for mandate in market.mandates}) for market in markets]
    for model, count in zip(models, accounts, strict=True):
        if count != accounts[0]:
            each = money(markets[0].spec.floor.capital)
            raise InputError(
                f"{models[0].name} and {model.name} cannot be compared: they begin with {accounts[0]} and {count} "
                f"accounts of {each} each; test them one at a time, each with a --capital that makes the sums equal"
            )


def _same_period(markets: Sequence[Market], split: str) -> list[Market]:
    """Cut the split to the bars that all models can trade: longer look-backs start later."""
    splits = [market.splits[split] for market in markets]
    start, stop = max(item.start for item in splits), min(item.stop for item in splits)
    shared = replace(splits[0], start=start, stop=stop)
    if shared.num_decisions < 1:
        raise InputError(f"the models share no bar of the {split} split: their look-backs differ too much")
    cut: dict[str, Any] = {split: shared}
    return [
        replace(market, splits=replace(market.splits, **cut)) if market.splits[split] != shared else market
        for market in markets
    ]


def _stack(
    results: Sequence[BacktestResult], table: Callable[[BacktestResult], pd.DataFrame], *, named: bool
) -> pd.DataFrame:
    """The tables of several results below one another; named, with their ``series`` in front."""
    names = [result.name for result in results]
    stacked = pd.concat([table(result) for result in results], keys=names if named else None, names=["series", None])
    return stacked.reset_index("series" if named else 0, drop=not named).reset_index(drop=True)


def _weights_table(result: BacktestResult) -> pd.DataFrame:
    table = result.weights.reset_index().melt(id_vars="date", var_name="asset", value_name="weight")
    return table.sort_values("date", kind="stable", ignore_index=True)
