"""Everything that RLlib 2.60 leaves out of a checkpoint, put back, so that a restored run is the run that was saved.

RLlib saves weights, optimisers, connectors and counters. It leaves out the random state of the process, the episodes
under way with their environments, the content of replay buffers and of batches that are not full yet, the marks of
target updates, PPO's KL coefficients and SAC's temperature. Learners with a ``WholeState`` have the last three in their
own state; they are not saved here again. With one process (no remote runners, a local learner) this module holds all of
it; with remote runners it holds what the main process has, and runners begin new episodes.
"""

import random
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from algos.hooks import ENDED_OF_REPLICAS
from algos.learner_state import WholeState, left_out, put_in
from algos.quick_states import metrics_state
from algos.ray_internals import PACKS, RUNNER_FIELDS, VECTOR_FIELDS, local_learner


def capture(algorithm: Any) -> dict[str, Any]:
    """Tell what RLlib leaves out, for ``put_back``; it is the algorithm's own memory.

    Args:
        algorithm: An Algorithm between two training iterations.
    """
    state: dict[str, Any] = {"random": _random_state(), "counters": dict(algorithm._counters)}
    runner = algorithm.env_runner
    if isinstance(runner, MultiAgentEnvRunner) and runner.env is not None:
        state["runner"] = _runner_state(runner)
    if runner is not None:
        state["runner_metrics"] = metrics_state(runner.metrics)
    if algorithm.config.num_env_runners == 0 and getattr(algorithm, PACKS, None):
        state["packs"] = ray.get(getattr(algorithm, PACKS))
    if algorithm.local_replay_buffer is not None:
        state["replay"] = _replay_state(algorithm.local_replay_buffer)
        state["replay_rng"] = _replay_generators(algorithm.local_replay_buffer)
        state["replay_metrics"] = metrics_state(algorithm.local_replay_buffer.metrics)
    learner = local_learner(algorithm.learner_group)
    if learner is not None:
        state["learner"] = _learner_state(learner)
    return state


def put_back(algorithm: Any, state: Mapping[str, Any]) -> None:
    """Give a restored algorithm what ``capture`` told; called after RLlib's own restore.

    Args:
        algorithm: The restored Algorithm.
        state: What ``capture`` returned.
    """
    algorithm._counters.update(state["counters"])
    runner = algorithm.env_runner
    if "runner" in state and isinstance(runner, MultiAgentEnvRunner) and runner.env is not None:
        _set_runner_state(runner, state["runner"])
    if "runner_metrics" in state and runner is not None:
        runner.metrics.set_state(state["runner_metrics"])
    if hasattr(algorithm, PACKS):
        setattr(algorithm, PACKS, [ray.put(episodes) for episodes in state.get("packs", [])])
    if "replay" in state and algorithm.local_replay_buffer is not None:
        _set_replay_state(algorithm.local_replay_buffer, state["replay"])
        _set_replay_generators(algorithm.local_replay_buffer, state["replay_rng"])
        algorithm.local_replay_buffer.metrics.set_state(state["replay_metrics"])
    learner = local_learner(algorithm.learner_group)
    if learner is not None and "learner" in state:
        _set_learner_state(learner, state["learner"])
    _set_random_state(state["random"])


def known_objects(algorithm: Any) -> dict[str, Any]:
    """What episodes refer to and every algorithm of the same settings has: see ``algos.states.pack``."""
    return named_objects(algorithm.config.policy_mapping_fn, *algorithm.spaces[INPUT_ENV_SINGLE_SPACES])


def named_objects(mapping_fn: Any, observations: Mapping[str, Any], actions: Mapping[str, Any]) -> dict[str, Any]:
    """The same by its parts: who acts by which network, and the spaces of each agent."""
    return {
        "policy_mapping_fn": mapping_fn,
        **{f"observation_space/{agent}": space for agent, space in observations.items()},
        **{f"action_space/{agent}": space for agent, space in actions.items()},
    }


def seed_replay(buffer: Any, seed: int) -> None:
    """Seed the generators of RLlib's episode buffers, which seed themselves from the clock."""
    for i, name in enumerate(_names_of(buffer, np.random.Generator)):
        setattr(buffer, name, np.random.default_rng([seed, i]))


def _random_state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {"python": (version, np.array(words), gauss), "torch": torch.get_rng_state()}
    state["numpy"] = np.random.get_state()  # noqa: NPY002
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _runner_state(runner: MultiAgentEnvRunner) -> dict[str, Any]:
    envs = [env.unwrapped for env in runner.env.envs]
    return {
        "fields": {name: getattr(runner, name) for name in RUNNER_FIELDS},
        "vector": {name: getattr(runner.env, name) for name in VECTOR_FIELDS},
        "envs": [env.get_state() if hasattr(env, "get_state") else None for env in envs],
        "ended": vars(runner).get(ENDED_OF_REPLICAS, {}),
    }


def _set_runner_state(runner: MultiAgentEnvRunner, state: dict[str, Any]) -> None:
    saved = state["envs"]
    if len(saved) != len(runner.env.envs) or any(s is None for s in saved):
        return  # other copies, or environments that cannot be saved: they begin new episodes
    for name, value in state["fields"].items():
        setattr(runner, name, value)
    for name, value in state["vector"].items():
        setattr(runner.env, name, value)
    setattr(runner, ENDED_OF_REPLICAS, dict(state.get("ended", {})))  # not in checkpoints of before
    for env, env_state in zip(runner.env.envs, saved, strict=True):
        env.unwrapped.set_state(env_state)
        _mark_as_reset(env)


def _mark_as_reset(env: Any) -> None:
    """Tell gymnasium's wrappers, which refuse to step what was never reset, that an episode is under way."""
    while env is not env.unwrapped:
        if hasattr(type(env), "has_reset"):
            env._has_reset = True
        env = env.env


def _set_replay_state(buffer: Any, state: Mapping[str, Any]) -> None:
    """Give a buffer its state, but keep what it begins a module with that has not been drawn from.

    RLlib begins all counts per module anew, that of drawn steps by a list, and minima of priorities by a tree of sums.
    """
    begins = {name: getattr(buffer, name).default_factory for name in _names_of(buffer, defaultdict)}
    buffer.episodes = deque(state["episodes"])  # RLlib's buffers keep what they have
    buffer.set_state({**state, "episodes": []})
    for name, begin in begins.items():
        getattr(buffer, name).default_factory = begin


def _names_of(buffer: Any, kind: type) -> list[str]:
    """Names of a buffer's attributes of a kind."""
    slots = [name for cls in type(buffer).__mro__ for name in getattr(cls, "__slots__", ())]  # as RLlib's have
    return [name for name in dict.fromkeys([*vars(buffer), *slots]) if isinstance(getattr(buffer, name, None), kind)]


def _replay_state(buffer: Any) -> dict[str, Any]:
    """RLlib's own, with the episodes as they are: from what it makes of them, it reads spaces by pickle."""
    episodes, buffer.episodes = buffer.episodes, deque()
    try:
        return {**buffer.get_state(), "episodes": list(episodes)}
    finally:
        buffer.episodes = episodes


def _replay_generators(buffer: Any) -> list[Any]:
    return [getattr(buffer, name).bit_generator.state for name in _names_of(buffer, np.random.Generator)]


def _set_replay_generators(buffer: Any, states: list[Any]) -> None:
    for name, state in zip(_names_of(buffer, np.random.Generator), states, strict=True):
        getattr(buffer, name).bit_generator.state = state


def _learner_state(learner: Any) -> dict[str, Any]:
    return {"metrics": metrics_state(learner.metrics), **({} if isinstance(learner, WholeState) else left_out(learner))}


def _set_learner_state(learner: Any, state: dict[str, Any]) -> None:
    learner.metrics.set_state(state["metrics"])
    put_in(learner, state)
