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
from envs.floor import TradingFloor
from envs.mandates import Mandate
from envs.market import Market
from envs.portfolio_rules import History, Rule
from envs.steps import FloorStep


def rule_trader(rule: Rule, *, sees_split: bool = False) -> Trader:
    """A rule that sets target weights at the ends of days, and leaves the positions alone where it says nothing.

    It is shown the assets that are listed on the day, and no others.

    Args:
        rule: Shown the days up to each decision.
        sees_split: Show it the split from its first bar to its last instead, future and all.
    """

    def begin(floor: TradingFloor, market: Market) -> Decide:
        mandate, past = floor.mandates[0], _Past(floor, market, sees_split=sees_split)
        chosen: NDArray[np.float64] | None = None

        def decide(step: FloorStep) -> Tensor:
            """Target weights, [1, 1, A] float64.

            Where there is no answer, those that positions have now, which are no orders; what the market did not take
            of an order is ordered again.
            """
            nonlocal chosen
            shown = past.next()
            answer = None
            if shown is not None:
                history, listed = shown
                answer = rule(history if chosen is None else history._replace(chosen=chosen[listed]))
            if answer is not None:
                chosen = np.zeros(len(listed))
                chosen[listed] = answer if mandate.allow_short else np.maximum(answer, 0.0)
                weights = chosen
            else:
                weights = current_weights(floor)
                if floor.detail is not None and chosen is not None:
                    weights = np.where(floor.detail.unfilled[:, 0].numpy() != 0, chosen, weights)
            return torch.as_tensor(weights, dtype=torch.float64)[None, None]

        return decide

    return begin


class _Past:
    """What a rule is shown, bar by bar: views of the closes of all days, so that nothing is copied."""

    def __init__(self, floor: TradingFloor, market: Market, *, sees_split: bool) -> None:
        bars, assets, split = market.bars, floor.mandates[0].assets, floor.split
        columns = [bars.assets.index(name) for name in assets]
        self._bars = itertools.count(split.start)
        self._days, self._months = (bars.dates.astype(f"datetime64[{unit}]") for unit in "DM")
        self._ends = np.flatnonzero(np.append(self._days[:-1] != self._days[1:], True))
        self._days_per_year = bars.periods_per_year * len(self._ends) / bars.num_bars
        if sees_split:
            within = self._ends[(self._ends > split.start) & (self._ends < split.stop - 1)]
            self._ends = np.array([split.start, *within, split.stop - 1])
        self._start, self._sees_split = split.start, sees_split
        self._names, self._closes = np.array(assets, dtype=object), bars.close[:, columns]
        self._is_listed, self._first = bars.alive[:, columns], bars.lives[0][columns]
        self._listed: NDArray[np.bool_] = np.zeros(len(assets), dtype=np.bool_)

    def next(self) -> tuple[History, NDArray[np.bool_]] | None:
        """The history up to the next bar, and which assets [A] are listed; None where nothing is to be decided."""
        bar = next(self._bars)
        listed = self._is_listed[bar]
        if not listed.any() or (bar != self._start and self._days[bar] == self._days[bar + 1]):
            return None
        if not np.array_equal(listed, self._listed):
            self._show(listed)
        day = len(self._ends) - 1 if self._sees_split else int(np.searchsorted(self._ends, bar))
        closes = self._shown.closes[: day + 1]
        if self._ends[day] > bar and not self._sees_split:  # a first bar within a day
            closes = np.vstack((closes[:-1], self._closes[bar, listed]))
        ends_month = bool(self._months[bar] != self._months[bar + 1])
        return self._shown._replace(closes=closes, days=self._shown.days[: day + 1], ends_month=ends_month), listed

    def _show(self, listed: NDArray[np.bool_]) -> None:
        closes = self._closes[self._ends][:, listed]
        closes.flags.writeable = False
        self._listed, shared = listed, int(np.searchsorted(self._ends, self._first[listed].max()))
        days, names = self._days[self._ends], tuple(self._names[listed])
        self._shown = History(closes, days, names, days_per_year=self._days_per_year, shared=shared)


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
