"""Audits of a floor on the user's own prices and settings: nothing looks ahead, and the books balance at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from envs.audit_draws import perturb_after, random_actions, random_costs
from envs.bar_data import Bars
from envs.bars import Split
from envs.features import Scaler, compute_features
from envs.floor import FloorStep, TradingFloor, build_floor
from envs.identities import TOLERANCE, Array, check_step
from envs.market import Market, build_market
from envs.settings import FloorSpec
from envs.trading import Detail

__all__ = [
    "AuditResult",
    "AuditRow",
    "audit_books",
    "audit_lookahead",
    "perturb_after",
    "random_actions",
    "random_costs",
]

RUN_IN_BARS = 32
"""Bars that are traded before a bar whose future is perturbed: enough to fill books, too few to be ruined."""


EQUAL = ("numbers compared", "equal to the last bit", "largest difference {worst:.1e}")
"""Looked at; found where it held; found where it did not: for checks that two numbers are equal."""
WORDS = {
    "orders fill at prices not seen when deciding": (
        "fill prices",
        "every one moved with the future",
        "some of them known when deciding",
    ),
    "the perturbation is visible one bar later": (
        "perturbed bars",
        "every one seen a bar later",
        "some of them not seen a bar later",
    ),
    "impact never favours the side that causes it": (
        "prices after impact",
        "none better than before it (beyond rounding)",
        "some better by up to {worst:.1e} of the price",
    ),
    "cash is never negative without leverage": ("cash balances", "none below zero", "as low as $-{worst:,.2f}"),
    "nothing is short where shorts are not allowed": ("holdings", "none below zero", "as low as -{worst:g} shares"),
}
"""The same for the other checks."""


@dataclass
class AuditRow:
    """One property and how it fared.

    Attributes:
        check: The property, in words.
        tried: Numbers compared.
        worst: Largest error found; 0 means equal to the last bit.
        passed: Whether every comparison held.
        first_failure: Where it first failed, or empty.
    """

    check: str
    tried: int = 0
    worst: float = 0.0
    passed: bool = True
    first_failure: str = ""

    def compare(self, error: Tensor | Array, tolerance: float, where: Callable[[], str]) -> None:
        """Take in the errors of one comparison; NaN is a failure."""
        errors = np.asarray(error, dtype=np.float64)
        if errors.size == 0:
            return
        self.tried += errors.size
        worst = float(np.max(np.abs(errors)))
        if not worst <= tolerance:
            self.first_failure = self.first_failure or where()
            self.passed = False
        self.worst = max(self.worst, worst) if np.isfinite(worst) else float("inf")

    def says(self) -> str:
        """What was looked at, and what was found, in words that are true of the check."""
        if not self.tried:
            return "never tried"
        looked, held, failed = WORDS.get(self.check, EQUAL)
        if self.check not in WORDS and self.worst > 0:
            held = failed
        found = f"{self.tried:,} {looked}, {(held if self.passed else failed).format(worst=self.worst)}"
        return f"{found}; first at {self.first_failure}" if self.first_failure else found


@dataclass
class AuditResult:
    """What an audit found.

    Attributes:
        name: Which audit.
        rows: A row for each property.
    """

    name: str
    rows: list[AuditRow] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every property held and was tried at least once."""
        return all(row.passed and row.tried > 0 for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, for printing or ``--json``."""
        return {"name": self.name, "passed": self.passed, "rows": [dataclasses.asdict(row) for row in self.rows]}


# --------------------------------------------------------------------------------------------------- looking ahead


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
        "the scaler does not see beyond the training split",
    )
    rows = {name: AuditRow(name) for name in names}
    has_masks = False
    for split in (market.splits.train, market.splits.validation, market.splits.test):
        first = min(split.start + 1, split.stop - 2)  # with a decision before it, where the split has one
        for bar in np.unique(rng.integers(first, split.stop - 1, num_bars_checked)).tolist():
            part = dataclasses.replace(split, start=max(split.start, bar - RUN_IN_BARS))
            probe = build_floor(_only(market, part), split=split.name, num_replicas=num_replicas, start="first")
            actions = [random_actions(probe, rng) for _ in range(bar - part.start + 1)]
            base, other = (_run(_only(m, part), part, actions) for m in (market, _perturbed(market, bar, rng)))
            has_masks = has_masks or base[0][0].action_mask is not None
            _compare_runs(rows, part, bar, base, other)
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
) -> None:
    seen_row, state_row, mask_row, order_row, fill_row, timing_row, change_row, _ = rows.values()
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
    unmoved = (base[1][at].mid == other[1][at].mid).to(torch.float64)
    timing_row.compare(unmoved, 0.0, where(at))
    last = [run[0][at + 1] for run in (base, other)]
    after = [step.obs if step.final_obs is None else step.final_obs for step in last]
    change_row.compare(np.array([float(torch.equal(*after))]), 0.0, where(at))


def _compare_scalers(row: AuditRow, market: Market, rng: np.random.Generator) -> None:
    last = market.splits.train.stop - 1
    groups = tuple(dict.fromkeys(market.features.groups))
    mine, theirs = (
        Scaler.fit(compute_features(bars, groups), market.splits.train)
        for bars in (market.bars, perturb_after(market.bars, last, rng))
    )
    for name in ("mean", "scale"):
        row.compare(getattr(mine, name) - getattr(theirs, name), 0.0, lambda: f"prices changed after bar {last}")


# ------------------------------------------------------------------------------------------------------ balancing


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
        reward = dataclasses.replace(floor_config.reward, lambda_cvar=0.0, lambda_turn=0.0)
        spec = dataclasses.replace(market.spec, floor=dataclasses.replace(floor_config, reward=reward))
        mandates = tuple(dataclasses.replace(m, team_share=1.0, own_share=0.0) for m in market.mandates)
        floor = build_floor(
            dataclasses.replace(market, spec=spec, mandates=mandates),
            num_replicas=num_replicas,
            seed=seed + setting,
            record=True,
        )
        _check_books(rows, floor, market.bars, rng, num_steps, f"cost setting {setting}")
    return AuditResult("books", list(rows.values()))


def _draw_horizon(rng: np.random.Generator, longest: int) -> int:
    """Decisions in an episode: at least 2 where the split has them, so that there is a fill to carry over."""
    least = min(2, longest)
    return int(rng.integers(least, max(least + 1, longest)))


def _check_books(
    rows: dict[str, AuditRow], floor: TradingFloor, bars: Bars, rng: np.random.Generator, num_steps: int, setting: str
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

        check_step(check, floor, bars, detail)
        account = [floor.layout.agent_account[n] for n in range(floor.num_agents)]
        equity = detail.after.equity.numpy()[account].T
        gain = equity / config.capital - 1.0
        if config.reward.kind == "log_growth":
            gain = np.log(np.maximum(equity / config.capital, 1e-300))
        ended = (step.terminated | step.truncated).numpy()
        sound = np.ones_like(ended) if config.reward.kind == "profit" else ~step.terminated.numpy()
        check("rewards sum to the change of account value", (paid / config.reward.scale - gain)[sound], TOLERANCE)
        paid[ended] = 0.0
