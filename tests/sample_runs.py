"""Run folders without training, and policies that follow a script."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.manifests import seal
from envs.agents import describe_agents
from envs.market import Market, build_market
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.runs.record import write_run_record
from experiments.settings.layers import merge
from experiments.settings.run_config import RunConfig, config_from_json, config_to_json, floor_spec

SMALL = {
    "checkpoint_interval_s": 0.0,
    "data": {"synthetic": {"num_assets": 4, "num_bars": 400}},
    "floor": {"capital": 1e6, "horizon_bars": 20},
}


class ScriptedPolicy:
    """Takes rungs from a counted draw, the same at every pass."""

    def __init__(self, num_rungs: int = 5, seed: int = 0):
        self._num_rungs, self._seed = num_rungs, seed
        self.reset()

    def reset(self) -> None:
        self._step = 0

    def act(self, obs, action_mask=None):
        self._step += 1
        rng = np.random.default_rng([self._seed, self._step])
        return torch.from_numpy(rng.integers(self._num_rungs, size=obs.shape[:2]))


def config_of(algo: str, **settings) -> RunConfig:
    """A small run of an algorithm."""
    return config_from_json(merge(merge(SMALL, {"algo": algo}), settings))


def write_record(folder: Path, config: RunConfig) -> Market:
    """Write the record of a run of a config, as a command does that starts it; returns its market."""
    market = build_market(floor_spec(config))
    write_run_record(
        folder,
        config=config_to_json(config),
        provenance={"data_fingerprint": market.bars.fingerprint},
        scaler=market.scaler.to_json(),
        agents=describe_agents(market.mandates),
    )
    return market


def train_run(folder: Path, config: RunConfig, *, iterations: int = 3) -> RunConfig:
    """Train a little without Tune, and write a run folder with one checkpoint, which is the best."""
    from experiments.tuning.run_trainable import algorithm_class

    config = replace(config, name=folder.name, storage=str(folder.parent))
    market = write_record(folder, config)
    trainable = algorithm_class(config)({"run": config_to_json(config), "scaler": market.scaler.to_json()})
    for _ in range(iterations):
        trainable.train()
    trainable._is_best = True
    path = TrialCheckpoints(folder / "trial_0").publish(lambda staged: trainable.save_checkpoint(str(staged)))
    trainable.stop()
    shutil.rmtree(trainable.logdir, ignore_errors=True)
    summary = {"status": "complete", "episodes": trainable.num_episodes, "latest_checkpoint": f"trial_0/{path.name}"}
    (folder / "summary.json").write_text(json.dumps(summary | {"best_checkpoint": f"trial_0/{path.name}"}))
    return config


def make_run(folder: Path, settings: dict | None = None, *, best: str | None = "checkpoint_000002") -> RunConfig:
    """Write a run folder with two checkpoints that hold nothing but their meta."""
    config = config_from_json((settings or SMALL) | {"name": folder.name, "storage": str(folder.parent)})
    write_record(folder, config)
    for i in (1, 2, 3):
        checkpoint = folder / f"checkpoint_{i:06d}"
        checkpoint.mkdir()
        meta = {"episode": i, "total_steps": 100 * i, "is_best": checkpoint.name == best}
        (checkpoint / "checkpoint_meta.json").write_text(json.dumps(meta))
        seal(checkpoint)
    summary = {"status": "complete", "latest_checkpoint": "checkpoint_000003", "best_checkpoint": best}
    (folder / "summary.json").write_text(json.dumps(summary))
    return config
