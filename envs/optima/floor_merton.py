"""Merton's investor of logarithmic utility on the trading floor itself: orders, books and bars, and a known best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from scipy.optimize import root
from torch import Tensor

from common.errors import InputError
from common.strict import STRICT
from envs.optima.catalog import check_said_once, refused_setting
from envs.optima.merton import equicorrelated, merton_weights
from envs.rewards import gain
from envs.settings import CostConfig, DataConfig, DeskConfig, FloorConfig, FloorSpec, RewardConfig, SyntheticConfig
from envs.synthetic import PERIODS_PER_YEAR

Array = NDArray[np.float64]

MARKET = "floor:merton"
MOST_ASSETS = 5
_NODES = (33, 17, 9, 5, 5)
"""Of Gauss-Hermite's rule for each of 1 to 5 assets: near the best weights, and wherever ruin is not near, figures are
those of any finer rule to four digits."""
_AT_ONCE = 1 << 22
"""Numbers in a table of growth by weights and returns."""
_PER_YEAR = 12.0
"""Bars in a year. The fewer there are, the more of a bar's return is its mean, and the sooner that can be learned."""
_FASTER = PERIODS_PER_YEAR / _PER_YEAR
"""How much faster the clock of the built-in market runs here."""
_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FloorMertonConfig:
    """Assets that follow geometric Brownian motion, traded without costs by one agent each.

    With the defaults the best weights lie well below half of the largest, where policies begin: those who have learned
    nothing earn far less.
    """

    num_assets: int = Field(default=1, gt=0, le=MOST_ASSETS)
    """Assets, all alike, and as many agents on one account."""
    annual_drift: float = Field(default=0.12, gt=-1)
    """Expected return of each asset, as a fraction a year."""
    annual_volatility: float = Field(default=0.4, gt=0)
    """Standard deviation of each asset's log return a year."""
    correlation: float = Field(default=0.0, ge=0, lt=1)
    """Correlation between any two assets."""
    rate: float = Field(default=0.02, ge=0)
    """Interest on cash a year, and on what is borrowed."""
    max_weight: float = Field(default=2.0, gt=0)
    """Largest weight of an asset."""
    horizon_bars: int = Field(default=24, gt=0)
    """Decisions in an episode, one a month."""
    num_bars: int = Field(default=100_000, gt=0)
    """Months of history."""
    seed: int = Field(default=0, ge=0)
    """Of the prices."""


def floor_spec(config: FloorMertonConfig) -> FloorSpec:
    """The floor on which it is played: no costs, one rate of interest, log growth of the account as reward.

    Orders that are decided at a close fill at the next open, which on these prices is that close.

    Raises:
        InputError: if a setting cannot be used.
    """
    try:
        return FloorSpec(
            data=DataConfig(
                frequency="1mo",
                periods_per_year=_PER_YEAR,
                train=0.98,
                validation=0.01,
                test=0.01,
                synthetic=SyntheticConfig(
                    law="brownian",
                    num_assets=config.num_assets,
                    num_bars=config.num_bars,
                    seed=config.seed,
                    start_date="1700-01-01",
                    annual_volatility=config.annual_volatility * _FASTER**0.5,
                    annual_drift=(1.0 + config.annual_drift) ** _FASTER - 1.0,
                    correlation=config.correlation,
                ),
            ),
            desk=DeskConfig(
                preset="desk" if config.num_assets > 1 else "rivals",  # a desk has several assets to divide
                num_agents=config.num_assets,
                action="continuous",
                limit=config.max_weight,
                allow_short=False,
                feature_groups=("momentum",),
            ),
            floor=FloorConfig(
                horizon_bars=config.horizon_bars,
                ruin_fraction=1e-3,
                max_leverage=config.max_weight * config.num_assets,
                costs=CostConfig(
                    commission_bps=0.0,
                    half_spread_bps=0.0,
                    temporary_impact=0.0,
                    permanent_impact=0.0,
                    max_participation=None,
                    cash_rate_annual=config.rate,
                    borrow_rate_annual=0.0,
                    loan_rate_annual=config.rate,
                ),
                reward=RewardConfig(kind="log_growth"),
            ),
        )
    except ValidationError as error:
        raise refused_setting(MARKET, error) from None


class FloorMerton:
    """What weights are worth on that floor: the expected log growth of wealth, in per cent a year.

    Returns are independent of all that is seen, so the growth that an agent may expect of a month hangs on the weights
    of that month alone, and the best ones are the same every month: Merton's (1969), (mu - r) / sigma^2 for one asset,
    but for what trading once a month makes of it. The baseline holds cash.

    Attributes:
        config: The settings.
        spec: The floor.
        best_weights: [A] float64.

    Raises:
        InputError: if a setting cannot be used, or the best weights are not between 0 and ``max_weight``.
    """

    def __init__(self, config: FloorMertonConfig) -> None:
        self.config, self.spec = config, floor_spec(config)
        A, per_bar = config.num_assets, 1.0 / _PER_YEAR
        covariance = equicorrelated([config.annual_volatility] * A, config.correlation, "correlation") * per_bar
        points, masses = np.polynomial.hermite_e.hermegauss(_NODES[A - 1])
        grid = np.stack(np.meshgrid(*[points] * A, indexing="ij"), -1).reshape(-1, A)
        shares = np.stack(np.meshgrid(*[masses / masses.sum()] * A, indexing="ij"), -1).reshape(-1, A)
        log_returns = grid @ np.linalg.cholesky(covariance).T - 0.5 * np.diag(covariance)
        log_returns += np.log1p(config.annual_drift) * per_bar
        self._interest = config.rate * per_bar
        self._excess = torch.from_numpy(np.expm1(log_returns) - self._interest)  # [M, A]
        self._mass = torch.from_numpy(shares.prod(1))
        self.best_weights = self._best()

    def growth(self, weights: Tensor) -> Tensor:
        """Expected log growth of constant weights, or of those of one bar.

        Args:
            weights: [..., A] float64, each between 0 and ``max_weight``.

        Returns:
            [...] float64, per cent a year.
        """
        rows = weights.to(torch.float64).reshape(-1, self.config.num_assets)
        parts = [self._growth(part) for part in rows.split(max(1, _AT_ONCE // len(self._mass)))]
        return torch.cat(parts).reshape(weights.shape[:-1])

    def _growth(self, rows: Tensor) -> Tensor:
        floor, equity = self.spec.floor, torch.ones((), dtype=torch.float64)
        paid = gain(self._interest + rows @ self._excess.T, equity, floor.capital, floor.reward.kind)
        return _PERCENT * _PER_YEAR * (paid @ self._mass)

    def _best(self) -> Array:
        config, most = self.config, self.config.max_weight
        covariance = equicorrelated([config.annual_volatility] * config.num_assets, config.correlation, "correlation")
        drift = np.full(config.num_assets, np.log1p(config.annual_drift))
        near = merton_weights(drift, config.rate, covariance, 1.0)  # of trading all the time
        refusal = (
            f"market {MARKET}: the best weights are near {near.round(3)}: choose annual_drift, rate and "
            f"annual_volatility so that they lie between 0 and max_weight, {most:g}"
        )
        if not np.all((near > 0.0) & (near < most)):
            raise InputError(refusal)

        def slope(weights: Array) -> Array:
            at = torch.tensor(weights, requires_grad=True)
            self.growth(at).backward()
            assert at.grad is not None
            return at.grad.numpy()

        found = root(slope, near)  # growth is concave, but where ruin is near
        if not found.success or not np.all((found.x > 0.0) & (found.x < most)):
            raise InputError(refusal)
        return np.asarray(found.x)

    @property
    def optimal_value(self) -> float:
        """Growth of the best weights, per cent a year."""
        return float(self.growth(torch.from_numpy(self.best_weights)))

    @property
    def baseline_value(self) -> float:
        """Growth of cash, per cent a year."""
        return float(self.growth(torch.zeros(self.config.num_assets)))

    def actions(self, weights: Array, num_replicas: int) -> Tensor:
        """What agents do to hold weights: [B, N, 1] float64."""
        return torch.from_numpy(weights / self.config.max_weight)[:, None].expand(num_replicas, -1, 1)


def floor_merton(settings: Mapping[str, Any], *, num_agents: int | None = None) -> FloorMerton:
    """Make the problem from settings by name; arguments and errors as of ``floor_merton_config``."""
    return FloorMerton(floor_merton_config(settings, num_agents=num_agents))


def floor_merton_config(settings: Mapping[str, Any], *, num_agents: int | None = None) -> FloorMertonConfig:
    """Settings of the problem.

    Args:
        settings: What differs from the defaults.
        num_agents: How many agents, and assets; None leaves that to the settings.

    Raises:
        InputError: if a setting does not exist or cannot be used, or says again how many agents there are.
    """
    own = {}
    if num_agents is not None:
        check_said_once(MARKET, settings)
        own = {"num_assets": num_agents}
    try:
        return FloorMertonConfig(**settings, **own)
    except ValidationError as error:
        raise refused_setting(MARKET, error) from None
