"""Metrics by name, as ``--checkpoint-metric`` gives them: flat, or nested with slashes as in TensorBoard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from common.errors import InputError, nearest

VALIDATION_METRICS = ("profit", "sharpe", "calmar", "max_drawdown", "num_trades", "turnover", "total_costs_usd")
"""What an evaluation on the validation split reports, flat at the top of a result (Tune ignores nested names); the
floor's figures, which mean what they mean in a backtest."""
RETURN = "return"
"""What every evaluation reports: on the floor the profit by its other name, elsewhere the mean return of an episode."""
FLAT_METRICS = (*VALIDATION_METRICS, RETURN, "episode_return")
"""Every name without a slash; the last is the recent mean return of training episodes."""
SEARCH_SCORE = "search_score"
"""What every result of a search reports, and by which trials are stopped early and populations compared."""
BEST_SCORE = "best_score"
"""What the best checkpoint of a trial reached: the trial that is kept is judged by the checkpoint that is kept."""
CLOCK = "clock"
"""What every result, checkpoint and summary says of how far the run is, in what the run's clock counts."""
REFUSED = "refused"
"""In place of all else, why a new run is not trained at all."""
DISK_USE = "disk_use"
"""What a session's first result says of the room that checkpoints will need, in words."""
ROOTS = ("env_runners", "evaluation", "learners", "replay_buffer", "timers")
"""What the name of a nested metric begins with."""
_MOST_SHOWN = 3


def clock_of(found: Mapping[str, Any]) -> int:
    """How far a run was, by a result, a checkpoint's own words or a summary; those of before count episodes alone."""
    return int(found.get(CLOCK) or found.get("episodes") or found.get("episode") or 0)


def check_metric_name(name: str) -> None:
    """Refuse a name that no result will ever have, as far as that can be known before there is one.

    Raises:
        InputError: naming the nearest.
    """
    root, slash, _ = name.partition("/")
    if name in FLAT_METRICS or (slash and root in ROOTS):
        return
    if slash:
        meant = nearest(root, ROOTS) or f": choose one of {', '.join(ROOTS)}"
        raise InputError(f"--checkpoint-metric is {name!r}, but no result has metrics below {root!r}{meant}")
    meant = nearest(name, FLAT_METRICS) or f": choose one of {', '.join(FLAT_METRICS)}"
    raise InputError(
        f"--checkpoint-metric is {name!r}, which does not exist{meant}; nested metrics are written with slashes, as in "
        "env_runners/episode_return_mean"
    )


def read_metric(results: Mapping[str, Any], name: str) -> float | None:
    """Look a metric up; None where the results do not hold it, or hold no number there."""
    return dict(_numbers(results)).get(name)


def unknown_metric(results: Mapping[str, Any], name: str) -> InputError:
    """Make the error that says which names the results hold that are nearest to one that they do not."""
    known = [found for found, _ in _numbers(results)]
    close = difflib.get_close_matches(name, known, n=_MOST_SHOWN, cutoff=0.5) or _by_last_part(name, known)
    meant = f": the nearest are {', '.join(close)}" if close else ""
    return InputError(f"--checkpoint-metric {name} is in none of the {len(known)} metrics of a result{meant}")


def _by_last_part(name: str, known: Iterable[str]) -> list[str]:
    by_leaf = {full.rpartition("/")[2]: full for full in known}
    close = difflib.get_close_matches(name.rpartition("/")[2], list(by_leaf), n=_MOST_SHOWN, cutoff=0.5)
    return [by_leaf[leaf] for leaf in close]


def _numbers(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in nested results, by its path."""
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{name}/")
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield name, float(value)
