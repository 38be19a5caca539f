"""From what the user names to the folder that a policy is loaded from."""

import json
import shutil
from pathlib import Path

import pytest
from sample_runs import SMALL, make_run

import algos.policy
from common.errors import IncompatibleError, InputError
from common.manifests import seal
from experiments.remote.mirror import Mirror
from experiments.runs.models import find_model, find_newest_model, load_policy
from experiments.runs.run import find_run


@pytest.fixture
def loaded(monkeypatch):
    """The folders that policies were loaded from."""
    folders = []
    monkeypatch.setattr(algos.policy, "load_policy", lambda folder: folders.append(Path(folder)))
    return folders


@pytest.fixture
def export(tmp_path):
    """Files as an export has them, sealed."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in ("networks.json", "summary.json", "trader_0.safetensors"):
        (folder / name).write_text(f"{name} as it was written")
    seal(folder)
    return folder


def test_run_at_an_address_acts_by_its_best_checkpoint_and_a_named_one_by_itself(tmp_path, monkeypatch, loaded):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    address, folder = f"file://{tmp_path}/store/dow", tmp_path / "dow"
    make_run(folder)
    (folder / "trial_0").mkdir()
    mirror = Mirror(address, folder, patience_s=0)
    for path in sorted(folder.glob("checkpoint_*")):
        mirror.push_checkpoint(path.rename(folder / "trial_0" / path.name))
    best = folder / "trial_0" / "best_checkpoint"
    mirror.push_checkpoint(shutil.copytree(best.with_name("checkpoint_000002"), best))
    (folder / "summary.json").unlink()
    mirror.push_files()
    shutil.rmtree(folder)
    load_policy(address)
    load_policy(f"{address}/trial_0/checkpoint_000003")
    assert [path.name for path in loaded] == ["best_checkpoint", "checkpoint_000003"]
    assert all(path.is_relative_to(tmp_path / "work") for path in loaded)
    with pytest.raises(InputError, match=rf"{tmp_path}/store/other is neither a run folder nor a checkpoint in one"):
        load_policy(f"file://{tmp_path}/store/other")


@pytest.mark.parametrize("name", ["networks.json", "summary.json", "trader_0.safetensors", "manifest.json", "COMPLETE"])
def test_one_bit_of_any_file_of_an_export_counts(export, loaded, name):
    load_policy(export)
    assert loaded == [export]
    whole = (export / name).read_bytes()
    (export / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(IncompatibleError, match=rf"{export} is damaged, .*: export it again$"):
        load_policy(export)
    if name != "networks.json":
        (export / name).unlink()
        with pytest.raises(IncompatibleError, match=rf"{export} is damaged, {name}: is missing"):
            load_policy(export)
    assert loaded == [export]


def test_export_may_be_passed_on_with_files_of_other_programs_in_it(export, loaded):
    (export / "LICENSE").write_text("mine")
    load_policy(export)
    assert loaded == [export]


def test_export_that_was_never_sealed_is_taken_as_it_is(export, loaded):
    for name in ("manifest.json", "COMPLETE"):
        (export / name).unlink()
    load_policy(export)
    assert loaded == [export]


@pytest.fixture
def search(tmp_path):
    """A search of two trials with other networks than the run's; the second is the best, and ended with another lr."""
    folder = tmp_path / "search"
    make_run(folder, SMALL | {"search": {"num_trials": 2}}, best="trial_00001/checkpoint_000002")
    drawn = {1: ("00000", 16, 1e-4), 2: ("00001", 64, 2e-4), 3: ("00001", 64, 3e-4)}
    for number, (trial, width, lr) in drawn.items():
        checkpoint = folder / f"checkpoint_{number:06d}"
        meta = json.loads((checkpoint / "checkpoint_meta.json").read_text())
        meta["overrides"] = {"qmix.mixing_embed_dim": width, "qmix.lr": lr}
        (checkpoint / "checkpoint_meta.json").write_text(json.dumps(meta))
        seal(checkpoint)
        (folder / f"trial_{trial}").mkdir(exist_ok=True)
        checkpoint.rename(folder / f"trial_{trial}" / checkpoint.name)
    return folder


def networks(config):
    return config.qmix.mixing_embed_dim, config.qmix.lr


def test_model_of_a_search_has_the_settings_that_its_checkpoint_was_trained_with(search):
    assert networks(find_model(search).config) == (64, 2e-4)
    assert networks(find_model(search / "trial_00000").config) == (16, 1e-4)
    assert networks(find_model(search / "trial_00001" / "checkpoint_000003").config) == (64, 3e-4)
    newest = find_newest_model(search)
    assert (newest.name, newest.checkpoint.name, networks(newest.config)) == ("search", "checkpoint_000003", (64, 3e-4))


def test_new_run_takes_over_the_settings_of_the_trial_that_it_comes_from(search):
    words = ["--storage", str(search.parent), "--name", "new"]
    assert networks(find_run([*words, "--load-model", str(search)]).config) == (64, 2e-4)
    branch = find_run([*words, "--branch-from", str(search / "trial_00001")]).config
    assert (networks(branch), branch.search.num_trials) == ((64, 3e-4), 0)


@pytest.mark.parametrize("name", ["env", "storage", "scaling.num_env_runners"])
def test_checkpoint_that_claims_to_have_drawn_anything_else_is_refused(search, name):
    path = search / "trial_00000" / "checkpoint_000001" / "checkpoint_meta.json"
    path.write_text(json.dumps({"overrides": {name: 1}}))
    with pytest.raises(InputError, match=r"checkpoint_meta\.json is damaged: a search draws settings of algorithms"):
        find_model(search / "trial_00000")


def test_checkpoint_of_an_earlier_version_has_the_settings_that_stand_beside_it(search):
    trial = search / "trial_00000"
    (trial / "checkpoint_000001" / "checkpoint_meta.json").write_text(json.dumps({"episode": 1}))
    assert networks(find_model(trial).config) == (32, 5e-4)
    (trial / "params.json").write_text(json.dumps({"overrides": {"qmix.mixing_embed_dim": 64}}))
    assert networks(find_model(trial).config) == (64, 5e-4)
