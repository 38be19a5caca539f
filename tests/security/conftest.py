"""Every command that reads a run somebody else may have written, and what beside the run must stay as it is."""

import shutil
import tempfile
from contextlib import suppress

import pytest
from commands import QMIX, run_here
from sample_runs import make_run
from tampering import content

from common.errors import IncompatibleError, InputError
from experiments.backtest import run as backtest
from experiments.builders import algorithms
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code
from experiments.run import run as train
from experiments.runs.models import load_policy
from experiments.runs.restorable import let_go, restorable
from experiments.tuning import disk_use, session


def _loaded(path, tmp_path):
    with pytest.raises((InputError, IncompatibleError)):
        load_policy(path)


def _restored(path, tmp_path):
    with suppress(InputError):
        restorable(path, report=lambda line: None)
    let_go()


def _new(path, tmp_path, flag):
    words = ["--storage", tmp_path / "mine", "--name", "new", flag, path]
    assert exit_code(train, [str(word) for word in words]) == 2


def _resumed(path, tmp_path):
    folder, _, options = str(path).partition("?")
    storage, _, name = folder.rpartition("/")
    assert exit_code(train, ["--storage", f"{storage}{'?' if options else ''}{options}", "--name", name]) == 2


READERS = {
    "list": lambda path, tmp_path: exit_code(checkpoints, ["list", str(path)]),
    "load_policy": _loaded,
    "backtest": lambda path, tmp_path: exit_code(backtest, ["--model", str(path)]) == 2 or pytest.fail("it was tested"),
    "export": lambda path, tmp_path: exit_code(checkpoints, ["export", str(path), "--out", str(tmp_path / "mine/out")]),
    "resume": _resumed,
    "--resume": lambda path, tmp_path: exit_code(train, ["--resume", str(path)]) == 2 or pytest.fail("it went on"),
    "--load-model": lambda path, tmp_path: _new(path, tmp_path, "--load-model"),
    "--branch-from": lambda path, tmp_path: _new(path, tmp_path, "--branch-from"),
    "Tuner.restore": _restored,
}
"""What reads a run folder, or an address in a store; none may go through with what the tests give it."""


@pytest.fixture(params=READERS)
def read(request, tmp_path, monkeypatch):
    """Has a run read by one of the commands, up to where it would start Ray."""

    def refuse(*args, **kwargs):
        raise InputError("Ray would be started")

    monkeypatch.setattr(session, "start_ray", refuse)
    monkeypatch.setattr(algorithms, "check_algorithm", lambda *args: None)
    monkeypatch.setattr(disk_use, "told_disk_use", lambda *args, **kwargs: None)
    return lambda path: READERS[request.param](path, tmp_path)


@pytest.fixture(autouse=True)
def _room(tmp_path, monkeypatch):
    """What the commands may write to: working folders and temporary files."""
    (tmp_path / "mine" / "tmp").mkdir(parents=True)
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "mine" / "work"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "mine" / "tmp"))
    monkeypatch.chdir(tmp_path / "mine")


@pytest.fixture
def others(tmp_path):
    """Files of the user beside the run, and another run of his; returns what asks whether they are what they were."""
    (tmp_path / "victim").write_text("of great value")
    make_run(tmp_path / "others" / "other")
    before = content(tmp_path / "others"), content(tmp_path, depth=1)
    return lambda: (content(tmp_path / "others"), content(tmp_path, depth=1)) == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ray_session):
    """A run folder of QMIX after 16 episodes."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run_here(folder, *QMIX, "--episodes", 16) == 0
    return folder


@pytest.fixture
def model(trained, tmp_path):
    """The same, as somebody has sent it."""
    return shutil.copytree(trained, tmp_path / "sent")
