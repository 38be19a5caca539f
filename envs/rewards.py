"""What agents are paid: profit or log growth of the account, less penalties for tail losses and turnover."""

from __future__ import annotations

from torch import Tensor

from envs.accounts import number
from envs.settings import RewardConfig

_LEAST_RATIO = 1e-6  # log growth of an account that has lost everything (or more) stays finite


def gain(change: Tensor, equity: Tensor, capital: float, kind: str) -> Tensor:
    """Gain of a bar.

    Args:
        change: Change of equity over the bar, any shape, US dollars.
        equity: Equity before, same shape, > 0.
        capital: Initial equity.
        kind: ``"profit"`` (over capital) or ``"log_growth"`` (log of the ratio of equities).
    """
    if kind == "profit":
        return change / number(capital)
    return (1.0 + change / equity).clamp_min(_LEAST_RATIO).log()


def tail_shortfall(change: Tensor, equity: Tensor, *, threshold: float, level: float) -> Tensor:
    """Per-bar part of the conditional value at risk: ``max(0, loss - threshold) / (1 - level)``.

    CVaR is the least value over v of ``v + E[max(0, loss - v)] / (1 - level)`` (Rockafellar and Uryasev 2000, theorem
    1). With v fixed at a stated threshold it is a sum over bars up to a constant, so it can be a reward.

    Args:
        change: Change of equity over the bar, any shape.
        equity: Equity before, same shape, > 0.
        threshold: The value at risk v, as a fraction of equity.
        level: Level of the CVaR, in (0, 1).
    """
    return (-change / equity - threshold).clamp_min(0.0) * (1.0 / (1.0 - level))


def reward(change: Tensor, equity: Tensor, traded: Tensor, capital: float, config: RewardConfig) -> Tensor:
    """Reward of an account, or of one agent's part of it, for one bar.

    Args:
        change: Change of equity (or the agent's part of it), [R, B], US dollars.
        equity: Equity of the account before, broadcastable to [R, B], > 0.
        traded: Value that was traded, [R, B], >= 0.
        capital: Initial equity of the account.
        config: Kind, scale and penalties.

    Returns:
        [R, B] float64.
    """
    result = gain(change, equity, capital, config.kind)
    if config.lambda_cvar > 0:
        short = tail_shortfall(change, equity, threshold=config.cvar_threshold, level=config.cvar_level)
        result = result - short * config.lambda_cvar
    if config.lambda_turn > 0:
        result = result - traded / equity * config.lambda_turn
    return result if config.scale == 1.0 else result * number(config.scale)
