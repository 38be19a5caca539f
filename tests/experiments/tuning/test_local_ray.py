"""Ray is started where its sockets have room, and a user is told where they have none."""

import os
import subprocess

from commands import QMIX, ROOT, TIMEOUT_S, command, run_script


def test_folder_that_is_too_deep_for_sockets_is_named(tmp_path):
    deep = tmp_path / "a-folder-of-a-cluster" / ("deep-" * 12)
    deep.mkdir(parents=True)
    words = command(tmp_path / "run", *QMIX, "--episodes", "8")
    env = {**os.environ, "TMPDIR": str(deep)}
    env.pop("RAY_TMPDIR", None)
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, env=env, check=False)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if "too deep" in line]
    assert said == [
        f"error: the folder for temporary files is too deep for Ray's sockets, {deep}: let TMPDIR name a shorter path"
    ]
    assert "Traceback" not in done.stderr


STARTED = """
import psutil
from experiments.tuning.local_ray import start_local_ray
start_local_ray(include_dashboard=False, log_to_driver=False, logging_level="error", num_cpus=1)
for process in psutil.Process().children(recursive=True):
    print(" ".join(process.cmdline()))
"""


def test_local_ray_runs_without_dashboard_autoscaler_and_log_monitor():
    done = run_script(STARTED)
    assert done.returncode == 0, done.stderr
    assert "/raylet" in done.stdout
    assert [line for line in done.stdout.splitlines() if "monitor.py" in line or "dashboard/dashboard.py" in line] == []
