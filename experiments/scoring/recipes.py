"""What learners are set to, unless the user says otherwise, on markets and games whose best policy is known."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from experiments.algorithm_names import SECTION_OF_ALGO
from experiments.layers import merge

SCORED = ("qmix", "vdn", "iql", "maddpg", "mappo", "ippo", "ppo")
"""Algorithms that can be scored: those that the batched team runner samples for."""
GAMES = ("two-step", "climbing", "penalty")


class Recipe(NamedTuple):
    """How long to learn, and with which differences from the defaults.

    Attributes:
        steps: Environment steps.
        settings: Of the algorithm's group.
    """

    steps: int
    settings: Mapping[str, Any]


_ON_POLICY = {
    "gamma": 1.0,
    "lr": 1e-3,
    "train_batch_size_per_learner": 1024,
    "minibatch_size": 256,
    "num_epochs": 5,
    "num_envs_per_env_runner": 64,
}
_OFF_POLICY = {
    "gamma": 1.0,
    "num_updates": 16,
    "rollout_fragment_length": 8,
    "num_envs_per_env_runner": 32,
    "replay_capacity": 50_000,
}
_OF_GAMES = {
    "lr": 1e-3,
    "epsilon_end": 1.0,
    "hidden": (64,),
    "num_updates": 10,
    "num_envs_per_env_runner": 8,
    "replay_capacity": 5_000,
    "learning_starts": 200,
    "train_batch_size": 64,
    "use_reward_standardisation": False,
}
"""Every joint action is tried equally often, so that what is learned does not hang on the order of trials."""
_OF_SECTION: Mapping[str, Recipe] = MappingProxyType(
    {
        "qmix": Recipe(40_000, {**_OFF_POLICY, "epsilon_decay_steps": 20_000, "target_network_update_freq": 100}),
        "maddpg": Recipe(40_000, {**_OFF_POLICY, "noise_decay_steps": 20_000}),
        "mappo": Recipe(60_000, _ON_POLICY),
        "ppo": Recipe(60_000, _ON_POLICY),
    }
)
_OF_MARKET: Mapping[tuple[str, str], Recipe] = MappingProxyType(
    {
        **{(game, "qmix"): Recipe(10_000, _OF_GAMES) for game in GAMES},
        ("almgren-chriss", "maddpg"): Recipe(40_000, {"actor_lr": 1e-4}),
        ("two-step", "mappo"): Recipe(60_000, {"entropy_coeff": 0.05}),
        ("two-step", "ppo"): Recipe(60_000, {"entropy_coeff": 0.05}),
    }
)


def recipe(market: str, algo: str) -> Recipe:
    """What is set for an algorithm on a market.

    Args:
        market: Of the catalog.
        algo: One of ``SCORED``.
    """
    section = SECTION_OF_ALGO[algo]
    general = _OF_SECTION[section]
    own = _OF_MARKET.get((market, section), general)
    return Recipe(own.steps, merge(general.settings, own.settings))
