"""What a search draws: the settings that the algorithm declares a range for, by their dotted names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray import tune

from algos.registry import algorithm
from common.strict import Choice, LogUniform, Range


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
