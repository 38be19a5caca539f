"""Tiny training runs: in this process, or as commands that can be interrupted and killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

import experiments.tuning  # noqa: F401  sets what Ray reads, before a session of Ray starts
from experiments.command_line import exit_code
from experiments.recovery.lock import LOCK_FILE
from experiments.run import run

ROOT = Path(__file__).resolve().parents[1]
MARKET = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "600", "--floor.horizon-bars", "20"]
CLOCK = ["--checkpoint-interval", "8", "--evaluation-interval", "8", "--keep", "2", "--checkpoint-interval-s", "0"]
QMIX = [*MARKET, *CLOCK, "--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64"]
INDQ = [*MARKET, *CLOCK, "--algo", "indq", "--indq.num-envs-per-env-runner", "8", "--indq.learning-starts", "64"]
PPO = [*MARKET, *CLOCK, "--algo", "ppo", "--ppo.num-envs-per-env-runner", "8"]
PPO += ["--ppo.train-batch-size-per-learner", "256", "--ppo.minibatch-size", "128", "--ppo.num-epochs", "1"]
MAPPO = [*MARKET, *CLOCK, "--algo", "mappo", "--mappo.num-envs-per-env-runner", "8"]
MAPPO += ["--mappo.train-batch-size-per-learner", "256", "--mappo.minibatch-size", "64", "--mappo.num-epochs", "2"]
MADDPG = [*MARKET, *CLOCK, "--algo", "maddpg", "--maddpg.num-envs-per-env-runner", "8"]
MADDPG += ["--maddpg.learning-starts", "64"]
SAC = [*MARKET, *CLOCK, "--algo", "sac", "--desk.action", "continuous", "--sac.learning-starts", "64"]
SAC += ["--sac.num-envs-per-env-runner", "2"]
TQC = [*MARKET, *CLOCK, "--algo", "tqc", "--desk.action", "continuous", "--tqc.learning-starts", "64"]
TQC += ["--tqc.num-envs-per-env-runner", "2"]
IMPALA = [*MARKET, *CLOCK, "--algo", "impala", "--runner", "rllib", "--impala.train-batch-size-per-learner", "64"]
IMPALA += ["--impala.rollout-fragment-length", "16"]
APPO = [*MARKET, *CLOCK, "--algo", "appo", "--appo.train-batch-size-per-learner", "64"]
APPO += ["--appo.rollout-fragment-length", "16"]
TIMEOUT_S = 240


def run_here(folder, *words) -> int:
    """Train in this process, in the Ray that is running; returns the exit code."""
    return exit_code(run, ["--storage", str(folder.parent), "--name", folder.name, *map(str, words)])


def command(folder, *words, storage=None) -> list[str]:
    verb = str(ROOT / "experiments" / "run.py")
    where = ["--storage", storage or str(folder.parent), "--name", folder.name]
    return [sys.executable, verb, *where, *map(str, words)]


def readme_script(word):
    """The README's Python example that holds a word."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (script,) = [block for block in blocks if word in block]
    assert "results/dow" in script
    return script


def run_script(script, **env):
    """Run a script as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        env={**os.environ, **env},
        check=False,
    )


def run_command(folder, *words) -> subprocess.CompletedProcess:
    """Train by the command line, to the end."""
    return subprocess.run(
        command(folder, *words), capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False
    )


MARK = "STARTED_BY"
"""In the environment of a command, and of every process that it starts."""


class Started:
    """A command with every process of Ray that it starts."""

    def __init__(self, folder, *words, env=None, out=None, storage=None):
        self.folder = folder
        self.out = out or folder.parent / f"{folder.name}.{time.monotonic_ns()}.out"
        with self.out.open("w") as file:
            self.process = subprocess.Popen(
                command(folder, *words, storage=storage),
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
                env={**(os.environ if env is None else env), MARK: str(self.out)},
            )

    def wait_for_episodes(self, count: int) -> None:
        """Wait until a checkpoint of so many episodes has been written."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            found = summary(self.folder) if summary_path(self.folder).exists() else {}
            if found.get("latest_checkpoint") is not None and found["episodes"] >= count:
                return
            assert self.process.poll() is None, f"ended too early: {self.out.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"no progress: {self.out.read_text()}")

    def interrupt(self, number: int = signal.SIGINT, *, everyone: bool = False) -> int:
        """Send a signal to the command, or to everyone below it too, as a unit or a machine that is stopped does."""
        for process in self.family()[: None if everyone else 1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def family(self) -> list[psutil.Process]:
        """The command's process and all below it, those too whose parents have ended."""
        try:
            top = psutil.Process(self.process.pid)
            found = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # Ray's workers write their titles over their environment
                if process not in found and process.environ().get(MARK) == str(self.out):
                    found.append(process)
        return found

    def workers(self, title: str) -> list[psutil.Process]:
        """Processes by the name that Ray gives its actors."""
        found = []
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self) -> None:
        """Kill every process at once, those too that stand still."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(TIMEOUT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def summary_path(folder) -> Path:
    return folder / "summary.json"


def summary(folder) -> dict:
    return json.loads(summary_path(folder).read_text())


def meta(checkpoint) -> dict:
    return json.loads((checkpoint / "checkpoint_meta.json").read_text())


def checkpoints(folder) -> list[Path]:
    """Checkpoints of a run, oldest first, without the copy of the best."""
    return sorted(folder.glob("trial_*/checkpoint_*"))


def tree(folder) -> dict[str, int]:
    """Every file below a folder, with the time of its last change; the lock tells who was there last, and changes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def episodes_shown(text: str) -> list[int]:
    """The counts of the progress lines."""
    return [int(count) for count in re.findall(r"^episodes +(\d+)/", text, flags=re.MULTILINE)]
