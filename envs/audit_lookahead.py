"""Audit of what a floor sees: nothing looks ahead, on the user's own prices and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from envs.audit_draws import perturb_after, random_actions
from envs.audit_rows import AuditResult, AuditRow
from envs.bars import Split
from envs.features import Scaler, compute_features
from envs.floor import build_floor
from envs.market import Market, build_market
from envs.outcomes import Detail
from envs.settings import FloorSpec
from envs.steps import FloorStep

RUN_IN_BARS = 32
"""Bars that are traded before a bar whose future is perturbed: enough to fill books, too few to be ruined."""


def audit_lookahead(
    source: FloorSpec | Market, *, num_bars_checked: int = 3, num_replicas: int = 2, seed: int = 0
) -> AuditResult:
    """Perturb every price and volume after a bar, and show that nothing up to that bar changes.

    For several bars t of every split, the market after t is replaced by another one, features are computed anew, the
    scaler is held fixed (it is part of a model), and the same actions are taken over the bars before t. Then
    observations, global states and masks up to t, targets and orders decided up to t, and fills and rewards marked up
    to t must be equal to the last bit; fills of orders decided on t must differ, since they are made at prices that
    nobody has seen; and so must the observation after t, or the perturbation was void. Apart from that, a scaler
    fitted anew must not change when prices after the training split do.

    Args:
        source: A floor's spec or market.
        num_bars_checked: Bars t in each split.
        num_replicas: Replicas with actions of their own.
        seed: Of actions, bars and perturbations.

    Raises:
        InputError: if a split has no decision, or none has a decision after another.
    """
    market = source if isinstance(source, Market) else build_market(source)
    _check_splits(market)
    rng = np.random.default_rng(seed)
    names = (
        "observations do not see the future",
        "global state does not see the future",
        "action masks do not see the future",
        "targets and orders do not use the future",
        "fills and rewards use no later bar than their mark",
        "orders fill at prices not seen when deciding",
        "the perturbation is visible one bar later",
        "decisions do not depend on how much history follows",
        "the scaler does not see beyond the training split",
    )
    rows = {name: AuditRow(name) for name in names}
    has_masks = False
    for split in (*market.splits.train.blocks, market.splits.validation, market.splits.test):
        first = min(split.start + 1, split.stop - 2)  # with a decision before it, where the split has one
        for bar in np.unique(rng.integers(first, split.stop - 1, num_bars_checked)).tolist():
            part = dataclasses.replace(split, start=max(split.start, bar - RUN_IN_BARS))
            probe = build_floor(_only(market, part), split=split.name, num_replicas=num_replicas, start="first")
            actions = [random_actions(probe, rng) for _ in range(bar - part.start + 1)]
            changed, ended = _perturbed(market, bar, rng), _cut_after(market, bar)
            base, other = (_run(_only(m, part), part, actions) for m in (market, changed))
            has_masks = has_masks or base[0][0].action_mask is not None
            is_seen = not np.array_equal(market.bars.close[bar + 1], changed.bars.close[bar + 1])
            _compare_runs(rows, part, bar, base, other, is_seen=is_seen)
            short = dataclasses.replace(part, stop=bar + 2)
            _compare_lengths(rows[names[-2]], part, bar, base, _run(_only(ended, short), short, actions))
    _compare_scalers(rows[names[-1]], market, rng)
    if not has_masks:
        rows.pop(names[2])
    return AuditResult("lookahead", list(rows.values()))


def _check_splits(market: Market) -> None:
    """Refuse splits that are too short to be audited."""
    splits = (market.splits.train, market.splits.validation, market.splits.test)
    how = "give more history, other shares (data.train, data.validation, data.test) or other dates"
    for split in splits:
        if split.num_decisions < 1:
            raise InputError(f"the {split.name} split has {split.num_bars} bars, but a decision needs 2: {how}")
    if max(split.num_decisions for split in splits) < 2:
        sizes = ", ".join(f"{split.name} {split.num_bars}" for split in splits)
        raise InputError(f"no split has the 3 bars that an audit needs to look back on a fill ({sizes}): {how}")


def _perturbed(market: Market, bar: int, rng: np.random.Generator) -> Market:
    bars = perturb_after(market.bars, bar, rng)
    groups = tuple(dict.fromkeys(market.features.groups))
    return dataclasses.replace(market, bars=bars, features=compute_features(bars, groups))


def _cut_after(market: Market, bar: int) -> Market:
    """The market as its file was when only one more bar was known, for the fills of ``bar``."""
    bars = market.bars.between(0, bar + 2)
    groups = tuple(dict.fromkeys(market.features.groups))
    return dataclasses.replace(market, bars=bars, features=compute_features(bars, groups))


def _only(market: Market, split: Split) -> Market:
    """The market with one of its splits cut short."""
    cut: dict[str, Any] = {split.name: split}
    return dataclasses.replace(market, splits=dataclasses.replace(market.splits, **cut))


def _run(market: Market, split: Split, actions: list[Tensor]) -> tuple[list[FloorStep], list[Detail]]:
    """Steps seen (the first is the reset) and details of decisions, over the split from its first bar."""
    floor = build_floor(
        market, split=split.name, num_replicas=len(actions[0]), start="first", record=True, with_state=True
    )
    seen, details = [floor.reset()], []
    for action in actions:
        step = floor.step(action)
        seen.append(step)
        assert floor.detail is not None
        details.append(floor.detail)
        if step.final_obs is not None:
            break
    return seen, details


def _compare_runs(
    rows: dict[str, AuditRow],
    split: Split,
    bar: int,
    base: tuple[list[FloorStep], list[Detail]],
    other: tuple[list[FloorStep], list[Detail]],
    *,
    is_seen: bool,
) -> None:
    """Compare two runs up to a bar, and after it; ``is_seen``: whether the next bar has other prices."""
    seen_row, state_row, mask_row, order_row, fill_row, timing_row, change_row, _, _ = rows.values()
    at = min(bar - split.start, len(base[0]) - 2, len(other[0]) - 2)  # decisions 0 .. at were taken on bars up to `bar`
    if at != bar - split.start:
        return  # ruined before the bar was reached: nothing to compare

    def where(step: int) -> Callable[[], str]:
        return lambda: f"{split.name} split, bar {split.start + step}, prices changed after bar {bar}"

    for step in range(at + 1):
        mine, theirs = base[0][step], other[0][step]
        seen_row.compare(mine.obs - theirs.obs, 0.0, where(step))
        if mine.state is not None and theirs.state is not None:
            state_row.compare(mine.state - theirs.state, 0.0, where(step))
        if mine.action_mask is not None and theirs.action_mask is not None:
            mask_row.compare((mine.action_mask != theirs.action_mask).to(torch.float64), 0.0, where(step))
        for name in ("target", "orders"):
            order_row.compare(getattr(base[1][step], name) - getattr(other[1][step], name), 0.0, where(step))
        if step < at:
            fill_row.compare(base[0][step + 1].reward - other[0][step + 1].reward, 0.0, where(step))
            fill_row.compare(base[1][step].fills - other[1][step].fills, 0.0, where(step))
    are_filled = (base[1][at].fills != 0) & (other[1][at].fills != 0)
    timing_row.compare((base[1][at].mid == other[1][at].mid)[are_filled].to(torch.float64), 0.0, where(at))
    if not is_seen:
        return
    last = [run[0][at + 1] for run in (base, other)]
    after = [step.obs if step.final_obs is None else step.final_obs for step in last]
    change_row.compare(np.array([float(torch.equal(*after))]), 0.0, where(at))


def _compare_lengths(
    row: AuditRow,
    split: Split,
    bar: int,
    base: tuple[list[FloorStep], list[Detail]],
    short: tuple[list[FloorStep], list[Detail]],
) -> None:
    """Compare what is seen, and what is ordered, up to a bar, with the same where history ends right after it."""

    def where() -> str:
        return f"{split.name} split, history cut after bar {bar + 1}"

    for mine, theirs in zip(base[0][: len(short[1])], short[0], strict=False):
        row.compare(mine.obs - theirs.obs, 0.0, where)
    for one, other in zip(base[1], short[1], strict=False):
        row.compare(one.orders - other.orders, 0.0, where)


def _compare_scalers(row: AuditRow, market: Market, rng: np.random.Generator) -> None:
    last = market.splits.train.stop - 1
    groups = tuple(dict.fromkeys(market.features.groups))
    mine, theirs = (
        Scaler.fit(compute_features(bars, groups), market.splits.train)
        for bars in (market.bars, perturb_after(market.bars, last, rng))
    )
    for name in ("mean", "scale"):
        row.compare(getattr(mine, name) - getattr(theirs, name), 0.0, lambda: f"prices changed after bar {last}")
