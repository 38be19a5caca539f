"""What a search draws, by dotted name, and what a trial trains with: what was drawn for it and all else that is set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ray import tune

from algos.registry import algorithm
from common.strict import Choice, LogUniform, Range
from experiments.settings.fields import settings_of
from experiments.settings.layers import flatten, nested
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning.branching import is_among, is_idle

_NOT_OF_THE_TRAINING = (
    *("name", "storage", "preset", "config", "resume", "json", "trust", "skip_training", "search.", "hooks"),
    *("keep", "keep_every", "checkpoint_interval_s", "checkpoint_on_signal", "max_failures", "hang_timeout_s"),
    *("scaling.num_gpus_", "scaling.num_cpus_", "scaling.floor_device"),
)
"""Settings that a run's weights and figures do not depend on; of a preset its values are set."""


def search_space(
    algo: str, *, fixed: Iterable[str], network: str, td_lambda: float = 0.0, is_population: bool = False
) -> dict[str, Any]:
    """What a search draws: the algorithm's space, less what the user has fixed and what would not fit the network.

    Args:
        algo: Name of the algorithm.
        fixed: Dotted names of settings that the user has set by hand.
        network: The network of the algorithm; a GRU learns from whole sequences and takes no n-step returns.
        td_lambda: Weight of longer returns in the targets of value-based algorithms; above 0 they too take sequences.
        is_population: Whether the settings change while a trial trains; those that shape the networks cannot, for
            members could not take over each other's weights.
    """
    declared, fixed = algorithm(algo), set(fixed)
    takes_sequences = network == "gru" or td_lambda > 0
    return {
        f"{declared.group}.{name}": _domain(drawn_from)
        for name, drawn_from in declared.ranges.items()
        if f"{declared.group}.{name}" not in fixed
        and not (takes_sequences and name == "n_step")
        and (declared.may_change(name) or not is_population)
    }


def _domain(drawn_from: Range) -> Any:
    if isinstance(drawn_from, Choice):
        return tune.choice(list(drawn_from.values))
    make = tune.loguniform if isinstance(drawn_from, LogUniform) else tune.uniform
    return make(drawn_from.low, drawn_from.high)


def settings_of_training(config: RunConfig, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of settings must hold for a run of its own to train as a trial has.

    Args:
        config: The search's settings.
        overrides: What was drawn for the trial, by dotted name.

    Returns:
        What differs from the defaults and decides the training, and all that was drawn; nested, as YAML holds it.
        Where weights are loaded, whose settings would be taken over otherwise, all of it.
    """
    left_out = _NOT_OF_THE_TRAINING if config.env is None else (*_NOT_OF_THE_TRAINING, "data.", "desk.", "floor.")
    settings = settings_of(RunConfig)
    values = flatten(config_to_json(config), settings) | dict(overrides)
    defaults = flatten(config_to_json(RunConfig()), settings)
    takes_over = config.load_model is not None
    decides = [name for name in values if not (is_idle(name, config.algo) or is_among(name, left_out))]
    set_otherwise = [name for name in decides if takes_over or values[name] != defaults[name]]
    found = {name: values[name] for name in values if name in (*set_otherwise, *overrides)}
    return nested({"algo": config.algo} | found)
