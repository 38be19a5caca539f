"""Hooks: what watches a run while it trains. The runner collects, the trainable calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from algos.rollout import Rollout


class HookError(RuntimeError):
    """A hook has failed; the message names it. The run ends: what a user has asked for is never dropped unseen."""


@dataclass(frozen=True, kw_only=True)
class HookContext:
    """Where a run stands when a hook is called.

    Attributes:
        run_folder: The run's folder; None outside Tune.
        trial_folder: The folder of the trial in it, which no other trial writes to; None outside Tune.
        settings: The run's settings, as nested plain values.
        iteration: The iteration that is under way or was done last, from 1.
        env_steps: Environment steps sampled in the whole life of the run, over all replicas.
        episodes: Episodes ended in the whole life of the run, over all replicas.
    """

    run_folder: Path | None
    trial_folder: Path | None
    settings: Mapping[str, Any]
    iteration: int
    env_steps: int
    episodes: int


@dataclass(frozen=True, kw_only=True)
class EndedEpisodes:
    """E training episodes that ended, in order of step, then replica; all arrays are on the CPU.

    Attributes:
        agent_ids: Names of the agents, N.
        runner: Index of the env runner, 0 for the one in the trainable's process.
        replica: Index of the replica in the runner, [E] int64.
        replica_episode: Episodes of this replica that the runner has seen end before, [E] int64; begins anew at 0 where
            a runner begins new episodes by itself, as remote runners do when a run is carried on.
        length: Steps, [E] int64.
        returns: Sum of rewards, [E, N] float64.
        stats: What the environment tells of an episode, by name, [E] float64; empty where RLlib's own runner samples.
    """

    agent_ids: tuple[Any, ...]
    runner: int
    replica: NDArray[np.int64]
    replica_episode: NDArray[np.int64]
    length: NDArray[np.int64]
    returns: NDArray[np.float64]
    stats: dict[str, NDArray[np.float64]] = field(default_factory=dict)


class Hook:
    """Base class: methods that do nothing. Only what a subclass overrides is collected and called.

    Hooks run in the trainable's process, one after another in the order of their names in ``--hooks``. They must not
    change what they are given, nor draw from the global random generators: training would differ. One that raises ends
    the run with its name.
    """

    def on_step(self, context: HookContext, rollout: Rollout) -> None:
        """A runner has sampled; called once for each runner's rollout, before it is learned from.

        Args:
            context: Counters include these steps, and those of the other runners that sampled with it.
            rollout: T steps of B replicas and N agents, [T, B, N, ...]; see ``Rollout`` for each array. RLlib's own
                runners give none.
        """

    def on_episode(self, context: HookContext, episodes: list[EndedEpisodes]) -> None:
        """Episodes have ended in this iteration; not called where none has.

        Args:
            context: Counters include these episodes.
            episodes: Batches of training episodes, by runner, oldest first.
        """

    def on_evaluation(self, context: HookContext, figures: Mapping[str, float]) -> None:
        """The greedy policy was evaluated, after this iteration's training.

        Args:
            context: Where the run stands.
            figures: By name, as in ``result``; ``score`` is by the run's own metric, higher is better.
        """

    def on_iteration(self, context: HookContext, result: Mapping[str, Any]) -> None:
        """An iteration is done; the last call of it.

        Args:
            context: Where the run stands.
            result: What the iteration reports, evaluation figures included, without what Tune adds itself.
        """

    def on_checkpoint(self, context: HookContext, path: Path) -> None:
        """A checkpoint is about to be taken, at this instant, so that the hook's state in it knows of it.

        It is published later, beside the training: ``path`` is not there yet, and never will be where the disk is full.

        Args:
            context: Where the run stands.
            path: The folder that it will have.
        """

    def get_state(self) -> Any:
        """Plain JSON that ``set_state`` goes on from; None for a hook without a state."""
        return None

    def set_state(self, state: Any) -> None:
        """Go on from what ``get_state`` gave, in a new object of the same class, before anything else is called."""


METHODS = ("on_step", "on_episode", "on_evaluation", "on_iteration", "on_checkpoint")
ENDED_OF_REPLICAS = "ended_of_replicas"
"""Attribute of RLlib's own runners: how many episodes of each replica have ended, by its index."""
HOOKS: dict[str, Callable[[], Hook]] = {}
"""Hooks by name; what registers one must be imported here or be named as ``module:object``: trials have processes of
their own."""


def register_hook(name: str) -> Callable[[type[Hook]], type[Hook]]:
    """Give a class of hooks a name for ``--hooks``.

    Raises:
        ValueError: if another class has it.
    """

    def register(cls: type[Hook]) -> type[Hook]:
        if HOOKS.setdefault(name, cls) is not cls:
            raise ValueError(f"there is a hook named {name} already")
        return cls

    return register


class Hooks:
    """The hooks of one run, called together.

    Args:
        hooks: By name, in the order in which they are called.
    """

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = dict(hooks)
        self._wanting = {
            method: [name for name, hook in hooks.items() if getattr(type(hook), method) is not getattr(Hook, method)]
            for method in METHODS
        }

    def wanting(self, method: str) -> list[str]:
        """Names of the hooks that a method is to be called of."""
        return self._wanting[method]

    def call(self, method: str, context: HookContext, value: Any) -> None:
        """Call a method of every hook that has one.

        Raises:
            HookError: if one fails.
        """
        for name in self._wanting[method]:
            self._guarded(name, method, context, value)

    def get_state(self) -> dict[str, Any]:
        """States by name, as they are at this instant.

        Raises:
            HookError: if one is no plain JSON.
        """
        return {name: self._guarded(name, "get_state") for name in self._hooks}

    def set_state(self, states: Mapping[str, Any]) -> None:
        """Go on from states; a hook that has none begins anew, and the state of one that is gone is dropped."""
        for name in self._hooks:
            if states.get(name) is not None:
                self._guarded(name, "set_state", states[name])

    def _guarded(self, name: str, method: str, *args: Any) -> Any:
        try:
            found = getattr(self._hooks[name], method)(*args)
            return json.loads(json.dumps(found, allow_nan=False)) if method == "get_state" else None
        except Exception as error:
            raise HookError(f"hook {name} failed in {method}: {type(error).__name__}: {error}") from error


# -- what runners collect ----------------------------------------------------------------------------------------------


def ended_together(
    agent_ids: tuple[Any, ...], runner: int, over: Tensor, counted: Mapping[str, Tensor], stats: Mapping[str, Tensor]
) -> EndedEpisodes:
    """The episodes of a team runner that ended at one step.

    Args:
        agent_ids: Names of the agents, N.
        runner: Index of the runner.
        over: Replicas whose episodes ended, [B] bool on the CPU.
        counted: ``returns`` [B, N], ``lens`` and ``ended`` [B], of ``EpisodesUnderWay``.
        stats: The step's, by name, [B].
    """
    return EndedEpisodes(
        agent_ids=agent_ids,
        runner=runner,
        replica=over.nonzero()[:, 0].numpy(),
        replica_episode=counted["ended"][over].numpy(),
        length=counted["lens"][over].numpy(),
        returns=counted["returns"][over].numpy(),
        stats={name: values.cpu()[over].double().numpy() for name, values in stats.items()},
    )


def keep_episode(*, episode: Any, prev_episode_chunks: Any, env_runner: Any, env_index: int, **_: Any) -> None:
    """RLlib's callback ``on_episode_end``: its own runners keep what ends until ``take_episodes``."""
    chunks = [*prev_episode_chunks, episode]
    agent_ids = tuple(env_runner.env.envs[env_index].unwrapped.possible_agents)
    returns = [sum(c.agent_episodes[a].get_return() for c in chunks if a in c.agent_episodes) for a in agent_ids]
    counts = vars(env_runner).setdefault(ENDED_OF_REPLICAS, {})
    ended = EndedEpisodes(
        agent_ids=agent_ids,
        runner=int(env_runner.worker_index or 0),
        replica=np.array([env_index], np.int64),
        replica_episode=np.array([counts.get(env_index, 0)], np.int64),
        length=np.array([sum(len(chunk) for chunk in chunks)], np.int64),
        returns=np.array([returns], np.float64),
    )
    counts[env_index] = counts.get(env_index, 0) + 1
    vars(env_runner).setdefault("ended_episodes", []).append(ended)


def take_episodes(runner: Any) -> list[EndedEpisodes]:
    """What has ended in a runner since the last call."""
    found: list[EndedEpisodes] = getattr(runner, "ended_episodes", [])
    runner.ended_episodes = []
    return found
