"""From a run's settings to an RLlib AlgorithmConfig."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from algos.registry import DISCRETE, algorithm
from algos.scaling import ScalingSettings
from common.errors import IncompatibleError, InputError
from experiments.builders.environments import Environment, check_actions, environment_of
from experiments.settings.fields import hyphens
from experiments.settings.groups import is_on_team_path, settings_of_algo
from experiments.settings.run_config import RunConfig

SHARED = "shared"
"""Module id of the one network that all agents act by."""
MOST_STEPS = 1000
"""Environment steps in one iteration of RLlib's own algorithms but PPO, RLlib's own figure for DQN."""


def algorithm_config(
    run: RunConfig, environment: Environment | None = None, *, scaler: Mapping[str, Any] | None = None
) -> AlgorithmConfig:
    """Build the config of the run's algorithm in an environment.

    Args:
        run: The settings.
        environment: What it trains in; None makes what the settings name.
        scaler: Feature scaler to use, as ``Scaler.to_json`` writes it; None fits one on the training split.
    """
    for name in ("ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    environment = environment or environment_of(run)
    check_actions(run.algo, environment)
    config = bare_config(run)
    use_action_mask = environment.acts == DISCRETE and not is_on_team_path(run)  # whose floor always has one
    environment.set_up(config, scaler, use_action_mask=use_action_mask)
    config.debugging(seed=run.seed, log_level="ERROR")
    config.reporting(metrics_num_episodes_for_smoothing=100, min_time_s_per_iteration=0)
    _scale(config, run.scaling)
    _assign_networks(config, run, environment)
    return config


def bare_config(run: RunConfig) -> AlgorithmConfig:
    """The config of the run's algorithm with its settings, and no environment yet."""
    declared = algorithm(run.algo)
    config: AlgorithmConfig = declared.config(
        settings_of_algo(run), runner=declared.runner(run.runner), steps_per_iteration=_steps_of_iteration(run)
    )
    return config


def check_algorithm(run: RunConfig, environment: Environment) -> None:
    """Refuse here, in one line, what a worker process would only fail on.

    Raises:
        InputError: if RLlib finds that the settings of the algorithm do not go together.
    """
    check_config(algorithm_config(run, environment), run.algo)


def check_config(config: AlgorithmConfig, algo: str) -> None:
    """Refuse a config in one line.

    Raises:
        InputError: if RLlib finds that the settings of the algorithm do not go together.
    """
    try:
        config.validate()
    except InputError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(" To suppress all validation errors")[0]
        raise InputError(f"RLlib refuses these settings of {algo}: {_in_flags(reason, algo)}") from None


def _in_flags(reason: str, algo: str) -> str:
    """Say what RLlib says by the flags of settings, and without its advice on what to call in Python."""
    declared = algorithm(algo)
    flags = {item.name: f"--scaling.{hyphens(item.name)}" for item in fields(ScalingSettings)}
    flags |= {item.name: f"--{declared.group}.{hyphens(item.name)}" for item in fields(declared.settings)}
    sentences = [part for part in re.split(r"(?<=[.!]) ", reason) if "config." not in part]
    return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), " ".join(sentences) or reason)


def _steps_of_iteration(run: RunConfig) -> int:
    """Environment steps in an iteration of RLlib's own algorithms but PPO; by default checkpoints would come late."""
    if run.clock == "steps":
        return min(MOST_STEPS, run.checkpoint_interval)
    of_episode = run.floor.horizon_bars if run.env is None else None
    return min(MOST_STEPS, run.checkpoint_interval * (of_episode or MOST_STEPS))


def _scale(config: AlgorithmConfig, s: ScalingSettings) -> None:
    """Processes, replicas and devices."""
    gpus = s.num_gpus_per_learner
    if gpus is None:
        gpus = 1.0 if ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= max(1, s.num_learners) else 0.0
    config.env_runners(
        num_env_runners=s.num_env_runners,
        num_gpus_per_env_runner=s.num_gpus_per_env_runner,
        num_cpus_per_env_runner=s.num_cpus_per_env_runner,
    )
    if s.num_envs_per_env_runner is not None:
        config.env_runners(num_envs_per_env_runner=s.num_envs_per_env_runner)
    config.learners(num_learners=s.num_learners, num_gpus_per_learner=gpus)
    config.fault_tolerance(restart_failed_env_runners=True)
    config.floor_device = s.floor_device


def _assign_networks(config: AlgorithmConfig, run: RunConfig, environment: Environment) -> None:
    """Say which agent acts by which network.

    Raises:
        IncompatibleError: if agents cannot share a network.
    """
    declared, team = algorithm(run.algo), environment.team
    if declared.is_joint:
        return  # one module for the whole team, which pads observations itself
    settings = settings_of_algo(run)
    kinds = {(team.obs_dims[n], str(team.action_spaces[a])) for n, a in enumerate(team.agent_ids)}
    if settings.use_shared_networks and len(kinds) > 1:
        raise IncompatibleError(
            f"--{run.algo}.use-shared-networks needs agents with equally wide observations and the same actions, but "
            f"these differ: {sorted(kinds)}; leave the flag out"
        )
    if settings.use_shared_networks or (settings.use_shared_networks is None and len(kinds) == 1):
        config.multi_agent(policies={SHARED}, policy_mapping_fn=map_to_shared)
    else:
        config.multi_agent(policies=set(team.agent_ids), policy_mapping_fn=map_to_own)


def map_to_shared(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the one network."""
    return SHARED


def map_to_own(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the network of its name."""
    return agent_id
