"""Episodes under way: their returns and lengths so far, logged when they end."""

from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.utils.metrics import (
    EPISODE_AGENT_RETURN_MEAN,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)
from torch import Tensor

from algos.team_env import TeamStep


class EpisodesUnderWay:
    """Returns and lengths of the episodes that the replicas are in the middle of.

    Attributes:
        returns: Rewards summed so far, [B, N] float64 on the CPU.
        lens: Steps so far, [B] int64 on the CPU.
        ended: Episodes of each replica that have ended, [B] int64 on the CPU.
    """

    def __init__(self, num_replicas: int, num_agents: int) -> None:
        self.returns = torch.zeros(num_replicas, num_agents, dtype=torch.float64)
        self.lens = torch.zeros(num_replicas, dtype=torch.int64)
        self.ended = torch.zeros(num_replicas, dtype=torch.int64)

    def add(self, step: TeamStep) -> Tensor | None:
        """Add a step; returns which replicas' episodes it ended, [B] bool on the CPU, or None where it ended none."""
        self.returns += step.reward.cpu()
        self.lens += 1
        return None if step.final_obs is None else (step.terminated | step.truncated).cpu()

    def close(self, over: Tensor) -> None:
        """Begin the replicas of ``over``, [B] bool, anew."""
        self.returns[over] = 0.0
        self.lens[over] = 0
        self.ended[over] += 1

    def log(self, metrics: Any, step: TeamStep, over: Tensor, agent_ids: Sequence[Any], *, window: int) -> None:
        """Log the episodes that ended together as one mean each; a per-episode loop would cost more than the market.

        Args:
            metrics: RLlib's MetricsLogger.
            step: The step that ended them.
            over: Replicas whose episodes ended, [B] bool.
            agent_ids: Names of the agents, [N].
            window: Episodes that a logged mean looks back on.
        """
        returns = self.returns[over]
        totals = returns.sum(-1)
        log = metrics.log_value
        log(NUM_EPISODES, len(totals), reduce="sum")
        log(NUM_EPISODES_LIFETIME, len(totals), reduce="lifetime_sum")
        batches = max(1, window // len(totals))
        log(EPISODE_RETURN_MEAN, float(totals.mean()), window=batches)
        log(EPISODE_RETURN_MIN, float(totals.min()), reduce="min", window=batches)
        log(EPISODE_RETURN_MAX, float(totals.max()), reduce="max", window=batches)
        log(EPISODE_LEN_MEAN, float(self.lens[over].double().mean()), window=batches)
        for n, agent_id in enumerate(agent_ids):
            log((EPISODE_AGENT_RETURN_MEAN, agent_id), float(returns[:, n].mean()), window=batches)
        for name, values in (step.stats or {}).items():
            log(("floor", name), float(values[over.to(values.device)].double().mean()), window=batches)

    def get_state(self) -> dict[str, Tensor]:
        """All three arrays."""
        return {"returns": self.returns, "lens": self.lens, "ended": self.ended}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""
        self.returns, self.lens = state["returns"].clone(), state["lens"].clone()
        if "ended" in state:  # not in checkpoints of before
            self.ended = state["ended"].clone()
