"""An algorithm in a folder of its own, outside this package, is trained, resumed, searched and exported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "__init__.py": """
from algos.registry import DISCRETE, TEAM, Algorithm
from added_vdn.config import Settings

ALGORITHMS = (
    Algorithm(
        name="calm", settings=Settings, configs={TEAM: "added_vdn.algorithm:calm"}, actions=frozenset({DISCRETE}),
        has_replay=True, is_joint=True, searched=("calmness",), modules=("algos.qmix.module:TeamQModule",),
    ),
)
""",
    "config.py": """
from pydantic.dataclasses import dataclass

from algos.qmix.config import QMIXSettings
from common.strict import STRICT, Uniform, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings(QMIXSettings):
    calmness: float = setting(0.5, gt=0, lt=1, search=Uniform(0.1, 0.9), may_change=True)
    'Share of the step size that is taken.'
""",
    "algorithm.py": """
from dataclasses import asdict

from algos.qmix.algorithm import VDN, VDNConfig
from algos.qmix.config import QMIXSettings


class CalmConfig(VDNConfig):
    def __init__(self, algo_class=None):
        super().__init__(algo_class=algo_class or Calm)


class Calm(VDN):
    @classmethod
    def get_default_config(cls):
        return CalmConfig()


def calm(settings, *, steps_per_iteration):
    plain = asdict(settings)
    share = plain.pop("calmness")
    return CalmConfig().use_settings(QMIXSettings(**plain | {"lr": share * settings.lr}))
""",
}
SMALL = ["--algo", "calm", "--floor.horizon-bars", "16", "--calm.num-envs-per-env-runner", "2"]
SMALL += ["--calm.learning-starts", "16", "--calm.hidden", "8", "--checkpoint-interval", "2"]


@pytest.fixture(scope="module")
def verb(tmp_path_factory):
    """Run a verb of the command line in a process of its own, with the folder named."""
    place = tmp_path_factory.mktemp("added")
    folder = place / "added_vdn"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")

    def run(*words):
        environment = os.environ | {"TRADING_FLOOR_ALGORITHMS": str(folder), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "experiments" / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run, place


def test_it_is_trained_resumed_and_exported(verb):
    run, place = verb
    run("run.py", *SMALL, "--name", "one", "--episodes", "2", "--calm.calmness", "0.25")
    run("run.py", "--name", "one", "--episodes", "4")
    config = json.loads((place / "results/one/config.json").read_text())
    assert str(config).count("'calmness': 0.25") == 1
    assert json.loads((place / "results/one/summary.json").read_text())["status"] == "complete"
    checkpoint = next((place / "results/one").glob("trial_*/checkpoint_*"))
    run("checkpoints.py", "export", str(checkpoint), "--out", "exported")
    assert list((place / "exported").rglob("*.safetensors"))


def test_it_is_searched(verb):
    run, place = verb
    run("run.py", *SMALL, "--name", "many", "--episodes", "2", "--search.num-trials", "2")
    assert "calmness" in (place / "results/many/best_config.yaml").read_text()
