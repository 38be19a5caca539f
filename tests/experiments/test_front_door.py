"""Help, refusals and lists are quick: what takes seconds to import waits until the work begins."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "ray", "pandas", "numpy", "gymnasium", "pettingzoo", "scipy", "matplotlib", "pyarrow", "optuna"}
DOORS = (
    *[(verb, "--help") for verb in ("run", "backtest", "audit", "score", "bench", "evaluate", "checkpoints", "config")],
    ("run", "--help", "floor.costs"),
    ("run", "--algo", "nope"),
    ("run", "--qmix.lrr", "1"),
    ("run", "--episodes", "many"),
    ("run", "--config", "missing.yaml"),
    ("backtest", "--modell", "x"),
    ("backtest", "--model", "missing"),
    ("audit", "--floor.costs.lot-size", "-1"),
    ("score", "--algo", "nope"),
    ("bench", "nothing"),
    ("evaluate", "--folds", "0"),
    ("checkpoints", "list", "missing"),
    ("config",),
)
TIMED = (("run", "--help"), ("run", "--algo", "nope"), ("checkpoints", "list", "."), ("config",))
MOST_RATIO = 3.0


def command(door):
    verb, *words = door
    return [str(ROOT / "experiments" / f"{verb}.py"), *words]


@pytest.fixture
def some_run(tmp_path):
    """A folder in which a run has left a checkpoint."""
    folder = tmp_path / "run" / "trial_0" / "checkpoint_000001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("door", [*DOORS, ("checkpoints", "list", ".")], ids=" ".join)
def test_front_door_opens_without_what_is_heavy(door, some_run):
    script = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print('heavy:', *sorted({HEAVY!r} & set(sys.modules))))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command(door)], capture_output=True, text=True, cwd=some_run, check=False
    )
    assert done.stdout.splitlines()[-1] == "heavy:", door
    assert "Traceback" not in done.stderr


BEFORE_TRAINING = """
import sys
from experiments.builders.environments import check_actions, environment_of
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning import session, training, trainables

run = RunConfig()
environment = environment_of(run)
check_actions(run.algo, environment)
assert environment.scaler and environment.agents and environment.lines()
trainables.trainable_class(run).default_resource_request({"run": config_to_json(run)})
print(*sorted({"torch", "ray.rllib", "ray.tune"} & set(sys.modules)))
"""


def test_the_process_that_tune_runs_in_imports_neither_torch_nor_rllib():
    done = subprocess.run([sys.executable, "-c", BEFORE_TRAINING], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["ray.tune"]


def cpu_s(words, folder):
    """CPU time, user and system, of one Python process with all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, cwd=folder, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_front_door_costs_less_than_three_times_the_import_of_pandas(some_run):
    """CPU times in one run, taken in turns, so that a busy or slow machine changes both sides alike."""
    rounds = [
        (cpu_s(["-c", "import pandas"], some_run), *(cpu_s(command(door), some_run) for door in TIMED))
        for _ in range(3)
    ]
    pandas_s, *doors_s = map(statistics.median, zip(*rounds, strict=True))
    ratios = {" ".join(door): used / pandas_s for door, used in zip(TIMED, doors_s, strict=True)}
    assert max(ratios.values()) <= MOST_RATIO, ratios
