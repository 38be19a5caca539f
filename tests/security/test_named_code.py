"""A record may name any function that Python can import as an environment: it is called only where a person says so."""

import json

import pytest
from commands import QMIX, checkpoints, run_here
from sample_runs import config_of, write_record

from experiments.backtest import run as backtest
from experiments.checkpoints import run as verb
from experiments.command_line import exit_code
from experiments.runs.models import load_policy
from experiments.runs.record import read_run_record, write_run_record

pytestmark = pytest.mark.usefixtures("ray_session")


def name_code(model, **settings):
    """Change what a record says of its settings, as whoever sends it can."""
    record = dict(vars(read_run_record(model)))
    write_run_record(**{**record, "config": {**record["config"], **settings}})


@pytest.mark.parametrize("settings", [{"env": "os:system"}, {"hooks": ["os:system"]}], ids=["env", "hooks"])
def test_code_that_a_record_names_is_not_run(model, tmp_path, capsys, settings):
    mark = tmp_path / "code-was-run"
    name_code(model, **settings, env_settings=[f"command=touch {mark}"] if "env" in settings else [])
    assert run_here(model, "--episodes", 24) == 2
    assert "os:system in this command too, or --trust to run it" in capsys.readouterr().err
    assert run_here(tmp_path / "branch", "--branch-from", model, "--episodes", 24) == 2
    run_here(tmp_path / "new", "--load-model", model, "--episodes", 8)
    run_here(model, "--resume", checkpoints(model)[-1], "--episodes", 24)
    exit_code(backtest, ["--model", str(model), "--out", str(tmp_path / "backtest")])
    exit_code(verb, ["verify", str(model)])
    exit_code(verb, ["export", str(model), "--out", str(tmp_path / "export")])
    assert load_policy(model) is not None
    assert not mark.exists()


@pytest.mark.parametrize("file", ["search.json", "trial_00000/params.json"])
def test_code_that_a_search_claims_to_have_drawn_is_not_run(tmp_path, capsys, file):
    folder, mark = tmp_path / "search", tmp_path / "code-was-run"
    write_record(folder, config_of("qmix", episodes=8, search={"num_trials": 1}))
    claimed = {"overrides": {"env": "os:system", "env_settings": [f"command=touch {mark}"]}}
    trial = {"trial_id": "00000", "drawn": {"qmix.lr": 1e-3}, **claimed}
    population = {"boundary": 0, "exploits": [], "num_pending": 0}
    record = {"format": 1, "drawn_names": ["qmix.lr"], "trials": [trial], "rungs": [], "population": population}
    (folder / "trial_00000").mkdir()
    (folder / file).write_text(json.dumps(record if file == "search.json" else claimed))
    assert run_here(folder) == 2
    assert "a search draws settings of algorithms alone, and not 'env'" in capsys.readouterr().err
    assert not mark.exists()


def test_code_of_ones_own_is_named_again_or_trusted(tmp_path, capsys):
    folder = tmp_path / "walk"
    words = ["--env", "foreign_envs:GymWalk", *QMIX[len(QMIX) - 4 :], "--evaluation-episodes", "2"]
    assert run_here(folder, *words, "--episodes", 16) == 0
    assert run_here(folder, "--episodes", 32) == 2
    assert "--env foreign_envs:GymWalk in this command too" in capsys.readouterr().err
    assert run_here(folder, "--env", "foreign_envs:GymWalk", "--episodes", 32) == 0
    assert run_here(folder, "--trust", "--episodes", 48) == 0
    assert run_here(folder, "--episodes", 64) == 2, "it is asked for each time"
