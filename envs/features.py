"""Causal, scale-free features in groups that mandates choose from; a scaler fitted on the training split.

Windows are counted in bars, whatever their length: ``return_20`` is the return of 20 bars, a month of daily ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.bar_data import Bars
from envs.bars import Split
from envs.calendars import last_traded
from envs.rolling import ema, rolling_max, rolling_mean, rolling_min, rolling_std, rolling_sum, shift

Array = NDArray[np.float64]
Columns = dict[str, Array]

_LONGEST_CLOSED = 20  # bars that are counted
_TINY = 1e-12  # below any real spread; a constant series gives 0, not 0 / 0


@dataclass(frozen=True)
class FeatureGroup:
    """Features that belong together.

    Attributes:
        name: How mandates and settings name the group.
        description: What it measures, in one line.
        lookback_bars: Bars before bar t that the group's features at t may use.
        compute: Bars -> feature name to [T, A] float64; rows before ``lookback_bars`` may hold anything.
    """

    name: str
    description: str
    lookback_bars: int
    compute: Callable[[Bars], Columns]


@dataclass(frozen=True, eq=False)
class Features:
    """Feature values of every asset at every bar.

    Attributes:
        names: Column names, F of them, each once.
        groups: Group of each column, F of them.
        values: [T, A, F] float64; finite from row ``lookback_bars`` on, NaN before it, so that a use too early cannot
            go unseen, and NaN where an asset is not listed.
        lookback_bars: First bar at which every feature is defined; a value at bar t depends on bars t - lookback_bars
            to t only.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: Array
    lookback_bars: int

    @property
    def num_features(self) -> int:
        """Length of the feature axis, F."""
        return len(self.names)

    def columns(self, groups: Sequence[str]) -> NDArray[np.int64]:
        """Positions of the columns of some groups, in the order of the feature axis.

        Raises:
            InputError: if one of the groups was not computed.
        """
        for group in groups:
            if group not in self.groups:
                raise InputError(f"feature group {group!r} was not computed{nearest(group, set(self.groups))}")
        return np.array([i for i, group in enumerate(self.groups) if group in groups], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Centre and scale of each feature, from the training split alone and pooled over assets.

    Attributes:
        names: Column names, F of them.
        mean: [F] float64.
        scale: [F] float64, standard deviation; 1 for a constant column.
        clip: Scaled values are cut to this many scales on both sides.
    """

    names: tuple[str, ...]
    mean: Array
    scale: Array
    clip: float = 5.0

    @classmethod
    def fit(cls, features: Features, split: Split, *, clip: float = 5.0) -> Scaler:
        """Measure mean and spread over the bars of a split; use the training split, or the future leaks in.

        Raises:
            InputError: if the split begins before the features are defined, or is empty.
        """
        if split.start < features.lookback_bars or split.num_bars < 1:
            raise InputError(
                f"the {split.name} split (bars {split.start} to {split.stop}) must hold bars and begin at or after bar "
                f"{features.lookback_bars}, where features are defined"
            )
        rows = features.values[split.rows].reshape(-1, features.num_features)
        rows = rows[~np.isnan(rows).any(axis=1)]
        if not len(rows):
            raise InputError(f"no asset is listed in the {split.name} split: choose other splits or assets")
        spread = rows.std(axis=0)
        mean = rows.mean(axis=0)
        constant = spread <= 1e-9 * np.maximum(1.0, np.abs(mean))
        return cls(features.names, mean, np.where(constant, 1.0, spread), clip)

    def transform(self, features: Features) -> NDArray[np.float32]:
        """Scale features and cut them to +-clip.

        Returns:
            [T, A, F] float32; 0 in rows before ``features.lookback_bars``, and where an asset is not listed.

        Raises:
            InputError: if the columns are not those that the scaler was fitted on.
        """
        if features.names != self.names:
            missing, extra = set(self.names) - set(features.names), set(features.names) - set(self.names)
            raise InputError(
                f"features differ from those the scaler was fitted on: missing {sorted(missing)}, new "
                f"{sorted(extra)}, or in another order"
            )
        scaled = np.clip((features.values - self.mean) / self.scale, -self.clip, self.clip)
        scaled[: features.lookback_bars] = 0.0
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)

    def to_json(self) -> dict[str, object]:
        """Plain lists and numbers, from which ``from_json`` restores the scaler to the last bit."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "clip": float(self.clip),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Scaler:
        """Restore what ``to_json`` wrote.

        Raises:
            InputError: if an entry is missing or the lengths differ.
        """
        try:
            names: tuple[str, ...] = tuple(data["names"])  # type: ignore[arg-type]
            mean, scale = (np.array(data[key], dtype=np.float64) for key in ("mean", "scale"))
            clip = float(data["clip"])  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"saved feature scaler cannot be read: {error!r}") from None
        if mean.shape != (len(names),) or scale.shape != (len(names),):
            raise InputError(
                f"saved feature scaler has {len(names)} names but {mean.size} means and {scale.size} scales"
            )
        return cls(names, mean, scale, clip)


def compute_features(bars: Bars, groups: Sequence[str]) -> Features:
    """Compute feature groups, strictly causally: row t depends on bars up to t and on nothing after, to the last bit.

    Args:
        bars: Prices and volumes.
        groups: Names out of ``FEATURE_GROUPS``, each once; their columns stand in this order.

    Returns:
        Features, finite from ``lookback_bars`` (the longest of the groups) on.

    Raises:
        InputError: if a group is unknown, named twice, needs volumes or a signal that the bars lack, or history is
            shorter than it needs.
    """
    if not groups or len(set(groups)) < len(groups):
        raise InputError(f"feature groups {tuple(groups)}: name at least one, each once")
    names, owners, arrays = [], [], []
    for name in groups:
        if name not in FEATURE_GROUPS:
            raise InputError(
                f"feature group {name!r} does not exist{nearest(name, FEATURE_GROUPS)}: choose from "
                f"{', '.join(FEATURE_GROUPS)}"
            )
        columns = FEATURE_GROUPS[name].compute(bars)
        names += list(columns)
        owners += [name] * len(columns)
        arrays += list(columns.values())
    lookback = max(FEATURE_GROUPS[name].lookback_bars for name in groups)
    if bars.num_bars <= lookback:
        raise InputError(
            f"history too short: {bars.source} has {bars.num_bars} bars, but feature groups {', '.join(groups)} "
            f"look back on {lookback}"
        )
    values = np.stack(arrays, axis=-1)
    values[:lookback] = np.nan
    values[~bars.alive] = np.nan
    return Features(tuple(names), tuple(owners), values, lookback)


def default_groups(bars: Bars) -> tuple[str, ...]:
    """Every group that these bars can feed: volume only where they have any, signal only where one is planted.

    ``desk.observe_tradable`` adds what trades.
    """
    missing = {"volume": bars.volume is None, "tradable": True, "signal": bars.signal is None}
    return tuple(name for name in FEATURE_GROUPS if not missing.get(name, False))


def _log_return(bars: Bars, horizon: int = 1) -> Array:
    """Log close over log close ``horizon`` bars ago, [T, A]."""
    log_close = np.log(bars.close)
    return log_close - shift(log_close, horizon)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient that is 0 where the denominator (a spread, a sum) vanishes."""
    safe = np.where(np.abs(denominator) > _TINY, denominator, 1.0)
    return np.where(np.abs(denominator) > _TINY, numerator / safe, np.where(np.isnan(denominator), np.nan, 0.0))


def _log_ratio(numerator: Array, denominator: Array) -> Array:
    """Log of a quotient of two spreads, both floored: 0 where both vanish."""
    return np.log(np.maximum(numerator, 1e-6)) - np.log(np.maximum(denominator, 1e-6))


def _momentum(bars: Bars) -> Columns:
    """Returns of 1 to 20 bars, opening gap (short-term momentum and reversal; Jegadeesh 1990)."""
    return_5 = _log_return(bars, 5)
    return {
        "return_1": _log_return(bars),
        "return_5": return_5,
        "return_20": _log_return(bars, 20),
        "acceleration_5": return_5 - shift(return_5, 5),
        "gap": np.log(bars.open) - shift(np.log(bars.close), 1),
    }


def _trend(bars: Bars) -> Columns:
    """Time-series momentum (Moskowitz et al. 2012), moving averages, MACD (12, 26, 9), Donchian channel."""
    log_close = np.log(bars.close)
    volatility = rolling_std(_log_return(bars), 60)
    macd = ema(log_close, 12, 45) - ema(log_close, 26, 45)
    low, high = rolling_min(bars.low, 60), rolling_max(bars.high, 60)
    return {
        "trend_60": _ratio(_log_return(bars, 60), volatility * np.sqrt(60)),
        "above_mean_20": _ratio(log_close - rolling_mean(log_close, 20), volatility * np.sqrt(20)),
        "above_mean_60": _ratio(log_close - rolling_mean(log_close, 60), volatility * np.sqrt(60)),
        "macd": _ratio(macd, volatility),
        "macd_histogram": _ratio(macd - ema(macd, 9, 15), volatility),
        "channel_60": _ratio(bars.close - low, high - low) - 0.5,
    }


def _mean_reversion(bars: Bars) -> Columns:
    """Distance from the recent past: Bollinger z, Cutler's RSI (plain averages), stochastic oscillator."""
    returns = _log_return(bars)
    gains, moves = rolling_sum(np.maximum(returns, 0.0), 14), rolling_sum(np.abs(returns), 14)
    low, high = rolling_min(bars.low, 14), rolling_max(bars.high, 14)
    return {
        "bollinger_20": _ratio(bars.close - rolling_mean(bars.close, 20), rolling_std(bars.close, 20)),
        "rsi_14": _ratio(gains - moves / 2, moves),
        "stochastic_14": _ratio(bars.close - low, high - low) - 0.5,
        "close_in_range": _ratio(bars.close - bars.low, bars.high - bars.low) - 0.5,
    }


def _volatility(bars: Bars) -> Columns:
    """Realised volatility, its term structure and variability, Parkinson's (1980) range volatility against it."""
    returns = _log_return(bars)
    over_5, over_20, over_60 = (np.sqrt(rolling_mean(returns**2, window)) for window in (5, 20, 60))
    parkinson = np.sqrt(rolling_mean(np.log(bars.high / bars.low) ** 2, 20) / (4 * np.log(2)))
    return {
        "log_volatility_20": np.log(np.maximum(over_20, 1e-6)),
        "volatility_5_20": _log_ratio(over_5, over_20),
        "volatility_20_60": _log_ratio(over_20, over_60),
        "range_to_volatility": _ratio(parkinson, over_20),
        "volatility_of_volatility": _ratio(rolling_std(np.abs(returns), 20), over_20),
    }


def _volume(bars: Bars) -> Columns:
    """Volume against its past, on-balance volume as a share (Granville), illiquidity (Amihud 2002)."""
    if bars.volume is None:
        raise InputError(
            f"feature group 'volume' needs volumes, but {bars.source} has none: leave the group out or add a "
            "volume column"
        )
    log_volume, returns = np.log1p(bars.volume), _log_return(bars)
    flow = np.sign(returns) * bars.volume
    moves = [rolling_sum(np.abs(returns), window) for window in (5, 60)]
    values = [rolling_sum(bars.volume * bars.close, window) for window in (5, 60)]
    return {
        "volume_z_20": _ratio(log_volume - rolling_mean(log_volume, 20), rolling_std(log_volume, 20)),
        "volume_5_60": rolling_mean(log_volume, 5) - rolling_mean(log_volume, 60),
        "signed_volume_20": _ratio(rolling_sum(flow, 20), rolling_sum(bars.volume, 20)),
        "illiquidity_5_60": _log_ratio(_ratio(*moves), _ratio(*values)),
    }


def _risk(bars: Bars) -> Columns:
    """What could be lost: drawdown of 60 bars, worst of 20, downside share of variance, skewness."""
    returns = _log_return(bars)
    mean, spread = rolling_mean(returns, 60), rolling_std(returns, 60)
    third = rolling_mean(returns**3, 60) - 3 * mean * rolling_mean(returns**2, 60) + 2 * mean**3
    squares = rolling_sum(returns**2, 60)
    return {
        "drawdown_60": np.log(bars.close) - np.log(rolling_max(bars.close, 61)),
        "worst_return_20": _ratio(rolling_min(returns, 20), spread),
        "downside_60": _ratio(rolling_sum(np.minimum(returns, 0.0) ** 2, 60) - squares / 2, squares),
        "skewness_60": np.where(spread > 1e-9, _ratio(third, np.maximum(spread, 1e-9) ** 3), 0.0 * spread),
    }


def _market(bars: Bars) -> Columns:
    """The cross-section: the equal-weight market, and each asset against it (strength, beta, dispersion)."""
    returns = _log_return(bars)
    market, spread = _over_listed(returns, bars.alive)
    return_20 = _log_return(bars, 20)
    market_return_20, _ = _over_listed(return_20, bars.alive)
    market_volatility, volatility = (np.sqrt(rolling_mean(x**2, 60)) for x in (market, returns))
    beta = _ratio(rolling_mean(returns * market, 60), market_volatility**2)
    return {
        "market_return_1": market,
        "market_return_20": market_return_20,
        "market_volatility_60": np.log(np.maximum(market_volatility, 1e-6)),
        "relative_strength_20": return_20 - market_return_20,
        "beta_60": beta,
        "dispersion_20": _log_ratio(rolling_mean(spread, 20), market_volatility),
        "market_share_of_variance_60": _ratio(beta**2 * market_volatility**2, volatility**2),
    }


def _over_listed(x: Array, alive: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Mean and standard deviation over the assets that are listed, [T, A] of equal columns each; 0 where none is."""
    wide = np.ones(x.shape[1])
    if alive.all():
        return x.mean(axis=1, keepdims=True) * wide, x.std(axis=1, keepdims=True) * wide
    count = np.maximum(alive.sum(axis=1, keepdims=True), 1)
    mean = np.where(alive, x, 0.0).sum(axis=1, keepdims=True) / count
    variance = np.where(alive, (x - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / count
    return mean * wide, np.sqrt(variance) * wide


def _tradable(bars: Bars) -> Columns:
    """Whether the asset traded in the bar, and for how many bars it has not."""
    since = np.arange(bars.num_bars)[:, None] - last_traded(bars.tradable)
    return {
        "tradable": bars.tradable.astype(np.float64),
        "log_bars_since_trade": np.log1p(np.minimum(since, _LONGEST_CLOSED)),
    }


def _signal(bars: Bars) -> Columns:
    """The planted signal of the built-in market."""
    if bars.signal is None:
        raise InputError(
            f"feature group 'signal' needs a planted signal, but {bars.source} has none: set "
            "data.synthetic.signal_strength or leave it out"
        )
    return {"signal": bars.signal.copy()}


FEATURE_GROUPS: Mapping[str, FeatureGroup] = MappingProxyType(
    {
        group.name: group
        for group in (
            FeatureGroup("momentum", "returns of 1 to 20 bars, opening gap", 20, _momentum),
            FeatureGroup("trend", "return and place within 60 bars, moving averages, MACD", 60, _trend),
            FeatureGroup("mean_reversion", "Bollinger z, RSI, stochastic oscillator", 19, _mean_reversion),
            FeatureGroup("volatility", "realised and range volatility, their term structure", 60, _volatility),
            FeatureGroup("volume", "volume against its past, signed volume, illiquidity", 60, _volume),
            FeatureGroup("risk", "drawdown, worst bar, downside share, skewness", 60, _risk),
            FeatureGroup("market", "the equal-weight market, and the asset against it", 60, _market),
            FeatureGroup("tradable", "whether the asset trades, and since when not", _LONGEST_CLOSED - 1, _tradable),
            FeatureGroup("signal", "planted signal of the built-in market", 0, _signal),
        )
    }
)
