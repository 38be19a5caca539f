"""Running statistics that survive a checkpoint."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def merged(
    moments: tuple[Number, Number, Number], others: tuple[Number, Number, Number]
) -> tuple[Number, Number, Number]:
    """Count, mean and sum of squared deviations of two streams together (Chan, Golub and LeVeque 1979, eq. 2.1).

    Args:
        moments: Of the one; numbers, or tensors of equal shape.
        others: Of the other, which has at least one value.
    """
    count, mean, squares = moments
    more, other_mean, other_squares = others
    delta, total = other_mean - mean, count + more
    return total, mean + delta * more / total, squares + other_squares + delta * delta * count * more / total


def merged_rows(moments: Tensor, others: Tensor) -> Tensor:
    """``merged`` for counts, means and sums of squared deviations that stand in rows; [3, C] each."""
    return torch.stack(merged((moments[0], moments[1], moments[2]), (others[0], others[1], others[2])))


class RunningScale:
    """Running standard deviation of a stream, by Chan, Golub and LeVeque's (1979) pairwise update."""

    def __init__(self) -> None:
        self.count, self.mean, self.sum_squares = 0.0, 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Take in values, [n] float64."""
        n = float(len(values))
        if not n:
            return
        own = (n, float(values.mean()), float(np.square(values - values.mean()).sum()))
        self.count, self.mean, self.sum_squares = merged((self.count, self.mean, self.sum_squares), own)

    @property
    def scale(self) -> float:
        """Standard deviation so far; 1 while nothing has varied."""
        deviation = (self.sum_squares / self.count) ** 0.5 if self.count else 0.0
        return deviation if deviation > 1e-12 else 1.0

    def get_state(self) -> dict[str, float]:
        """Count, mean and sum of squared deviations."""
        return {"count": self.count, "mean": self.mean, "sum_squares": self.sum_squares}

    def set_state(self, state: dict[str, float]) -> None:
        """Continue from a state."""
        self.count, self.mean, self.sum_squares = state["count"], state["mean"], state["sum_squares"]
