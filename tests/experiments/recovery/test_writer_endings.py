"""The process that writes checkpoints is killed, or stopped, or loses the training that it writes for."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from threading import Thread

import psutil
import pytest
from drafts import LARGE, noise, snapshot

from algos.replay_files import ReplaySnapshot
from algos.snapshots import Snapshot
from experiments.recovery import alone
from experiments.recovery import checkpoints as checkpoints_module
from experiments.recovery import writer as scribe_module
from experiments.recovery.manifests import find_damage
from experiments.recovery.writer import Scribe

PATIENCE_S = 60


def kill(scribe):
    os.kill(scribe._process.pid, signal.SIGKILL)
    scribe._process.wait()


@pytest.mark.parametrize("size", [10, LARGE])
def test_another_one_writes_what_a_killed_one_has_not(scribe, checkpoints, size):
    scribe.publish(scribe.take(checkpoints, snapshot(a=b"1")))
    draft = scribe.take(checkpoints, snapshot(a=noise(size)))
    kill(scribe)
    path, _ = scribe.publish(draft)
    assert (path / "a").read_bytes() == noise(size)
    kill(scribe)
    assert scribe.ask(checkpoints, ("prune", {"keep": 1})) == [checkpoints.folder / "checkpoint_000000"]


def test_another_one_begins_again_what_a_killed_one_has_half_written(scribe, checkpoints, monkeypatch):
    draft, show, shown = scribe.take(checkpoints, snapshot(a=noise(LARGE))), scribe._memory.show, []

    def killing(window):
        show(window)
        if not shown:
            kill(scribe)
        shown.append(window)

    monkeypatch.setattr(scribe._memory, "show", killing)
    path, _ = scribe.publish(draft)
    assert shown == [draft.windows[1], *draft.windows]
    assert (path / "a").read_bytes() == noise(LARGE)
    assert [folder.name for folder in checkpoints.folder.iterdir()] == ["checkpoint_000000"]


def test_one_that_is_killed_again_is_an_error_of_the_save_alone(scribe, checkpoints, monkeypatch):
    draft, start = scribe.take(checkpoints, snapshot(a=b"1")), scribe_module._start

    def doomed(memory):
        process, connection = start(memory)
        process.kill()
        process.wait()
        return process, connection

    kill(scribe)
    with monkeypatch.context() as patch:
        patch.setattr(scribe_module, "_start", doomed)
        with pytest.raises(OSError, match=r"the process that writes was ended twice \(signal 9\)"):
            scribe.publish(draft)
    path, _ = scribe.publish(scribe.take(checkpoints, snapshot(a=b"2")))
    assert (path / "a").read_bytes() == b"2"


def test_signals_that_the_training_makes_something_of_do_not_end_it(scribe, checkpoints):
    process = scribe._process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    scribe.publish(scribe.take(checkpoints, snapshot(a=b"1")))
    assert scribe._process is process
    assert process.poll() is None


def test_signals_still_reach_the_training(scribe):
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}


def test_it_ends_when_it_is_closed():
    scribe = Scribe()
    scribe.close()
    assert scribe._process.returncode == 0


TRAINING = """
import os, sys
from algos.snapshots import Snapshot
from experiments.recovery import writer as s
from experiments.recovery.checkpoints import TrialCheckpoints
scribe, checkpoints = s.Scribe(), TrialCheckpoints(__import__("pathlib").Path(sys.argv[1]))
scribe.publish(scribe.take(checkpoints, Snapshot({"a": b"1"})))
def tell(): print(scribe._process.pid, flush=True); sys.stdin.read()
if sys.argv[2] == "while it writes":
    show, shown = scribe._memory.show, []
    scribe._memory.show = lambda window: tell() if shown else (shown.append(1), show(window))
big = Snapshot({"a": bytes(80_000_000)})
scribe.publish(scribe.take(checkpoints, big)) if sys.argv[2] == "while it writes" else tell()
"""


@pytest.mark.parametrize("moment", ["between two saves", "while it writes"])
def test_it_ends_with_the_training_however_that_ends(tmp_path, moment):
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(tmp_path), moment], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer = psutil.Process(int(training.stdout.readline()))
    training.kill()
    training.communicate()
    deadline = time.monotonic() + PATIENCE_S
    with suppress(psutil.NoSuchProcess):
        while writer.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000"], "nothing half, nothing left over"


def asked(checkpoints, *then):
    """A request to publish three bytes, and what is asked after it."""
    steps = [("publish", {"previous": None}), *then]
    return scribe_module._Request(checkpoints, steps, checkpoints.folder / "checkpoint_000000", {"a": 3})


@pytest.mark.parametrize("moment", ["write", "seal", "after it has its name"])
def test_nothing_more_is_done_for_a_training_that_is_gone(checkpoints, monkeypatch, moment):
    gone, seen = [], memoryview(b"abc")
    monkeypatch.setattr(scribe_module.os, "getppid", lambda: 2 if gone else 1)

    def dies(function):
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            gone.append(True)
            return result

        return call

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr(scribe_module, "fill_folder", dies(scribe_module.fill_folder))
        if moment == "seal":
            patch.setattr(checkpoints_module, "seal", dies(checkpoints_module.seal))
        if moment == "after it has its name":
            patch.setattr(os, "rename", dies(os.rename))
        with pytest.raises(scribe_module._NobodyThereError):
            scribe_module._done(asked(checkpoints, ("set_aside", {"path": checkpoints.folder})), None, seen, parent=1)
    there = ["checkpoint_000000"] if moment == "after it has its name" else []
    assert [path.name for path in checkpoints.folder.iterdir()] == there
    gone.clear()
    (found,) = scribe_module._done(asked(checkpoints), None, seen, parent=1)
    if there:
        assert isinstance(found, OSError), "the name has been taken by another"
        (found,) = scribe_module._done(replace(asked(checkpoints), is_again=True), None, seen, parent=1)
    assert found == checkpoints.folder / "checkpoint_000000"
    assert find_damage(checkpoints.folder / "checkpoint_000000") == []


def test_one_waits_for_another_that_has_not_yet_seen_its_training_die(scribe, checkpoints):
    checkpoints.folder.mkdir()
    handle = os.open(checkpoints.folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    staged = checkpoints.folder / ".publishing-checkpoint_000000"
    staged.mkdir()
    draft, found = scribe.take(checkpoints, snapshot(a=b"1")), []
    saving = Thread(target=lambda: found.append(scribe.publish(draft)))
    saving.start()
    saving.join(1.0)
    assert found == []
    assert staged.is_dir()
    os.close(handle)
    saving.join()
    assert found == [(checkpoints.folder / "checkpoint_000000", None)]


ORPHAN = """
import sys
from pathlib import Path
from experiments.recovery.writer import Scribe
from experiments.recovery.checkpoints import TrialCheckpoints
from algos.snapshots import Snapshot
scribe, checkpoints = Scribe(), TrialCheckpoints(Path(sys.argv[1]))
scribe.publish(scribe.take(checkpoints, Snapshot({"a": b"1"})))
print(scribe._process.pid, flush=True)
sys.stdin.readline()
scribe.publish(scribe.take(checkpoints, Snapshot({"a": b"2" * 300_000_000})))
"""


@pytest.fixture
def stopped(checkpoints):
    """A process that was stopped while it wrote, and whose training was killed; it holds the folder."""
    training = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(checkpoints.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer = psutil.Process(int(training.stdout.readline()))
    training.stdin.write(b"go\n")
    training.stdin.flush()
    deadline = time.monotonic() + PATIENCE_S
    while not list(checkpoints.folder.glob(".publishing-*")):
        assert time.monotonic() < deadline
    writer.suspend()
    training.kill()
    training.wait()  # not for the end of its output, which the writer holds too
    training.stdin.close()
    training.stdout.close()
    yield writer
    with suppress(psutil.NoSuchProcess):
        writer.kill()


@pytest.mark.usefixtures("stopped")
def test_one_that_was_stopped_and_has_lost_its_training_is_ended(scribe, checkpoints):
    taken = scribe.take(checkpoints, snapshot(a=b"3"), path=checkpoints.folder / "checkpoint_000001")
    assert scribe.publish(taken) == (checkpoints.folder / "checkpoint_000001", None)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["checkpoint_000000", "checkpoint_000001"]


def test_one_that_does_not_end_is_waited_for_a_while_and_its_training_left_alone(checkpoints, monkeypatch):
    monkeypatch.setattr(alone, "GRACE_S", 0.0)
    monkeypatch.setattr(alone, "PATIENCE_S", 0.5)
    checkpoints.folder.mkdir()
    with closing(Scribe()) as living, alone.alone_in(checkpoints.folder, code=scribe_module._CODE):
        (found,) = scribe_module._done(asked(checkpoints), None, memoryview(b"abc"), parent=os.getppid())
        assert isinstance(found, OSError)
        assert "another process writes checkpoints to" in str(found)
        assert living._process.poll() is None
    assert list(checkpoints.folder.iterdir()) == []


@pytest.mark.parametrize("last", ["publish", "settle", "prune"])
def test_one_that_is_killed_before_it_could_say_so_is_believed(scribe, checkpoints, monkeypatch, last):
    """The checkpoint that its links come from may be gone by then."""
    first, _ = scribe.publish(scribe.take(checkpoints, snapshot(replay__x=noise(1000), y=b"1")))
    replay = ReplaySnapshot(index={}, new={}, known={"x": f"{first}/replay/x"})
    draft = scribe.take(checkpoints, Snapshot({"y": b"2"}, replay=replay), previous=first)
    then = [("settle", {}), ("prune", {"keep": 1})]
    hear, num_steps = scribe_module._hear, 1 + [name for name, _ in (("publish", {}), *then)].index(last)

    def dies(connection):
        scribe_module._say(connection, replace(draft.request, steps=[*draft.request.steps, *then][:num_steps]))
        hear(connection)
        kill(scribe)
        return hear(connection)

    with monkeypatch.context() as patch:
        patch.setattr(scribe, "_answer", lambda *_: (patch.undo(), dies(scribe._connection))[1])
        path, failed = scribe.publish(draft, then)
    assert (path.name, failed) == ("checkpoint_000001", None)
    assert checkpoints.published() == [path]
    assert find_damage(path) == []
