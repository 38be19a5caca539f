"""A model that somebody has sent runs no code, whatever its files hold and however well they are sealed."""

import base64
import json
import pickle
from contextlib import suppress

import pytest
from commands import checkpoints, run_here

from common.errors import IncompatibleError, InputError
from common.manifests import seal
from experiments.backtest import run as backtest
from experiments.checkpoints import run as verb
from experiments.command_line import exit_code
from experiments.runs.models import load_policy

pytestmark = pytest.mark.usefixtures("ray_session")
OLD_NAMES = ("algorithm_state.pkl", "exact.pkl")
OLD_MODULE = "learner_group/learner/rl_module/team"
OLD_MODULE_NAMES = ("class_and_ctor_args.pkl", "module_state.pkl", "metadata.json")


class Bomb:
    """Leaves a file where somebody unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "code-was-run"


def sealed_folders(model):
    return [*checkpoints(model), model / "trial_0" / "best_checkpoint"]


def plant_old_files(model, bomb):
    """What earlier versions wrote, and RLlib still reads by itself."""
    for folder in sealed_folders(model):
        (folder / OLD_MODULE).mkdir(parents=True)
        for name in (*OLD_NAMES, *(f"{OLD_MODULE}/{name}" for name in OLD_MODULE_NAMES)):
            (folder / name).write_bytes(bomb)


def plant_in_modules(model, bomb):
    """What only RLlib's own way of loading a network would read."""
    for folder in sealed_folders(model):
        (folder / OLD_MODULE).mkdir(parents=True)
        for name in OLD_MODULE_NAMES:
            (folder / OLD_MODULE / name).write_bytes(bomb)


def plant_in_arrays(model, bomb):
    for folder in sealed_folders(model):
        for path in folder.rglob("*.safetensors"):
            path.write_bytes(bomb)


def plant_in_texts(model, bomb):
    for folder in sealed_folders(model):
        for name in ("state.json", "modules.json", "draws.json", "run_state.json"):
            (folder / name).write_bytes(bomb)


def plant_in_spaces(model, bomb):
    """RLlib writes spaces as text that NumPy may unpickle."""
    array = base64.b64encode(bomb).decode()
    for folder in sealed_folders(model):
        described = json.loads((folder / "modules.json").read_text())
        for module in described.values():
            module["observation_space"] = {
                "space": "box",
                "low": array,
                "high": array,
                "shape": [1],
                "dtype": "float32",
            }
        (folder / "modules.json").write_text(json.dumps(described))


def plant_in_tunes_files(model, bomb):
    """Tune keeps pickles as files, and as text in its account."""
    paths = list(model.rglob("*.pkl"))
    assert paths, "there is a plan of Tune's"
    for path in [*paths, model / "searcher-state-x.pkl", model / "trial_0" / ".tune_metadata"]:
        path.write_bytes(bomb)
    for path in model.glob("experiment_state-*.json"):
        hidden = {"_type": "CLOUDPICKLE_FALLBACK", "value": bomb.hex()}
        path.write_text(json.dumps({"trial_data": [[json.dumps(hidden), json.dumps(hidden)]], "runner_data": hidden}))


def plant_beside_what_is_read(model, bomb):
    plant_in_modules(model, bomb)
    plant_in_tunes_files(model, bomb)


PLANTS = [plant_old_files, plant_beside_what_is_read]
PLANTS += [pytest.param(plant, marks=pytest.mark.slow) for plant in (plant_in_arrays, plant_in_texts, plant_in_spaces)]


@pytest.mark.parametrize("plant", PLANTS)
def test_no_command_runs_what_a_model_holds(model, mark, tmp_path, plant):
    plant(model, pickle.dumps(Bomb(mark)))
    for folder in sealed_folders(model):
        seal(folder)
    words = [str(model)]
    exit_code(verb, ["list", *words])
    exit_code(verb, ["verify", *words])
    exit_code(verb, ["export", *words, "--out", str(tmp_path / "export")])
    exit_code(verb, ["rewrite", *words])
    exit_code(backtest, ["--model", *words, "--out", str(tmp_path / "backtest")])
    with suppress(InputError, IncompatibleError):
        load_policy(model)
    run_here(tmp_path / "new", "--load-model", *words, "--episodes", 8)
    run_here(tmp_path / "branch", "--branch-from", *words, "--episodes", 24, "--max-failures", 0)
    run_here(model, "--episodes", 24, "--max-failures", 0)
    exit_code(verb, ["prune", *words, "--keep", "1", "--yes"])
    assert not mark.exists()


def test_the_bomb_goes_off(mark):
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
