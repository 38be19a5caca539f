"""Losses as pure functions of tensors."""

from torch import Tensor


def td_targets(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """One-step or n-step bootstrapped targets, r + discount x V(next) (Sutton and Barto 2018, eq. 6.2 and 7.4).

    Args:
        rewards: [...] float, summed over the steps that the discount spans.
        discounts: [...] float, 0 where nothing follows.
        next_values: [...] float.
    """
    return rewards + discounts * next_values


def squared_td_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Mean squared TD error (Rashid et al. 2018, eq. 6).

    Args:
        values: Predicted values, [...] float, with gradient.
        targets: TD targets, [...] float, without.

    Returns:
        Scalar loss.
    """
    return (values - targets.detach()).square().mean()
