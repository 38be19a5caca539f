"""Running statistics that survive a checkpoint."""

import numpy as np


class RunningScale:
    """Running standard deviation of a stream, by Chan, Golub and LeVeque's (1979) pairwise update."""

    def __init__(self) -> None:
        self.count, self.mean, self.sum_squares = 0.0, 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Take in values, [n] float64."""
        n = float(len(values))
        if not n:
            return
        delta = float(values.mean()) - self.mean
        total = self.count + n
        self.mean += delta * n / total
        self.sum_squares += float(np.square(values - values.mean()).sum()) + delta * delta * self.count * n / total
        self.count = total

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
