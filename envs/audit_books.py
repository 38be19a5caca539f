"""Audits of a floor's money on the user's own prices and settings: books balance, and no path of trades is paid for."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
from torch import Tensor

from envs.audit_draws import random_actions, random_costs
from envs.audit_rows import AuditResult, AuditRow
from envs.floor import TradingFloor, build_floor
from envs.identities import TOLERANCE, Array, average_on_the_way, check_step
from envs.market import Market, build_market
from envs.settings import FloorSpec


def audit_round_trips(
    source: FloorSpec | Market, *, num_paths: int = 16, num_steps: int = 64, seed: int = 0
) -> AuditResult:
    """Trade at prices that stand still and on the recorded volumes, and show that nobody is paid for it.

    Agents take random actions. What all accounts together have then, their positions sold down the prices that they
    have moved, is at most what they began with: whoever has more has been paid by its own price impact.

    Args:
        source: A floor's spec or market, whose costs are tried; interest on cash is left out.
        num_paths: Paths of actions, each from a place of its own in history.
        num_steps: Bars of a path.
        seed: Of actions and places.
    """
    market = source if isinstance(source, Market) else build_market(source)
    row = AuditRow("no path of trades earns at prices that stand still")
    rng = np.random.default_rng(seed)
    market = _standing_still(market, num_steps)
    floor = build_floor(market, num_replicas=num_paths, seed=seed, record=True)
    columns = [market.bars.assets.index(asset) for asset in floor.layout.assets]
    moved = (market.spec.floor.costs.permanent_impact or 0.0) * np.nan_to_num(market.impact_unit[columns])[:, None]
    floor.reset()
    for number in range(floor.episode_bars):
        floor.step(random_actions(floor, rng))
        detail = floor.detail
        assert detail is not None
        held = floor.layout.lines_to_assets(detail.positions).numpy()
        price = detail.mark_after.numpy() * average_on_the_way(-held * moved)
        worth = detail.after.cash.numpy().sum(0) + (held * price).sum(0)
        gained = worth / (floor.config.capital * floor.layout.num_accounts) - 1.0
        row.compare(np.maximum(gained, 0.0), TOLERANCE, partial("bar {} of the paths".format, number))
    return AuditResult("round trips", [row])


def _standing_still(market: Market, num_steps: int) -> Market:
    """The market at the prices of its first bar, in episodes of so many bars, or all there are."""
    bars = market.bars
    first = np.broadcast_to(bars.close[0], bars.close.shape)
    costs = dataclasses.replace(market.spec.floor.costs, cash_rate_annual=0.0)
    longest = market.splits.train.num_decisions
    rules = dataclasses.replace(market.spec.floor, costs=costs, horizon_bars=min(num_steps, longest))
    return dataclasses.replace(
        market,
        bars=dataclasses.replace(bars, open=first, high=first, low=first, close=first),
        spec=dataclasses.replace(market.spec, floor=rules),
    )


def audit_books(
    source: FloorSpec | Market,
    *,
    num_settings: int = 8,
    num_steps: int = 64,
    num_replicas: int = 8,
    seed: int = 0,
) -> AuditResult:
    """Take random actions under random cost settings and check every identity of the books at every step.

    What a fill should have cost is computed here once more, from the settings and in numpy, so that a fee charged
    twice, or on one side only, is found.

    Args:
        source: A floor's spec or market; its own costs are the first setting.
        num_settings: Cost settings, the floor's own included.
        num_steps: Bars under each.
        num_replicas: Replicas with actions and places in history of their own.
        seed: Of settings, actions and start bars.
    """
    market = source if isinstance(source, Market) else build_market(source)
    rng = np.random.default_rng(seed)
    rows: dict[str, AuditRow] = {}
    has_volume = all(market.bars.without_volume.isdisjoint(mandate.assets) for mandate in market.mandates)
    for setting in range(num_settings):
        floor_config = market.spec.floor
        if setting:
            floor_config = dataclasses.replace(
                floor_config,
                costs=random_costs(rng, has_volume=has_volume),
                max_leverage=float(rng.choice([1.0, 1.0, 2.0])),
                horizon_bars=_draw_horizon(rng, min(num_steps, market.splits.train.num_decisions)),
            )
        mark = floor_config.reward.mark if not setting else ("close", "liquidation")[int(rng.integers(2))]
        reward = dataclasses.replace(floor_config.reward, lambda_cvar=0.0, lambda_turn=0.0, mark=mark)
        spec = dataclasses.replace(market.spec, floor=dataclasses.replace(floor_config, reward=reward))
        mandates = tuple(dataclasses.replace(m, team_share=1.0, own_share=0.0) for m in market.mandates)
        floor = build_floor(
            dataclasses.replace(market, spec=spec, mandates=mandates),
            num_replicas=num_replicas,
            seed=seed + setting,
            record=True,
        )
        _check_books(rows, floor, market, rng, num_steps, f"cost setting {setting}")
    return AuditResult("books", list(rows.values()))


def _draw_horizon(rng: np.random.Generator, longest: int) -> int:
    """Decisions in an episode: at least 2 where the split has them, so that there is a fill to carry over."""
    least = min(2, longest)
    return int(rng.integers(least, max(least + 1, longest)))


def _check_books(
    rows: dict[str, AuditRow],
    floor: TradingFloor,
    market: Market,
    rng: np.random.Generator,
    num_steps: int,
    setting: str,
) -> None:
    config = floor.config
    paid = np.zeros((floor.num_replicas, floor.num_agents))
    floor.reset()
    for number in range(num_steps):
        step = floor.step(random_actions(floor, rng))
        detail = floor.detail
        assert detail is not None
        paid += step.reward.numpy()

        def check(
            name: str,
            error: Tensor | Array,
            tolerance: float = TOLERANCE * config.capital,
            where: str = f"{setting}, step {number}",
        ) -> None:
            rows.setdefault(name, AuditRow(name)).compare(error, tolerance, lambda: where)

        check_step(check, floor, market, detail)
        account = [floor.layout.agent_account[n] for n in range(floor.num_agents)]
        equity = detail.after.equity.numpy()[account].T
        gain = equity / config.capital - 1.0
        if config.reward.kind == "log_growth":
            gain = np.log(np.maximum(equity / config.capital, 1e-300))
        ended = (step.terminated | step.truncated).numpy()
        sound = np.ones_like(ended) if config.reward.kind == "profit" else ~step.terminated.numpy()
        check("rewards sum to the change of account value", (paid / config.reward.scale - gain)[sound], TOLERANCE)
        paid[ended] = 0.0
