"""Ring: one runner's joint steps in the order in which they happened."""

import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from algos.priorities import StartPriorities
from algos.rollout import Rollout

_SEEN = ("obs", "mask", "state")
_COLUMNS = (*_SEEN, "actions", "rewards", "terminated", "ended")


@dataclass(frozen=True, eq=False)
class Loan:
    """Rows of a ring that somebody reads without having copied them; they stay what they are for as long as this lives.

    Attributes:
        first: Number of the oldest of them, counted from the ring's first.
    """

    first: int


class Ring:
    """One runner's steps in the order in which they happened; rows are time, columns are replicas.

    Attributes:
        number: Tells this ring from others that its source has filled before.
        num_rows: Steps that fit, and one.
        num_replicas: B.
        written: Steps (and seams) that were ever written.
        size: How many of them are still stored.
        rows: Columns, [num_rows, B, ...] each; ``final`` points into ``finals``, or is -1.
        is_broken: [num_rows] bool: the next row does not continue this one.
        finals: Final observations, masks and states, oldest first, in a ring of their own.
        num_finals: How many were ever written to it.
        priorities: Of each step, where some are drawn more often than others.

    An observation is stored once: what a step led to is the next row, or a row of the final store where an episode
    ended. The row at the head holds the observation that follows the newest step.
    """

    number: int
    num_rows: int
    num_replicas: int
    written: int
    size: int
    rows: dict[str, Tensor]
    is_broken: Tensor
    finals: dict[str, Tensor]
    num_finals: int
    priorities: StartPriorities | None
    _loans: list[weakref.ref[Loan]]

    @classmethod
    def for_rollouts(cls, rollout: Rollout, num_rows: int, *, number: int, has_own_rewards: bool = False) -> "Ring":
        """Make an empty ring for rollouts like this one.

        Args:
            rollout: Its shapes and dtypes count.
            num_rows: Steps that fit, and one.
            number: Tells this ring from others that its source has filled before.
            has_own_rewards: Keep each agent's reward, or the mean of all.
        """
        like = {"obs": rollout.obs, "mask": rollout.action_mask, "state": rollout.state}
        rows = {name: v for name, v in like.items() if v is not None}
        flags = torch.zeros((1, rollout.num_replicas), dtype=torch.bool)
        paid = rollout.rewards if has_own_rewards else flags
        rows |= {"actions": rollout.actions, "rewards": paid.float(), "terminated": flags, "ended": flags}
        return cls.empty(rows, num_rows, number=number)

    @classmethod
    def empty(cls, like: dict[str, Tensor], num_rows: int, *, number: int) -> "Ring":
        """Make an empty ring whose columns have the dtypes and, but for the first axis, the shapes of those given."""
        ring = cls()
        ring.number, ring.num_rows, ring.num_replicas = number, num_rows, like["obs"].shape[1]
        ring.written = ring.size = ring.num_finals = 0
        ring.rows = {
            name: torch.zeros((num_rows, *v.shape[1:]), dtype=v.dtype) for name, v in like.items() if name in _COLUMNS
        }
        ring.rows["final"] = torch.full((num_rows, ring.num_replicas), -1, dtype=torch.int64)
        ring.is_broken = torch.zeros(num_rows, dtype=torch.bool)
        ring.priorities = None
        ring._loans = []
        ring.finals = {
            name: torch.zeros((0, *values.shape[2:]), dtype=values.dtype)
            for name, values in ring.rows.items()
            if name in _SEEN
        }
        return ring

    @property
    def head(self) -> int:
        """Row of the observation that follows the newest step."""
        return self.written % self.num_rows

    @property
    def oldest(self) -> int:
        """Number of the oldest step that is stored, counted from the ring's first."""
        return self.written - self.size

    @property
    def live(self) -> np.ndarray:
        """Rows that hold steps, oldest first; [size] int64."""
        return (self.head - self.size + np.arange(self.size)) % self.num_rows

    def lend(self, first: int) -> Loan:
        """Let somebody read what is written from a row on (but for the row at the head) while more is added.

        Args:
            first: Number of the row, counted from the ring's first.

        Returns:
            To be held for as long as the rows are read.
        """
        loan = Loan(first)
        self._loans = [found for found in self._loans if found() is not None] + [weakref.ref(loan)]
        return loan

    def _spare_loans(self, count: int) -> None:
        """Before so many rows are written: leave the memory to a borrower whose rows they would overwrite."""
        alive = [loan for found in self._loans if (loan := found()) is not None]
        if any(self.written + count >= loan.first + self.num_rows for loan in alive):
            self.rows = {name: values.clone() for name, values in self.rows.items()}
            self.is_broken, alive = self.is_broken.clone(), []
        self._loans = [weakref.ref(loan) for loan in alive]

    def add(self, rollout: Rollout) -> None:
        """Append T steps; where they do not continue what is stored, no sample will span the seam."""
        self._spare_loans(rollout.num_steps + 1)
        given = {"obs": rollout.obs, "mask": rollout.action_mask, "state": rollout.state}
        seen = {name: values for name, values in given.items() if values is not None}
        if self.size and not all(_is_same(self.rows[name][self.head], v[0]) for name, v in seen.items()):
            self.is_broken[self.head] = True
            self._advance(1)
        t = rollout.num_steps
        where = (self.head + torch.arange(t + 1)) % self.num_rows
        for name, values in seen.items():
            self.rows[name][where] = values
        steps = where[:-1]
        self.rows["actions"][steps] = rollout.actions
        is_own = self.rows["rewards"].dim() > rollout.terminated.dim()
        self.rows["rewards"][steps] = rollout.rewards if is_own else rollout.rewards.mean(-1)
        self.rows["terminated"][steps] = rollout.terminated
        self.rows["ended"][steps] = rollout.ended
        self.is_broken[steps] = False
        self._add_finals(rollout, steps)
        self._advance(t)

    def _add_finals(self, rollout: Rollout, steps: Tensor) -> None:
        final = torch.full((rollout.num_steps, self.num_replicas), -1, dtype=torch.int64)
        count = len(rollout.final_index)
        if count:
            capacity = len(self.finals["obs"])
            needed = self._live_finals(steps) + count
            if needed > capacity:
                self._grow_finals(max(2 * needed, 64), steps)
            slots = (self.num_finals + torch.arange(count)) % len(self.finals["obs"])
            final[rollout.final_index[:, 0], rollout.final_index[:, 1]] = slots
            for name, values in (
                ("obs", rollout.final_obs),
                ("mask", rollout.final_mask),
                ("state", rollout.final_state),
            ):
                if values is not None and name in self.finals:
                    self.finals[name][slots] = values
            self.num_finals += count
        self.rows["final"][steps] = final

    def _live_finals(self, overwritten: Tensor) -> int:
        live = self.rows["final"] >= 0
        live[overwritten] = False
        return int(live.sum())

    def _grow_finals(self, capacity: int, overwritten: Tensor) -> None:
        """Make the final store larger, keeping what rows still point to, in order of age."""
        self.rows["final"][overwritten] = -1
        order = torch.from_numpy(self.live)
        pointers = self.rows["final"][order]
        live = pointers >= 0
        old = pointers[live]
        for name, values in self.finals.items():
            grown = torch.zeros((capacity, *values.shape[1:]), dtype=values.dtype)
            grown[: len(old)] = values[old]
            self.finals[name] = grown
        pointers[live] = torch.arange(len(old))
        self.rows["final"][order] = pointers
        self.num_finals = len(old)

    def _advance(self, count: int) -> None:
        self.written += count
        self.size = min(self.size + count, self.num_rows - 1)

    def starts(self, length: int) -> np.ndarray:
        """Rows from which ``length`` unbroken steps follow, oldest first; [n] int64."""
        if self.size < length:
            return np.zeros(0, np.int64)
        rows = self.live
        broken = np.concatenate([[0], np.cumsum(self.is_broken.numpy()[rows])])
        whole = broken[length:] == broken[:-length]
        return rows[: self.size - length + 1][whole]

    def put_finals(self, rows: Tensor, columns: Tensor, values: dict[str, Tensor]) -> None:
        """Make these the final observations, in order of age.

        Args:
            rows: Row of each, [E] int64.
            columns: Replica of each, [E] int64.
            values: What was seen at the end, [E, ...] each.
        """
        count = len(rows)
        for name, seen in values.items():
            self.finals[name] = torch.zeros((max(2 * count, 64), *seen.shape[1:]), dtype=seen.dtype)
            self.finals[name][:count] = seen
        self.rows["final"][rows, columns] = torch.arange(count)
        self.num_finals = count


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two arrays of one shape hold the same; NaN is NaN here, or what is seen so would never be joined."""
    return bool(((one == other) | ((one != one) & (other != other))).all())
