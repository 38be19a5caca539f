"""A copy of a folder is the old one or the new one, whenever it is cut short."""

import errno
import os
import shutil

import pytest
from trials import folder_of

from experiments.recovery import copies
from experiments.recovery.copies import copy_folder, mend_copy


def test_copy_replaces_the_whole_folder(tmp_path):
    source, target = folder_of(tmp_path / "new", a="2"), folder_of(tmp_path / "best", a="1", b="1")
    copy_folder(source, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "new"]


@pytest.mark.parametrize("cut", ["fill_folder", "rename", "rename again"])
def test_copy_that_is_cut_short_leaves_the_old_one(tmp_path, monkeypatch, cut):
    source, target = folder_of(tmp_path / "new", a="2"), folder_of(tmp_path / "best", a="1")
    place, name = (copies, "fill_folder") if cut == "fill_folder" else (copies.os, "rename")
    real, calls = getattr(place, name), []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == (2 if cut == "rename again" else 1):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(KeyboardInterrupt):
            copy_folder(source, target)
    mend_copy(target)
    assert (target / "a").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "new"]
    copy_folder(source, target)
    assert (target / "a").read_text() == "2"


def test_old_copy_goes_only_when_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    source, target = tmp_path / "new", folder_of(tmp_path / "best", a="1")
    folder_of(source / "below", b="2")
    folder_of(source / "replay", c="3")
    (source / "a").write_text("2")
    done = []
    real_fsync, real_delete = os.fsync, shutil.rmtree
    monkeypatch.setattr(
        os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), real_fsync(handle))
    )
    monkeypatch.setattr(shutil, "rmtree", lambda path, **kw: (done.append(f"delete {path}"), real_delete(path, **kw)))
    copy_folder(source, target)
    staged = tmp_path / ".best.new"
    before = done[: done.index(f"delete {tmp_path / '.best.old'}", 2)]
    assert {str(staged / name) for name in ("a", "below/b", "below", "replay")} | {str(staged), str(tmp_path)} <= set(
        before
    )
    assert before[-1] == str(tmp_path), "the new name last"
    assert os.stat(target / "replay" / "c").st_ino == os.stat(source / "replay" / "c").st_ino, "shared"
    assert os.stat(target / "a").st_ino != os.stat(source / "a").st_ino


def test_copy_for_which_there_is_no_room_shares_its_files(tmp_path, monkeypatch):
    source, target = folder_of(tmp_path / "new" / "below", a="2").parent, folder_of(tmp_path / "best", a="1")
    real = copies.fill_folder

    def full(folder, contents, links):
        if contents:
            (folder / "half").write_text("")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(folder, contents, links)

    monkeypatch.setattr(copies, "fill_folder", full)
    copy_folder(source, target)
    assert [path.relative_to(target).as_posix() for path in sorted(target.rglob("*"))] == ["below", "below/a"]
    assert os.stat(target / "below" / "a").st_ino == os.stat(source / "below" / "a").st_ino
