"""What a trained team was made for, and whether a market still makes the same agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import InputError
from envs.mandates import Mandate


def describe_agents(mandates: Sequence[Mandate]) -> list[dict[str, Any]]:
    """Write down what the networks of a team depend on, for each agent. Plain JSON."""
    return [
        {
            "name": mandate.name,
            "action": mandate.action,
            "num_actions": len(mandate.ladder) if mandate.is_discrete else len(mandate.assets),
            "feature_groups": list(mandate.feature_groups),
            "observe": mandate.observe,
            "num_assets": len(mandate.assets),
        }
        for mandate in mandates
    ]


def check_agents(trained: list[dict[str, Any]], found: list[dict[str, Any]], *, model: str, prices: str) -> None:
    """Refuse a market whose agents differ from those that a model was trained as.

    Args:
        trained: What ``describe_agents`` gave then, as a file holds it, where something may be missing.
        found: What it gives now.
        model: What was trained, for the message.
        prices: What the market is made of, for the message.

    Raises:
        InputError: naming the first agent and property that differ, and both values.
    """
    if len(trained) != len(found):
        raise InputError(
            f"{model} was trained with {len(trained)} agents ({_names(trained)}), but {prices} makes a desk of "
            f"{len(found)} ({_names(found)}): choose its assets (--data.assets) or its desk (--desk.*) as in training"
        )
    for before, now in zip(trained, found, strict=True):
        for key in ("name", "action", "num_actions", "feature_groups", "observe", "num_assets"):
            if key == "num_assets" and before["observe"] == "book" and isinstance(before.get(key), int):
                continue  # features are averaged over the book: its size does not matter
            if before.get(key) != now[key]:
                raise InputError(
                    f"{model} does not fit {prices}: {key} of agent {now['name']!r} was {_shown(before.get(key))} in "
                    f"training and is {_shown(now[key])} here"
                )


def _names(agents: list[dict[str, Any]]) -> str:
    names = [str(agent.get("name")) for agent in agents]
    return ", ".join(names if len(names) <= 6 else [*names[:5], "..."])


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
