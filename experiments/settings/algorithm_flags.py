"""Flags of the chosen algorithm: flat ones that stand for its settings, and those that its network has no use for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from algos.registry import RENAMED, algorithm, algorithms
from common.errors import InputError
from experiments.settings.arguments import scan_flags
from experiments.settings.fields import hyphens, settings_of

OF_ALGO = ("network",)
"""Flat flags that set the setting of that name in the group of the chosen algorithm."""
NETWORK_OF = {"d_model": "transformer", "num_layers": "transformer"}
"""Settings of an algorithm's group that only one network uses."""


def of_algo(algo: str) -> dict[str, str]:
    """Flat flags and the settings that they stand for; of an algorithm that does not exist, those of the default."""
    known = algorithms()
    return {name: f"{known.get(algo, known['qmix']).group}.{name}" for name in OF_ALGO}


def scan_algo_flags(
    cls: type, argv: Sequence[str], algo: str, *, aliases: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Split a command line into settings and their words, flat flags of the algorithm's group among them.

    Args:
        cls: The tree of settings.
        argv: Words after the program's name.
        algo: The chosen algorithm; one that does not exist is left to those who check it.
        aliases: Flat names of other settings.

    Raises:
        InputError: as ``scan_flags`` does; or if the algorithm has no such setting, or is asked for by an old name.
    """
    for flag, value in pairwise([part for word in argv for part in word.split("=", 1)]):
        if flag == "--algo" and value in RENAMED:
            algorithm(value)  # refused before the old names of its settings are, which would say less
    settings = settings_of(cls)
    own = {flat: name for flat, name in of_algo(algo).items() if name in settings}
    for name in OF_ALGO:
        if name not in own and any(word.partition("=")[0] == f"--{name}" for word in argv):
            raise InputError(f"--{name} has no effect on --algo {algo}, which leaves no choice: leave it out")
    return scan_flags(cls, argv, aliases={**(aliases or {}), **own})


def check_network(group: str, settings: Any, by_flag: Collection[str]) -> None:
    """Refuse flags of an algorithm's group that its network has no use for.

    Args:
        group: Name of the group.
        settings: The group.
        by_flag: Dotted names of the settings that came as flags.

    Raises:
        InputError: naming the flag and the network.
    """
    for name in by_flag:
        head, _, leaf = name.partition(".")
        user = NETWORK_OF.get(leaf, settings.network)
        if head == group and user != settings.network:
            raise InputError(f"--{group}.{hyphens(leaf)} has no effect on --network {settings.network}, only on {user}")
        attends = settings.network == "transformer" or getattr(settings, "critic", "mlp") == "attention"
        takes_sequences = settings.network == "gru" or getattr(settings, "td_lambda", 0.0) > 0
        if name == f"{group}.sequence_length" and not takes_sequences:
            raise InputError(f"--{group}.sequence-length has no effect on --network {settings.network}, only on gru")
        if name == f"{group}.num_heads" and not attends:
            raise InputError(f"--{group}.num-heads has no effect where nothing attends: give --network transformer")
