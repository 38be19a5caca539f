"""A trained team as a plain function from observations to actions, without Ray running."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from torch import Tensor

from algos.acting import ModuleActor, agents_by_module
from algos.export import NETWORKS_FILE, checked_layout, load_networks
from algos.masks import ACTION_MASK, OBSERVATIONS, bare_space
from algos.runner import TEAM_MODULE, TeamEnvRunner
from algos.snapshots import load_modules
from common.arrays import as_numbers
from common.errors import IncompatibleError, shown, told
from common.files import json_object

LAYOUT_FILE = "team.json"
"""Beside every checkpoint: who the agents are and which network each acts by."""


class TeamPolicy:
    """Greedy joint actions of a trained team; remembers what a recurrent network must.

    Args:
        modules: RLModules by module id, in evaluation mode.
        layout: What ``team_layout`` wrote.

    Raises:
        IncompatibleError: if the networks are not of the agents that the layout names.
    """

    def __init__(self, modules: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
        self.modules, self.layout = dict(modules), dict(layout)
        self.agent_ids = tuple(layout["agent_ids"])
        if missing := sorted({*layout["modules"]} - {*modules}):
            raise IncompatibleError(f"there are no weights of network {missing[0]!r}")
        if TEAM_MODULE in modules:
            self._actor: Any = modules[TEAM_MODULE]
            spaces = list(modules[TEAM_MODULE].action_space.spaces.values())
            observed = list(modules[TEAM_MODULE].observation_space["obs"].spaces.values())
        else:
            spaces, observed = (
                [getattr(modules[m], f"{kind}_space") for m in layout["modules"]] for kind in ("action", "observation")
            )
        self._obs_dims = [math.prod(bare_space(space).shape) for space in observed]
        if self._obs_dims != list(layout["obs_dims"]) or len(spaces) != len(self.agent_ids):
            raise IncompatibleError(f"the networks observe {self._obs_dims} numbers, not {layout['obs_dims']}")
        if TEAM_MODULE not in modules:
            self._actor = ModuleActor(modules, agents_by_module(layout["modules"]), layout["obs_dims"], spaces)
        self._action_widths = [math.prod(space.shape) for space in spaces]
        self._num_choices = [int(s.n) if isinstance(s, gym.spaces.Discrete) else 0 for s in spaces]
        self._carry: Any = None

    def reset(self) -> None:
        """Forget the episode so far."""
        self._carry = None

    @torch.no_grad()
    def act(self, obs: Tensor | np.ndarray, action_mask: Tensor | np.ndarray | None = None) -> Tensor:
        """Choose the best joint action.

        Args:
            obs: [B, N, F] float32, zero-padded to the widest agent.
            action_mask: [B, N, K] bool; None allows everything.

        Returns:
            [B, N] int64 rungs, or [B, N, D] float32 targets.

        Raises:
            IncompatibleError: if an observation is not finite or of another shape, or a mask allows nothing.
        """
        seen = torch.as_tensor(obs)
        self._check_seen(seen)
        mask = None if action_mask is None else torch.as_tensor(action_mask)
        if mask is not None:
            self._check_mask(mask, len(seen))
        if self._carry is None:
            self._carry = self._actor.initial_carry(seen.shape[0])
        acted = self._actor.act(seen, mask, self._carry, explore=False)
        if acted.actions.is_floating_point() and not bool(torch.isfinite(acted.actions).all()):
            raise IncompatibleError(
                "the networks answer these observations with NaN: they, or the weights, are too large"
            )
        self._carry = acted.carry
        return acted.actions

    def _check_seen(self, obs: Tensor) -> None:
        shape = (len(obs) if obs.dim() else 0, len(self.agent_ids), max(self._obs_dims))
        if obs.dtype != torch.float32 or obs.shape != shape:
            raise IncompatibleError(
                f"observations are {tuple(obs.shape)} {obs.dtype}, but the team takes {('B', *shape[1:])} float32"
            )
        if not bool(torch.isfinite(obs).all()):  # an argmax over NaN would be the first action, as if it were meant
            replica, agent, column = (~torch.isfinite(obs)).nonzero()[0].tolist()
            value = float(obs[replica, agent, column])
            raise IncompatibleError(f"the observation of agent {self.agent_ids[agent]!r} is {value} in column {column}")

    def _check_mask(self, mask: Tensor, num_replicas: int) -> None:
        shape = (num_replicas, len(self.agent_ids), max(self._num_choices))
        if mask.dtype != torch.bool or mask.shape != shape:
            raise IncompatibleError(f"masks are {tuple(mask.shape)} {mask.dtype}, but the team takes {shape} bool")
        for n, count in enumerate(self._num_choices):
            if count and not bool(mask[:, n, :count].any(-1).all()):
                raise IncompatibleError(f"the mask of agent {self.agent_ids[n]!r} allows no action")

    def __call__(self, observations: Mapping[str, Any]) -> dict[str, Any]:
        """Choose each agent's action, as an environment takes it, from what each agent observes.

        Args:
            observations: By agent: an array, or ``{"observations": array, "action_mask": array}``.

        Returns:
            By agent: an int, or an array of targets.

        Raises:
            IncompatibleError: if agents are missing, or observe something else than they were trained on: naming the
                agent.
        """
        if not isinstance(observations, Mapping):
            raise IncompatibleError(
                f"observations are a {type(observations).__name__}: give one for each agent, by name"
            )
        missing = [a for a in self.agent_ids if a not in observations]
        if missing:
            raise IncompatibleError(f"observations of {', '.join(missing)} are missing: the team acts as a whole")
        bare, masks = [], []
        for agent, width, count in zip(self.agent_ids, self._obs_dims, self._num_choices, strict=True):
            seen: Any = observations[agent]
            seen, mask = (seen.get(OBSERVATIONS), seen.get(ACTION_MASK)) if isinstance(seen, Mapping) else (seen, None)
            with np.errstate(over="ignore"):  # what becomes infinite is refused as such
                bare.append(_numbers(seen, width, agent=agent).astype(np.float32))
            masks.append(None if mask is None or not count else _allowed(mask, count, agent=agent))
        has_mask = any(mask is not None for mask in masks)
        free = [np.ones(count, bool) if m is None else m for m, count in zip(masks, self._num_choices, strict=True)]
        chosen = self.act(_padded(bare)[None], _padded(free)[None] if has_mask else None)[0].numpy()
        if chosen.ndim == 1:
            return {agent: int(action) for agent, action in zip(self.agent_ids, chosen, strict=True)}
        return {a: chosen[n, : self._action_widths[n]] for n, a in enumerate(self.agent_ids)}


def load_policy(checkpoint: str | Path) -> TeamPolicy:
    """Load a trained team, in evaluation mode and without noise, from a checkpoint or from what was exported of one.

    Nothing is unpickled.

    Args:
        checkpoint: Folder of a checkpoint, or an exported one.

    Raises:
        IncompatibleError: if the folder is neither, or a part of it is missing.
    """
    folder = Path(checkpoint).absolute()
    if (folder / NETWORKS_FILE).is_file():
        modules, layout = load_networks(folder)
    else:
        layout, modules = read_layout(folder), load_modules(folder)
    try:
        policy = TeamPolicy(modules, layout)
        policy.act(np.zeros((1, len(policy.agent_ids), max(layout["obs_dims"])), np.float32))
    except Exception as error:  # what has been described can have the right weights, and yet be no network
        raise IncompatibleError(f"{folder} holds no team that acts ({told(error)})") from error
    policy.reset()
    return policy


def policy_of(algorithm: Any) -> TeamPolicy:
    """The greedy policy of an algorithm as it is now, with the networks that sample."""
    module = algorithm.env_runner.module
    return TeamPolicy({name: module[name] for name in module.keys()}, team_layout(algorithm))  # noqa: SIM118


def read_layout(checkpoint: str | Path) -> dict[str, Any]:
    """Read who the agents of a checkpoint are.

    Raises:
        IncompatibleError: if the folder holds no readable ``team.json``.
    """
    path = Path(checkpoint) / LAYOUT_FILE
    try:
        return checked_layout(json_object(path.read_bytes()), source=path)
    except FileNotFoundError:
        raise IncompatibleError(f"{checkpoint} is no checkpoint: it has no {LAYOUT_FILE}") from None
    except OSError as error:
        raise IncompatibleError(f"{path} cannot be read: {error}") from None


def team_layout(algorithm: Any, weights: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """Describe the team that an algorithm trains: agents, networks, observation widths, actions and weight shapes.

    Args:
        algorithm: The algorithm.
        weights: Its ``flat_weights``, where they are at hand.
    """
    weights = flat_weights(algorithm) if weights is None else weights
    observations, actions = algorithm.spaces[INPUT_ENV_SINGLE_SPACES]
    runner = algorithm.eval_env_runner or algorithm.env_runner
    team_env = runner.env if isinstance(runner, TeamEnvRunner) else None
    agent_ids = list(observations.spaces if team_env is None else team_env.agent_ids)
    modules = [algorithm.config.policy_mapping_fn(agent_id, None) for agent_id in agent_ids]
    shapes = {name: list(value.shape) for name, value in sorted(weights.items())}
    return {
        "agent_ids": agent_ids,
        "modules": modules,
        "obs_dims": [int(bare_space(observations[a]).shape[0]) for a in agent_ids],
        "actions": [str(actions[a]) for a in agent_ids],
        "network": _network(algorithm.config),
        "weights": shapes,
    }


def layout_differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in what a checkpoint's team differs from the one that is wanted; empty where it fits."""
    names = {"agent_ids": "agents", "obs_dims": "observation widths", "actions": "actions", "modules": "networks"}
    found = [
        f"{title}: the checkpoint has {saved.get(key)}, this run has {wanted.get(key)}"
        for key, title in names.items()
        if saved.get(key) != wanted.get(key)
    ]
    if "network" in saved and "network" in wanted and saved["network"] != wanted["network"]:  # older ones do not say
        found.append(f"network: the checkpoint has {saved['network']}, this run has {wanted['network']}")
    if found:
        return found
    old, new = saved.get("weights", {}), wanted.get("weights", {})
    differing = [n for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    if differing:
        first = differing[0]
        found.append(
            f"{len(differing)} weights, the first of them {first}: the checkpoint has shape {old.get(first)}, "
            f"this run has {new.get(first)}"
        )
    return found


def _network(config: Any) -> str:
    """Which encoder of observations an algorithm's networks have."""
    settings = getattr(config, "settings", None)
    return str(config.model_config.get("network", "mlp") if settings is None else settings.network)


def _numbers(value: Any, width: int, *, agent: str, what: str = "observation") -> np.ndarray:
    """What an agent was given, as one row of numbers.

    Raises:
        IncompatibleError: naming the agent.
    """
    found = as_numbers(value)
    if found is None:
        raise IncompatibleError(f"the {what} of agent {agent!r} holds no numbers: it is a {type(value).__name__}")
    if found.size != width:
        raise IncompatibleError(f"the {what} of agent {agent!r} has {found.size} numbers, but the team knows {width}")
    return found.reshape(-1)


def _allowed(mask: Any, count: int, *, agent: str) -> np.ndarray:
    found = _numbers(mask, count, agent=agent, what="mask")
    if not np.isin(found, (0, 1)).all():
        raise IncompatibleError(
            f"the mask of agent {agent!r} holds {shown(found.tolist())}: 1 allows an action, 0 forbids it"
        )
    return found.astype(bool)


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different length as one array, filled with zeros; [N, widest]."""
    out = np.zeros((len(rows), max(map(len, rows))), rows[0].dtype)
    for n, row in enumerate(rows):
        out[n, : len(row)] = row
    return out


def flat_weights(algorithm: Any) -> dict[str, np.ndarray]:
    """All weights that learn or are targets, as ``"module/parameter" -> array``."""
    return by_full_name(algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"])


def by_full_name(weights: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Weights of several networks as ``"module/parameter" -> array``."""
    return {f"{m}/{name}": np.asarray(value) for m, named in weights.items() for name, value in named.items()}


def weights_sha256(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over sorted name, dtype, shape and bytes of every weight."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
