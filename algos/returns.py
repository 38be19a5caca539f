"""Returns and advantages over [T, ...] arrays; pure torch."""

import torch
from torch import Tensor


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    *,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Generalised advantage estimates that tell the end of a task from the end of patience.

    A truncated step bootstraps from the value of its own final observation; a terminated one from zero; neither lets
    the next episode's advantage flow back (Schulman et al. 2016, eq. 16; Pardo et al. 2018 on time limits).

    Args:
        rewards: Reward of each step, [T, ...] float.
        values: Value of the observation that each step acted on, [T, ...] float.
        next_values: Value of the observation that each step led to; where an episode ended, that of its final
            observation, [T, ...] float.
        terminated: True where the task itself ended, [T, ...] bool, broadcastable to rewards.
        ended: True where the episode ended for whatever reason, [T, ...] bool, broadcastable to rewards.
        gamma: Discount per step, in [0, 1].
        lambda_: Decay of the estimator, in [0, 1].

    Returns:
        Advantages, [T, ...] float; value targets are ``advantages + values``.
    """
    deltas = rewards + gamma * next_values * (~terminated) - values
    carry = (gamma * lambda_) * (~ended).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    running = torch.zeros_like(deltas[0])
    for t in range(deltas.shape[0] - 1, -1, -1):
        running = torch.addcmul(deltas[t], carry[t], running)
        advantages[t] = running
    return advantages


def lambda_returns(rewards: Tensor, discounts: Tensor, next_values: Tensor, ended: Tensor, *, lambda_: float) -> Tensor:
    """Mixtures of the n-step returns of each step, weighted by (1 - lambda) lambda^(n-1), up to where the data ends.

    The recursion is G_t = r_t + discount_t ((1 - lambda) V_t+1 + lambda G_t+1) (Sutton and Barto 2018, eq. 12.18); the
    longest return there is, at the end of an episode or of the arrays, takes the rest of the weight (eq. 12.9). A
    truncated step bootstraps from its own final observation, a terminated one from nothing, and neither sees the
    episode that follows.

    Args:
        rewards: Reward of each step, [T, ...] float.
        discounts: Discount of what follows each step, [T, ...] float: gamma, or 0 where the task terminated.
        next_values: Value of the observation that each step led to; where an episode ended, that of its final
            observation, [T, ...] float.
        ended: True where the episode ended for whatever reason, [T, ...] bool.
        lambda_: Weight of longer returns, in [0, 1]: 0 is the one-step return.

    Returns:
        Value targets, as wide as the arrays together, [T, ...] float.
    """
    mix = lambda_ * (~ended).to(next_values.dtype)
    running = next_values[-1]
    targets = []
    for t in range(len(next_values) - 1, -1, -1):
        running = rewards[t] + discounts[t] * torch.lerp(next_values[t], running, mix[t].expand_as(next_values[t]))
        targets.append(running)
    return torch.stack(targets[::-1])


def n_step_returns(rewards: Tensor, ended: Tensor, *, gamma: float, n_step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sum up to n rewards of one episode, and say where and how deeply discounted the bootstrap is.

    Args:
        rewards: Rewards of n consecutive steps, [n, S] float, or [n, S, N] of each agent.
        ended: True where the episode ended at that step, [n, S] bool.
        gamma: Discount per step.
        n_step: Largest number of rewards to sum, <= n.

    Returns:
        The discounted sum, [S] or [S, N] float; the index of the last step that was summed, [S] int64; and the discount
        of the bootstrap value that follows it, [S] float (termination is left to the caller).

    Raises:
        ValueError: if fewer than n_step rewards are given.
    """
    if rewards.shape[0] < n_step:
        raise ValueError(f"n_step is {n_step}, but only {rewards.shape[0]} rewards are given")
    total = torch.zeros_like(rewards[0])
    discount = torch.ones(ended.shape[1:], dtype=rewards.dtype, device=rewards.device)
    last = torch.zeros_like(ended[0], dtype=torch.int64)
    alive = torch.ones_like(ended[0])
    for k in range(n_step):
        counts, weight = (x.view(*x.shape, *[1] * (rewards.dim() - ended.dim())) for x in (alive, discount))
        total = total + torch.where(counts, weight * rewards[k], 0.0)
        last = torch.where(alive, torch.full_like(last, k), last)
        discount = torch.where(alive, discount * gamma, discount)
        alive = alive & ~ended[k]
    return total, last, discount
