"""Policies written by hand for multi-particle environments: what good play is worth, where nobody knows the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from envs.benchmarks.particles import PUSHES, SENSITIVITY
from envs.benchmarks.replicas import Array

_DAMPING, _DT, _LOOKAHEAD = 0.25, 0.1, 2
"""The package's physics, and after how many steps of coasting a push is judged."""


class NearestLandmarks:
    """simple_spread: each agent goes to the landmark that is its own where all together have the shortest way.

    All see the same, so that they need no word to agree (Kuhn 1955, the assignment problem).

    Args:
        widths: Of the agents' observations, N of them.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self._count = len(widths)

    def reset(self) -> None:
        """Nothing is remembered."""

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Choose [B, N] pushes by [B, N, F] observations."""
        seen, count = obs.cpu().numpy().astype(np.float64), self._count
        speed, at = seen[..., :2], seen[..., 2:4]
        landmarks = seen[:, 0, 4 : 4 + 2 * count].reshape(-1, count, 2) + at[:, :1]
        ways = np.linalg.norm(at[:, :, None] - landmarks[:, None], axis=-1)
        chosen = np.array([linear_sum_assignment(way)[1] for way in ways], np.int64).reshape(-1, count)
        wanted = np.take_along_axis(landmarks, chosen[..., None], 1)
        return torch.from_numpy(_pushes(speed, wanted - at)).to(obs.device)


class ToldLandmark:
    """simple_speaker_listener: a word for each landmark, and who hears it goes there; before, to the middle of all.

    Args:
        widths: Of the agents' observations: speaker, listener.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self._words = widths[0]

    def reset(self) -> None:
        """Nothing is remembered."""

    def act(self, obs: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Choose [B, 2], a word and a push, by [B, 2, F] observations."""
        seen, words = obs.cpu().numpy().astype(np.float64), self._words
        word = seen[:, 0, :words].argmax(-1)  # a landmark's own colour is its strongest
        landmarks, heard = seen[:, 1, 2 : 2 + 2 * words].reshape(-1, words, 2), seen[:, 1, 2 + 2 * words :][:, :words]
        share = np.where(heard.any(-1, keepdims=True), heard, 1 / words)
        wanted = (share[..., None] * landmarks).sum(1)
        push = _pushes(seen[:, 1, :2], wanted)
        return torch.from_numpy(np.stack([word, push], -1)).to(obs.device)


def _pushes(speed: Array, way: Array) -> Array:
    """The push after which a body is nearest in a while, [...] int64.

    Args:
        speed: [..., 2] float64.
        way: From where it is to where it is to be, [..., 2] float64.
    """
    at = speed * _DT  # where the next step takes it, whatever it does now
    pushed = speed[..., None, :] * (1 - _DAMPING) + PUSHES * SENSITIVITY * _DT
    coasted = _DT * sum((1 - _DAMPING) ** k for k in range(_LOOKAHEAD))
    left = np.linalg.norm(way[..., None, :] - at[..., None, :] - coasted * pushed, axis=-1)
    nearest: Array = left.argmin(-1)
    return nearest


Handwritten = NearestLandmarks | ToldLandmark
_OF_MARKET: Mapping[str, type[Handwritten]] = MappingProxyType(
    {"mpe:simple_spread": NearestLandmarks, "mpe:simple_speaker_listener": ToldLandmark}
)


def handwritten(market: str, settings: Mapping[str, Any], widths: Sequence[int]) -> Handwritten | None:
    """The policy for a benchmark; None where there is none, or the benchmark is not the package's own.

    Args:
        market: Its name.
        settings: What differs from the package's.
        widths: Of the agents' observations.
    """
    make = None if settings else _OF_MARKET.get(market)
    return None if make is None else make(widths)
