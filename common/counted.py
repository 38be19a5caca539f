"""Counted randomness: a draw is a function of what it is for, so there is no generator state to carry or to lose."""

from __future__ import annotations

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift as unsigned: the upper bits of the result are zero."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """One round of SplitMix64 (Steele, Lea and Flood 2014): int64 -> int64, bijective, wraps on overflow."""
    x = x + _GAMMA
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def counted_hash(*counts: int | Tensor) -> Tensor:
    """Hash of several counts, for instance (seed, replica, episode).

    Args:
        counts: Numbers or int64 tensors that broadcast against each other; the order matters.

    Returns:
        int64, uniform over all 64 bits.
    """
    state = torch.zeros((), dtype=torch.int64)
    for count in counts:
        state = mix(state.to(count.device) ^ count if isinstance(count, Tensor) else state ^ count)
    return state


def counted_integers(num_values: int, *counts: int | Tensor) -> Tensor:
    """Draw integers in [0, num_values), int64; ``num_values`` up to 2 ** 31, so that the draw is exact in float64."""
    top = _shift_right(counted_hash(*counts), 11).to(torch.float64)
    return (top * (num_values / 2.0**53)).floor().to(torch.int64).clamp_max(num_values - 1)


def counted_uniforms(*counts: int | Tensor) -> Tensor:
    """Draw uniforms in the open interval (0, 1), float64: from the upper 53 bits of the hash."""
    top = _shift_right(counted_hash(*counts), 11).to(torch.float64)
    return ((top + 0.5) * 2.0**-53).clamp_max(1.0 - 2.0**-53)


_MASK = (1 << 64) - 1


def counted_seed(*counters: int) -> int:
    """Mix counters (a seed, a process, a draw) into one seed by SplitMix64 (Steele, Lea and Flood 2014).

    Args:
        counters: Non-negative integers; their order matters.

    Returns:
        An integer in [0, 2**63), as torch and NumPy take it.
    """
    state = 0x9E3779B97F4A7C15
    for counter in counters:
        state = (state ^ (counter & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
