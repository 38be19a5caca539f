"""What orders and positions cost, as numbers to calculate with: one for all assets, or a tensor where they differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.accounts import Layout
from envs.bar_data import Bars
from envs.cost_tables import asset_costs
from envs.settings import CostConfig

Rate = float | Tensor
"""A number that holds for every line, or one for each of them, [L, 1] or [L, B] float64."""


def is_charged(rate: Rate) -> bool:
    """Whether anything is charged, so that what costs nothing takes no time."""
    return isinstance(rate, Tensor) or rate > 0


class Costs(NamedTuple):
    """The costs of a bar, of each line of a layout; named and told in units as in ``envs.settings.CostConfig``.

    Attributes:
        impact_law: ``"square_root"`` or ``"linear"``.
    """

    commission_bps: Rate
    commission_min_usd: Rate
    commission_fixed_usd: Rate
    half_spread_bps: Rate
    borrow_rate_annual: Rate
    delisting_haircut: Rate
    lot_size: Rate
    impact_law: str

    @property
    def proportional(self) -> Rate:
        """Commission and half spread together, as a fraction of the traded value."""
        return (self.commission_bps + self.half_spread_bps) * 1e-4

    @property
    def has_order_fee(self) -> bool:
        """Whether small orders pay more than in proportion."""
        return is_charged(self.commission_min_usd) or is_charged(self.commission_fixed_usd)


RATES = Costs._fields[:-1]
"""All fields that are numbers."""


def costs_of(costs: CostConfig, bars: Bars | None = None, layout: Layout | None = None) -> Costs:
    """Costs of the lines of a layout; tensors of those alone that differ between its assets.

    What differs from bar to bar is in a step's quotes, and replaces what is said here.

    Args:
        costs: What holds where the bars say nothing.
        bars: What assets have of their own; None is nothing.
        layout: Its assets and lines; only needed with bars.
    """
    rates: dict[str, Rate] = {name: getattr(costs, name) for name in RATES}
    if bars is not None and layout is not None:
        columns = [bars.assets.index(asset) for asset in layout.assets]
        for name in RATES:
            own, *later = asset_costs(name, costs, bars, columns)
            if later:
                continue
            if np.ptp(own) > 0:
                by_asset = torch.tensor(own[:, None], dtype=torch.float64, device=layout.agent_part.device)
                rates[name] = layout.at_lines_from_assets(by_asset)
            else:
                rates[name] = float(own[0])
    return Costs(**rates, impact_law=costs.impact_law)
