from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from envs.rewards import gain, reward, tail_shortfall
from envs.settings import RewardConfig


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_gains_add_up_over_time() -> None:
    equity = np.array([100.0, 110.0, 95.0, 130.0])
    change, before = row(*np.diff(equity)), row(*equity[:-1])
    assert gain(change, before, 100.0, "profit").sum().item() == pytest.approx(0.3)
    assert gain(change, before, 100.0, "log_growth").sum().item() == pytest.approx(np.log(1.3))


def test_log_growth_of_a_lost_account_is_finite() -> None:
    assert torch.isfinite(gain(row(-150.0), row(100.0), 100.0, "log_growth")).all()


def test_shortfall_averages_to_the_cvar_when_the_threshold_is_the_value_at_risk() -> None:
    losses = np.random.default_rng(0).standard_t(4, 20_000)
    level = 0.95
    var = float(np.quantile(losses, level))
    tail = tail_shortfall(row(*(-losses)), row(*np.ones_like(losses)), threshold=var, level=level)
    expected = np.sort(losses)[int(level * len(losses)) :].mean()
    assert var + tail.mean().item() == pytest.approx(expected, rel=1e-3)

    def objective(v: float) -> float:
        return v + float(np.maximum(losses - v, 0).mean()) / (1 - level)

    assert minimize_scalar(objective, bounds=(0, 10), method="bounded").fun == pytest.approx(expected, rel=1e-3)


def test_penalties_and_scale_enter_as_stated() -> None:
    config = RewardConfig(lambda_cvar=0.5, cvar_level=0.8, cvar_threshold=0.1, lambda_turn=0.01, scale=10.0)
    got = reward(row(-30.0, 5.0), row(100.0, 100.0), row(50.0, 0.0), 200.0, config)
    assert got[0].tolist() == pytest.approx([10 * (-0.15 - 0.5 * 0.2 / 0.2 - 0.01 * 0.5), 10 * 0.025])
