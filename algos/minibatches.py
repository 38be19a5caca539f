"""Minibatches of on-policy algorithms."""

import torch
from torch import Tensor


def cyclic_order(num_rows: int, num_wanted: int, generator: torch.Generator) -> Tensor:
    """Row numbers in epochs of fresh permutations, as many as wanted; [num_wanted] int64."""
    epochs = -(-num_wanted // num_rows)
    orders = [torch.randperm(num_rows, generator=generator, device=generator.device) for _ in range(epochs)]
    return torch.cat(orders)[:num_wanted]
