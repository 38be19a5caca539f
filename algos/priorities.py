"""Which stored steps are drawn more often than others: proportional priorities in a sum tree (Schaul et al. 2016)."""

from typing import NamedTuple

import numpy as np

LEAST_PRIORITY = 1e-6
"""Added to every absolute TD error, so that nothing is never drawn again."""


class PriorityRule(NamedTuple):
    """How draws follow priorities."""

    alpha: float
    """Power of the priorities; 0 draws all alike."""
    span: int
    """Steps that must follow a start without a break, itself included."""


class SumTree:
    """Non-negative weights, their sum, and the weight that a running sum falls on; every operation is O(log n).

    Each inner node is the sum of its two children and nothing else, so that equal leaves make equal trees whatever the
    order in which they were set: a tree that is built anew finds what the old one found.

    Args:
        num_leaves: Weights that it holds; all are 0 at first.
    """

    def __init__(self, num_leaves: int) -> None:
        self.num_leaves = num_leaves
        self._first = 1 << max(0, num_leaves - 1).bit_length()
        self._nodes = np.zeros(2 * self._first)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self._nodes[1])

    @property
    def weights(self) -> np.ndarray:
        """The weights, [n] float64."""
        return self._nodes[self._first : self._first + self.num_leaves]

    def set(self, index: np.ndarray, weights: np.ndarray) -> None:
        """Change some weights; of several for the same leaf the last one counts.

        Args:
            index: Leaves, [k] int64.
            weights: [k] float64, not negative.
        """
        nodes = self._first + index
        self._nodes[nodes] = weights
        while len(nodes) and nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, at: np.ndarray) -> np.ndarray:
        """Find the leaves on which running sums fall; one of weight 0 is never found.

        Args:
            at: Places in [0, total), [k] float64.

        Returns:
            [k] int64.
        """
        rest, nodes = at.astype(np.float64), np.ones(len(at), np.int64)
        for _ in range(self._first.bit_length() - 1):
            left = self._nodes[2 * nodes]
            # Rounding may lead a place past all that is left of it, where nothing can be found.
            is_right = (rest >= left) & (self._nodes[2 * nodes + 1] > 0)
            rest = np.where(is_right, rest - left, rest)
            nodes = 2 * nodes + is_right
        return nodes - self._first


class StartPriorities:
    """The priority of every step of a ring, and the sum tree of those at which a sample may start.

    Args:
        num_rows: Rows of the ring.
        num_replicas: B.
        alpha: Power of the priorities.

    Attributes:
        values: Priorities before the power, [num_rows, B] float32; those of rows that hold no step mean nothing.
        tree: Their powers where a sample may start, else 0; leaf ``row * B + column``.
    """

    def __init__(self, num_rows: int, num_replicas: int, *, alpha: float) -> None:
        self.alpha, self.num_replicas = alpha, num_replicas
        self.values = np.zeros((num_rows, num_replicas), np.float32)
        self.tree = SumTree(num_rows * num_replicas)
        self._is_start = np.zeros(num_rows, bool)
        self._written = 0

    @property
    def num_starts(self) -> int:
        """Steps at which a sample may start."""
        return int(self._is_start.sum()) * self.num_replicas

    def follow(self, written: int, starts: np.ndarray, *, priority: float) -> None:
        """Take over what was written to the ring, and where samples may start by now.

        Args:
            written: Steps that were ever written.
            starts: Rows from which enough steps follow, [n] int64.
            priority: Of what is new.
        """
        num_rows = len(self.values)
        new = np.arange(max(self._written, written - num_rows), written) % num_rows
        self.values[new] = priority
        self._written = written
        self._restart(starts, new)

    def put(self, written: int, rows: np.ndarray, values: np.ndarray, starts: np.ndarray) -> None:
        """Take over priorities that were stored.

        Args:
            written: Steps that were ever written to the ring.
            rows: Rows that hold steps, [n] int64.
            values: Their priorities, [n, B] float32.
            starts: As ``follow`` has them.
        """
        self.values[rows] = values
        self._written = written
        self._restart(starts, rows)

    def _restart(self, starts: np.ndarray, changed: np.ndarray) -> None:
        """Bring the tree to where samples may start, and to the priorities of rows that have changed."""
        is_start = np.zeros(len(self.values), bool)
        is_start[starts] = True
        is_changed = is_start ^ self._is_start
        is_changed[changed] = True
        self._is_start = is_start
        rows = np.flatnonzero(is_changed)
        leaves = (rows[:, None] * self.num_replicas + np.arange(self.num_replicas)).ravel()
        powers = np.where(is_start[rows, None], self.values[rows].astype(np.float64) ** self.alpha, 0.0)
        self.tree.set(leaves, powers.ravel())

    def update(self, leaves: np.ndarray, errors: np.ndarray) -> float:
        """Make |TD error| the priority of starts that were drawn; of those drawn twice the last error counts.

        Args:
            leaves: As the tree numbers them, [k] int64.
            errors: Absolute TD errors, [k].

        Returns:
            The largest of the new priorities.
        """
        values = (np.abs(errors) + LEAST_PRIORITY).astype(np.float32)
        self.values.reshape(-1)[leaves] = values
        self.tree.set(leaves, self.values.reshape(-1)[leaves].astype(np.float64) ** self.alpha)
        return float(values.max(initial=0.0))


def importance_weights(chances: np.ndarray, num_starts: int, *, beta: float) -> np.ndarray:
    """Weights that take the bias of prioritised draws back, the largest of them 1 (Schaul et al. 2016, section 3.4).

    Args:
        chances: Chance of each drawn start in one draw, P(i), [k].
        num_starts: N, starts that could have been drawn.
        beta: 1 takes all of the bias back, 0 nothing.

    Returns:
        (N P(i))^-beta, divided by the largest, [k] float64.
    """
    weights = (num_starts * chances) ** -beta
    return np.asarray(weights / weights.max())
