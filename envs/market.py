"""Market: prices, features, agents and splits, made from a FloorSpec once in a process, from which floors are made."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from envs.bar_data import Bars
from envs.bars import Splits, build_bars, split_bars, training_bars
from envs.features import Features, Scaler, compute_features
from envs.liquidity import impact_of_a_share
from envs.mandates import Mandate, build_mandates, preset_of
from envs.price_sources import changes_of
from envs.settings import FloorSpec

_MOST_CACHED = 8
"""Entries: a market stands under the spec that was asked for, and under its own."""
_SPEC = TypeAdapter(FloorSpec)


def spec_to_json(spec: FloorSpec) -> dict[str, Any]:
    """The spec as plain dicts, lists, numbers and strings."""
    return _SPEC.dump_python(spec, mode="json")


def spec_from_json(data: dict[str, Any] | FloorSpec) -> FloorSpec:
    """Read a spec back; settings that are left out have their defaults.

    Raises:
        pydantic.ValidationError: if a setting does not exist or has a wrong value.
    """
    return data if isinstance(data, FloorSpec) else _SPEC.validate_python(data)


@plain_dataclass(frozen=True, eq=False)
class Market:
    """Prices, features and agents, from which floors are made without reading or computing anything twice.

    Attributes:
        bars: The history.
        features: Unscaled features of all groups that some agent sees.
        scaler: Fitted on the training split.
        splits: Training, validation and test.
        mandates: The agents.
        impact_unit: ``envs.liquidity.impact_of_a_share`` of the share of history that is for training, [A] float64.
        spec: What all of it was made from, with what was left to the prices settled.
    """

    bars: Bars
    features: Features
    scaler: Scaler
    splits: Splits
    mandates: tuple[Mandate, ...]
    impact_unit: NDArray[np.float64]
    spec: FloorSpec


_cache: OrderedDict[tuple[str, tuple[tuple[str, float], ...]], Market] = OrderedDict()


def build_market(spec: FloorSpec, *, bars: Bars | None = None) -> Market:
    """Load prices, compute features, divide history, fit the scaler and write the mandates.

    Markets of the same spec are shared within a process, as long as their price files do not change.

    Args:
        spec: The settings.
        bars: Prices to use instead of those that the spec names; nothing is shared then.

    Raises:
        InputError: if prices or settings cannot be used.
    """
    if bars is not None:
        return _make_market(spec, bars)
    changed = () if spec.data.path is None else changes_of(spec.data.path)
    key = (_SPEC.dump_json(spec).decode(), changed)
    market = _cache[key] if key in _cache else _make_market(spec, build_bars(spec.data))
    for name in (key, (_SPEC.dump_json(market.spec).decode(), changed)):
        _cache[name] = market
        _cache.move_to_end(name)
    while len(_cache) > _MOST_CACHED:
        _cache.popitem(last=False)
    return market


def _settle(spec: FloorSpec, bars: Bars) -> tuple[FloorSpec, Bars]:
    """Decide what the settings leave to the prices, and note it where it is not what most prices get."""
    preset, has_volume = preset_of(spec.desk, bars), bool(bars.has_volume.any())
    costs = spec.floor.costs.settled(has_volume=has_volume)
    notes = []
    if not has_volume and None in (spec.floor.costs.temporary_impact, spec.floor.costs.permanent_impact):
        notes.append("no volumes: orders move no prices (price impact is 0), however large they are")
    if spec.desk.preset is None and bars.num_assets == 1:
        notes.append(f"one asset alone: its agents are {preset} (desk.preset roles or rivals)")
    if spec.data.evaluation_bars is not None:
        notes.append(
            f"evaluations and backtests take the last {spec.data.evaluation_bars:,} decisions of their split alone "
            "(data.evaluation_bars)"
        )
    sees_tradable = spec.desk.observe_tradable
    if sees_tradable is None:
        sees_tradable = not bars.tradable[: training_bars(bars, spec.data)].all()
    desk = replace(spec.desk, preset=preset, observe_tradable=sees_tradable)
    settled = replace(spec, desk=desk, floor=replace(spec.floor, costs=costs))
    return settled, replace(bars, notes=(*bars.notes, *notes)) if notes else bars


def _make_market(spec: FloorSpec, bars: Bars) -> Market:
    spec, bars = _settle(spec, bars)
    mandates = build_mandates(spec.desk, bars, max_leverage=spec.floor.max_leverage)
    groups = tuple(dict.fromkeys(group for mandate in mandates for group in mandate.feature_groups))
    features = compute_features(bars, groups)
    lookback = features.lookback_bars + spec.floor.window - 1
    splits = split_bars(
        bars, spec.data, lookback_bars=lookback, embargo_bars=lookback, horizon_bars=spec.floor.horizon_bars or 1
    )
    scaler = Scaler.fit(features, splits.train)
    before = slice(min(training_bars(bars, spec.data), splits.train.stop + splits.embargo_bars))
    unit = impact_of_a_share(bars, before if spec.data.groups is None else splits.train.rows)
    return Market(bars, features, scaler, splits, mandates, unit, spec)
