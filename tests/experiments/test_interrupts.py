"""Ctrl-C before a verb has begun."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("verb", "imported"), [("run", "ray"), ("bench", "torch"), ("audit", "torch")])
def test_interrupt_while_imports_run_says_one_word(verb, imported, tmp_path):
    script = (
        "import builtins, os, runpy, sys, time\n"
        "real = builtins.__import__\n"
        "def slow(name, *args, **kwargs):\n"
        f"    if name == {imported!r}:\n"
        "        print('importing', flush=True); time.sleep(60)\n"
        "    return real(name, *args, **kwargs)\n"
        "builtins.__import__ = slow\n"
        f"sys.argv = [{str(ROOT / 'experiments' / verb) + '.py'!r}]\n"
        "sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "importing\n"
    time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (130, "interrupted\n")
