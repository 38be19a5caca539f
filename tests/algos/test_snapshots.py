"""A checkpoint is of one instant, is read network by network, and says what it lacks."""

import json
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from teams import floor_env, ppo_config, qmix_config, to_own

from algos.policy import by_full_name, flat_weights
from algos.snapshots import MODULES_FILE, WEIGHTS_FILE, _weight_name, load_modules, read_module_states
from algos.states import ARRAYS_FILE, STATE_FILE
from common.errors import IncompatibleError
from common.manifests import file_sha256
from envs.rllib import TradingEnv

pytestmark = pytest.mark.usefixtures("ray_session")


def separate():
    agents = TradingEnv(floor_env()).possible_agents
    config = ppo_config(floor_env(), shared=None)
    return config.multi_agent(policies=set(agents), policy_mapping_fn=to_own)


@pytest.fixture(scope="module")
def team(ray_session):
    algorithm = separate().build_algo()
    algorithm.train()
    yield algorithm
    algorithm.stop()


@pytest.fixture
def folder(team, tmp_path):
    team.save_checkpoint(str(tmp_path / "checkpoint"))
    return tmp_path / "checkpoint"


@pytest.fixture(autouse=True)
def made(tmp_path):
    (tmp_path / "checkpoint").mkdir()


def umask():
    found = os.umask(0)
    os.umask(found)
    return found


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_weights_are_read_network_by_network(team, folder):
    states = read_module_states(folder)
    assert set(states) == set(team.config.policies)
    assert same(by_full_name(states), flat_weights(team))


def test_networks_are_built_again_with_their_weights(team, folder):
    modules, states = load_modules(folder), read_module_states(folder)
    assert set(modules) == set(states)
    for module_id, module in modules.items():
        assert same(module.get_state(), states[module_id])
        assert not module.training


@pytest.mark.parametrize("name", [WEIGHTS_FILE, MODULES_FILE])
def test_folder_without_weights_is_refused(folder, name):
    (folder / name).unlink()
    for read in (read_module_states, load_modules):
        with pytest.raises(IncompatibleError, match=rf"{name} cannot be read"):
            read(folder)


def test_file_that_is_cut_or_missing_is_refused_by_its_name(team, folder):
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(IncompatibleError, match=rf"{WEIGHTS_FILE} cannot be read"):
        read_module_states(folder)
    (folder / STATE_FILE).unlink()
    with pytest.raises(IncompatibleError, match=rf"{STATE_FILE} cannot be read \(FileNotFoundError"):
        team.load_checkpoint(str(folder))


@pytest.mark.parametrize("change", ["drop a weight", "add a weight", "drop a network", "other shape", "other class"])
def test_weights_of_other_networks_are_refused(team, folder, change):
    tensors, described = load_file(folder / WEIGHTS_FILE), json.loads((folder / MODULES_FILE).read_text())
    name, module_id = min(tensors), min(described)
    if change == "drop a weight":
        del tensors[name]
    elif change == "add a weight":
        tensors[f"{name}.more"] = tensors[name]
    elif change == "drop a network":
        del described[module_id]
    elif change == "other shape":
        tensors[name] = tensors[name][..., :-1].copy()
    else:
        described[module_id]["class"] = "Popen"
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / MODULES_FILE).write_text(json.dumps(described))
    with pytest.raises(IncompatibleError, match=re.escape(str(folder))):
        load_modules(folder)


def test_module_ids_of_any_characters_are_told_apart():
    names = {_weight_name(m, w) for m in ("a", "a/b", "a%2Fb", "../x", "ü") for w in ("c", "b/c")}
    assert len(names) == 10
    assert {name.partition("/")[0] for name in names} == {"a", "a%2Fb", "a%252Fb", "..%2Fx", "%C3%BC"}


def test_snapshot_is_of_its_instant_although_training_goes_on_before_it_is_written(tmp_path):
    algorithm = qmix_config(floor_env(), seed=3).build_algo()
    for _ in range(3):
        algorithm.train()
    algorithm.save_checkpoint(str(tmp_path / "checkpoint"))
    taken, weights = algorithm.snapshot(), flat_weights(algorithm)
    for _ in range(3):
        algorithm.train()
    later = tmp_path / "later"
    later.mkdir()
    written = taken.write(later)
    assert not same(flat_weights(algorithm), weights), "it has learned meanwhile"
    assert same(by_full_name(read_module_states(later)), weights)
    names = {path.relative_to(later).as_posix() for path in later.rglob("*") if path.is_file()}
    for name in names - {STATE_FILE, ARRAYS_FILE}:  # they hold times
        assert (later / name).read_bytes() == (tmp_path / "checkpoint" / name).read_bytes(), name
    assert names == set(written), "the first save links nothing"
    assert {path.stat().st_mode & 0o777 for path in later.rglob("*") if path.is_file()} == {0o666 & ~umask()}
    algorithm.stop()


def test_what_was_written_through_is_what_its_hash_says(team, tmp_path):
    written = team.snapshot().write(tmp_path / "checkpoint")
    for name, (size, sha256) in written.items():
        path = tmp_path / "checkpoint" / name
        assert (path.stat().st_size, file_sha256(path)) == (size, sha256)


def parts(state, path=()):
    """Every leaf of a state, by where it lies."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else None
    return {path: state} if items is None else {k: v for n, s in items for k, v in parts(s, (*path, n)).items()}


@pytest.mark.parametrize("config", [qmix_config, ppo_config], ids=["qmix", "ppo"])
@pytest.mark.parametrize("runners", [0, 1])
def test_it_holds_all_that_rllib_tells(config, runners):
    algorithm = config(floor_env()).env_runners(num_env_runners=runners).build_algo()
    for _ in range(3):
        algorithm.train()
    found, wanted = parts(algorithm._whole_state()), parts(algorithm.get_state())
    algorithm.stop()
    assert found.keys() == wanted.keys()
    assert len(found) > 50
    for path, value in wanted.items():
        if "throughput" not in str(path):  # which passes with the time
            np.testing.assert_array_equal(found[path], value, err_msg=str(path))
            assert (type(found[path]), np.asarray(found[path]).dtype) == (type(value), np.asarray(value).dtype), path


def test_description_of_a_network_is_asked_for_once(team):
    first = team._describe_modules()
    assert team._describe_modules() is first
    assert {d["class"] for d in json.loads(first).values()} == {"MaskedPPOModule"}
