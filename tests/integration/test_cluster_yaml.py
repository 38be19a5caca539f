"""cluster.yaml against Ray's own checks: what `ray up` would refuse, this refuses."""

import copy
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.providers import _get_default_config
from ray.autoscaler._private.util import prepare_config, validate_config

PATH = Path(__file__).resolve().parents[2] / "cluster.yaml"


@pytest.fixture
def config():
    return yaml.safe_load(PATH.read_text())


def test_passes_the_checks_of_ray_up(config):
    validate_config(prepare_config(config))


@pytest.mark.parametrize(
    "path",
    [
        ("max_workers",),
        ("idle_timeout_minutes",),
        ("available_node_types", "learner", "node_config"),
        ("setup_commands",),
        ("worker_start_ray_commands",),
    ],
)
def test_misspelt_key_is_refused(config, path):
    broken = copy.deepcopy(config)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        validate_config(prepare_config(broken))


def test_unknown_head_type_is_refused(config):
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(config | {"head_node_type": "haed"}))


def test_more_min_workers_than_max_is_refused(config):
    config["available_node_types"]["learner"]["min_workers"] = 11
    config["available_node_types"]["learner"]["max_workers"] = 11
    with pytest.raises(ValueError, match="max_workers"):
        validate_config(prepare_config(config))


def test_leaves_no_default_of_ray_to_chance(config):
    assert set(_get_default_config(config["provider"])) <= set(config)


def test_prepared_config_installs_no_wheel_of_rays_choosing(config):
    prepared = prepare_config(config)
    commands = " ".join(map(str, prepared["setup_commands"] + prepared["head_setup_commands"]))
    assert "ray-wheels" not in commands
    assert "trading-floor/install.py --cluster" in commands


def test_head_is_on_demand_learners_have_gpus_and_env_runners_are_spot(config):
    types = config["available_node_types"]
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert "InstanceMarketOptions" not in types["learner"]["node_config"]
    assert types["learner"]["resources"]["GPU"] >= 1
    assert types["env_runner"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_no_command_holds_a_comment_that_would_swallow_what_ray_appends(config):
    commands = [command for key, value in config.items() if key.endswith("commands") for command in value]
    assert commands
    assert [command for command in commands if "#" in command] == []


def test_the_run_that_it_shows_keeps_its_results_in_a_bucket_that_every_role_may_use(config):
    text = PATH.read_text()
    assert "--storage s3://" in text
    for node_type in config["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Name"].startswith("trading-floor-")


def test_every_provider_key_is_one_that_ray_reads(config):
    """Ray's schema lets any key of the provider pass."""
    folder = Path(ray.autoscaler.__file__).parent
    source = "".join(path.read_text() for path in folder.rglob("*.py"))
    unread = [key for key in config["provider"] if f'"{key}"' not in source]
    assert unread == []
