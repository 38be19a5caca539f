"""Search spaces, one for each algorithm, by the dotted names of the settings they draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ray import tune


def _value_based(section: str) -> dict[str, Any]:
    return {
        f"{section}.lr": tune.loguniform(1e-4, 3e-3),
        f"{section}.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
        f"{section}.target_network_update_freq": tune.choice([50, 200, 500]),
        f"{section}.n_step": tune.choice([1, 3, 5]),
        f"{section}.epsilon_decay_steps": tune.choice([10_000, 30_000, 100_000]),
    }


def _mappo() -> dict[str, Any]:
    return {
        "mappo.lr": tune.loguniform(5e-5, 3e-3),
        "mappo.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
        "mappo.lambda_": tune.uniform(0.85, 1.0),
        "mappo.entropy_coeff": tune.loguniform(1e-4, 3e-2),
        "mappo.clip_param": tune.choice([0.05, 0.1, 0.2]),
        "mappo.num_epochs": tune.choice([5, 10, 15]),
    }


def _soft_actor_critic(section: str) -> dict[str, Any]:
    return {
        f"{section}.actor_lr": tune.loguniform(3e-5, 3e-3),
        f"{section}.critic_lr": tune.loguniform(1e-4, 3e-3),
        f"{section}.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
        f"{section}.tau": tune.loguniform(1e-3, 5e-2),
        f"{section}.n_step": tune.choice([1, 3, 5]),
    }


def _impala(section: str) -> dict[str, Any]:
    return {
        f"{section}.lr": tune.loguniform(5e-5, 3e-3),
        f"{section}.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
        f"{section}.entropy_coeff": tune.loguniform(1e-4, 3e-2),
        f"{section}.vf_loss_coeff": tune.choice([0.25, 0.5, 1.0]),
    }


SPACES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "qmix": _value_based("qmix") | {"qmix.mixing_embed_dim": tune.choice([16, 32, 64])},
        "vdn": _value_based("qmix"),
        "iql": _value_based("qmix") | {"qmix.dueling": tune.choice([False, True])},
        "mappo": _mappo(),
        "ippo": _mappo(),
        "maddpg": {
            "maddpg.actor_lr": tune.loguniform(5e-5, 2e-3),
            "maddpg.critic_lr": tune.loguniform(1e-4, 5e-3),
            "maddpg.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
            "maddpg.tau": tune.choice([0.005, 0.01, 0.05]),
            "maddpg.n_step": tune.choice([1, 3, 5]),
            "maddpg.policy_delay": tune.choice([1, 2]),
        },
        "ppo": {
            "ppo.lr": tune.loguniform(5e-5, 3e-3),
            "ppo.gamma": tune.choice([0.9, 0.97, 0.99, 0.995]),
            "ppo.lambda_": tune.uniform(0.85, 1.0),
            "ppo.entropy_coeff": tune.loguniform(1e-4, 3e-2),
            "ppo.clip_param": tune.choice([0.1, 0.2, 0.3]),
        },
        "dqn": _value_based("dqn"),
        "sac": _soft_actor_critic("sac"),
        "tqc": _soft_actor_critic("tqc") | {"tqc.top_quantiles_to_drop_per_net": tune.choice([0, 2, 5])},
        "impala": _impala("impala"),
        "appo": _impala("appo") | {"appo.clip_param": tune.choice([0.1, 0.2, 0.4])},
    }
)
"""What a search draws for each algorithm; the run's own settings hold for everything else."""


FIXED_IN_TRAINING = ("qmix.mixing_embed_dim", "qmix.dueling")
"""Settings that shape the networks: members of a population could not take over each other's weights."""


def search_space(
    algo: str, *, fixed: Iterable[str], network: str, td_lambda: float = 0.0, is_population: bool = False
) -> dict[str, Any]:
    """What a search draws: the algorithm's space, less what the user has fixed and what would not fit the network.

    Args:
        algo: Name of the algorithm.
        fixed: Dotted names of settings that the user has set by hand.
        network: The network of the algorithm; a GRU learns from whole sequences and takes no n-step returns.
        td_lambda: Weight of longer returns in the targets of value-based algorithms; above 0 they too take sequences.
        is_population: Whether the settings change while a trial trains.
    """
    space = {name: domain for name, domain in SPACES[algo].items() if name not in set(fixed)}
    if network == "gru" or td_lambda > 0:
        space = {name: domain for name, domain in space.items() if not name.endswith(".n_step")}
    if is_population:
        space = {name: domain for name, domain in space.items() if name not in FIXED_IN_TRAINING}
    return space
