"""The file of the best settings is all that a run of its own needs to train as the best trial has."""

import pytest
import yaml
from sample_runs import train_run

from experiments.runs.run import find_run
from experiments.search.spaces import settings_of_training
from experiments.settings.fields import settings_of, value_of
from experiments.settings.layers import merge, nested
from experiments.settings.run_config import RunConfig, config_from_json, config_to_json

OF_NO_TRIAL = (
    "name", "storage", "preset", "config", "keep", "max_failures", "search.num_trials", "scaling.floor_device",
)  # fmt: skip
SEARCH = [
    *("--algo", "mappo", "--network", "gru", "--mappo.hidden", "32", "--mappo.grad-clip", "None", "--seed", "3"),
    *("--episodes", "64", "--checkpoint-metric", "return", "--scaling.num-envs-per-env-runner", "8"),
    *("--floor.costs.half-spread-bps", "2", "--keep", "9", "--max-failures", "0", "--scaling.floor-device", "cpu"),
    *("--name", "many", "--storage", "elsewhere", "--search.num-trials", "4"),
]
DRAWN = {"mappo.lr": 1e-3, "mappo.lambda_": 0.95, "mappo.num_epochs": 5}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found_again(config, overrides, path):
    """The settings of a run that is given the file of the best ones, and nothing else."""
    path.write_text(yaml.safe_dump(settings_of_training(config, overrides)))
    return find_run(["--config", str(path)]).config


def differing(one, other):
    return {name for name in settings_of(RunConfig) if value_of(one, name) != value_of(other, name)}


def test_best_settings_hold_what_was_fixed_by_hand_and_by_a_preset(tmp_path):
    (tmp_path / "mine.yaml").write_text("desk: {num_agents: 2}\nqmix: {lr: 0.1}\n")
    config = find_run([*SEARCH, "--preset", "dow", "--config", "mine.yaml"]).config
    trial = config_from_json(merge(config_to_json(config), nested(DRAWN)))
    found = found_again(config, DRAWN, tmp_path / "best.yaml")
    assert differing(found, trial) == {*OF_NO_TRIAL, "qmix.lr"}, "another algorithm's settings decide nothing"
    assert settings_of_training(config, DRAWN)["mappo"].items() >= {"lr": 1e-3, "lambda_": 0.95}.items()


def test_best_settings_hold_those_that_were_set_back_where_weights_are_loaded(tmp_path):
    train_run(tmp_path / "old", config_from_json({"algo": "ppo", "ppo": {"gamma": 0.9}, "floor": {"horizon_bars": 20}}))
    words = ["--load-model", "old", "--ppo.gamma", "0.99", "--search.num-trials", "2"]
    config = find_run(words).config
    found = found_again(config, {"ppo.lr": 1e-3}, tmp_path / "best.yaml")
    assert (found.ppo.gamma, found.ppo.lr, found.load_model) == (0.99, 1e-3, str(tmp_path / "old"))


def test_best_settings_of_an_environment_of_ones_own_name_it(tmp_path):
    words = ["--env", "foreign_envs:GymWalk", "--env-settings", "pay=2", "--algo", "ppo", "--search.num-trials", "2"]
    config = find_run(words).config
    found = found_again(config, {"ppo.lr": 1e-3}, tmp_path / "best.yaml")
    assert differing(found, config) == {"config", "search.num_trials", "ppo.lr"}
