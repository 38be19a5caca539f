"""Losses as pure functions of tensors."""

import torch
from torch import Tensor


def td_targets(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """One-step or n-step bootstrapped targets, r + discount x V(next) (Sutton and Barto 2018, eq. 6.2 and 7.4).

    Args:
        rewards: [...] float, summed over the steps that the discount spans.
        discounts: [...] float, 0 where nothing follows.
        next_values: [...] float.
    """
    return rewards + discounts * next_values


def squared_td_loss(values: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared TD error (Rashid et al. 2018, eq. 6).

    Args:
        values: Predicted values, [...] float, with gradient.
        targets: TD targets, [...] float, without.
        weights: Importance of each error, broadcastable to them (Schaul et al. 2016, section 3.4); None: all count 1.

    Returns:
        Scalar loss.
    """
    errors = (values - targets.detach()).square()
    return (errors if weights is None else weights * errors).mean()


def optimistic_weights(values: Tensor, targets: Tensor, weight: float) -> Tensor:
    """How much each TD error counts for agents that blame their partners for what went worse than expected.

    Where the value is below its target 1, elsewhere ``weight``: hysteretic Q-learning for an agent's own value
    (Matignon et al. 2007, with the ratio beta / alpha), and the weighting of optimistic QMIX for a team's (Rashid et
    al. 2020, "Weighted QMIX", eq. 8, with the same network on both sides).

    Args:
        values: Predicted values, [...] float.
        targets: TD targets, [...] float.
        weight: Between 0 and 1.

    Returns:
        Weights, [...] float, without gradient.
    """
    return torch.where(values.detach() < targets.detach(), 1.0, weight)


def quantile_huber_loss(
    quantiles: Tensor, targets: Tensor, taus: Tensor, *, kappa: float, weights: Tensor | None = None
) -> Tensor:
    """Quantile-regression Huber loss of a distributional critic, averaged over the batch.

    Asymmetric weights pull quantile i toward the tau_i-th quantile of the target distribution, so that the whole
    distribution of returns is learned and not only its mean (Dabney et al. 2018, eq. 10). As in their algorithm 1, the
    loss is summed over the predicted quantiles and averaged over those of the target.

    Args:
        quantiles: Predicted return quantiles, [..., Q] float, in reward units, with gradient.
        targets: Bellman targets, [..., Q'] float, same units, without.
        taus: Quantile midpoints, [Q], in (0, 1).
        kappa: Width of the quadratic zone, > 0, in reward units.
        weights: Importance of each distribution, broadcastable to [...]; None: all count 1.

    Returns:
        Scalar loss.

    Raises:
        ValueError: if ``kappa`` is not positive.
    """
    if kappa <= 0:
        raise ValueError(f"kappa is {kappa}, but the quadratic zone needs a positive width")
    errors = targets.detach().unsqueeze(-2) - quantiles.unsqueeze(-1)  # [..., Q, Q']
    slopes = (taus.unsqueeze(-1) - (errors.detach() < 0).to(errors.dtype)).abs()
    losses = (slopes * _value_error(errors, kappa)).mean(-1).sum(-1)
    return (losses if weights is None else weights * losses).mean()


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantages: Tensor, clip_param: float) -> Tensor:
    """Mean of min(r A, clip(r, 1 - eps, 1 + eps) A), to be raised (Schulman et al. 2017, eq. 7).

    Args:
        logp: Log-probability of the actions under the policy that learns, [...] float, with gradient.
        old_logp: Under the policy that took them, [...] float.
        advantages: A, [...] float.
        clip_param: eps.

    Returns:
        Scalar.
    """
    ratio = (logp - old_logp).exp()
    clipped = ratio.clamp(1.0 - clip_param, 1.0 + clip_param)
    return torch.minimum(ratio * advantages, clipped * advantages).mean()


def clipped_value_loss(
    values: Tensor, old_values: Tensor, targets: Tensor, clip_param: float | None, huber_delta: float | None
) -> Tensor:
    """Mean of the larger of the errors of V and of V kept within eps of the old V (Yu et al. 2022, app. A).

    Args:
        values: V, [...] float, with gradient.
        old_values: V before the update, [...] float.
        targets: Returns, [...] float; all three in the units of normalised values.
        clip_param: eps; None clips nothing.
        huber_delta: Error beyond which the loss grows in a straight line (Huber 1964); None squares all errors.

    Returns:
        Scalar: of squared errors half their mean.
    """
    loss = _value_error(values - targets, huber_delta)
    if clip_param is not None:
        clipped = old_values + (values - old_values).clamp(-clip_param, clip_param)
        loss = torch.maximum(loss, _value_error(clipped - targets, huber_delta))
    return loss.mean()


def _value_error(error: Tensor, huber_delta: float | None) -> Tensor:
    square = 0.5 * error.square()
    if huber_delta is None:
        return square
    size = error.abs()
    return torch.where(size <= huber_delta, square, huber_delta * (size - 0.5 * huber_delta))
