"""Where the results of a backtest go: a run's own test in ``backtest``, any other beside it, named by what differs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.baseline_names import DEFAULT_BASELINES
from envs.settings import DataConfig
from experiments.runs.models import Model
from experiments.settings.arguments import dump_settings
from experiments.settings.fields import settings_of
from experiments.settings.layers import flatten

RESULTS_FILE = "backtest.json"
OWN = "backtest"
"""In the run folder: the run's own checkpoint on its own test split, at its own capital and prices."""
_MOST_CHARACTERS = 80
_FILES = {"path": "prices", "universe": "universe"}
"""Settings that name files, and what is said for them."""


def results_folder(
    models: Sequence[Model],
    *,
    rules: str | None = None,
    capital: float | None = None,
    data: Mapping[str, Any] | None = None,
    split: str = "test",
    baselines: Sequence[str] = DEFAULT_BASELINES,
    benchmark: str | None = None,
) -> Path:
    """Choose the folder for a backtest, so that only the same backtest is written over.

    Args:
        models: What is tested; the results lie in the run folder of the first.
        rules: Name of the model whose rules hold for all.
        capital: Capital that was asked for, USD; None where none was.
        data: Settings of the data group that were asked for.
        split: Part of the history.
        baselines: Names of what the models are held against.
        benchmark: What all series are compared with.
    """
    first = models[0]
    parts = [_part_of_run(first)] if "/" in first.name else []
    parts += [f"with {model.name}" for model in models[1:]]
    if rules is not None:
        parts.append(f"rules {rules}")
    if split != "test":
        parts.append(split)
    if capital is not None and capital != first.config.floor.capital:
        parts.append(f"capital {capital:.15g}")
    recorded = flatten(dump_settings(first.config.data), settings_of(DataConfig))
    for name, value in flatten(data or {}, settings_of(DataConfig)).items():
        plain = list(value) if isinstance(value, tuple) else value
        if plain != recorded[name]:
            parts.append(_in_words(name, plain))
    if tuple(baselines) != DEFAULT_BASELINES:
        parts.append(f"against {' '.join(baselines)}")
    if benchmark is not None:
        parts.append(f"benchmark {benchmark}")
    name = "-".join(_slug(part) for part in ["backtest" if len(models) == 1 else "comparison", *parts])
    if len(name) > _MOST_CHARACTERS:
        name = f"{name[: _MOST_CHARACTERS - 9]}-{_digest(name)}"
    return first.record.folder / name


def _part_of_run(model: Model) -> str:
    """Name a checkpoint, or a trial, by its path in the run folder; the one trial of a single run goes without."""
    named = model.checkpoint if model.which == "named" else model.checkpoint.parent
    path = named.relative_to(model.record.folder)
    return "-".join(part for part in path.parts if part != "trial_0" or len(path.parts) == 1)


def _in_words(name: str, value: Any) -> str:
    if name in _FILES and value is not None:  # two files may have one name
        first = value[0] if isinstance(value, list) else value
        return f"{_FILES[name]} {Path(first).name.partition('.')[0]} {_digest(str(value))[:6]}"
    shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{name.rpartition('.')[2]} {shown}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
