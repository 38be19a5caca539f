"""Log-probabilities and entropies of the distributions that policies act from; pure torch."""

import math

import torch
from torch import Tensor

_LOG_2_PI = math.log(2.0 * math.pi)


def choice_logp(logits: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of choices under softmax(logits).

    Args:
        logits: [..., K] float.
        actions: [...] int64.

    Returns:
        [...] float.
    """
    return torch.log_softmax(logits, -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def choice_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits), [..., K] to [...]; forbidden actions, whose probability is 0, add nothing."""
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


def gaussian_logp(mean: Tensor, log_std: Tensor, actions: Tensor, used: Tensor) -> Tensor:
    """Log-density of numbers under a diagonal Gaussian.

    Args:
        mean: [..., D] float.
        log_std: [..., D] float.
        actions: [..., D] float.
        used: Which dimensions count, [..., D] bool; the others pad agents to the widest one.

    Returns:
        [...] float.
    """
    noise = (actions - mean) * (-log_std).exp()
    each = -0.5 * noise.square() - log_std - 0.5 * _LOG_2_PI
    return (each * used).sum(-1)


def gaussian_entropy(log_std: Tensor, used: Tensor) -> Tensor:
    """Differential entropy in nats of a diagonal Gaussian, over the dimensions that are used; [..., D] to [...]."""
    return ((log_std + 0.5 * (1.0 + _LOG_2_PI)) * used).sum(-1)


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draws of the standard Gumbel distribution; the largest of logits plus these is a draw from their softmax."""
    return -torch.empty(shape, device=device).exponential_(generator=generator).log()


def straight_through(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """A drawn choice as a one-hot row, whose gradient is that of the softmax it was drawn by (Jang et al. 2017, 2.2).

    Args:
        logits: [..., K] float.
        noise: Of Gumbel's distribution, [..., K] float.
        temperature: Of the softmax.

    Returns:
        [..., K] float.
    """
    soft = torch.softmax((logits + noise) / temperature, -1)
    hard = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
    return hard - soft.detach() + soft
