"""A process of the run that stands still is killed and replaced; one that is only slow is not; a death is told."""

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest
import ray

from experiments.tuning import processes
from experiments.tuning.processes import ProcessWatch, watched_processes

pytestmark = pytest.mark.usefixtures("ray_session")
PATIENCE_S = 60


@ray.remote(num_cpus=0, max_restarts=1)
class SlowEnvRunner:
    """Stands for a runner whose environment takes its time."""

    def pid(self):
        return os.getpid()

    def step(self, seconds):
        time.sleep(seconds)
        return os.getpid()


@pytest.fixture
def runner():
    actor = SlowEnvRunner.remote()
    yield actor, ray.get(actor.pid.remote(), timeout=PATIENCE_S)
    ray.kill(actor)


def is_gone(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def new_pid(actor):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ray.get(actor.pid.remote(), timeout=PATIENCE_S)
        except ray.exceptions.RayActorError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_process_that_stands_still_is_killed_and_one_that_is_slow_is_not(tmp_path, capsys, runner, monkeypatch):
    monkeypatch.setattr(processes, "LOOK_EVERY_S", 1.0)
    slow = SlowEnvRunner.remote()
    step = slow.step.remote(8)
    actor, pid = runner
    with watched_processes(4.0, tmp_path / "train.log"):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: is_gone(pid))
        assert new_pid(actor) != pid
        assert ray.get(step, timeout=PATIENCE_S) != pid
        time.sleep(1.5)
    ray.kill(slow)
    shown = capsys.readouterr().err
    assert shown == f"env runner {pid} has stood still for 4 s and was killed; another one takes its place\n"


def test_nothing_is_killed_where_the_watch_is_off(tmp_path, runner):
    _, pid = runner
    watch = ProcessWatch(0, tmp_path / "train.log")
    os.kill(pid, signal.SIGSTOP)
    for _ in range(8):
        watch.look()
    assert not is_gone(pid)
    os.kill(pid, signal.SIGCONT)


def test_time_in_which_the_command_was_stopped_itself_does_not_count(tmp_path, runner):
    _, pid = runner
    watch = ProcessWatch(60.0, tmp_path / "train.log")
    os.kill(pid, signal.SIGSTOP)
    watch.look()
    watch.look()
    assert not is_gone(pid)
    assert max(watch._still_s.values()) == processes.LOOK_EVERY_S, "two looks, however long ago the first was"
    os.kill(pid, signal.SIGCONT)


def test_death_of_a_process_is_told_in_one_line_and_whole_in_the_log(tmp_path, capsys, runner, monkeypatch):
    monkeypatch.setattr(processes, "LOOK_EVERY_S", 0.5)
    actor, pid = runner
    with watched_processes(60.0, tmp_path / "train.log"):
        time.sleep(1.5)
        step = actor.step.remote(60)
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(step, timeout=PATIENCE_S)
        new_pid(actor)
        time.sleep(1.5)
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert shown.out == ""
    assert line.startswith(f"env runner {pid} on ")
    assert line.endswith("; another one takes its place")
    assert "Worker unexpectedly exits" in line
    assert f"Worker PID: {pid}" in (tmp_path / "train.log").read_text()
