"""RLlib's own runner, on streams of episodes that are told apart as the team runner's are."""

from typing import Any

from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from algos.runner import base_seed
from common.counted import counted_seed


class CountedEnvRunner(MultiAgentEnvRunner):
    """RLlib's runner; what it begins follows from (seed, runner, purpose, steps so far, copy).

    RLlib's seeds are seed + runner + copy: the copies of two runners share most episodes, as do runs of neighbouring
    seeds, and a runner that is made anew begins with the episodes that it has been through.
    """

    def begin_new_episodes(self) -> None:
        """Leave the episodes under way; the next sample starts new ones."""
        self._needs_initial_reset = True

    def _try_env_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin the first episode of a new stream in every copy, if seeded; seeds have 32 bits, as many games want."""
        steps = self.num_env_steps_sampled_lifetime
        seeds = [counted_seed(base_seed(self), steps, i) % 2**32 for i in range(self.num_envs)]
        found: tuple[Any, Any] = super()._try_env_reset(seed=None if seed is None else seeds, options=options)
        return found
