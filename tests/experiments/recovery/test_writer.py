import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from threading import Event

import numpy as np
import pytest
from replays import fill

from algos.replay import TeamReplay
from algos.replay_files import ReplaySnapshot, load_replay, snapshot_replay
from algos.snapshots import Snapshot
from common import disk
from common.manifests import find_damage
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.writer import CheckpointWriter


@pytest.fixture
def writer():
    with closing(CheckpointWriter()) as made:
        yield made


@pytest.fixture
def slow_disk(monkeypatch):
    """Nothing is written until this is set."""
    may_write, real = Event(), disk._write

    def write(handle, parts):
        assert may_write.wait(60)
        return real(handle, parts)

    monkeypatch.setattr(disk, "_write", write)
    yield may_write
    may_write.set()


def save(writer, checkpoints, snapshot, **settings):
    """Publish under the next name, and wait for it."""
    writer.begin(checkpoints, snapshot, path=checkpoints.next_path(), **settings)
    return writer.finish()


def snapshot(**contents):
    return Snapshot({name.replace("__", "/"): content for name, content in contents.items()})


def noise(num_bytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, num_bytes, dtype=np.uint8).tobytes()


def files(folder):
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if name not in ("manifest.json", "COMPLETE")}


def test_checkpoint_holds_what_the_snapshot_held(writer, checkpoints):
    contents = {"a": noise(200_000), "deep__er__b": b"", "deep__c": noise(70), "d": noise(1 << 20, 1)}
    path, failed = save(writer, checkpoints, snapshot(**contents))
    assert (path, failed) == (checkpoints.folder / "checkpoint_000000", None)
    assert {name: file.read_bytes() for name, file in files(path).items()} == {
        name.replace("__", "/"): content for name, content in contents.items()
    }
    assert find_damage(path) == []
    assert writer.finish() is None, "it is told once"


def test_training_goes_on_meanwhile(writer, checkpoints, slow_disk):
    writer.begin(checkpoints, snapshot(a=b"1"), path=checkpoints.next_path())
    assert writer.is_saving
    assert checkpoints.published() == []
    slow_disk.set()
    assert writer.finish().path == checkpoints.published()[-1]
    assert not writer.is_saving


def test_what_the_buffer_takes_in_meanwhile_is_not_in_the_checkpoint(writer, checkpoints, slow_disk, tmp_path):
    """Nothing is copied when the snapshot is taken, and the buffer is so small that it comes round."""
    replay, rng = TeamReplay(32), np.random.default_rng(0)
    fill(replay, num_rollouts=2, rng=rng)
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    slow_disk.set()
    Snapshot(replay=snapshot_replay(replay)).write(wanted)
    slow_disk.clear()
    writer.begin(checkpoints, Snapshot(replay=snapshot_replay(replay)), path=checkpoints.next_path())
    fill(replay, num_rollouts=9, rng=rng, start=100)
    slow_disk.set()
    path = writer.finish().path
    assert {n: f.read_bytes() for n, f in files(path).items()} == {n: f.read_bytes() for n, f in files(wanted).items()}
    loaded = TeamReplay(32)
    load_replay(loaded, path)
    assert loaded.num_added < replay.num_added


def test_files_of_the_checkpoint_before_are_linked(writer, checkpoints):
    first, _ = save(writer, checkpoints, snapshot(replay__x=noise(1000), y=b"1"))
    replay = ReplaySnapshot(index={}, new={}, known={"x": f"{first}/replay/x"})
    second, _ = save(writer, checkpoints, Snapshot({"y": b"2"}, replay=replay), previous=first)
    assert (first / "replay" / "x").stat().st_ino == (second / "replay" / "x").stat().st_ino
    assert find_damage(second) == []
    replay.known["gone"] = f"{first}/replay/gone"
    with pytest.raises(FileNotFoundError):
        save(writer, checkpoints, Snapshot({"y": b"3"}, replay=replay), previous=first)
    assert checkpoints.published() == [first, second]


def test_steps_after_it_are_done_in_order(writer, checkpoints):
    done = []
    then = [("first", lambda: done.append(len(checkpoints.published()))), ("second", lambda: done.append("second"))]
    assert save(writer, checkpoints, snapshot(a=b"1"), then=then).failed is None
    assert done == [1, "second"]


def test_step_that_fails_after_it_is_named_and_nothing_more_is_done(writer, checkpoints):
    done, error = [], OSError("busy")
    then = [("no room", lambda: (_ for _ in ()).throw(error)), ("never", lambda: done.append(1))]
    path, failed = save(writer, checkpoints, snapshot(a=b"1"), then=then)
    assert path.is_dir()
    assert failed == ("no room", error)
    assert done == []


def test_what_the_disk_says_is_raised_at_the_end_and_the_next_one_succeeds(writer, checkpoints, tmp_path):
    (tmp_path / "file").write_text("x")
    broken = TrialCheckpoints(tmp_path / "file" / "trial_0")
    writer.begin(broken, snapshot(a=b"1"), path=broken.folder / "checkpoint_000000")
    with pytest.raises(NotADirectoryError) as caught:
        writer.finish()
    assert caught.value.errno == errno.ENOTDIR
    assert str(tmp_path / "file") in str(caught.value.filename)
    assert (save(writer, checkpoints, snapshot(a=b"2")).path / "a").read_bytes() == b"2"


@pytest.mark.parametrize("fails", [False, True])
def test_buffer_may_change_again_whatever_has_become_of_the_checkpoint(writer, checkpoints, fails):
    replay = TeamReplay(32)
    fill(replay, num_rollouts=2, rng=np.random.default_rng(0))
    taken = Snapshot(replay=snapshot_replay(replay))
    assert taken.replay.loans
    if fails:
        checkpoints.folder.write_text("in the way")
    writer.begin(checkpoints, taken, path=checkpoints.folder / "checkpoint_000000")
    with suppress(OSError):
        writer.finish()
    assert not taken.replay.loans


def test_closed_one_has_published_what_was_begun(checkpoints, slow_disk):
    writer = CheckpointWriter()
    writer.begin(checkpoints, snapshot(a=b"1"), path=checkpoints.next_path())
    slow_disk.set()
    writer.close()
    assert len(checkpoints.published()) == 1


TRAINING = """
import sys
from contextlib import closing
from pathlib import Path
from algos.snapshots import Snapshot
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.writer import CheckpointWriter
checkpoints, previous = TrialCheckpoints(Path(sys.argv[1])), None
with closing(CheckpointWriter()) as writer:
    for number in range(10**9):
        taken = Snapshot({f"{i}": bytes([number % 256]) * 40_000 for i in range(20)})
        writer.begin(checkpoints, taken, path=checkpoints.next_path(), then=[("", lambda: checkpoints.prune(2))])
        print(number, flush=True)
        writer.finish()
"""


@pytest.mark.parametrize("after_s", [0.0, 0.003, 0.01, 0.02, 0.03, 0.05])
def test_training_killed_at_any_instant_leaves_only_whole_checkpoints_and_nobody_who_writes(checkpoints, after_s):
    words = [sys.executable, "-c", TRAINING, str(checkpoints.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as training:
        while int(training.stdout.readline()) < 3:
            pass
        time.sleep(after_s)
        os.kill(training.pid, signal.SIGKILL)
    published = checkpoints.published()
    assert len(published) >= 2
    assert [find_damage(path) for path in published] == [[]] * len(published)
    with closing(CheckpointWriter()) as writer:
        path = save(writer, checkpoints, snapshot(a=b"1")).path
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == [p.name for p in (*published, path)], "swept"
