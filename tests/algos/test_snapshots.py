"""A checkpoint is of one instant, is read network by network, and says what it lacks."""

import os
import pickle
import shutil

import numpy as np
import pytest
from ray.rllib.core.rl_module.rl_module import RLModule
from teams import floor_env, ppo_config, qmix_config, to_own

from algos.export import without_deprecations
from algos.policy import by_full_name, flat_weights
from algos.snapshots import ALGORITHM_FILE, MODULE_FILE, MODULES_FOLDER, read_algorithm_state, read_module_states
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


def test_networks_lie_where_rllib_reads_them(team, folder):
    for module_id, wanted in read_module_states(folder).items():
        with without_deprecations():
            module = RLModule.from_checkpoint(str(folder / "learner_group" / "learner" / "rl_module" / module_id))
        assert same(module.get_state(), wanted)


def test_folder_without_weights_is_refused(folder):
    shutil.rmtree(folder / MODULES_FOLDER)
    with pytest.raises(IncompatibleError, match="holds no weights"):
        read_module_states(folder)


def test_file_that_is_cut_or_missing_is_refused_by_its_name(team, folder):
    path = next((folder / MODULES_FOLDER).glob(f"*/{MODULE_FILE}"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(IncompatibleError, match=rf"{MODULE_FILE} cannot be read"):
        read_module_states(folder)
    (folder / ALGORITHM_FILE).unlink()
    with pytest.raises(IncompatibleError, match=rf"{ALGORITHM_FILE} cannot be read \(FileNotFoundError"):
        read_algorithm_state(folder)
    with pytest.raises(IncompatibleError, match=ALGORITHM_FILE):
        team.load_checkpoint(str(folder))


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
    for name in names - {ALGORITHM_FILE}:  # that one holds times
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
    assert all(pickle.loads(d["class_and_ctor_args.pkl"])["class"].__name__ for d in first.values())
