"""What the networks and the replay buffer of a run take, known before any of them is made."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.apis import TargetNetworkAPI

from algos.network_files import weights_at_most, without_deprecations
from algos.registry import DISCRETE, algorithm
from algos.runner import TEAM_MODULE
from algos.team_env import TeamEnv
from algos.windows import with_windows
from common.errors import InputError
from common.memory import check_memory, total_bytes
from experiments.builders.environments import Environment
from experiments.settings.fields import settings_of, value_of
from experiments.settings.groups import is_on_team_path, settings_of_algo
from experiments.settings.run_config import RunConfig

_MOMENTS = {"adam": 2, "rmsprop": 1}
"""Numbers that an optimizer remembers of each weight."""
_BYTES_PER_EPISODE = 4_000
"""What RLlib's own replay buffers keep beside the steps of an agent's episode."""
_OF_NO_NETWORK = ("replay_capacity", "num_envs_per_env_runner")
"""Whole numbers of an algorithm's settings that cannot change, and yet shape no network."""


def check_memory_use(config: AlgorithmConfig, run: RunConfig, environment: Environment) -> None:
    """Refuse networks, or a replay buffer, that are larger than the memory of this machine.

    A cluster may train on another machine than this one, and says itself what is too much.

    Args:
        config: Of the run's algorithm in the environment.
        run: The settings.
        environment: What it trains in.

    Raises:
        InputError: naming the settings that ask for so much.
    """
    if os.environ.get("RAY_ADDRESS", "local") != "local":
        return
    there, own, group = total_bytes(), settings_of_algo(run), algorithm(run.algo).group
    sizes = ", ".join(_sizes_that_are_set(run)) or "what agents observe"
    refusal = f"{sizes}: networks of that size do not fit into the {there / 1e9:.3g} GB of memory of this machine"
    try:
        with weights_at_most(there // 4, refusal):
            networks = outlined_networks(config, environment)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise InputError(refusal) from None
    if sum(network_bytes(network, own) for network in networks.values()) > there:
        raise InputError(refusal)
    if algorithm(run.algo).has_replay:
        what = f"--{group}.replay-capacity {own.replay_capacity}: a replay buffer of so many steps"
        check_memory(own.replay_capacity * replayed_step_bytes(config, run, environment), what)


def _sizes_that_are_set(run: RunConfig) -> list[str]:
    """Flags of the algorithm's settings that shape its networks and differ from the defaults."""
    declared, found = algorithm(run.algo), []
    for name, setting in settings_of(RunConfig).items():
        group, _, leaf = name.partition(".")
        value = setting.default[:1] if isinstance(setting.default, tuple) else (setting.default,)
        is_size = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        shapes = group == declared.group and is_size and not setting.may_change and leaf not in _OF_NO_NETWORK
        if shapes and value_of(run, name) != setting.default:
            found.append(setting.flag)
    return found


def outlined_networks(config: AlgorithmConfig, environment: Environment) -> dict[str, Any]:
    """A run's networks by their names, with target networks, but without memory for any weight."""
    spaces = _spaces_of_networks(config, environment.team)
    with torch.device("meta"), without_deprecations():
        networks = config.get_multi_rl_module_spec(spaces=spaces).build()
        for name in spaces:
            if isinstance(networks[name], TargetNetworkAPI):
                networks[name].make_target_networks()
    return {name: networks[name] for name in spaces}


def _spaces_of_networks(config: Any, team: TeamEnv) -> dict[str, Any]:
    seen = with_windows(team.observation_spaces, team.windows)
    if not config.is_multi_agent or TEAM_MODULE in config.policies:
        obs, actions = (gym.spaces.Dict(OrderedDict(s)) for s in (seen, team.action_spaces))
        state = gym.spaces.Box(-np.inf, np.inf, (team.state_dim,), np.float32)
        return {TEAM_MODULE: (gym.spaces.Dict(OrderedDict(obs=obs, state=state)), actions)}
    by_module = {config.policy_mapping_fn(a, None): a for a in team.agent_ids}
    return {m: (seen[a], team.action_spaces[a]) for m, a in by_module.items()}


def network_bytes(network: Any, own: Any) -> int:
    """Bytes of a network's weights, and of what their optimizer remembers of them.

    Args:
        network: May be without memory for its weights.
        own: Settings of the algorithm.
    """
    tensors = [*network.parameters(), *network.buffers()]
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    moments = _MOMENTS[getattr(own, "optimizer", "adam")]
    return sum(t.numel() * t.element_size() for t in tensors) + 4 * moments * learned


def replayed_step_bytes(config: Any, run: RunConfig, environment: Environment) -> int:
    """Bytes of one joint step in a replay buffer, with its share of what an episode adds at its end.

    Args:
        config: Of the run's algorithm in the environment.
        run: The settings.
        environment: What it trains in.
    """
    team, episode_len = environment.team, environment.episode_len
    num_agents, width, num_actions = len(team.agent_ids), max(team.obs_dims), actions_width(team)
    if not is_on_team_path(run):
        per_episode = 0 if episode_len is None else _BYTES_PER_EPISODE // episode_len
        drawn = (
            1 if DISCRETE in algorithm(run.algo).actions else 12
        ) * num_actions  # weights, means and deviations; or a mask
        return num_agents * (4 * width + drawn + 40 + per_episode)
    desk = run.desk
    mask = num_actions if desk.max_rung_change is not None or not desk.allow_short else 0
    state = team.state_dim if getattr(config, "use_global_state", False) else 0
    seen = num_agents * (4 * width + mask) + 4 * state
    done = 8 if desk.action == "discrete" else 4 * num_actions
    paid = 4 * num_agents if getattr(config, "pays_own_reward", False) else 4
    at_ends = 0.0 if episode_len is None else 1 / episode_len
    return int(seen * (1 + at_ends)) + done * num_agents + paid + 2


def actions_width(team: TeamEnv) -> int:
    """Choices of the agent that has most of them, or numbers that it sets."""
    spaces = list(team.action_spaces.values())
    return max(int(s.n) if isinstance(s, gym.spaces.Discrete) else int((s.shape or (1,))[0]) for s in spaces)
