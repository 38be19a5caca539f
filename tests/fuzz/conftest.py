"""Small trained models, each made once."""

import os
import resource

import pytest
from sample_runs import config_of, train_run

from common import memory
from experiments.runs.exports import export_model

_TEAM = {"num_envs_per_env_runner": 4, "hidden": (8,)}
_SETTINGS = {
    "qmix": {"qmix": {**_TEAM, "learning_starts": 16, "hypernet_hidden": 8, "mixing_embed_dim": 4}},
    "ppo": {"ppo": {**_TEAM, "train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 1}},
    "sac": {"desk": {"action": "continuous"}, "sac": {**_TEAM, "num_envs_per_env_runner": 1, "learning_starts": 1000}},
}


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch):
    """Thousands of folders are sealed, and none has to outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    """A small machine: what would not fit is to be refused, and ends the test where it is not."""
    monkeypatch.setattr(memory, "total_bytes", lambda: 1 << 30)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (16 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, ray_session):
    """Run folders by algorithm, and beside each what was exported of it."""
    folder = tmp_path_factory.mktemp("models")
    for algo, settings in _SETTINGS.items():
        train_run(folder / algo, config_of(algo, **settings), iterations=2)
        export_model(str(folder / algo), str(folder / f"{algo}-export"))
    return folder
