"""Market: prices, features, agents and splits, made from a FloorSpec once in a process, from which floors are made."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass as plain_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from envs.bar_data import Bars
from envs.bars import Splits, build_bars, split_bars
from envs.features import Features, Scaler, compute_features
from envs.liquidity import impact_of_a_share
from envs.mandates import Mandate, build_mandates
from envs.settings import FloorSpec

_MOST_CACHED = 4


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
        delisted: Bar after the last of each asset's life, [A] int64; the number of bars where it lives on. That an
            asset is gone is known on the day.
        impact_unit: ``envs.liquidity.impact_of_a_share`` of the training split, [A] float64.
        spec: What all of it was made from.
    """

    bars: Bars
    features: Features
    scaler: Scaler
    splits: Splits
    mandates: tuple[Mandate, ...]
    delisted: NDArray[np.int64]
    impact_unit: NDArray[np.float64]
    spec: FloorSpec


_cache: OrderedDict[tuple[str, float], Market] = OrderedDict()


def build_market(spec: FloorSpec, *, bars: Bars | None = None) -> Market:
    """Load prices, compute features, divide history, fit the scaler and write the mandates.

    Markets of the same spec are shared within a process, as long as their price file does not change.

    Args:
        spec: The settings.
        bars: Prices to use instead of those that the spec names; nothing is shared then.

    Raises:
        InputError: if prices or settings cannot be used.
    """
    if bars is not None:
        return _make_market(spec, bars)
    path = spec.data.path
    changed = os.path.getmtime(path) if path is not None and os.path.exists(path) else 0.0
    key = (_SPEC.dump_json(spec).decode(), changed)
    if key not in _cache:
        _cache[key] = _make_market(spec, build_bars(spec.data))
        if len(_cache) > _MOST_CACHED:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def _make_market(spec: FloorSpec, bars: Bars) -> Market:
    mandates = build_mandates(spec.desk, bars, max_leverage=spec.floor.max_leverage)
    groups = tuple(dict.fromkeys(group for mandate in mandates for group in mandate.feature_groups))
    features = compute_features(bars, groups)
    lookback = features.lookback_bars + spec.floor.window - 1
    splits = split_bars(
        bars, spec.data, lookback_bars=lookback, embargo_bars=lookback, horizon_bars=spec.floor.horizon_bars or 1
    )
    scaler = Scaler.fit(features, splits.train)
    unit = impact_of_a_share(bars, splits.train.stop)
    return Market(bars, features, scaler, splits, mandates, bars.lives[1], unit, spec)
