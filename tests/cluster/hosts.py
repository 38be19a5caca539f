"""Hosts on one machine: network namespaces behind one switch, each with a home of its own, in one file system.

Only root can make them, with ``ip`` of iproute2.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from experiments.tuning.ray_token import TOKEN, TOKEN_PATH, token_file

PATIENCE_S = 180
_NETWORK, _PORT = "10.78.0", 6379
_OWN = (TOKEN, TOKEN_PATH, "RAY_ADDRESS", "RAY_TMPDIR")
"""Variables of this process that say nothing about a host."""


def can_make() -> bool:
    """Whether hosts can be made here."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


class Host:
    """A machine in a network of its own.

    Args:
        name: Of its network namespace.
        number: Last part of its address.
        folder: Where its home is.
    """

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name, self.address, self.home = name, f"{_NETWORK}.{number}", folder / name
        self.home.mkdir()
        self.env = {key: value for key, value in os.environ.items() if key not in _OWN}
        self.env |= {
            "HOME": str(self.home),
            "RAY_TMPDIR": f"/tmp/{name}",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def command(self, words: list[str]) -> list[str]:
        """The same command, in this host's network."""
        return ["ip", "netns", "exec", self.name, *words]

    def start_ray(self, head: "Host", *, num_cpus: int) -> subprocess.Popen[bytes]:
        """Begin ``ray start``, which lasts as long as the node."""
        where = ["--head", f"--port={_PORT}"] if head is self else [f"--address={head.address}:{_PORT}"]
        words = [str(Path(sys.executable).with_name("ray")), "start", *where, f"--node-ip-address={self.address}"]
        words += [f"--num-cpus={num_cpus}", "--include-dashboard=false"] if head is self else [f"--num-cpus={num_cpus}"]
        with (self.home / "ray.log").open("ab") as log:
            return subprocess.Popen(self.command([*words, "--block"]), env=self.env, stdout=log, stderr=log)

    def log(self) -> str:
        """What ``ray start`` has said."""
        return (self.home / "ray.log").read_text()

    def take_token_of(self, other: "Host") -> None:
        """Copy the token, as ``cluster.yaml`` does."""
        name = token_file().relative_to(Path.home())
        (self.home / name).parent.mkdir(parents=True)
        shutil.copy(other.home / name, self.home / name)

    def processes(self) -> list[psutil.Process]:
        """All that run in it."""
        asked = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        found = []
        for pid in map(int, asked.stdout.split()):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def workers(self, title: str) -> list[psutil.Process]:
        """Processes by the name that Ray gives its actors."""
        return [process for process in self.processes() if title in " ".join(process.cmdline())]

    def stop(self) -> None:
        """End all of it at once, as a power cut does."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def wait_until(condition, *, what: str, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@contextmanager
def hosts(folder: Path, *, count: int) -> Iterator[list[Host]]:
    """Make hosts that reach each other and nobody else; they end with the block."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def end(host: Host) -> None:
        host.stop()
        shutil.rmtree(host.env["RAY_TMPDIR"], ignore_errors=True)

    own = f"tf{os.getpid()}"
    switch = f"{own}-switch"
    with ExitStack() as stack:
        ip("netns", "add", switch)
        stack.callback(ip, "netns", "del", switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            host = Host(f"{own}-{number}", number, folder)
            ip("netns", "add", host.name)
            stack.callback(ip, "netns", "del", host.name)
            stack.callback(end, host)
            ip("-n", switch, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", host.name)
            ip("-n", switch, "link", "set", f"v{number}", "master", "br0", "up")
            ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", host.name, "link", "set", "eth0", "up")
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            # It leads nowhere: Ray finds its own address by a connection that needs a route.
            ip("-n", host.name, "route", "add", "default", "via", host.address)
            made.append(host)
        yield made
