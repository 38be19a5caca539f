"""Weights of a trained run in another one, and what has to fit for that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm

from algos.off_policy import OffPolicyTeam
from algos.policy import layout_differences, read_layout, team_layout
from algos.registry import RENAMED
from algos.snapshots import read_module_states
from common.errors import IncompatibleError
from common.manifests import find_damage
from experiments.recovery.checkpoints import require_meta
from experiments.runs.models import find_sound_model


def load_weights(algorithm: Algorithm, source: str) -> None:
    """Take over the weights of a trained run, and the scale of rewards that its values are in units of.

    Optimisers, counters and buffers start anew.

    Args:
        algorithm: The fresh algorithm.
        source: Run folder or checkpoint.

    Raises:
        IncompatibleError: if the trained team differs from this one.
    """
    folder = find_sound_model(source).checkpoint
    require_fit(algorithm, folder)
    state = read_module_states(folder)
    algorithm.learner_group.set_state({"learner": {"rl_module": state}})
    if isinstance(algorithm, OffPolicyTeam):
        algorithm.load_reward_scale(folder)
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)


def non_finite_weights(weights: Mapping[str, Any]) -> str:
    """Say which weights are NaN or infinite; empty where none is."""
    bad = [name for name, value in sorted(weights.items()) if not np.isfinite(value).all()]
    return f"{len(bad)} weights are NaN or infinite, the first of them {bad[0]}; lower lr" if bad else ""


def require_fit(algorithm: Any, checkpoint: Path) -> None:
    """Refuse a checkpoint of another team.

    Raises:
        IncompatibleError: saying what differs, the algorithm first.
    """
    differences = layout_differences(read_layout(checkpoint), team_layout(algorithm))
    if not differences:
        return
    algo = require_meta(checkpoint).get("algo")
    trained_by = None if algo is None else RENAMED.get(algo, algo)
    if trained_by not in (None, algorithm.run.algo):
        differences.insert(0, f"it was trained by {trained_by}, this run trains by {algorithm.run.algo}")
    raise IncompatibleError(f"{checkpoint} does not fit this run: {'; '.join(differences)}")


def require_whole(checkpoint: Path, *, remedy: str) -> Path:
    """Give back a checkpoint of which every byte is as written.

    Raises:
        IncompatibleError: if it is damaged, with what to do.
    """
    if damage := find_damage(checkpoint):
        raise IncompatibleError(f"{checkpoint} is damaged, {damage[0]}: {remedy}")
    return checkpoint
