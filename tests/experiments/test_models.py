"""From what the user names to the folder that a policy is loaded from."""

from pathlib import Path

import pytest

import algos.policy
from algos.errors import IncompatibleError
from experiments.models import load_policy
from experiments.recovery.manifests import seal


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


def test_export_that_was_never_sealed_is_taken_as_it_is(export, loaded):
    for name in ("manifest.json", "COMPLETE"):
        (export / name).unlink()
    load_policy(export)
    assert loaded == [export]
