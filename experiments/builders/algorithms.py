"""From a run's settings to an RLlib AlgorithmConfig."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from algos.env_runner import CountedEnvRunner
from algos.file_names import file_stems
from algos.registry import DISCRETE, algorithm
from algos.scaling import ScalingSettings
from common.errors import IncompatibleError, InputError
from experiments.builders.environments import Environment, check_actions, environment_of
from experiments.builders.memory_use import check_memory_use
from experiments.settings.fields import hyphens
from experiments.settings.groups import is_on_team_path, settings_of_algo
from experiments.settings.run_config import RunConfig

SHARED = "shared"
"""Module id of the one network that all agents act by."""
MOST_STEPS = 1000
"""Environment steps in one iteration of RLlib's own algorithms but PPO, RLlib's own figure for DQN."""

MOST_ROUNDS = 10_000
"""Rounds of sampling for one gradient step, or gradient steps for one round, that an iteration may have."""


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
        logging.getLogger(name).setLevel(max(logging.ERROR, logging.getLogger(name).level))
    environment = environment or environment_of(run)
    check_actions(run.algo, environment)
    config = bare_config(run)
    use_action_mask = environment.acts == DISCRETE and not is_on_team_path(run)  # whose floor always has one
    environment.set_up(config, scaler, use_action_mask=use_action_mask)
    config.debugging(seed=run.seed, log_level="ERROR")
    config.reporting(metrics_num_episodes_for_smoothing=100, min_time_s_per_iteration=0)
    _scale(config, run.scaling)
    if run.hang_timeout_s:  # what hangs is killed: what does not answer is only slow
        config.env_runners(sample_timeout_s=None)
    _assign_networks(config, run, environment)
    if algorithm(run.algo).has_replay and not is_on_team_path(run):
        _check_replay(config, run, environment)
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
        InputError: if RLlib finds that settings of the algorithm do not go together, or they ask for too much memory.
    """
    check_config(algorithm_config(run, environment), run, environment)


def check_config(config: AlgorithmConfig, run: RunConfig, environment: Environment) -> None:
    """Refuse a config in one line.

    Args:
        config: Of the run's algorithm in the environment.
        run: The settings.
        environment: What it trains in.

    Raises:
        InputError: if RLlib finds that settings of the algorithm do not go together, or they ask for too much memory.
    """
    try:
        config.validate()
    except InputError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(" To suppress all validation errors")[0]
        raise InputError(f"RLlib refuses these settings of {run.algo}: {_in_flags(reason, run.algo)}") from None
    check_memory_use(config, run, environment)


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
    if config.env_runner_cls is None:
        config.env_runners(env_runner_cls=CountedEnvRunner)


def _check_replay(config: AlgorithmConfig, run: RunConfig, environment: Environment) -> None:
    """Refuse settings by which RLlib would sample, or look for something to learn from, for ever.

    Raises:
        InputError: naming the setting.
    """
    flag, length = f"--{algorithm(run.algo).group}", environment.episode_len
    n_step, fragment = config.n_step, config.get_rollout_fragment_length(worker_index=1)
    if length is not None and n_step > length:
        raise InputError(
            f"{flag}.n-step is {n_step}, but an episode has {length} steps: no return is as long, lower it"
        )
    if n_step > fragment:
        raise InputError(
            f"{flag}.n-step is {n_step}, longer than the {fragment} bars of {flag}.rollout-fragment-length: lower the "
            "first or raise the second"
        )
    sampled = fragment * config.num_envs_per_env_runner * max(1, config.num_env_runners)
    capacity, intensity = config.replay_buffer_config["capacity"], config.training_intensity
    if capacity < sampled:
        raise InputError(
            f"{flag}.replay-capacity is {capacity}, but {sampled} steps are sampled at once "
            f"({fragment} in each of {sampled // fragment} copies of the environment): raise it to at least that"
        )
    of_one_round = config.total_train_batch_size / sampled
    if intensity is not None and not 1 / MOST_ROUNDS <= intensity / of_one_round <= MOST_ROUNDS:
        least, most = of_one_round / MOST_ROUNDS, of_one_round * MOST_ROUNDS
        raise InputError(
            f"{flag}.training-intensity is {intensity:g}: with this batch and what is sampled at once it "
            f"must lie between {least:.2g} and {most:.2g}, or a run samples, or learns, and does nothing else for hours"
        )


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
        names = file_stems(team.agent_ids)  # RLlib takes only such for ids of networks
        is_plain = all(name == agent for agent, name in names.items())
        mapping = map_to_own if is_plain else OwnNetworks(names)
        config.multi_agent(policies=set(names.values()), policy_mapping_fn=mapping)


def map_to_shared(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the one network."""
    return SHARED


def map_to_own(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the network of its name."""
    return agent_id


@dataclass(frozen=True)
class OwnNetworks:
    """Every agent acts by a network of its own.

    Attributes:
        names: Of the networks, by agent.
    """

    names: Mapping[str, str]

    def __call__(self, agent_id: str, episode: Any, **kwargs: Any) -> str:
        """Name of an agent's network."""
        return self.names[agent_id]
