import errno
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from common import manifests
from common.disk import Written
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage, folder_bytes, seal
from experiments.recovery.checkpoints import TrialCheckpoints


@pytest.fixture
def sealed(tmp_path):
    """A folder such as RLlib writes: components in folders, some files of no size."""
    folder = tmp_path / "checkpoint_000003"
    (folder / "learner_group" / "learner").mkdir(parents=True)
    (folder / "env_runner").mkdir()
    (folder / "algorithm_state.pkl").write_bytes(b"counters" * 100)
    (folder / "learner_group" / "learner" / "state.pkl").write_bytes(bytes(range(256)) * 40)
    (folder / "env_runner" / "state.pkl").write_bytes(b"connectors")
    (folder / "note").write_bytes(b"")
    seal(folder)
    return folder


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "missing component": (lambda f: shutil.rmtree(f / "learner_group"), "learner_group/learner/state.pkl: is missing"),
    "missing file": (lambda f: (f / "note").unlink(), "note: is missing"),
    "truncated file": (lambda f: os.truncate(f / "algorithm_state.pkl", 100), "has 100 bytes instead of 800"),
    "empty file": (lambda f: os.truncate(f / "env_runner" / "state.pkl", 0), "has 0 bytes instead of 10"),
    "flipped bit": (lambda f: flip(f / "learner_group" / "learner" / "state.pkl", 5000), "SHA-256 differs"),
    "grown file": (lambda f: (f / "note").write_text("x"), "has 1 bytes instead of 0"),
    "extra file": (
        lambda f: (f / "env_runner" / "old.pkl").write_text("x"),
        "env_runner/old.pkl: does not belong here",
    ),
    "link to nowhere": (
        lambda f: ((f / "note").unlink(), (f / "note").symlink_to(f / "nowhere")),
        "note: is a link, or no file",
    ),
    "no manifest": (lambda f: (f / MANIFEST_FILE).unlink(), "never completed, or half deleted"),
    "no marker": (lambda f: (f / MARKER_FILE).unlink(), "never completed, or half deleted"),
    "empty manifest": (lambda f: os.truncate(f / MANIFEST_FILE, 0), "does not match its marker"),
    "cut manifest": (lambda f: os.truncate(f / MANIFEST_FILE, 50), "does not match its marker"),
    "empty marker": (lambda f: os.truncate(f / MARKER_FILE, 0), "does not match its marker"),
    "flipped marker": (lambda f: (f / MARKER_FILE).write_bytes(b"\xff" * 64), "does not match its marker"),
    "marker is a folder": (
        lambda f: ((f / MARKER_FILE).unlink(), (f / MARKER_FILE).mkdir()),
        "COMPLETE: is a link, or no file",
    ),
    "missing folder": (shutil.rmtree, ".: is missing"),
    "file in its place": (lambda f: (shutil.rmtree(f), f.write_text("x")), ".: is missing"),
}


def test_sealed_folder_is_whole_wherever_it_is(sealed, tmp_path):
    assert find_damage(sealed) == []
    assert find_damage(sealed.rename(tmp_path / "elsewhere")) == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(sealed, kind):
    hurt, words = DAMAGE[kind]
    hurt(sealed)
    damage = find_damage(sealed)
    assert damage
    assert words in "; ".join(damage)


def test_every_bit_of_every_file_counts(sealed):
    for path in [p for p in sorted(sealed.rglob("*")) if p.is_file()]:
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            flip(path, at)
            assert find_damage(sealed), f"bit 0 of byte {at} of {path.name}"
            path.write_bytes(whole)
    assert find_damage(sealed) == []


def test_half_deleted_folder_is_found_at_every_step(sealed):
    files = [p for p in sorted(sealed.rglob("*")) if p.is_file()]
    for path in files:
        path.unlink()
        assert find_damage(sealed), path.name


def test_all_damage_is_listed(sealed):
    os.truncate(sealed / "algorithm_state.pkl", 1)
    (sealed / "note").unlink()
    (sealed / "new").write_text("x")
    assert {damage.partition(":")[0] for damage in find_damage(sealed)} == {"algorithm_state.pkl", "note", "new"}


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_damage(sealed, what):
    path = sealed / "algorithm_state.pkl" if what == "file" else sealed
    path.chmod(0)
    try:
        assert "cannot be read" in find_damage(sealed)[0]
    finally:
        path.chmod(stat.S_IRWXU)


def test_file_that_the_disk_cannot_read_is_damage(sealed, monkeypatch):
    def broken(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(manifests, "file_sha256", broken)
    assert "cannot be read (Input/output error)" in find_damage(sealed)[0]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize("place", ["file_sha256", "_walk"])
def test_what_cannot_be_read_now_is_neither_damaged_nor_set_aside(sealed, monkeypatch, code, place):
    def unread(*_):
        raise OSError(code, os.strerror(code), str(sealed))

    with monkeypatch.context() as patch:
        patch.setattr(manifests, place, unread)
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            TrialCheckpoints(sealed.parent).newest_whole()
    assert TrialCheckpoints(sealed.parent).newest_whole() == sealed


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """What the system is asked to write and to bring to disk, by name, in order."""
    found = {"writev": [], "fsync": []}

    def recorded(name):
        real = getattr(os, name)

        def call(handle, *args):
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            found[name].append(path.relative_to(tmp_path).as_posix())
            return real(handle, *args)

        return call

    for name in found:
        monkeypatch.setattr(os, name, recorded(name))
    return found


def test_marker_is_written_last(tmp_path, calls):
    (tmp_path / "a").write_text("x")
    seal(tmp_path)
    assert calls["writev"] == [MANIFEST_FILE, MARKER_FILE]


def test_everything_is_brought_to_disk(tmp_path, calls):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    seal(tmp_path)
    brought = calls["fsync"]
    assert brought.index("a/b") < brought.index(MANIFEST_FILE) < brought.index(MARKER_FILE)
    assert set(brought) == {"a", "a/b", ".", MANIFEST_FILE, MARKER_FILE}


def test_written_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OSError, match="the disk does not hold what was written"):
        seal(tmp_path, written={"lost": Written(1, "0" * 64)})
    assert not (tmp_path / MARKER_FILE).exists()


def test_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 10)
    (tmp_path / "c").write_bytes(b"x" * 5)
    assert folder_bytes(tmp_path) == 15


def linked_copy(folder, name):
    copy = folder.with_name(name)
    shutil.copytree(folder, copy, copy_function=os.link, ignore=shutil.ignore_patterns(MANIFEST_FILE, MARKER_FILE))
    return copy


def test_what_two_folders_share_is_not_read_again(sealed, monkeypatch):
    copy = linked_copy(sealed, "checkpoint_000004")
    (copy / "note").unlink()
    (copy / "note").write_bytes(b"new")
    read = []
    monkeypatch.setattr(
        manifests, "file_sha256", lambda path, hashed=manifests.file_sha256: (read.append(path.name), hashed(path))[1]
    )
    seal(copy, previous=sealed)
    assert read == ["note"]
    monkeypatch.undo()
    assert find_damage(copy) == []


def test_damage_to_what_two_folders_share_is_damage_to_both(sealed):
    flip(sealed / "algorithm_state.pkl", 3)
    copy = linked_copy(sealed, "checkpoint_000004")
    seal(copy, previous=sealed)
    for folder in (sealed, copy):
        assert find_damage(folder) == ["algorithm_state.pkl: has other content than was written (SHA-256 differs)"]


def test_a_predecessor_that_is_gone_or_damaged_is_not_relied_on(sealed):
    copy = linked_copy(sealed, "checkpoint_000004")
    (sealed / MANIFEST_FILE).write_text("{")
    seal(copy, previous=sealed)
    assert find_damage(copy) == []
    other = linked_copy(copy, "checkpoint_000005")
    seal(other, previous=copy.with_name("gone"))
    assert find_damage(other) == []
