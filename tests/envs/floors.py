"""Small floors for tests, and the step of a floor once more as a slow loop in plain Python."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import torch

from envs.audit_rows import AuditResult
from envs.bar_data import Bars
from envs.cost_tables import ASSET_COSTS
from envs.floor import TradingFloor, build_floor
from envs.market import Market, build_market
from envs.settings import BAR_COSTS, CostConfig, DataConfig, DeskConfig, FloorConfig, FloorSpec, SyntheticConfig

AUDITED = (
    {"preset": "desk", "num_agents": 3, "max_rung_change": 1},
    {"preset": "roles", "action": "continuous", "allow_short": False, "own_share": 0.5},
    {"preset": "rivals", "num_agents": 2, "observe": "each", "book_rule": "inverse_volatility"},
)
"""Desks that audits are tried on."""
FREE = CostConfig(
    commission_bps=0,
    half_spread_bps=0,
    temporary_impact=0,
    permanent_impact=0,
    max_participation=None,
    borrow_rate_annual=0,
    loan_rate_annual=0,
    cash_rate_annual=0,
)


def failures(result: AuditResult) -> list[str]:
    """Checks of an audit that did not pass."""
    return [row.check for row in result.rows if not row.passed]


def spec_of(
    *, num_assets: int = 4, num_bars: int = 260, seed: int = 1, desk: Any = None, floor: Any = None
) -> FloorSpec:
    synthetic = SyntheticConfig(num_assets=num_assets, num_bars=num_bars, seed=seed)
    floor = {"horizon_bars": 12, **(floor or {})}
    return FloorSpec(
        data=DataConfig(synthetic=synthetic),
        desk=DeskConfig(**{"feature_groups": ("momentum",), **(desk or {})}),
        floor=FloorConfig(**floor),
    )


def market_of(**kwargs: Any) -> Market:
    return build_market(spec_of(**kwargs))


def floor_of(*, desk: Any = None, floor: Any = None, market: Any = None, **kwargs: Any) -> TradingFloor:
    return build_floor(spec_of(desk=desk, floor=floor, **(market or {})), **kwargs)


def flat_bars(prices: Any, *, opens: Any = None, volume: float | None = 1e6) -> Bars:
    """Bars whose closes (and opens) are given, [T, A] or [T]; the rest of the history before them is flat."""
    close = np.asarray(prices, dtype=np.float64).reshape(len(prices), -1)
    lead = np.repeat(close[:1], 80, axis=0)
    close = np.concatenate((lead, close))
    open_ = close.copy() if opens is None else np.concatenate((lead, np.asarray(opens, float).reshape(len(opens), -1)))
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    return Bars(
        dates=dates.astype("datetime64[us]"),
        assets=tuple(f"A{i}" for i in range(close.shape[1])),
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=None if volume is None else np.full_like(close, volume),
    )


def with_own_costs(bars: Bars, draw: Any, scale: Any = None) -> Bars:
    """Bars whose assets have costs of their own, each drawn by ``draw()``; where ``scale`` is given, [T, 1], it is at
    each bar multiplied by it, and there is funding."""
    drawn = [draw() for _ in bars.assets]
    own = {name: np.array([[getattr(costs, name) for costs in drawn]], dtype=float) for name in ASSET_COSTS}
    own["max_participation"] = np.where(np.isnan(own["max_participation"]), np.inf, own["max_participation"])
    if scale is not None:
        own |= {name: own[name] * scale for name in BAR_COSTS}
        own["funding"] = 0.01 * (scale - 1.0) * np.linspace(-1, 1, len(bars.assets))
    return dataclasses.replace(bars, costs=own)


def part_taken(most: float, size: float) -> float:
    """The part of orders of a size that the market takes."""
    return min(1.0, most / size) if size else float(most > 0)


class SlowFloor:
    """One replica, one number at a time; knows nothing of the floor's tensors."""

    def __init__(self, market: Market, bar: int):
        self.market, self.bar, self.config = market, bar, market.spec.floor
        self.mandates, self.bars = market.mandates, market.bars
        self.accounts = sorted({m.account for m in self.mandates})
        self.cash = dict.fromkeys(self.accounts, self.config.capital)
        self.equity = dict(self.cash)
        self.held = {(m.name, a): 0.0 for m in self.mandates for a in m.assets}
        self.offset = {a: 0.0 for m in self.mandates for a in m.assets}
        self.waiting: dict[tuple[str, str], tuple[float, float]] = {}

    def cost(self, name: str, asset: str) -> float:
        """What an asset costs: as the bars say, or else the settings."""
        own = self.bars.costs.get(name)
        row = self.bar if own is not None and len(own) > 1 else 0
        return getattr(self.config.costs, name) if own is None else float(own[row, self.bars.assets.index(asset)])

    def impact_of_a_share(self, asset: str) -> float:
        """Daily volatility over daily volume of the first 60 % of daily bars."""
        bars, j, stop = self.bars, self.bars.assets.index(asset), round(0.6 * self.bars.num_bars)
        traded = [t for t in range(stop) if bars.tradable[t, j]]
        squares = [math.log(bars.close[t, j] / bars.close[s, j]) ** 2 for s, t in itertools.pairwise(traded)]
        sigma = max(math.sqrt(sum(squares) / len(traded)), 1e-6)
        return sigma / (sum(bars.volume[t, j] for t in traded) / len(traded))

    def recent(self, asset: str, t: int) -> tuple[float, float]:
        """Average volume and volatility of the last 20 bars in which the asset traded."""
        bars, j = self.bars, self.bars.assets.index(asset)
        last = [s for s in range(t + 1) if bars.tradable[s, j]][-20:]
        before = [s for s in range(t + 1) if bars.tradable[s, j]][-21:]
        squares = [math.log(bars.close[r, j] / bars.close[s, j]) ** 2 for s, r in itertools.pairwise(before)]
        return sum(bars.volume[s, j] for s in last) / len(last), max(math.sqrt(sum(squares) / len(last)), 1e-6)

    def volatility(self, asset: str, t: int) -> float:
        """That of ``recent``; of an asset with fewer than 20 traded bars, no less than the median of the others."""
        known = {a: sum(self.bars.tradable[: t + 1, self.bars.assets.index(a)]) for a in self.offset}
        own, settled = self.recent(asset, t)[1], [self.recent(a, t)[1] for a, n in known.items() if n >= 20]
        return max(own, float(np.median(settled))) if known[asset] < 20 and settled else own

    def cut_openings(self, taken: Any, wanted: Any, position: Any, mark: Any) -> dict[Any, float]:
        """What accounts open, cut where what they could not close would stand beside it."""
        result = {}
        for k in self.accounts:
            kept, opened, gross = {}, {}, 0.0
            for line in (line for line in taken if line[0] == k):
                held, after = position[line], position[line] + taken[line]
                kept[line] = math.copysign(min(abs(held), abs(after)), held) if held * after > 0 else 0.0
                opened[line] = after - kept[line]
                gross += abs(held + wanted[line]) * mark[line[1]]
            room = max(self.config.max_leverage * self.equity[k], gross)
            room -= sum(abs(x) * mark[line[1]] for line, x in kept.items())
            size = sum(abs(x) * mark[line[1]] for line, x in opened.items())
            room = max(room, 0.0)
            part = 1.0 if size <= room * (1 + 1e-12) else room / size
            result |= {line: taken[line] - opened[line] * (1 - part) for line in opened}
        return result

    def step(self, target: dict[tuple[str, str], float]) -> dict[str, Any]:
        """Trade toward exposures of (agent, asset); returns rewards by agent, and everything that was charged."""
        config, costs, bars, t = self.config, self.config.costs, self.bars, self.bar
        column = {a: bars.assets.index(a) for a in self.offset}
        mark = {a: bars.close[t, column[a]] * math.exp(self.offset[a]) for a in self.offset}
        account = {m.name: m.account for m in self.mandates}
        orders = {}
        for (agent, asset), exposure in target.items():
            equity = self.equity[account[agent]]
            order = exposure * equity / mark[asset] - self.held[agent, asset]
            order = order if abs(order) * mark[asset] >= config.min_order * equity else 0.0
            asked, left = self.waiting.get((agent, asset), (exposure, 0.0))
            if asked == exposure and left:
                order = math.copysign(min(abs(order), abs(left)), order)
            orders[agent, asset] = order
        lines = {(account[agent], asset) for agent, asset in orders}
        net = dict.fromkeys(lines, 0.0)
        for (agent, asset), order in orders.items():
            net[account[agent], asset] += order
        size = {line: sum(abs(o) for (n, a), o in orders.items() if (account[n], a) == line) for line in lines}
        net = {line: order if abs(order) > 1e-12 * size[line] else 0.0 for line, order in net.items()}
        # what the market takes of it: of each order, then of all accounts' together
        filled_at = t if config.fill == "same_close_unsafe" else t + 1
        most = {}
        for asset, j in column.items():
            most[asset] = math.inf
            if (part := self.cost("max_participation", asset)) not in (None, math.inf) and bars.volume is not None:
                most[asset] = part * bars.volume[filled_at, j]
            if self.cost("permanent_impact", asset):
                move_of_a_share = self.cost("permanent_impact", asset) * self.impact_of_a_share(asset)
                most[asset] = min(most[asset], 0.1 / move_of_a_share)
            if not bars.tradable[filled_at, j]:
                most[asset] = 0.0
        position = {line: sum(h for (n, a), h in self.held.items() if (account[n], a) == line) for line in lines}
        wanted, part = net, {line: part_taken(most[line[1]], abs(net[line])) for line in lines}
        net = self.cut_openings({line: order * part[line] for line, order in net.items()}, wanted, position, mark)
        if len(self.accounts) > 1:
            size = {a: sum(abs(order) for (_, b), order in net.items() if b == a) for a in column}
            share = {(k, a): part_taken(most[a], size[a]) for k, a in lines}
            part = {line: part[line] * share[line] for line in lines}
            net = self.cut_openings({line: order * share[line] for line, order in net.items()}, wanted, position, mark)
        if costs.carry_orders:
            self.waiting = {(n, a): (target[n, a], o - o * part[account[n], a]) for (n, a), o in orders.items()}
        orders = {(n, a): order * part[account[n], a] for (n, a), order in orders.items()}
        market_net = {line: order * part[line] for line, order in wanted.items()}
        permanent = {a: self.cost("permanent_impact", a) * self.impact_of_a_share(a) for a in column}

        def clear(net: dict[Any, float]) -> tuple[dict[str, float], dict[str, float]]:
            """One price for all orders, and the price before them."""
            price, mid = {}, {}
            for asset, j in column.items():
                flow = sum(order for (_, a), order in net.items() if a == asset)
                raw = {
                    "next_open": bars.open[t + 1, j],
                    "next_vwap": (bars.high[t + 1, j] + bars.low[t + 1, j] + bars.close[t + 1, j]) / 3,
                    "next_close": bars.close[t + 1, j],
                    "same_close_unsafe": bars.close[t, j],
                }[config.fill]
                mid[asset] = price[asset] = raw * math.exp(self.offset[asset])
                move = permanent[asset] * flow
                price[asset] *= math.expm1(move) / move if move else 1.0
                if temporary := self.cost("temporary_impact", asset):
                    adv, sigma = self.recent(asset, t)[0], self.volatility(asset, t)
                    power = 0.5 if costs.impact_law == "square_root" else 1.0
                    concession = min(temporary * sigma * (abs(flow) / adv) ** power, 0.5)
                    price[asset] *= 1 + math.copysign(concession, flow)
            return price, mid

        def commission(notional: float, asset: str) -> float:
            if notional == 0:
                return 0.0
            rated = max(notional * self.cost("commission_bps", asset) * 1e-4, self.cost("commission_min_usd", asset))
            return rated + self.cost("commission_fixed_usd", asset)

        spread = {a: self.cost("half_spread_bps", a) * 1e-4 for a in column}
        can_borrow = any(m.allow_short for m in self.mandates) or config.max_leverage > 1
        rate = {a: can_borrow * self.cost("borrow_rate_annual", a) / bars.periods_per_year for a in column}
        loan_rate = costs.loan_rate_annual / bars.periods_per_year

        def lots(shares: float, asset: str) -> float:
            if not (lot := self.cost("lot_size", asset)):
                return shares
            return math.trunc(shares / lot + math.copysign(1e-9 + 1e-14 * abs(shares / lot), shares)) * lot

        def pay(net: dict[Any, float], price: dict[str, float]) -> dict[Any, float]:
            """What of the orders the accounts can pay for."""
            filled = {}
            for k in self.accounts:
                mine = {line: lots(net[line], line[1]) for line in lines if line[0] == k}
                for line, order in mine.items():
                    value = order * price[line[1]]
                    if value < 0 and -value * (1 - spread[line[1]]) <= commission(-value, line[1]):
                        mine[line] = 0.0
                budget = self.cash[k] + (config.max_leverage - 1) * self.equity[k]
                bought = 0.0
                for (_, asset), order in mine.items():
                    value = order * price[asset]
                    if value < 0:
                        budget += -value * (1 - spread[asset]) - commission(-value, asset)
                    elif value > 0:
                        bought += value * (1 + spread[asset] + self.cost("commission_bps", asset) * 1e-4)
                        budget -= self.cost("commission_min_usd", asset) + self.cost("commission_fixed_usd", asset)
                    short = min(position[k, asset] + min(order, 0.0), 0.0)
                    budget -= -short * price[asset] * rate[asset]
                factor = min(1.0, max(0.0, budget / bought)) if bought > 0 else 1.0
                for line, order in mine.items():
                    filled[line] = order if order < 0 or factor == 1 else order * factor
                    if (lot := self.cost("lot_size", line[1])) and filled[line] != order:
                        filled[line] = math.trunc(order * factor / lot) * lot
            return filled

        price, mid = clear(net)
        filled = pay(net, price)
        if len(self.accounts) > 1:  # what nobody can pay moves no price
            price, mid = clear(filled)
            filled = pay(filled, price)
        ratio = {line: min(1.0, filled[line] / market_net[line]) if market_net[line] else 1.0 for line in lines}
        result: dict[str, Any] = {"fills": {}, "reward": {}, "commission": 0.0, "spread": 0.0, "borrow": 0.0}
        before_equity, start_held = dict(self.equity), dict(self.held)
        slot_cost = dict.fromkeys(orders, 0.0)
        for (agent, asset), order in orders.items():
            fill = order * ratio[account[agent], asset]
            result["fills"][agent, asset] = fill
            self.held[agent, asset] += fill
        interest = dict.fromkeys(self.accounts, 0.0)
        for line in lines:
            k, asset = line
            value = filled[line] * price[asset]
            fee, paid_spread = commission(abs(value), asset), abs(value) * spread[asset]
            short = min(position[line] + filled[line], 0.0)
            borrow = -short * price[asset] * rate[asset]
            self.cash[k] -= value + fee + paid_spread + borrow
            for name, amount in (("commission", fee), ("spread", paid_spread), ("borrow", borrow)):
                result[name] += amount
            impact = filled[line] * (price[asset] - mid[asset])
            size = sum(abs(o) for (n, a), o in orders.items() if (account[n], a) == line)
            all_short = sum(min(self.held[n, a], 0.0) for (n, a) in orders if (account[n], a) == line)
            for agent, a in orders:
                if (account[agent], a) == line:
                    part = abs(orders[agent, a]) / size if size else 0.0
                    slot_cost[agent, a] += part * (fee + paid_spread + impact)
                    slot_cost[agent, a] += borrow * min(self.held[agent, a], 0.0) / all_short if all_short else 0.0
        for k in self.accounts:
            interest[k] = max(self.cash[k], 0.0) * costs.cash_rate_annual / bars.periods_per_year
            if config.max_leverage > 1 or "funding" in bars.costs:
                interest[k] -= max(-self.cash[k], 0.0) * loan_rate
            self.cash[k] += interest[k]
        funding = dict.fromkeys(self.held, 0.0)
        for (agent, asset), shares in self.held.items():
            if "funding" in bars.costs:
                paid = shares * bars.close[t + 1, column[asset]] * bars.costs["funding"][t + 1, column[asset]]
                funding[agent, asset] = -paid
                self.cash[account[agent]] -= paid
        old_mark = mark
        for asset in self.offset:
            flow = sum(fill for (_, a), fill in filled.items() if a == asset)
            self.offset[asset] += permanent[asset] * flow
        mark = {a: bars.close[t + 1, column[a]] * math.exp(self.offset[a]) for a in self.offset}
        for k in self.accounts:
            self.equity[k] = self.cash[k] + sum(h * mark[a] for (n, a), h in self.held.items() if account[n] == k)
        for m in self.mandates:
            k, team = m.account, [n.name for n in self.mandates if n.account == m.account]
            own = sum(
                self.held[m.name, a] * mark[a]
                - start_held[m.name, a] * old_mark[a]
                - result["fills"][m.name, a] * mid[a]
                - slot_cost[m.name, a]
                + funding[m.name, a]
                for a in m.assets
            )
            own += interest[k] / len(team)
            shared = (self.equity[k] - before_equity[k]) / config.capital
            result["reward"][m.name] = config.reward.scale * (
                m.team_share * shared + m.own_share * own / config.capital
            )
        self.bar += 1
        return result


def slot_targets(floor: TradingFloor, detail: Any, replica: int) -> dict[tuple[str, str], float]:
    layout = floor.layout
    return {
        (floor.agent_ids[n], layout.assets[a]): float(detail.target[p, replica])
        for p, (n, a) in enumerate(zip(layout.slot_agent, layout.slot_asset, strict=True))
    }


def equal_steps(mine: Any, theirs: Any) -> bool:
    """Whether two steps of a floor are equal to the last bit."""
    for x, y in zip(mine, theirs, strict=True):
        if isinstance(x, dict):
            if not isinstance(y, dict) or any(not torch.equal(x[k], y[k]) for k in x):
                return False
        elif x is None or y is None:
            if x is not y:
                return False
        elif not torch.equal(x, y):
            return False
    return True
