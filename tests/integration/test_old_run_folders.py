"""Run folders that an earlier version has written (commit 4ad5f17): still carried on, backtested and exported."""

import json
import tarfile
from pathlib import Path

import pytest
from commands import run_here, summary

from experiments.backtest import run as backtest
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code
from experiments.runs.models import load_policy

FIXTURES = Path(__file__).parents[1] / "fixtures"
pytestmark = pytest.mark.usefixtures("ray_session")


def unpacked(name, folder):
    with tarfile.open(FIXTURES / f"{name}-4ad5f17.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


@pytest.fixture
def old_run(tmp_path):
    """Independent Q-learning, which was called iql then, complete at 24 episodes."""
    return unpacked("old-run", tmp_path)


@pytest.fixture
def old_search(tmp_path):
    """Two trials of PPO, complete."""
    return unpacked("old-search", tmp_path)


def test_old_run_carries_on(old_run, capsys):
    assert run_here(old_run) == 0
    assert "training already complete" in capsys.readouterr().out
    before = summary(old_run)
    assert run_here(old_run, "--episodes", 32) == 0
    after = summary(old_run)
    assert (after["status"], after["episodes"]) == ("complete", 32)
    assert after["weights_sha256"] != before["weights_sha256"]
    lines = (old_run / "trial_0" / "result.json").read_text().splitlines()
    iterations = [json.loads(line)["training_iteration"] for line in lines]
    assert iterations == list(range(1, len(iterations) + 1)), "it goes on where it stood"


@pytest.mark.parametrize("name", ["old-run", "old-search"])
def test_old_models_are_backtested_and_exported(tmp_path, name):
    folder = unpacked(name, tmp_path)
    before = json.loads((folder / "backtest" / "backtest.json").read_text())["strategy"]
    assert exit_code(backtest, ["--model", str(folder), "--out", str(tmp_path / "again")]) == 0
    after = json.loads((tmp_path / "again" / "backtest.json").read_text())["strategy"]
    assert after["total_return"] == pytest.approx(before["total_return"], abs=1e-9)
    assert after["num_trades"] == before["num_trades"]
    assert exit_code(checkpoints, ["export", str(folder), "--out", str(tmp_path / "export")]) == 0
    assert list((tmp_path / "export").rglob("*.safetensors"))
    assert load_policy(folder) is not None


def test_old_search_is_complete_and_extended(old_search, capsys):
    assert run_here(old_search) == 0
    assert "search already complete" in capsys.readouterr().out
    assert run_here(old_search, "--search.num-trials", 3) == 0
    assert len(json.loads((old_search / "trials.json").read_text())) == 3
