"""What tests of a user's mistakes share: no Ray, one line on stderr, and a run that was killed."""

import json
import pickle
import shutil

import pytest
from sample_runs import write_record

from common.manifests import seal
from experiments.command_line import exit_code
from experiments.run import run
from experiments.settings.run_config import config_from_json

TINY = {"data": {"synthetic": {"num_assets": 3, "num_bars": 600}}, "floor": {"horizon_bars": 20}}


@pytest.fixture
def no_ray(tmp_path, monkeypatch):
    """No mistake may come so far as to start Ray."""
    import ray

    def refuse(*args, **kwargs):
        raise AssertionError("the mistake was not seen before Ray was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def mistake(capsys):
    """Runs a command that must be refused; returns the line."""

    def check(*argv, verb=run):
        assert exit_code(verb, [str(word) for word in argv]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.out + captured.err
        return captured.err.removeprefix("error: ")

    return check


@pytest.fixture
def folder(tmp_path):
    """A run that was killed: its settings, a whole and a damaged checkpoint, and what Tune knows of it."""
    folder = tmp_path / "results" / "old"
    config = config_from_json(TINY | {"name": "old"})
    write_record(folder, config)
    checkpoint = folder / "trial_0" / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint_meta.json").write_text(json.dumps({"total_steps": 10, "is_best": True}))
    seal(checkpoint)
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint_000001"))
    (checkpoint.with_name("checkpoint_000001") / "checkpoint_meta.json").write_text("{}")
    (folder / "summary.json").write_text(json.dumps({"status": "running", "episodes": 8}))
    (folder / "tuner.pkl").write_bytes(pickle.dumps({}))
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text('{"trial_data": []}')
    return folder
