"""Ray is started where its sockets have room, and a user is told where they have none."""

import os
import subprocess

from commands import QMIX, ROOT, TIMEOUT_S, command


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
