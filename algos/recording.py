"""From single steps to a Rollout: what a runner keeps while it samples."""

from collections.abc import Collection

import torch
from torch import Tensor

from algos.acting import Acted
from algos.rollout import Rollout
from algos.team_env import TeamStep


class Recording:
    """Collects the steps of one rollout.

    Args:
        first: What the first joint action is chosen from.
        columns: Which of ``logp``, ``dist_inputs`` and ``memory`` the learner wants.
        memory: What policies remember at the first step, [B, N, H], or None.
    """

    def __init__(self, first: TeamStep, columns: Collection[str], *, memory: Tensor | None = None) -> None:
        self._keep_logp, self._keep_inputs = "logp" in columns, "dist_inputs" in columns
        # A copy: runners clear what they carry in place.
        self._memory = memory.clone() if memory is not None and "memory" in columns else None
        self._steps: list[TeamStep] = [first]
        self._acted: list[Acted] = []

    def add(self, acted: Acted, step: TeamStep) -> None:
        """Add one step."""
        self._acted.append(acted)
        self._steps.append(step)

    def rollout(self, source: int) -> Rollout:
        """Stack what was collected.

        Args:
            source: Index of the runner that sampled it.
        """
        steps, acted = self._steps, self._acted
        after = steps[1:]
        ends = [(t, s) for t, s in enumerate(after) if s.final_obs is not None]
        terminated = torch.stack([s.terminated for s in after])
        truncated = torch.stack([s.truncated for s in after])
        rows = [(t, (s.terminated | s.truncated).nonzero()[:, 0], s) for t, s in ends]
        device = terminated.device
        index = [torch.stack([torch.full_like(b, t), b], dim=1) for t, b, _ in rows]
        has_mask, has_state = steps[0].action_mask is not None, steps[0].state is not None
        inputs = acted[0].dist_inputs if self._keep_inputs else None
        return Rollout(
            obs=torch.stack([s.obs for s in steps]),
            actions=torch.stack([a.stored for a in acted]),
            rewards=torch.stack([s.reward for s in after]).float(),
            terminated=terminated,
            truncated=truncated,
            final_index=torch.cat(index) if index else torch.zeros((0, 2), dtype=torch.int64, device=device),
            final_obs=_gathered([(b, s.final_obs) for _, b, s in rows], steps[0].obs),
            logp=_stacked([a.logp for a in acted]) if self._keep_logp else None,
            dist_inputs=None if inputs is None else {m: torch.stack([a.dist_inputs[m] for a in acted]) for m in inputs},  # type: ignore[index]
            action_mask=_stacked([s.action_mask for s in steps]),
            final_mask=_gathered([(b, s.final_mask) for _, b, s in rows], steps[0].action_mask) if has_mask else None,
            state=_stacked([s.state for s in steps]),
            final_state=_gathered([(b, s.final_state) for _, b, s in rows], steps[0].state) if has_state else None,
            memory=None if self._memory is None else self._memory.unsqueeze(0),
            source=source,
        )


def _stacked(values: list[Tensor | None]) -> Tensor | None:
    return None if values[0] is None else torch.stack([v for v in values if v is not None])


def _gathered(rows: list[tuple[Tensor, Tensor | None]], like: Tensor | None) -> Tensor:
    """The rows of ended replicas, step after step; an empty array of the right shape where none ended."""
    assert like is not None
    if not rows:
        return like.new_zeros((0, *like.shape[1:]))
    return torch.cat([values[index] for index, values in rows if values is not None])
