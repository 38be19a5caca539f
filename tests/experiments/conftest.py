"""What several folders share: a trainable with a clock, checkpoints and who writes them, two machines and one store."""

import pytest
from clocked import Clocked
from machines import Machine
from ray.rllib.algorithms.algorithm import Algorithm
from sample_runs import config_of
from tune_plans import PLAN, write_config, write_tune_files

from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.tune_files import keep_copies
from experiments.runs.restorable import let_go
from experiments.tuning import run_trainable


@pytest.fixture
def clocked(monkeypatch):
    def step(self):
        self.ended += 4
        return {}

    monkeypatch.setattr(Algorithm, "step", step)
    monkeypatch.setattr(run_trainable, "flat_weights", lambda algorithm: {})

    def steps(scores, **settings):
        trainable, results = Clocked(config_of("qmix", **settings), scores), []
        while not results or not results[-1]["done"]:
            results.append(trainable.step())
        return results

    return steps


@pytest.fixture(autouse=True)
def _let_go():
    """What a test has made ready for Tune is held by nobody after it."""
    yield
    let_go()


@pytest.fixture
def checkpoints(tmp_path):
    return TrialCheckpoints(tmp_path / "trial_0")


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
    assert keep_copies(staging, folder, PLAN)
    return folder
