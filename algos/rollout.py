"""Rollout: what a runner returns and a learner eats, as arrays instead of episode objects."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(eq=False)
class Rollout:
    """T consecutive joint steps of B replicas of a team of N agents.

    ``obs[t]`` is what the agents acted on at step t and ``obs[T]`` what they would act on next. A replica that ended at
    step t starts its next episode at ``obs[t + 1]``; what its last step led to stands in the ``final_*``
    rows, of which there is one per ended episode. Axes: T steps, B replicas, N agents, F features, K actions, D action
    dimensions, S state features, E ended episodes.
    """

    obs: Tensor
    """[T + 1, B, N, F] float32."""
    actions: Tensor
    """[T, B, N] int64 (discrete) or [T, B, N, D] float32 (continuous)."""
    rewards: Tensor
    """[T, B, N] float32."""
    terminated: Tensor
    """[T, B] bool: the task ended; nothing is bootstrapped."""
    truncated: Tensor
    """[T, B] bool: time ran out; the final observation's value is bootstrapped."""
    final_index: Tensor
    """[E, 2] int64: step and replica of each ended episode, in order of step."""
    final_obs: Tensor
    """[E, N, F] float32."""
    logp: Tensor | None = None
    """[T, B, N] float32: log-probability of the action under the policy that took it."""
    dist_inputs: dict[str, Tensor] | None = None
    """Parameters of the distribution acted from, per module: [T, B, n, P] float32."""
    action_mask: Tensor | None = None
    """[T + 1, B, N, K] bool: True where the action is allowed."""
    final_mask: Tensor | None = None
    """[E, N, K] bool."""
    state: Tensor | None = None
    """[T + 1, B, S] float32: what only the learner sees."""
    final_state: Tensor | None = None
    """[E, S] float32."""
    memory: Tensor | None = None
    """[1, B, N, H] float32: what policies that have a memory remember at the first step."""
    source: int = 0
    """Index of the runner: replicas of one source continue from one rollout to the next."""

    @property
    def num_steps(self) -> int:
        """T."""
        return int(self.rewards.shape[0])

    @property
    def num_replicas(self) -> int:
        """B."""
        return int(self.rewards.shape[1])

    @property
    def num_agents(self) -> int:
        """N."""
        return int(self.rewards.shape[2])

    @property
    def ended(self) -> Tensor:
        """[T, B] bool: terminated or truncated."""
        return self.terminated | self.truncated

    def __len__(self) -> int:
        """Environment steps; RLlib counts its episodes so."""
        return self.env_steps()

    def env_steps(self) -> int:
        """Joint steps: T x B."""
        return self.num_steps * self.num_replicas

    def agent_steps(self) -> int:
        """Steps of single agents: T x B x N."""
        return self.env_steps() * self.num_agents

    def to(self, device: torch.device | str) -> Self:
        """Return the same rollout with every array on ``device``."""
        return type(self)(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})

    def next_values(self, values: Tensor, final_values: Tensor) -> Tensor:
        """Value of what each step led to.

        Args:
            values: Values of ``obs``, [T + 1, B, ...].
            final_values: Values of ``final_obs``, [E, ...].

        Returns:
            [T, B, ...]: ``values[1:]``, with the final value where an episode ended.
        """
        following = values[1:].clone()
        if len(self.final_index):
            following[self.final_index[:, 0], self.final_index[:, 1]] = final_values
        return following

    def shards(self, num_shards: int) -> list["Rollout"]:
        """Cut the rollout into parts of whole replicas, so that agents' joint steps stay together.

        Args:
            num_shards: How many parts; their sizes differ by one replica at most.

        Raises:
            ValueError: if there are fewer replicas than parts.
        """
        if self.num_replicas < num_shards:
            raise ValueError(
                f"{self.num_replicas} replicas cannot feed {num_shards} learners; raise num_envs_per_env_runner"
            )
        edges = np.linspace(0, self.num_replicas, num_shards + 1).astype(int)
        return [self._replicas(int(a), int(b)) for a, b in pairwise(edges)]

    def _replicas(self, start: int, stop: int) -> "Rollout":
        inside = (self.final_index[:, 1] >= start) & (self.final_index[:, 1] < stop)
        index = self.final_index[inside] - torch.tensor([0, start], device=self.final_index.device)
        cut: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "final_index":
                cut[f.name] = index
            elif f.name.startswith("final_"):
                cut[f.name] = None if value is None else value[inside]
            elif isinstance(value, Tensor):
                cut[f.name] = value[:, start:stop]
            elif isinstance(value, dict):
                cut[f.name] = {k: v[:, start:stop] for k, v in value.items()}
            else:
                cut[f.name] = value
        return Rollout(**cut)

    def __getstate__(self) -> dict[str, Any]:
        """Travel between processes as NumPy arrays, which Ray moves without copying."""
        return {f.name: _to_numpy(getattr(self, f.name)) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make tensors of the arrays again."""
        self.__dict__.update({name: _to_tensor(value) for name, value in state.items()})


def concatenate(rollouts: Iterable[Rollout]) -> Rollout:
    """Put rollouts of equal length side by side along the replica axis.

    Args:
        rollouts: At least one; all with the same T.

    Raises:
        ValueError: if there is none, or their lengths differ.
    """
    parts = list(rollouts)
    if not parts:
        raise ValueError("no rollout was given")
    if len(parts) == 1:
        return parts[0]
    if len({p.num_steps for p in parts}) != 1:
        raise ValueError(f"rollouts differ in length: {[p.num_steps for p in parts]} steps")
    offsets = np.cumsum([0, *[p.num_replicas for p in parts[:-1]]])
    joined: dict[str, Any] = {}
    for f in fields(Rollout):
        values = [getattr(p, f.name) for p in parts]
        if f.name == "final_index":
            shifts = [torch.tensor([0, int(o)], device=v.device) for v, o in zip(values, offsets, strict=True)]
            joined[f.name] = torch.cat([v + s for v, s in zip(values, shifts, strict=True)])
        elif f.name == "source":
            joined[f.name] = values[0]
        elif values[0] is None:
            joined[f.name] = None
        elif isinstance(values[0], dict):
            joined[f.name] = {k: torch.cat([v[k] for v in values], dim=1) for k in values[0]}
        else:
            joined[f.name] = torch.cat(values, dim=0 if f.name.startswith("final_") else 1)
    return Rollout(**joined)


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        # A copy to the CPU that does not block may be read before it has arrived.
        return value.to(device, non_blocking=torch.device(device).type != "cpu")
    if isinstance(value, dict):
        return {k: _moved(v, device) for k, v in value.items()}
    return value


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {k: _to_numpy(v) for k, v in value.items()}
    return value


def _to_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    if isinstance(value, dict):
        return {k: _to_tensor(v) for k, v in value.items()}
    return value
