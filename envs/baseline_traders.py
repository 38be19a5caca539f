"""How baselines trade: through the strategy's floor, at the same costs, capital and fills.

All but ``random`` are one continuous agent that trades the strategy's assets with its whole capital, without leverage.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.backtest import BacktestResult, Decide, OnBar, Trader, run_backtest
from envs.baseline_names import DEFAULT_BASELINES, RANDOM
from envs.baselines import BASELINES, HINDSIGHT
from envs.floor import FloorStep, TradingFloor
from envs.mandates import Mandate
from envs.market import Market
from envs.portfolio_rules import History, Rule


def rule_trader(rule: Rule, *, sees_split: bool = False) -> Trader:
    """A rule that sets target weights at the ends of days, and leaves the positions alone where it says nothing.

    It is shown the assets that are listed on the day, and no others.

    Args:
        rule: Shown the days up to each decision.
        sees_split: Show it the split from its first bar to its last instead, future and all.
    """

    def begin(floor: TradingFloor, market: Market) -> Decide:
        mandate, bars, start = floor.mandates[0], market.bars, floor.split.start
        columns, decided = [bars.assets.index(name) for name in mandate.assets], itertools.count(start)
        days, months = (bars.dates.astype(f"datetime64[{unit}]") for unit in "DM")
        ends = np.flatnonzero(np.append(days[:-1] != days[1:], True))
        per_year = bars.periods_per_year * len(ends) / bars.num_bars
        if sees_split:
            last = floor.split.stop - 1
            ends = np.array([start, *ends[(ends > start) & (ends < last)], last])
        closes = bars.close[ends][:, columns]
        closes.flags.writeable = False
        is_listed = bars.alive[:, columns]
        history = History(closes, days[ends], mandate.assets, per_year)

        def seen(bar: int) -> History:
            """The days up to a bar; views of all days, which cost nothing, but where it is a first bar within a day."""
            ends_month = bool(months[bar] != months[bar + 1])
            if sees_split:
                return history._replace(ends_month=ends_month)
            day = int(np.searchsorted(ends, bar))
            past = closes[: day + 1]
            if ends[day] != bar:
                past = np.vstack((closes[:day], bars.close[bar, columns]))
            return history._replace(closes=past, days=history.days[: day + 1], ends_month=ends_month)

        def decide(step: FloorStep) -> Tensor:
            """Target weights, [1, 1, A] float64; where there is no answer those that positions have now: no orders."""
            nonlocal history
            bar = next(decided)
            weights = None
            if bar == start or days[bar] != days[bar + 1]:
                listed = is_listed[bar]
                weights = rule(_of_assets(seen(bar), listed))
            if weights is None:
                weights = current_weights(floor)
            else:
                weights = _at_assets(weights, listed)
                history = history._replace(chosen=weights)
                weights = weights if mandate.allow_short else np.maximum(weights, 0.0)
            return torch.as_tensor(weights, dtype=torch.float64)[None, None]

        return decide

    return begin


def _of_assets(history: History, kept: NDArray[np.bool_]) -> History:
    """The history of some assets: those that are listed."""
    if kept.all():
        return history
    chosen = None if history.chosen is None else history.chosen[kept]
    assets = tuple(itertools.compress(history.assets, kept))
    return history._replace(closes=history.closes[:, kept], assets=assets, chosen=chosen)


def _at_assets(weights: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of all assets, [A], from those of some; nothing in the others."""
    result = np.zeros(len(kept))
    result[kept] = weights
    return result


def random_trader(seed: int = 0) -> Trader:
    """Uniform draws from the strategy's own actions, counted: what is drawn at a bar depends on seed and bar alone."""

    def begin(floor: TradingFloor, market: Market) -> Decide:
        mandates, bars = floor.mandates, itertools.count()

        def decide(step: FloorStep) -> Tensor:
            """A random allowed rung for each discrete agent, a random weight for each asset of a continuous one."""
            rng = np.random.default_rng([seed, next(bars)])
            rungs = [rng.integers(len(mandate.ladder)) if mandate.is_discrete else 0 for mandate in mandates]
            if step.action_mask is not None:
                for n, (mandate, mask) in enumerate(zip(mandates, step.action_mask[0].cpu().numpy(), strict=True)):
                    allowed = np.flatnonzero(mask[: len(mandate.ladder)])
                    if mandate.is_discrete and len(allowed):
                        rungs[n] = rng.choice(allowed)
            if all(mandate.is_discrete for mandate in mandates):
                return torch.tensor(rungs)[None]
            actions = np.zeros((1, len(mandates), max(len(mandate.assets) for mandate in mandates)))
            for n, mandate in enumerate(mandates):
                if mandate.is_discrete:
                    actions[0, n, 0] = rungs[n]
                else:
                    low = -1.0 if mandate.allow_short else 0.0
                    actions[0, n, : len(mandate.assets)] = rng.uniform(low, 1.0, len(mandate.assets))
            return torch.from_numpy(actions)

        return decide

    return begin


def current_weights(floor: TradingFloor) -> NDArray[np.float64]:
    """Weights of the floor's only agent at the last mark, [A] float64; zeros before the first step."""
    detail = floor.detail
    if detail is None:
        return np.zeros(len(floor.mandates[0].assets))
    value = detail.after.holdings * floor.layout.at_slots_from_assets(detail.mark_after)
    return (value / detail.after.equity)[:, 0].cpu().numpy()


def baseline_market(market: Market) -> Market:
    """The same prices and rules with one continuous agent that has the strategy's whole capital and all its assets."""
    traded = {asset for mandate in market.mandates for asset in mandate.assets}
    agent = Mandate(
        name="portfolio",
        role="baseline",
        account=0,
        assets=tuple(asset for asset in market.bars.assets if asset in traded),
        feature_groups=market.mandates[0].feature_groups,
        action="continuous",
        limit=1.0,
        allow_short=any(mandate.allow_short for mandate in market.mandates),
    )
    num_accounts = len({mandate.account for mandate in market.mandates})
    rules = market.spec.floor
    rules = replace(rules, capital=rules.capital * num_accounts, max_leverage=1.0)
    return replace(market, mandates=(agent,), spec=replace(market.spec, floor=rules))


def run_baselines(
    market: Market,
    *,
    split: str,
    seed: int = 0,
    names: Sequence[str] = DEFAULT_BASELINES,
    own: Mapping[str, Rule] = MappingProxyType({}),
    on_bar: OnBar | None = None,
) -> list[BacktestResult]:
    """Run baselines through a split of the strategy's market.

    Args:
        market: The strategy's.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        seed: Of ``random``.
        names: Which, in this order: of ``BASELINES``, ``random``, or of ``own``.
        own: Rules of the user's own, by name.
        on_bar: As in ``run_backtest``.
    """
    alone = baseline_market(market)
    rules = {**BASELINES, **own}

    def run(name: str) -> BacktestResult:
        trader = random_trader(seed) if name == RANDOM else rule_trader(rules[name], sees_split=name in HINDSIGHT)
        where = market if name == RANDOM else alone
        return run_backtest(trader, where, name=name, split=split, seed=seed, on_bar=on_bar)

    return [run(name) for name in names]
