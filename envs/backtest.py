"""One pass of a trader through a split, bar by bar, with everything written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.features import Scaler
from envs.floor import TradingFloor, build_floor
from envs.market import Market
from envs.metrics import annual_turnover, performance
from envs.outcomes import Detail
from envs.steps import FloorStep

Array = NDArray[np.float64]
Decide = Callable[[FloorStep], Tensor]
"""Chooses actions for what the floor shows, in the shape that ``TradingFloor.step`` takes."""
Trader = Callable[[TradingFloor, Market], Decide]
"""Gets ready for a pass through a floor of one replica, which has just been reset, or stands where another has left."""
OnBar = Callable[[str, int, int], None]
"""Is told the name of a series, how many of its bars are done, and how many there are."""
TRADE_COLUMNS = (
    "date", "agent", "asset", "shares", "price", "commission", "spread", "impact", "unfilled_notional",
)  # fmt: skip
COST_COLUMNS = ("commission", "spread", "impact", "borrow")
"""Kinds of cost."""
FINANCING_COLUMNS = ("interest", "funding")
"""What the table of costs has beside them: received less paid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BacktestResult:
    """One policy over one split, from the first decision to the last mark.

    Attributes:
        name: Name of the series: a model's or a baseline's.
        dates: First decision bar, then every bar at whose close the books were marked, [T+1] datetime64[us].
        equity: Value of all accounts at those dates, US dollars, [T+1] float64; the first is the capital.
        trades: One row for each order, columns ``TRADE_COLUMNS``; ``date`` is the bar of the fill, ``price`` includes
            impact and not spread; costs are US dollars, ``impact`` is what the price moved against the order;
            ``unfilled_notional`` is the value of what the market did not take of it. A position that is closed because
            its asset trades no more, or its account is ruined, is an order of its own at the last price, whose
            ``impact`` is the haircut.
        weights: Position values as fractions of equity after each mark, indexed by ``dates[1:]``, a column an asset.
        agent_profit: Profit of each agent so far, after costs, US dollars, indexed by ``dates[1:]``, a column an agent.
        costs: Costs of each bar by kind, US dollars, indexed by ``dates[1:]``: ``COST_COLUMNS``, and
            ``FINANCING_COLUMNS``, which are received less paid. Haircuts, and what leaving costs where an episode ends
            at the value of its liquidation, are ``impact``.
        metrics: ``envs.metrics.performance`` of the equity.
        ruined: Whether the run ended before the split did, because the capital was lost.
    """

    name: str
    dates: NDArray[np.datetime64]
    equity: Array
    trades: pd.DataFrame
    weights: pd.DataFrame
    agent_profit: pd.DataFrame
    costs: pd.DataFrame
    metrics: Mapping[str, float]
    ruined: bool = False


class Policy(Protocol):
    """A trained team that acts greedily."""

    def reset(self) -> None:
        """Forget the episode so far."""

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Any:
        """Actions for ``obs`` [B, N, F]."""


class Turn(NamedTuple):
    """A trader's part of a pass.

    Attributes:
        start: Bar of its first decision; it decides until the next turn.
        trader: Decides for all agents.
        scaler: The scaler of its training run; None takes the market's own.
    """

    start: int
    trader: Trader
    scaler: Scaler | None = None


def policy_trader(policy: Policy) -> Trader:
    """A trained policy as a trader."""

    def begin(floor: TradingFloor, market: Market) -> Decide:
        policy.reset()
        return lambda step: torch.as_tensor(policy.act(step.obs, step.action_mask))

    return begin


def run_backtest(
    trader: Trader,
    market: Market,
    *,
    name: str,
    split: str = "test",
    seed: int = 0,
    scaler: Scaler | None = None,
    on_bar: OnBar | None = None,
) -> BacktestResult:
    """Run a trader once through a split, from its first bar to its last; see ``run_turns``."""
    turns = [Turn(market.splits[split].start, trader, scaler)]
    return run_turns(turns, market, name=name, split=split, seed=seed, on_bar=on_bar)


def run_turns(
    turns: Sequence[Turn],
    market: Market,
    *,
    name: str,
    split: str = "test",
    seed: int = 0,
    on_bar: OnBar | None = None,
) -> BacktestResult:
    """Run traders through a split, one after the other; each takes over the books as they stand.

    Args:
        turns: In the order of time, the first on the first bar of the split.
        market: Prices, agents and rules.
        name: Name of the series.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        seed: Of the floor's counted draws (none are made in a pass that starts on the first bar).
        on_bar: Called after each bar; what it raises ends the pass.

    Returns:
        The books of every bar. After a ruin the account stays closed: its value is carried forward to the end.

    Raises:
        ValueError: if the turns do not begin with the split, or do not follow one another within it.
    """
    starts = [turn.start for turn in turns]
    bar, last = market.splits[split].start, market.splits[split].stop - 1
    if starts[:1] != [bar] or sorted(set(starts)) != starts or starts[-1] >= last:
        raise ValueError(f"turns begin at bars {starts}, but decisions are taken from bar {bar} to {last - 1}")
    rows, state, is_over = [], None, False
    with torch.no_grad():
        for turn, stop in zip(turns, [*starts[1:], last], strict=True):
            floor = build_floor(market, split=split, seed=seed, start="first", record=True, scaler=turn.scaler)
            step = floor.reset(seed=seed)
            if state is not None:
                floor.set_state(state)
                step = floor.observe()
            decide = turn.trader(floor, market)
            while bar < stop and not is_over:
                step, bar = floor.step(decide(step)), bar + 1
                assert floor.detail is not None
                rows.append(_row(floor, floor.detail))
                if on_bar is not None:
                    on_bar(name, len(rows), floor.split.num_decisions)
                is_over = bool(step.terminated[0])
            state = floor.get_state()
    stacked = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return _books(floor, market, stacked, name=name, ruined=is_over)


def _row(floor: TradingFloor, detail: Detail) -> dict[str, Array]:
    """What is kept of a bar: the one replica of each tensor [rows, 1]."""
    kept = {
        "equity": detail.after.equity,
        "fills": detail.fills,
        "price": detail.price,
        "mid": detail.mid,
        "commission": detail.attributed.commission,
        "spread": detail.attributed.spread,
        "impact": detail.attributed.impact,
        "borrow": detail.attributed.borrow,
        "interest": detail.attributed.interest,
        "funding": detail.attributed.funding,
        "line_fills": detail.line_fills,
        "line_value": detail.positions * detail.mark_after[list(floor.layout.line_asset)],
        "profit": detail.attributed.profit,
        "unfilled": detail.unfilled,
        "closed": -detail.closed,
        "haircut": detail.haircut,
        "exit_costs": detail.exit_costs,
        "mark": floor.layout.at_slots_from_assets(detail.mark_after).expand(detail.closed.shape),
        "liquidation": detail.liquidation,
    }
    return {name: values[:, 0].cpu().numpy().astype(np.float64) for name, values in kept.items()}


def _books(
    floor: TradingFloor, market: Market, stacked: dict[str, Array], *, name: str, ruined: bool
) -> BacktestResult:
    """Turn the rows of all bars, [T, rows] each, into tables."""
    layout, split, periods = floor.layout, floor.split, market.bars.periods_per_year
    dates, num_bars = market.bars.dates[split.start : split.stop], len(stacked["equity"])
    num_missing = len(dates) - 1 - num_bars

    def padded(values: Array, *, carry: bool = False) -> Array:
        """Fill the bars after a ruin: with the last value, or with nothing."""
        tail = np.repeat(values[-1:], num_missing, axis=0) * (1.0 if carry else 0.0)
        return np.concatenate([values, tail])

    capital, total = floor.config.capital * layout.num_accounts, stacked["equity"].sum(axis=1)
    equity = np.concatenate([[capital], padded(total, carry=True)])
    weights = np.zeros((num_bars, layout.num_assets))
    for line, asset in enumerate(layout.line_asset):
        weights[:, asset] += stacked["line_value"][:, line]
    per_equity = 1.0 / np.where(total > 0, total, 1.0)[:, None]
    weights *= per_equity
    gross = padded(np.abs(stacked["line_value"]) * per_equity).sum(axis=1)
    index = pd.Index(dates[1:], name="date")
    kinds = {kind: stacked[kind].sum(axis=1) for kind in (*COST_COLUMNS, *FINANCING_COLUMNS)}
    kinds["impact"] = kinds["impact"] + stacked["haircut"].sum(axis=1) + stacked["exit_costs"].sum(axis=1)
    costs = pd.DataFrame({kind: padded(values) for kind, values in kinds.items()}, index=index)
    trades = _trades(floor, stacked, dates[1:])
    first_slot = [layout.slot_line.index(line) for line in range(layout.num_lines)]
    traded = np.abs(stacked["line_fills"] * stacked["price"][:, first_slot]).sum(axis=1)
    profit = padded(stacked["profit"].cumsum(axis=0), carry=True)
    return BacktestResult(
        name=name,
        dates=dates,
        equity=equity,
        trades=trades,
        weights=pd.DataFrame(padded(weights), index=index, columns=list(layout.assets)),
        agent_profit=pd.DataFrame(profit, index=index, columns=list(floor.agent_ids)),
        costs=costs,
        metrics=performance(
            equity,
            periods_per_year=periods,
            turnover=annual_turnover(padded(traded), equity, periods_per_year=periods),
            total_costs=float(costs[list(COST_COLUMNS)].to_numpy().sum()),
            num_trades=int((trades["shares"] != 0).sum()),
            liquidation_equity=float(stacked["liquidation"][-1].sum()),
            unfilled_notional=float(trades["unfilled_notional"].sum()),
            gross_exposure=float(gross.mean()),
            net_exposure=float(padded(weights).sum(axis=1).mean()),
            risk_free=floor.config.costs.cash_rate_annual,
        ),
        ruined=ruined,
    )


def _trades(floor: TradingFloor, stacked: dict[str, Array], dates: NDArray[np.datetime64]) -> pd.DataFrame:
    """A row for each order, and for each position that was closed without one."""
    agents = np.array(floor.agent_ids, dtype=object)[list(floor.layout.slot_agent)]
    assets = np.array(floor.layout.assets, dtype=object)[list(floor.layout.slot_asset)]
    unfilled = np.abs(stacked["unfilled"]) * stacked["mid"]
    nothing = np.zeros_like(stacked["closed"])
    worth = stacked["closed"] * stacked["mark"] + stacked["haircut"]
    paid = np.divide(worth, stacked["closed"], out=nothing.copy(), where=stacked["closed"] != 0)
    orders = (stacked["fills"], stacked["price"], stacked["commission"], stacked["spread"], stacked["impact"], unfilled)
    closings = (stacked["closed"], paid, nothing, nothing, stacked["haircut"], nothing)
    tables = []
    for values in (orders, closings):
        steps, slots = np.nonzero((values[0] != 0) | (values[-1] > 0))
        columns = {
            "date": dates[steps],
            "agent": pd.array(agents[slots], dtype="str"),
            "asset": pd.array(assets[slots], dtype="str"),
        }
        columns |= {name: x[steps, slots] for name, x in zip(TRADE_COLUMNS[3:], values, strict=True)}
        tables.append(pd.DataFrame(columns, columns=list(TRADE_COLUMNS)))
    if tables[1].empty:
        return tables[0]
    return pd.concat(tables).sort_values("date", kind="stable", ignore_index=True)
