"""TeamReplay: a ring buffer of joint steps, from which transitions and sequences of whole teams are drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from algos.priorities import PriorityRule, StartPriorities, importance_weights
from algos.returns import n_step_returns
from algos.ring import Ring
from algos.rollout import Rollout

Drawn = list[tuple[StartPriorities, np.ndarray]]
"""Leaves of each ring's priorities, in the order of the samples."""


class TeamBatch(NamedTuple):
    """Joint steps to learn from; axes L steps of a sequence (1 for transitions), S samples, N agents."""

    obs: Tensor
    """[L, S, N, F] float32."""
    actions: Tensor
    """[L, S, N] int64, or [L, S, N, D] float32."""
    rewards: Tensor
    """[L, S] float32: the team's reward, summed over n steps; [L, S, N] where each agent is paid its own."""
    discounts: Tensor
    """[L, S] float32: discount of what follows; 0 where the task terminated."""
    next_obs: Tensor
    """[L, S, N, F] float32: where an episode ended, its final observation."""
    ended: Tensor
    """[L, S] bool: an episode ended within the step, so memory does not carry over."""
    next_mask: Tensor | None
    """[L, S, N, K] bool."""
    state: Tensor | None
    """[L, S, G] float32."""
    next_state: Tensor | None
    """[L, S, G] float32."""
    mask: Tensor | None = None
    """[L, S, N, K] bool: what was allowed, where it was asked for."""
    weights: Tensor | None = None
    """[S] float32: importance of each sample, where some are drawn more often than others."""

    def map(self, function: Any) -> "TeamBatch":
        """Apply a function to every array."""
        return TeamBatch._make(None if v is None else function(v) for v in self)


class TeamReplay:
    """A buffer of joint steps; each runner has its own ring, so that time stays in order.

    Args:
        capacity: Joint steps kept over all runners.
        num_sources: Runners that will add; each gets an equal part of the capacity.
        first_source: Index of the first of them.
        has_own_rewards: Keep each agent's reward, or the mean of all.
        priorities: How draws follow priorities; None: all draws are uniform.

    Attributes:
        max_priority: The largest priority there has been, which new steps are given.
        rings: By source. What runners have sampled that are no longer there, or that had another part of the capacity,
            lies under negative numbers, and is forgotten, oldest ring first, as the present ones need the room.
    """

    def __init__(
        self,
        capacity: int,
        num_sources: int = 1,
        first_source: int = 0,
        *,
        has_own_rewards: bool = False,
        priorities: PriorityRule | None = None,
    ) -> None:
        self.capacity, self.num_sources = capacity, max(1, num_sources)
        self.first_source, self.has_own_rewards = first_source, has_own_rewards
        self.priorities, self.max_priority = priorities, 1.0
        self.rings: dict[int, Ring] = {}
        self.num_added = self.num_rings = 0

    def __len__(self) -> int:
        """Joint steps stored."""
        return sum(r.size * r.num_replicas for r in self.rings.values())

    def add(self, rollout: Rollout) -> None:
        """Append a rollout to its source's ring.

        Raises:
            ValueError: if the capacity does not hold one rollout.
        """
        cpu = rollout.to("cpu")
        ring = self.rings.get(rollout.source)
        if ring is None or ring.num_replicas != rollout.num_replicas:
            num_rows = self._rows_of_each(rollout.num_replicas)
            if num_rows < rollout.num_steps + 2:
                raise ValueError(
                    f"replay_capacity {self.capacity} is too small for fragments of {rollout.num_steps} steps of "
                    f"{rollout.num_replicas} replicas from {self.num_sources} runner(s)"
                )
            ring = self.rings[rollout.source] = Ring.for_rollouts(
                cpu, num_rows, number=self.num_rings, has_own_rewards=self.has_own_rewards
            )
            self.num_rings += 1
        ring.add(cpu)
        self._follow(ring)
        self.num_added += rollout.env_steps()
        self._forget(len(self) - self.num_sources * (ring.num_rows - 1) * ring.num_replicas)

    def put(self, rings: dict[int, Ring], priorities: dict[int, Tensor] | None = None) -> None:
        """Take over rings that were stored, by however many runners they were filled.

        Args:
            rings: By source.
            priorities: Of the steps that a ring holds, oldest first, [size, B] float32, by the ring's number; what
                has none is new.
        """
        sources = range(self.first_source, self.first_source + self.num_sources)
        self.rings = {}
        for source, ring in rings.items():
            is_present = source in sources and ring.num_rows == self._rows_of_each(ring.num_replicas)
            self.rings[source if is_present or source < 0 else -1 - ring.number] = ring
            stored = (priorities or {}).get(ring.number)
            if self.priorities is None or stored is None:
                self._follow(ring)
                continue
            ring.priorities = StartPriorities(ring.num_rows, ring.num_replicas, alpha=self.priorities.alpha)
            ring.priorities.put(ring.written, ring.live, stored.numpy(), ring.starts(self.priorities.span))

    def _follow(self, ring: Ring) -> None:
        """Give what is new in a ring a priority."""
        if self.priorities is None:
            return
        if ring.priorities is None:
            ring.priorities = StartPriorities(ring.num_rows, ring.num_replicas, alpha=self.priorities.alpha)
        ring.priorities.follow(ring.written, ring.starts(self.priorities.span), priority=self.max_priority)

    def _rows_of_each(self, num_replicas: int) -> int:
        """Rows of the ring of one runner."""
        return self.capacity // self.num_sources // num_replicas + 1

    def _forget(self, num_steps: int) -> None:
        """Give up so many of the oldest joint steps of runners that are no longer there."""
        for source in sorted((s for s in self.rings if s < 0), reverse=True):
            if num_steps <= 0:
                return
            ring = self.rings[source]
            num_rows = min(ring.size, -(-num_steps // ring.num_replicas))
            ring.size -= num_rows
            num_steps -= num_rows * ring.num_replicas
            self._follow(ring)
            if not ring.size:
                del self.rings[source]

    def can_sample(self, length: int, n_step: int) -> bool:
        """Whether any unbroken sequence that long is stored."""
        return any(len(r.starts(max(length, n_step))) for r in self.rings.values())

    def sample(
        self,
        num_batches: int,
        num_samples: int,
        rng: np.random.Generator,
        *,
        length: int = 1,
        n_step: int = 1,
        gamma: float,
        with_mask: bool = False,
    ) -> list[TeamBatch]:
        """Draw uniformly, with replacement, from all stored sequences of ``length`` steps.

        Args:
            num_batches: Calls of one batch each would draw the same.
            num_samples: S, of each batch.
            rng: Source of the draws.
            length: L; sequences may span the end of an episode, where ``ended`` says so.
            n_step: Rewards summed before bootstrapping; above 1 only with ``length`` 1.
            gamma: Discount per step.
            with_mask: Whether to return what was allowed.

        Raises:
            ValueError: if nothing that long is stored, or both length and n_step exceed 1.
        """
        if length > 1 and n_step > 1:
            raise ValueError("n_step above 1 is for transitions, not for sequences")
        span = max(length, n_step)
        starts = [(ring, ring.starts(span)) for _, ring in sorted(self.rings.items())]
        weights = np.array([len(rows) * ring.num_replicas for ring, rows in starts], float)
        if not weights.sum():
            raise ValueError(f"no unbroken sequence of {span} steps is stored yet")
        chances = weights / weights.sum()
        draws: list[list[_Place]] = []
        for _ in range(num_batches):
            counts = rng.multinomial(num_samples, chances)
            draws.append(
                [
                    _Place(ring, rng.choice(rows, count), rng.integers(0, ring.num_replicas, count))
                    for (ring, rows), count in zip(starts, counts, strict=True)
                    if count
                ]
            )
        return _look_up([ring for ring, _ in starts], draws, length, n_step, gamma, with_mask=with_mask)

    def sample_by_priority(
        self,
        num_batches: int,
        num_samples: int,
        rng: np.random.Generator,
        *,
        length: int = 1,
        n_step: int = 1,
        gamma: float,
        beta: float,
        with_mask: bool = False,
    ) -> tuple[list[TeamBatch], list[Drawn]]:
        """Draw in proportion to the powers of the priorities, one sample from each S-th of their sum.

        Args:
            num_batches: All are drawn by the same priorities.
            num_samples: S, of each batch.
            rng: Source of the draws.
            length: As ``sample`` has it; with ``n_step`` it is no longer than the rule's span.
            n_step: As ``sample`` has it.
            gamma: Discount per step.
            beta: How much of the bias the weights take back.
            with_mask: Whether to return what was allowed.

        Returns:
            The batches with their weights, and where each was drawn, for ``update_priorities``.

        Raises:
            ValueError: if nothing that long is stored.
        """
        found = [(r, r.priorities) for _, r in sorted(self.rings.items()) if r.priorities is not None]
        found = [(ring, own) for ring, own in found if own.tree.total > 0]
        if not found:
            raise ValueError(f"no unbroken sequence of {max(length, n_step)} steps is stored yet")
        ends = np.cumsum([own.tree.total for _, own in found])
        num_starts = sum(own.num_starts for _, own in found)
        draws: list[list[_Place]] = []
        drawn: list[Drawn] = []
        weights = []
        for _ in range(num_batches):
            at = (np.arange(num_samples) + rng.random(num_samples)) * (ends[-1] / num_samples)
            of_ring = np.minimum(np.searchsorted(ends, at, side="right"), len(found) - 1)
            draws.append([])
            drawn.append([])
            chances = []
            for i, (ring, own) in enumerate(found):
                places = at[of_ring == i] - (ends[i - 1] if i else 0.0)
                if not len(places):
                    continue
                leaves = own.tree.find(places)
                draws[-1].append(_Place(ring, *np.divmod(leaves, ring.num_replicas)))
                drawn[-1].append((own, leaves))
                chances.append(own.tree.weights[leaves] / ends[-1])
            own_weights = importance_weights(np.concatenate(chances), num_starts, beta=beta)
            weights.append(torch.from_numpy(own_weights).float())
        batches = _look_up([ring for ring, _ in found], draws, length, n_step, gamma, with_mask=with_mask)
        return [batch._replace(weights=own) for batch, own in zip(batches, weights, strict=True)], drawn

    def update_priorities(self, drawn: Drawn, errors: np.ndarray) -> None:
        """Make |TD error| the priority of what was drawn.

        Args:
            drawn: What ``sample_by_priority`` returned; nothing was added since.
            errors: Absolute TD error of each sample, [S].
        """
        first = 0
        for own, leaves in drawn:
            largest = own.update(leaves, errors[first : first + len(leaves)])
            self.max_priority = max(self.max_priority, largest)
            first += len(leaves)


class _Place(NamedTuple):
    """Where a part of a batch was drawn: rows and replicas of a ring, [n] int64 each."""

    ring: Ring
    rows: np.ndarray
    columns: np.ndarray


def _look_up(
    rings: Sequence[Ring],
    draws: Sequence[Sequence[_Place]],
    length: int,
    n_step: int,
    gamma: float,
    *,
    with_mask: bool,
) -> list[TeamBatch]:
    """Batches of what was drawn from rings, each in memory of its own; every ring is read once for all of them."""
    parts: list[list[TeamBatch]] = [[] for _ in draws]
    for ring in rings:
        own = [(i, place) for i, places in enumerate(draws) for place in places if place.ring is ring]
        if not own:
            continue
        rows = torch.from_numpy(np.concatenate([place.rows for _, place in own]))
        columns = torch.from_numpy(np.concatenate([place.columns for _, place in own]))
        every = gather(ring, rows, columns, length, n_step, gamma, with_mask=with_mask)
        ends = np.cumsum([len(place.rows) for _, place in own])
        for (i, place), end in zip(own, ends.tolist(), strict=True):
            part = slice(end - len(place.rows), end)
            parts[i].append(every.map(lambda v, part=part: v[:, part].clone(memory_format=torch.contiguous_format)))
    return [_joined(own) for own in parts]


def _joined(parts: list[TeamBatch]) -> TeamBatch:
    """Samples of several rings as one batch."""
    if len(parts) == 1:
        return parts[0]
    return TeamBatch._make(None if v[0] is None else torch.cat(v, dim=1) for v in zip(*parts, strict=True))


def gather(
    ring: Ring, first: Tensor, column: Tensor, length: int, n_step: int, gamma: float, *, with_mask: bool
) -> TeamBatch:
    """Look up ``length`` steps from each start; for n-step returns, one step that jumps over several."""
    offsets = torch.arange(length).unsqueeze(1)
    rows = (first + offsets) % ring.num_rows
    columns = column.expand_as(rows)
    if n_step == 1:
        rewards, last = ring.rows["rewards"][rows, columns], rows
        discount = torch.full(rows.shape, gamma)
    else:
        window = (first + torch.arange(n_step).unsqueeze(1)) % ring.num_rows
        span = column.expand_as(window)
        total, steps, bootstrap = n_step_returns(
            ring.rows["rewards"][window, span], ring.rows["ended"][window, span], gamma=gamma, n_step=n_step
        )
        rewards, discount = total.unsqueeze(0), bootstrap.unsqueeze(0)
        last = ((first + steps) % ring.num_rows).unsqueeze(0)
    ended = ring.rows["ended"][last, columns]
    following = (last + 1) % ring.num_rows
    final = ring.rows["final"][last, columns]

    def after(name: str) -> Tensor | None:
        if name not in ring.rows:
            return None
        values = ring.rows[name][following, columns]
        at_end = final >= 0
        if bool(at_end.any()):
            values[at_end] = ring.finals[name][final[at_end]]
        return values

    next_obs = after("obs")
    assert next_obs is not None
    return TeamBatch(
        obs=ring.rows["obs"][rows, columns],
        actions=ring.rows["actions"][rows, columns],
        rewards=rewards,
        discounts=discount * ~ring.rows["terminated"][last, columns],
        next_obs=next_obs,
        ended=ended,
        next_mask=after("mask"),
        state=ring.rows["state"][rows, columns] if "state" in ring.rows else None,
        next_state=after("state"),
        mask=ring.rows["mask"][rows, columns] if with_mask and "mask" in ring.rows else None,
    )
