"""Which algorithms there are, what each declares, and folders that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from algos.registry import FOLDERS, Algorithm, algorithm, algorithms, groups
from common.errors import InputError
from common.strict import Choice, LogUniform, Uniform

SPACES = {
    "qmix": [
        ("qmix.lr", LogUniform(0.0001, 0.003)),
        ("qmix.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("qmix.target_network_update_freq", Choice((50, 200, 500))),
        ("qmix.n_step", Choice((1, 3, 5))),
        ("qmix.epsilon_decay_steps", Choice((10000, 30000, 100000))),
        ("qmix.mixing_embed_dim", Choice((16, 32, 64))),
    ],
    "vdn": [
        ("qmix.lr", LogUniform(0.0001, 0.003)),
        ("qmix.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("qmix.target_network_update_freq", Choice((50, 200, 500))),
        ("qmix.n_step", Choice((1, 3, 5))),
        ("qmix.epsilon_decay_steps", Choice((10000, 30000, 100000))),
    ],
    "indq": [
        ("indq.lr", LogUniform(0.0001, 0.003)),
        ("indq.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("indq.target_network_update_freq", Choice((50, 200, 500))),
        ("indq.n_step", Choice((1, 3, 5))),
        ("indq.epsilon_decay_steps", Choice((10000, 30000, 100000))),
        ("indq.dueling", Choice((False, True))),
    ],
    "mappo": [
        ("mappo.lr", LogUniform(5e-05, 0.003)),
        ("mappo.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("mappo.lambda_", Uniform(0.85, 1.0)),
        ("mappo.entropy_coeff", LogUniform(0.0001, 0.03)),
        ("mappo.clip_param", Choice((0.05, 0.1, 0.2))),
        ("mappo.num_epochs", Choice((5, 10, 15))),
    ],
    "ippo": [
        ("mappo.lr", LogUniform(5e-05, 0.003)),
        ("mappo.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("mappo.lambda_", Uniform(0.85, 1.0)),
        ("mappo.entropy_coeff", LogUniform(0.0001, 0.03)),
        ("mappo.clip_param", Choice((0.05, 0.1, 0.2))),
        ("mappo.num_epochs", Choice((5, 10, 15))),
    ],
    "maddpg": [
        ("maddpg.actor_lr", LogUniform(5e-05, 0.002)),
        ("maddpg.critic_lr", LogUniform(0.0001, 0.005)),
        ("maddpg.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("maddpg.tau", Choice((0.005, 0.01, 0.05))),
        ("maddpg.n_step", Choice((1, 3, 5))),
        ("maddpg.policy_delay", Choice((1, 2))),
    ],
    "ppo": [
        ("ppo.lr", LogUniform(5e-05, 0.003)),
        ("ppo.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("ppo.lambda_", Uniform(0.85, 1.0)),
        ("ppo.entropy_coeff", LogUniform(0.0001, 0.03)),
        ("ppo.clip_param", Choice((0.1, 0.2, 0.3))),
    ],
    "dqn": [
        ("dqn.lr", LogUniform(0.0001, 0.003)),
        ("dqn.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("dqn.target_network_update_freq", Choice((50, 200, 500))),
        ("dqn.n_step", Choice((1, 3, 5))),
        ("dqn.epsilon_decay_steps", Choice((10000, 30000, 100000))),
    ],
    "sac": [
        ("sac.actor_lr", LogUniform(3e-05, 0.003)),
        ("sac.critic_lr", LogUniform(0.0001, 0.003)),
        ("sac.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("sac.tau", LogUniform(0.001, 0.05)),
        ("sac.n_step", Choice((1, 3, 5))),
    ],
    "tqc": [
        ("tqc.actor_lr", LogUniform(3e-05, 0.003)),
        ("tqc.critic_lr", LogUniform(0.0001, 0.003)),
        ("tqc.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("tqc.tau", LogUniform(0.001, 0.05)),
        ("tqc.n_step", Choice((1, 3, 5))),
        ("tqc.top_quantiles_to_drop_per_net", Choice((0, 2, 5))),
    ],
    "impala": [
        ("impala.lr", LogUniform(5e-05, 0.003)),
        ("impala.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("impala.entropy_coeff", LogUniform(0.0001, 0.03)),
        ("impala.vf_loss_coeff", Choice((0.25, 0.5, 1.0))),
    ],
    "appo": [
        ("appo.lr", LogUniform(5e-05, 0.003)),
        ("appo.gamma", Choice((0.9, 0.97, 0.99, 0.995))),
        ("appo.entropy_coeff", LogUniform(0.0001, 0.03)),
        ("appo.vf_loss_coeff", Choice((0.25, 0.5, 1.0))),
        ("appo.clip_param", Choice((0.1, 0.2, 0.4))),
    ],
}
"""What searches have always drawn, in their order: another order would draw other trials from the same seed."""


@pytest.fixture
def folders(monkeypatch):
    """Name folders of algorithms; what is found is forgotten before and after."""
    path = list(sys.path)

    def name(*found):
        monkeypatch.setenv(FOLDERS, os.pathsep.join(map(str, found)))
        monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        algorithms.cache_clear()

    yield name
    algorithms.cache_clear()
    sys.path[:] = path


def write(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "__init__.py").write_text(text, encoding="utf-8")
    return folder


def test_each_algorithm_draws_what_it_always_drew_in_the_same_order():
    found = {a.name: [(f"{a.group}.{n}", r) for n, r in a.ranges.items()] for a in algorithms().values()}
    assert found == SPACES


def test_declarations_import_nothing_heavy():
    code = (
        "import sys; from algos.registry import algorithms; algorithms(); "
        "print([m for m in ('torch', 'ray', 'gymnasium', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"--algo is 'mapo', which does not exist \(did you mean 'mappo'"):
        algorithm("mapo")


def test_a_name_of_before_is_answered_with_todays():
    with pytest.raises(
        InputError, match=r"^--algo iql is called indq now: give --algo indq, and --indq\.\* for its se"
    ):
        algorithm("iql")


def test_a_setting_that_is_unused_or_does_not_exist_cannot_be_searched():
    plain = {"name": "x", "settings": algorithm("vdn").settings, "configs": {"team": "a:b"}}
    with pytest.raises(ValueError, match="has no setting 'nothing'"):
        Algorithm(**plain, searched=("nothing",))
    with pytest.raises(ValueError, match="'lr' is searched, but has no range or is unused"):
        Algorithm(**plain, searched=("lr",), unused=("lr",))


def test_a_folder_of_ones_own_is_found(folders, tmp_path):
    text = (
        "from algos.registry import Algorithm\nfrom algos.qmix.config import QMIXSettings\n"
        "ALGORITHMS = (Algorithm(name='mine', settings=QMIXSettings, configs={'team': 'a:b'}),)\n"
    )
    folders(write(tmp_path / "found_by_test", text))
    assert "mine" in algorithms()
    assert groups()["mine"] is algorithm("vdn").settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "broken_{n} cannot be used: ZeroDivisionError"),
        ("", "broken_{n} declares no algorithm"),
        (
            "from algos.dqn import ALGORITHMS",
            "broken_{n}: there is an algorithm 'dqn' already",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(folders, tmp_path, text, message):
    n = abs(hash(text)) % 10**9
    folders(write(tmp_path / f"broken_{n}", text))
    with pytest.raises(InputError, match=message.format(n=n)):
        algorithms()


def test_a_folder_that_is_no_package_is_named(folders, tmp_path):
    folders(tmp_path)
    with pytest.raises(InputError, match=r"is no package: it has no __init__\.py"):
        algorithms()


def test_a_verb_names_a_broken_folder_in_one_line(tmp_path):
    folder = write(tmp_path / "broken", "1 / 0")
    code = "import experiments.settings.run_config"
    environment = os.environ | {FOLDERS: str(folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == f"error: {folder} cannot be used: ZeroDivisionError: division by zero\n"
