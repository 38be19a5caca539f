import errno
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from drafts import LARGE, noise, snapshot

from algos.replay_files import ReplaySnapshot
from algos.snapshots import Snapshot
from common.disk import BLOCK, fill_folder
from experiments.recovery import writer as scribe_module
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.manifests import find_damage
from experiments.recovery.writer import Scribe

FULL = scribe_module._WINDOW


def files(folder):
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if name not in ("manifest.json", "COMPLETE")}


def test_checkpoint_holds_what_the_snapshot_held(scribe, checkpoints):
    contents = {"a": noise(200_000), "deep__er__b": b"", "deep__c": noise(70), "d": noise(1 << 20, 1)}
    path, failed = scribe.publish(scribe.take(checkpoints, snapshot(**contents)))
    assert (path, failed) == (checkpoints.folder / "checkpoint_000000", None)
    assert {name: file.read_bytes() for name, file in files(path).items()} == {
        name.replace("__", "/"): content for name, content in contents.items()
    }
    assert find_damage(path) == []


def test_it_is_what_writing_it_here_gives(scribe, checkpoints, tmp_path):
    taken = snapshot(a=noise(3_000_000), deep__b=noise(10, 1))
    here = tmp_path / "here"
    here.mkdir()
    settled = fill_folder(here, taken.contents(), taken.links())
    path, _ = scribe.publish(scribe.take(checkpoints, taken))
    assert {n: f.read_bytes() for n, f in files(path).items()} == {n: f.read_bytes() for n, f in files(here).items()}
    assert {name: size for name, (size, _) in settled.items()} == {n: f.stat().st_size for n, f in files(path).items()}


def test_files_of_the_checkpoint_before_are_linked(scribe, checkpoints):
    first, _ = scribe.publish(scribe.take(checkpoints, snapshot(replay__x=noise(1000), y=b"1")))
    replay = ReplaySnapshot(index={}, new={}, known={"x": f"{first}/replay/x"})
    second, _ = scribe.publish(scribe.take(checkpoints, Snapshot({"y": b"2"}, replay=replay), previous=first))
    assert (first / "replay" / "x").stat().st_ino == (second / "replay" / "x").stat().st_ino
    assert find_damage(second) == []
    replay.known["gone"] = f"{first}/replay/gone"
    with pytest.raises(FileNotFoundError):
        scribe.publish(scribe.take(checkpoints, Snapshot({"y": b"3"}, replay=replay), previous=first))
    assert checkpoints.published() == [first, second]


def test_once_taken_over_it_does_not_change_with_the_memory_that_it_came_from(scribe, checkpoints):
    memory = bytearray(noise(100_000))
    before, taken = bytes(memory), snapshot(a=memory)
    draft = scribe.take(checkpoints, taken)
    assert taken.is_free
    memory[:] = bytes(len(memory))
    path, _ = scribe.publish(draft)
    assert (path / "a").read_bytes() == before


def test_checkpoint_larger_than_the_memory_is_handed_over_as_it_is_written(scribe, checkpoints):
    contents = {
        "a": noise(5_000_010),
        "b": noise(LARGE),
        "c": noise(30, 1),
        "d": noise(LARGE, 2),
        "e": noise(100_000, 3),
    }
    assert sum(map(len, contents.values())) > 2 * FULL
    taken = snapshot(**contents)
    draft = scribe.take(checkpoints, taken)
    assert not taken.is_free, "the rest is still to be read"
    path, _ = scribe.publish(draft)
    assert taken.is_free
    assert all((path / name).read_bytes() == content for name, content in contents.items())
    assert find_damage(path) == []
    path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=b"small")))
    assert (path / "a").read_bytes() == b"small", "nothing of the large one is left over"


@pytest.mark.parametrize("num_bytes", [FULL, FULL + 1, FULL + 2, 2 * FULL, FULL - BLOCK, FULL - BLOCK + 2])
def test_checkpoint_that_just_fits(scribe, checkpoints, num_bytes):
    path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=noise(num_bytes - 1), b=b"x", c=b"")))
    assert (path / "a").read_bytes() == noise(num_bytes - 1)
    assert ((path / "b").read_bytes(), (path / "c").read_bytes()) == (b"x", b"")


def test_steps_after_it_are_done_in_order(scribe, checkpoints):
    for number in range(3):
        then = [("settle", {}), ("prune", {"keep": 2})]
        assert scribe.publish(scribe.take(checkpoints, snapshot(a=b"%d" % number)), then)[1] is None
    assert [path.name for path in checkpoints.published()] == ["checkpoint_000001", "checkpoint_000002"]
    assert scribe.ask(checkpoints, ("prune", {"keep": 1})) == [checkpoints.folder / "checkpoint_000001"]


def test_step_that_fails_after_it_is_named_and_nothing_more_is_done(scribe, checkpoints, tmp_path):
    for _ in range(2):
        scribe.publish(scribe.take(checkpoints, snapshot(a=b"1")))
    (tmp_path / "damaged-nowhere").write_text("x")
    then = [("set_aside", {"path": tmp_path / "nowhere"}), ("prune", {"keep": 1})]
    path, failed = scribe.publish(scribe.take(checkpoints, snapshot(a=b"1")), then)
    assert path.is_dir()
    assert failed[0] == "set_aside"
    assert isinstance(failed[1], FileNotFoundError)
    assert len(checkpoints.published()) == 3, "nothing is pruned"


@pytest.mark.parametrize("size", [10, LARGE])
def test_what_the_disk_says_is_raised_here_and_the_next_one_succeeds(scribe, tmp_path, size):
    (tmp_path / "file").write_text("x")
    taken = snapshot(a=noise(size))
    with pytest.raises(NotADirectoryError) as caught:
        scribe.publish(scribe.take(TrialCheckpoints(tmp_path / "file" / "trial_0"), taken))
    assert caught.value.errno == errno.ENOTDIR
    assert str(tmp_path / "file") in str(caught.value.filename)
    assert taken.is_free
    checkpoints = TrialCheckpoints(tmp_path / "trial_0")
    path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=noise(size))))
    assert (path / "a").stat().st_size == size


def test_mistake_in_it_is_no_error_of_the_disk(scribe, checkpoints):
    with pytest.raises(RuntimeError, match=r"in the process that writes checkpoints:\n(?s:.)*unexpected keyword"):
        scribe.ask(checkpoints, ("prune", {"keeps": 1}))


def test_one_that_cannot_be_started_leaves_nothing_open(monkeypatch):
    def refuse(*args, **kwargs):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    Scribe().close()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            Scribe()
    assert len(os.listdir("/proc/self/fd")) == before


def test_closed_one_is_closed_once_and_can_be_asked_nothing(checkpoints, tmp_path):
    scribe = Scribe()
    scribe.close()
    with (tmp_path / "other").open("w+b") as other:  # it may have the number that the memory had
        other.write(b"other")
        other.flush()
        scribe.close()
        for asked_late in (
            lambda: scribe.take(checkpoints, snapshot(a=b"1")),
            lambda: scribe.ask(checkpoints, ("settle", {})),
        ):
            with pytest.raises(ValueError, match="closed file"):
                asked_late()
        assert (tmp_path / "other").read_bytes() == b"other"


def test_paths_are_those_of_the_training_wherever_it_has_gone_since(scribe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = scribe.publish(scribe.take(TrialCheckpoints(Path("trial_0")), snapshot(a=b"1")))
    assert path == tmp_path / "trial_0" / "checkpoint_000000"
    assert (path / "a").read_bytes() == b"1"


def test_without_memory_that_is_a_file_it_is_a_file_without_a_name(checkpoints, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with closing(Scribe()) as scribe:
        path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=noise(LARGE))))
    assert (path / "a").read_bytes() == noise(LARGE)


def test_memory_is_asked_for_before_it_is_touched(scribe, checkpoints, monkeypatch):
    """Touching what is not there ends a process by SIGBUS."""

    def refuse(handle, content, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    scribe.publish(scribe.take(checkpoints, snapshot(a=noise(3 * BLOCK))))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(OSError, match="No space left on device"):
            scribe.take(checkpoints, snapshot(a=noise(3 * BLOCK + 1)))
        path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=noise(3 * BLOCK, 1))))
    assert (path / "a").read_bytes() == noise(3 * BLOCK, 1), "there is room for what there was room for"


def test_memory_that_is_full_is_an_error_of_the_save_alone(scribe, checkpoints, monkeypatch):
    draft = scribe.take(checkpoints, snapshot(a=noise(LARGE)))

    def refuse(window):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(scribe._memory, "show", refuse)
        with pytest.raises(OSError, match="No space left on device"):
            scribe.publish(draft)
    path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=b"2")))
    assert (path / "a").read_bytes() == b"2"
