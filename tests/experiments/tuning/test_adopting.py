"""How a branch takes its parent's checkpoint into its own folder."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from sample_runs import make_run

from common.errors import InputError
from common.files import WriteError
from common.manifests import find_damage, seal
from experiments.recovery.names import BRANCH_FOLDER
from experiments.runs.models import find_model
from experiments.tuning import branching


@pytest.fixture
def parent(tmp_path):
    """A checkpoint of a run."""
    make_run(tmp_path / "parent")
    checkpoint = tmp_path / "parent" / "checkpoint_000002"
    meta = {"episode": 2, "total_steps": 200, "weights_sha256": "ab"}
    (checkpoint / "checkpoint_meta.json").write_text(json.dumps(meta))
    (checkpoint / "learner" / "replay").mkdir(parents=True)
    (checkpoint / "learner" / "replay" / "segment").write_bytes(b"x" * 1000)
    seal(checkpoint)
    return find_model(checkpoint)


@pytest.fixture
def branch(tmp_path):
    return tmp_path / "branch"


@pytest.fixture
def no_links(monkeypatch):
    """The branch is on another file system than its parent."""

    def link(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)


def broken(code):
    def copy(source, target, **_):
        raise OSError(code, os.strerror(code), source)

    return copy


def test_checkpoint_is_linked(parent, branch, tmp_path):
    (told,) = branching.adopt(branch, parent)
    adopted = tmp_path / "branch" / BRANCH_FOLDER
    assert told["checkpoint"] == "checkpoint_000002"
    assert find_damage(adopted) == []
    assert all(os.path.samefile(path, parent.checkpoint / path.name) for path in adopted.glob("*.json"))
    assert os.listdir(tmp_path / "branch") == [BRANCH_FOLDER]


def test_checkpoint_is_copied_to_another_file_system(parent, branch, tmp_path, no_links):
    branching.adopt(branch, parent)
    adopted = tmp_path / "branch" / BRANCH_FOLDER
    assert find_damage(adopted) == []
    assert not any(os.path.samefile(path, parent.checkpoint / path.name) for path in adopted.glob("*.json"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_disk_that_does_not_take_the_checkpoint_is_named_as_the_reason(
    parent, branch, tmp_path, no_links, monkeypatch, code
):
    monkeypatch.setattr(shutil, "copyfile", broken(code))
    with pytest.raises(WriteError) as caught:
        branching.adopt(branch, parent)
    target = tmp_path / "branch" / BRANCH_FOLDER
    assert str(caught.value) == f"cannot copy {parent.checkpoint} to {target}: {os.strerror(code)}"
    assert caught.value.errno == code
    assert os.listdir(tmp_path / "branch") == []


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_checkpoint_that_is_deleted_meanwhile_has_vanished(parent, branch, tmp_path, monkeypatch, moment):
    real = os.link

    def link(source, target):
        shutil.rmtree(parent.checkpoint)
        return real(source, target)

    if moment == "before":
        shutil.rmtree(parent.checkpoint)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InputError, match="checkpoint_000002 has vanished while it was copied: name another checkpoint"):
        branching.adopt(branch, parent)
    assert os.listdir(tmp_path / "branch") == []


def test_checkpoint_that_changes_meanwhile_is_refused(parent, branch, tmp_path, monkeypatch):
    real = branching.copy_into

    def copy(staged, source, **how):
        (source / "learner" / "replay" / "segment").write_bytes(b"y" * 1000)
        real(staged, source, **how)

    monkeypatch.setattr(branching, "copy_into", copy)
    with pytest.raises(InputError, match="has changed while it was copied, learner/replay/segment: has other content"):
        branching.adopt(branch, parent)
    assert os.listdir(tmp_path / "branch") == []


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_kill_leaves_no_record_of_an_earlier_attempt_beside_the_adopted_checkpoint(
    parent, branch, tmp_path, monkeypatch, call
):
    """By which the same command would be held to the settings of that attempt."""
    record = tmp_path / "branch" / "config.json"
    record.parent.mkdir()
    record.write_text("{}")
    real = getattr(os, call)

    def killed(path, *rest, **options):
        real(path, *rest, **options)
        if record.parent in Path(path).parents:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, call, killed)
    with pytest.raises(KeyboardInterrupt):
        branching.adopt(branch, parent)
    assert not (record.exists() and (tmp_path / "branch" / BRANCH_FOLDER).exists())
