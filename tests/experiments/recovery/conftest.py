"""Checkpoints and who writes them; two machines and one store; a run with the files that Tune keeps of it."""

from contextlib import closing

import pytest
from machines import Machine
from tune_plans import write_config, write_tune_files

from experiments.recovery.places import let_go
from experiments.recovery.scribe import Scribe
from experiments.recovery.shelf import CheckpointShelf
from experiments.recovery.tune_files import keep_copies


@pytest.fixture(autouse=True)
def _let_go():
    """What a test has made ready for Tune is held by nobody after it."""
    yield
    let_go()


@pytest.fixture
def shelf(tmp_path):
    return CheckpointShelf(tmp_path / "trial_0")


@pytest.fixture
def scribe():
    with closing(Scribe()) as made:
        yield made


@pytest.fixture
def address(tmp_path):
    return f"file://{tmp_path}/store/dow"


@pytest.fixture
def first(tmp_path, address):
    machine = Machine(tmp_path / "first", address)
    machine.start()
    return machine


@pytest.fixture
def second(tmp_path, address):
    return Machine(tmp_path / "second", address)


@pytest.fixture
def run(tmp_path):
    """A run folder with Tune's files and copies of them, of a first session: its staging folder holds no plan."""
    staging, folder = tmp_path / "staging", tmp_path / "run"
    write_tune_files(staging)
    (staging / "tuner.pkl").unlink()
    write_tune_files(folder)
    write_config(folder)
    assert keep_copies(staging, folder)
    return folder
