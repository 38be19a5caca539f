"""One pass of a trader through a split, bar by bar, with everything written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.features import Scaler
from envs.floor import FloorStep, TradingFloor, build_floor
from envs.market import Market
from envs.metrics import annual_turnover, performance
from envs.trading import Detail
from experiments.backtesting.result import COST_COLUMNS, TRADE_COLUMNS, BacktestResult


class Trader(Protocol):
    """Whatever decides for all agents of a floor with one replica."""

    def begin(self, floor: TradingFloor, market: Market) -> None:
        """Get ready for a pass through ``floor``, which has just been reset."""

    def decide(self, step: FloorStep) -> Tensor:
        """Choose actions for what the floor shows, in the shape that ``TradingFloor.step`` takes."""


class Policy(Protocol):
    """A trained team that acts greedily."""

    def reset(self) -> None:
        """Forget the episode so far."""

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Any:
        """Actions for ``obs`` [B, N, F]."""


class PolicyTrader:
    """A trained policy as a trader."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def begin(self, floor: TradingFloor, market: Market) -> None:
        """Forget earlier episodes."""
        self._policy.reset()

    def decide(self, step: FloorStep) -> Tensor:
        """Ask the policy."""
        return torch.as_tensor(self._policy.act(step.obs, step.action_mask))


def run_backtest(
    trader: Trader,
    market: Market,
    *,
    name: str,
    split: str = "test",
    seed: int = 0,
    scaler: Scaler | None = None,
) -> BacktestResult:
    """Run a trader once through a split, from its first bar to its last.

    Args:
        trader: Decides.
        market: Prices, agents and rules.
        name: Name of the series.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        seed: Of the floor's counted draws (none are made in a pass that starts on the first bar).
        scaler: The scaler of the training run; None takes the market's own.

    Returns:
        The books of every bar. After a ruin the account stays closed: its value is carried forward to the end.
    """
    floor = build_floor(market, split=split, num_replicas=1, seed=seed, start="first", record=True, scaler=scaler)
    with torch.no_grad():
        step = floor.reset(seed=seed)
        trader.begin(floor, market)
        recorder = _Recorder(floor, market)
        while True:
            step = floor.step(trader.decide(step))
            assert floor.detail is not None
            recorder.add(floor.detail)
            if bool(step.terminated[0]) or bool(step.truncated[0]):
                break
    return recorder.result(name, ruined=bool(step.terminated[0]))


@dataclass
class _Recorder:
    """Collects the details of each step and turns them into tables."""

    floor: TradingFloor
    market: Market
    rows: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)

    def add(self, detail: Detail) -> None:
        self.bars.append(int(detail.bar[0]) + 1)
        self.rows.append(
            {
                "equity": _column(detail.after.equity),
                "fills": _column(detail.fills),
                "price": _column(detail.price),
                "commission": _column(detail.commission),
                "spread": _column(detail.spread),
                "impact": _column(detail.impact),
                "borrow": _column(detail.borrow),
                "interest": _column(detail.interest),
                "line_fills": _column(detail.line_fills),
                "line_value": _column(detail.positions)
                * _column(detail.mark_after)[list(self.floor.layout.line_asset)],
                "profit": _column(detail.profit),
            }
        )

    def result(self, name: str, *, ruined: bool) -> BacktestResult:
        layout, all_dates = self.floor.layout, self.market.bars.dates
        stacked = {key: np.stack([row[key] for row in self.rows]) for key in self.rows[0]}  # [T, rows]
        split = self.floor.split
        bars = np.arange(split.start + 1, split.stop)
        dates, num_missing = all_dates[bars], len(bars) - len(self.bars)

        def padded(values: NDArray[np.float64], *, carry: bool = False) -> NDArray[np.float64]:
            """Fill the bars after a ruin: with the last value, or with nothing."""
            tail = np.repeat(values[-1:], num_missing, axis=0) * (1.0 if carry else 0.0)
            return np.concatenate([values, tail])

        capital = self.floor.config.capital * layout.num_accounts
        total = stacked["equity"].sum(axis=1)
        equity = np.concatenate([[capital], padded(total, carry=True)])
        weights = np.zeros((len(self.bars), layout.num_assets))
        for line, asset in enumerate(layout.line_asset):
            weights[:, asset] += stacked["line_value"][:, line]
        weights /= np.where(total > 0, total, 1.0)[:, None]
        costs = pd.DataFrame(
            {kind: padded(stacked[kind].sum(axis=1)) for kind in COST_COLUMNS if kind != "interest"}
            | {"interest": padded(stacked["interest"].sum(axis=1))},
            index=pd.Index(dates, name="date"),
        )
        trades = self._trades(stacked)
        first_slot = [layout.slot_line.index(line) for line in range(layout.num_lines)]
        traded = np.abs(stacked["line_fills"] * stacked["price"][:, first_slot]).sum(axis=1)
        periods = self.market.bars.periods_per_year
        return BacktestResult(
            name=name,
            dates=all_dates[split.start : split.stop],
            equity=equity,
            trades=trades,
            weights=pd.DataFrame(padded(weights), index=costs.index, columns=list(layout.assets)),
            agent_profit=pd.DataFrame(
                padded(stacked["profit"].cumsum(axis=0), carry=True),
                index=costs.index,
                columns=list(self.floor.agent_ids),
            ),
            costs=costs,
            metrics=performance(
                equity,
                periods_per_year=periods,
                turnover=annual_turnover(padded(traded), equity, periods_per_year=periods),
                total_costs=float(costs.drop(columns="interest").to_numpy().sum()),
                num_trades=len(trades),
            ),
            ruined=ruined,
        )

    def _trades(self, stacked: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
        layout, fills = self.floor.layout, stacked["fills"]
        steps, slots = np.nonzero(fills)
        agents = np.array(self.floor.agent_ids, dtype=object)[list(layout.slot_agent)]
        assets = np.array(layout.assets, dtype=object)[list(layout.slot_asset)]
        columns = {
            "date": self.market.bars.dates[np.asarray(self.bars, dtype=np.int64)[steps]],
            "agent": pd.array(agents[slots], dtype="str"),
            "asset": pd.array(assets[slots], dtype="str"),
            "shares": fills[steps, slots],
        }
        columns |= {key: stacked[key][steps, slots] for key in ("price", "commission", "spread", "impact")}
        return pd.DataFrame(columns, columns=list(TRADE_COLUMNS))


def _column(values: Tensor) -> NDArray[np.float64]:
    """The one replica of a tensor [rows, 1]."""
    return values[:, 0].cpu().numpy().astype(np.float64)
