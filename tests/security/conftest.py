"""A run that somebody else may have written, and what beside it must stay as it is."""

import shutil
import tempfile

import pytest
from commands import QMIX, run_here
from readers import READERS
from sample_runs import make_run
from tampering import content

from common.errors import InputError
from experiments.builders import algorithms
from experiments.tuning import disk_use, session


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """Has a run read by one of the commands, up to where it would start Ray; returns all that is said."""

    def refuse(*args, **kwargs):
        raise InputError("Ray would be started")

    def said_by(reader, path):
        READERS[reader](path, tmp_path)
        return " ".join(" ".join(capsys.readouterr()).split())

    monkeypatch.setattr(session, "start_ray", refuse)
    monkeypatch.setattr(algorithms, "check_algorithm", lambda *args: None)
    monkeypatch.setattr(disk_use, "told_disk_use", lambda *args, **kwargs: None)
    return said_by


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
