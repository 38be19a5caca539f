"""A run on several hosts: who has no token stays out; what hangs or is lost there is replaced, and told in a line."""

import signal
import subprocess

import pytest
from commands import CLOCK, MARKET, ROOT, TIMEOUT_S, command, summary
from hosts import can_make, hosts, wait_until

from experiments.tuning.ray_token import keep_token

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not can_make(), reason="only root can make hosts, with iproute2")]
TRAIN = [*MARKET, *CLOCK, "--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64"]
TRAIN += ["--scaling.num-env-runners", "2", "--hang-timeout-s", "10"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head with room for one process, and a host beside it that has not joined yet."""
    with hosts(tmp_path, count=2) as (head, other):
        with monkeypatch.context() as patched:
            patched.setenv("HOME", str(head.home))
            keep_token()
        head.start_ray(head, num_cpus=1)
        wait_until(lambda: "Ray runtime started" in head.log(), what="the head has not started")
        yield head, other


def join(head, other):
    started = other.log().count("Ray runtime started") if (other.home / "ray.log").exists() else 0
    other.start_ray(head, num_cpus=2)
    wait_until(lambda: other.log().count("Ray runtime started") > started, what="the other host has not joined")


class Run:
    """A command on a host, and what it has said."""

    def __init__(self, host, head, folder, *words):
        self.folder, self.out = folder, folder.with_suffix(".out")
        with self.out.open("w") as file:
            self.process = subprocess.Popen(
                host.command(command(folder, *TRAIN, *words)),
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=host.env | {"RAY_ADDRESS": f"{head.address}:6379"},
            )

    def text(self):
        return self.out.read_text()

    def has_episodes(self, count):
        assert self.process.poll() is None, self.text()
        path = self.folder / "summary.json"
        found = summary(self.folder) if path.exists() else {}
        return found.get("latest_checkpoint") is not None and found["episodes"] >= count

    def ends_well(self):
        assert self.process.wait(TIMEOUT_S) == 0, self.text()
        assert summary(self.folder)["status"] == "complete"
        assert "Traceback" not in self.text()


def test_host_without_the_token_stays_out_and_so_does_its_command(cluster, tmp_path):
    head, other = cluster
    assert other.start_ray(head, num_cpus=2).wait(TIMEOUT_S) == 1
    assert "no authentication token was found" in other.log().splitlines()[-1]
    run = Run(other, head, tmp_path / "run", "--episodes", 16)
    assert run.process.wait(TIMEOUT_S) == 2
    assert "cannot be joined" in run.text()
    assert "Traceback" not in run.text()


def test_env_runner_that_hangs_on_another_host_is_replaced(cluster, tmp_path):
    head, other = cluster
    other.take_token_of(head)
    join(head, other)
    run = Run(head, head, tmp_path / "run", "--episodes", 400)
    wait_until(lambda: run.has_episodes(16), what="no progress")
    far = other.workers("TeamEnvRunner")
    assert far, "a runner is on the other host"
    for process in far:
        process.send_signal(signal.SIGSTOP)
    run.ends_well()
    for process in far:
        assert f"env runner {process.pid} has stood still for 10 s and was killed" in run.text()


def test_host_that_is_lost_is_told_in_a_line_and_the_run_goes_on_when_another_joins(cluster, tmp_path):
    head, other = cluster
    other.take_token_of(head)
    join(head, other)
    run = Run(head, head, tmp_path / "run", "--episodes", 400)
    wait_until(lambda: run.has_episodes(16), what="no progress")
    lost = [] if other.workers("Floor") else other.workers("TeamEnvRunner")
    other.stop()
    join(head, other)
    run.ends_well()
    told = [f"{process.pid} on {other.address} has died" in run.text() for process in lost]
    assert all(told) if told else "it goes on from its newest checkpoint" in run.text(), (
        "as where the trainer was there"
    )
