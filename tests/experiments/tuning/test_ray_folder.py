"""What a local Ray leaves on the disk: nothing after a session that went well, and no other session's folder goes."""

import json
import os
import socket
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from commands import run_script

from common.errors import InputError
from experiments.tuning import ray_folder
from experiments.tuning.ray_folder import KEPT_S, MARK_FILE, check_ray_folder, keep_session, mark_session

SESSION = """
import ray
from experiments.tuning.local_ray import start_local_ray
from experiments.tuning.ray_folder import keep_session
from experiments.tuning.ray_internals import local_node
from pathlib import Path

start_local_ray(include_dashboard=False, log_to_driver=False, logging_level="error", num_cpus=1)
folder = Path(local_node().get_session_dir_path())
assert (folder / "logs").is_dir() and (folder / "trading-floor.json").is_file()
if {is_kept}:
    keep_session(folder)
"""


@pytest.fixture
def short_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket may have 107 bytes
        yield Path(folder)


@pytest.mark.parametrize("is_kept", [False, True])
def test_session_leaves_nothing_unless_it_has_failed(short_folder, is_kept):
    other = short_folder / "ray" / "session_of_another"
    other.mkdir(parents=True)
    done = run_script(SESSION.format(is_kept=is_kept), RAY_TMPDIR=str(short_folder))
    assert done.returncode == 0, done.stderr
    left = [path for path in (short_folder / "ray").glob("session_*") if not path.is_symlink() and path != other]
    assert other.is_dir()
    assert len(left) == is_kept
    if is_kept:
        assert done.stderr == f"Ray's logs of this session stay for a day: {left[0] / 'logs'}\n"
    else:
        assert not (short_folder / "ray" / "session_latest").is_symlink()


def session(root, name, *, age_s, **mark):
    folder = root / name
    (folder / "logs").mkdir(parents=True)
    if mark:
        (folder / MARK_FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "begun": 1} | mark))
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - age_s,) * 2)
    return folder


def test_only_old_sessions_of_dead_processes_of_ours_go(tmp_path):
    me, old = psutil.Process(), KEPT_S + 60
    session(tmp_path, "session_dead", age_s=old, pid=2**22 + 1)
    session(tmp_path, "session_reused", age_s=old, pid=me.pid)
    stay = [
        session(tmp_path, "session_young", age_s=KEPT_S - 60, pid=2**22 + 1),
        session(tmp_path, "session_alive", age_s=old, pid=me.pid, begun=me.create_time()),
        session(tmp_path, "session_elsewhere", age_s=old, host="another"),
        session(tmp_path, "session_foreign", age_s=old),
        session(tmp_path, "session_now", age_s=0),
    ]
    mark_session(stay[-1])
    assert sorted(tmp_path.iterdir()) == sorted(stay)


def test_kept_session_is_told_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ray_folder, "_kept", set())
    keep_session(tmp_path)
    keep_session(tmp_path)
    assert capsys.readouterr().err == f"Ray's logs of this session stay for a day: {tmp_path / 'logs'}\n"


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_folder_for_temporary_files_that_cannot_be_used_is_refused(monkeypatch, tmp_path, name):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/proc/nowhere")
    with pytest.raises(InputError, match=rf"^{name}, .* cannot be written to .*: let RAY_TMPDIR name another one"):
        check_ray_folder()
    monkeypatch.setenv(name, str(tmp_path))
    check_ray_folder()
    monkeypatch.setattr(ray_folder.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(4096))
    with pytest.raises(InputError, match=rf"^{name}, .* has 0.0 MB free: make room"):
        check_ray_folder()
