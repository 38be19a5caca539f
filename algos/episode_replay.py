"""RLlib's replay of episodes, which says so where nothing can be drawn from it."""

from collections.abc import Iterable
from typing import Any

from ray.rllib.utils.replay_buffers.multi_agent_episode_buffer import MultiAgentEpisodeReplayBuffer

from common.errors import InputError

EPISODE_REPLAY = "MultiAgentEpisodeReplayBuffer"
"""RLlib's name of it, the only one that SAC takes."""


class EpisodeReplay(MultiAgentEpisodeReplayBuffer):
    """RLlib's buffer, which would look for ever for returns that are longer than every episode that it holds."""

    def sample(self, num_items: int | None = None, *, n_step: int = 1, **kwargs: Any) -> Any:
        """Draw from every network's steps; a network of whose agents no step is left is passed over.

        Raises:
            InputError: if a network has no episode of ``n_step`` steps.
        """
        modules = [module for module, steps in self._module_to_indices.items() if steps]
        if short := sorted(set(modules) - self._with_episodes_of(n_step, modules)):
            raise InputError(
                f"no episode of {short[0]!r} in the replay buffer has the {n_step} steps of n_step: lower it, "
                "or raise learning_starts and replay_capacity"
            )
        return super().sample(num_items, n_step=n_step, modules_to_sample=modules, **kwargs)

    def _with_episodes_of(self, num_steps: int, modules: Iterable[str]) -> set[str]:
        """Those of some modules that have an episode of so many steps."""
        found: set[str] = set()
        wanted = set(modules)
        for episode in self.episodes:
            if found >= wanted:
                break
            of_agents = episode.agent_episodes.values()
            found |= {agent.module_id for agent in of_agents if len(agent) >= num_steps}
        return found
