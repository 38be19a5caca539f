import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from common.errors import InputError
from experiments.recovery.lock import LOCK_FILE, file_lock, is_held_by_another, run_lock

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from experiments.recovery.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield folder, process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_second_writer_is_refused_and_told_who_holds_it(holder):
    folder, process = holder
    with (
        pytest.raises(InputError, match=rf"is being written by process {process.pid} on .*, since 20"),
        run_lock(folder),
    ):
        pass


def test_lock_of_a_killed_process_is_taken_over(holder):
    folder, process = holder
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert str(process.pid) in (folder / LOCK_FILE).read_text(), "what the dead one wrote is still there"
    with run_lock(folder):
        assert str(os.getpid()) in (folder / LOCK_FILE).read_text()


def test_lock_ends_with_its_block_however_that_ends(tmp_path):
    with pytest.raises(RuntimeError), run_lock(tmp_path):
        raise RuntimeError
    with run_lock(tmp_path):
        pass


def test_lock_is_of_one_folder(tmp_path):
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        pass


def test_second_lock_in_one_process_is_refused_too(tmp_path):
    with run_lock(tmp_path), pytest.raises(InputError, match="is being written by process"), run_lock(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_refused_in_one_line(tmp_path, monkeypatch, code):
    def without_locks(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    complaint = rf"cannot be locked \({os.strerror(code)}\): choose another --storage, on a file system with locks$"
    with pytest.raises(InputError, match=complaint), run_lock(tmp_path):
        pass


def test_folder_that_cannot_be_written_to_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    complaint = r"file/dow cannot be written to \(Not a directory\): choose another --storage$"
    with pytest.raises(InputError, match=complaint), run_lock(tmp_path / "file" / "dow"):
        pass


def test_lock_file_that_says_nothing_is_no_obstacle(holder):
    folder, _ = holder
    (folder / LOCK_FILE).write_text("")
    with pytest.raises(InputError, match="is being written by another process"), run_lock(folder):
        pass


def test_who_holds_a_folder_is_told_from_who_has_died(holder):
    folder, process = holder
    assert is_held_by_another(folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not is_held_by_another(folder)
    with run_lock(folder):
        assert not is_held_by_another(folder), "but by this one"
    assert not is_held_by_another(folder)
    assert not is_held_by_another(folder / "nowhere")
    (folder / LOCK_FILE).write_text(f'{{"pid": {os.getppid()}}}')
    assert not is_held_by_another(folder), "a process of that number lives, and holds nothing"


def test_file_lock_waits_for_who_holds_it(tmp_path):
    path, done = tmp_path / "new" / "lock", []

    def second():
        with file_lock(path):
            done.append("second")

    with file_lock(path):
        waiting = Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        done.append("first")
    waiting.join()
    assert done == ["first", "second"]
