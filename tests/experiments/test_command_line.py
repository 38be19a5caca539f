import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from common.errors import FaultsError, IncompatibleError, InputError
from common.files import WriteError, write_json
from common.provenance import collect_provenance, git_state
from experiments.command_line import check_json_flag, exit_code, is_user_error, log_to, write_json_flag

ROOT = Path(__file__).resolve().parents[2]


def raising(error):
    def verb(argv):
        raise error

    return verb


def validation_error():
    try:
        TypeAdapter(int).validate_python("x")
    except ValueError as error:
        return error


class WorkerError(RuntimeError):
    """What a worker process raised, wrapped as Ray wraps it."""

    def __init__(self, cause):
        super().__init__("task failed\n  long remote traceback")
        self.cause = cause


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        (lambda argv: None, 0),
        (lambda argv: 0, 0),
        (lambda argv: 1, 1),
        (raising(InputError("prices.csv has no close column")), 2),
        (raising(IncompatibleError("other agents")), 2),
        (raising(validation_error()), 2),
        (raising(WorkerError(InputError("in a worker"))), 2),
        (raising(WorkerError(RuntimeError("in a worker"))), 1),
        (raising(OSError(errno.ENOSPC, "No space left on device", "summary.json")), 1),
        (raising(WriteError(errno.EROFS, "cannot write summary.json: Read-only file system")), 1),
        (raising(KeyboardInterrupt()), 130),
        (raising(SystemExit(0)), 0),
        (raising(SystemExit(3)), 3),
        (raising(ValueError("a bug")), 1),
    ],
)
def test_exit_codes(verb, code):
    assert exit_code(verb, []) == code


@pytest.mark.parametrize("error", [InputError("no\nsuch thing"), WorkerError(InputError("no\nsuch thing"))])
def test_bad_input_is_one_line_without_traceback(capsys, error):
    exit_code(raising(error), [])
    captured = capsys.readouterr()
    assert captured.err == "error: no\\nsuch thing\n"
    assert captured.out == ""


@pytest.mark.parametrize("wrap", [lambda error: error, WorkerError])
def test_faults_of_a_file_are_a_line_each(capsys, wrap):
    assert exit_code(raising(wrap(FaultsError("p.csv: line 2: one\np.csv: line 3: two"))), []) == 2
    assert capsys.readouterr().err == "error: p.csv: line 2: one\np.csv: line 3: two\n"


def test_fault_without_a_log_shows_its_traceback_on_the_screen(capsys):
    exit_code(raising(ValueError("a bug")), [])
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: ValueError: a bug\n")


def test_fault_with_a_log_puts_its_traceback_there_and_one_line_on_the_screen(tmp_path, capsys):
    log = tmp_path / "train.log"

    def verb(argv):
        with log_to(log):
            raise ValueError("a bug")

    assert exit_code(verb, []) == 1
    assert capsys.readouterr().err == f"error: ValueError: a bug (traceback in {log})\n"
    assert "Traceback" in log.read_text()
    assert "a bug" in log.read_text()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_disk_that_fails_in_the_middle_is_one_line_and_no_mistake_of_the_users(tmp_path, capsys, monkeypatch, code):
    log = tmp_path / "train.log"

    def full(*args):
        raise OSError(code, os.strerror(code))

    def verb(argv):
        with log_to(log):
            monkeypatch.setattr(os, "fsync", full)
            write_json(tmp_path / "summary.json", {})

    assert exit_code(verb, []) == 1
    line = f"error: cannot write {tmp_path / 'summary.json'}: {os.strerror(code)}\n"
    assert capsys.readouterr().err == line
    assert line in log.read_text()
    assert "Traceback" not in log.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["train.log"]


def too_large_for(library):
    return np.empty(10**15) if library is np else torch.empty(10**15)


@pytest.mark.parametrize("library", [np, torch])
def test_too_little_memory_is_one_line(library, capsys):
    assert exit_code(lambda words: too_large_for(library), []) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: too little memory on this machine (")
    assert err.count("\n") == 1


def test_log_on_a_full_disk_is_no_mistake_of_the_users(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WriteError, match="No space left"), log_to(tmp_path / "train.log"):
        pass


def test_log_holds_what_the_screen_shows_and_is_appended_to(tmp_path, capsys):
    log = tmp_path / "deep" / "train.log"
    for text in ("first", "\x1b[31msecond\x1b[0m"):
        with log_to(log):
            print(text)
            print("complaint", file=sys.stderr)
    captured = capsys.readouterr()
    assert captured.out == "first\n\x1b[31msecond\x1b[0m\n"
    assert captured.err == "complaint\n" * 2
    lines = log.read_text().splitlines()
    told = [line for line in lines if line and not line.startswith("===")]
    assert told == ["first", "complaint", "second", "complaint"]
    assert sum(line.startswith("===") for line in lines) == 2
    print("afterwards")
    assert "afterwards" not in log.read_text()


class Screen(io.StringIO):
    """A file on a disk that is full for a while, or a pipe that nobody reads any more."""

    code: int | None = None

    def write(self, text):
        if self.code is not None:
            raise OSError(self.code, os.strerror(self.code))
        return super().write(text)


def test_screen_that_is_a_file_on_a_full_disk_does_not_end_what_is_shown_there(tmp_path, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    with log_to(tmp_path / "train.log"):
        screen.code = errno.ENOSPC
        print("unseen", flush=True)
        screen.code = None
        print("seen", flush=True)
        screen.code = errno.EPIPE
        print("for nobody", flush=True)
    assert screen.getvalue() == "seen\n"
    assert "unseen\nseen\nfor nobody\n" in (tmp_path / "train.log").read_text()


PRINTING = r"""
import sys
from experiments.command_line import log_to, main
from experiments.reporting.tables import show
from contextlib import nullcontext

def verb(words):
    with log_to(words[0]) if words else nullcontext():
        for i in range(20_000):
            print(f"line {i}")
        print("\u00b1", "\udcff")
        show("\u00b1 \u2501")
    open("ended", "w").close()

main(verb)
"""


def printing(folder, *words, shell="{}", **env):
    """Run a command that prints a lot, and what not every screen can show, in a shell."""
    line = shell.format(shlex.join([sys.executable, "-c", PRINTING, *words]))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("words", [(), ("train.log",)])
@pytest.mark.parametrize("shell", ["{} | head -n 1", "{} >&-", "{} 2>&1 | head -n 1"])
def test_reader_that_goes_away_does_not_end_the_work(tmp_path, words, shell):
    code, out, err = printing(tmp_path, *words, shell=shell)
    assert (code, err) == (0, "")
    assert out in ("line 0\n", "")
    assert (tmp_path / "ended").exists()
    if words:
        assert "line 19999\n\u00b1 \\udcff\n\u00b1 \u2501\n" in (tmp_path / "train.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_screen_that_cannot_show_all_characters_gets_others(tmp_path, env):
    code, out, err = printing(tmp_path, "train.log", **env)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] in ("\\xb1 \\u2501", "\u00b1 \u2501")
    assert "\u00b1 \\udcff\n\u00b1 \u2501\n" in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_output_that_a_full_disk_does_not_take_is_one_line_unless_a_log_has_it(tmp_path):
    code, _, err = printing(tmp_path, shell="{} > /dev/full")
    assert code == 1
    assert err == "error: [Errno 28] No space left on device\n"
    assert printing(tmp_path, "train.log", shell="{} > /dev/full") == (0, "", "")


def test_log_on_a_disk_that_is_full_by_the_end_does_not_hide_what_ended_the_work(capsys):
    def verb(argv):
        with log_to("/dev/full"):
            print("begins")
            raise WriteError(errno.EIO, "the last checkpoint could not be saved")

    assert exit_code(verb, []) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("begins\n", "error: the last checkpoint could not be saved\n")


def test_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write the log"), log_to(tmp_path / "file" / "train.log"):
        pass


def test_json_is_checked_before_and_written_whole(tmp_path):
    path = tmp_path / "out.json"
    check_json_flag(str(path))
    assert not path.exists()
    write_json_flag(str(path), {"sharpe": float("nan"), "name": ("a", 1)})
    assert json.loads(path.read_text()) == {"sharpe": None, "name": ["a", 1]}
    check_json_flag(None)
    write_json_flag(None, {})


@pytest.mark.parametrize("place", ["file/out.json", "folder"])
def test_json_that_cannot_be_written_is_refused_before_the_work(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="--json"):
        check_json_flag(str(tmp_path / place))


def test_ordinary_errors_are_not_the_users():
    assert not is_user_error(ValueError("x"))
    assert not is_user_error(KeyError("x"))


@pytest.mark.parametrize("verb", ["run", "backtest", "audit", "config"])
def test_verb_refuses_a_wrong_flag_in_one_line(verb, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / f"{verb}.py"), "--colour", "red"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "flag"), [("backtest", "--model"), ("audit", "--num-settings")])
def test_verb_prints_help(verb, flag):
    command = [sys.executable, str(ROOT / "experiments" / f"{verb}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"\n  {flag} " in done.stdout


def test_provenance_names_versions_commit_data_and_command(tmp_path):
    found = collect_provenance(data_fingerprint="abc", argv=["experiments/run.py", "--name", "my run"])
    assert {"python", "ray", "torch", "numpy", "pandas"} <= set(found["versions"])
    assert all(found["versions"][name] for name in ("python", "ray", "torch", "numpy", "pandas"))
    assert found["data_fingerprint"] == "abc"
    assert found["command"] == "experiments/run.py --name 'my run'"
    assert found["started_at"].endswith("+00:00")
    json.dumps(found)


def test_commit_is_none_outside_a_checkout(tmp_path):
    assert git_state(tmp_path) == (None, None)


def test_commit_and_changes_are_read_from_a_checkout(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    commit, dirty = git_state(tmp_path)
    assert len(commit) == 40
    assert dirty is False
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == (commit, True)
