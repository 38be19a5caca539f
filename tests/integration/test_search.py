import json
import os
import shutil

import optuna
import pytest
from commands import PPO, Started, checkpoints, run_here, summary, summary_path, tree

from experiments.cli import exit_code
from experiments.config import parse_run
from experiments.run import run
from experiments.tuning.search import METRIC, STUDY_FILE, _searcher
from experiments.tuning.spaces import SPACES

pytestmark = pytest.mark.usefixtures("ray_session")
SEARCH = [*PPO, "--episodes", "16", "--search.num-trials", "3"]


def study_of(folder):
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / STUDY_FILE}")


def trials_of(folder):
    return json.loads((folder / "trials.json").read_text())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches") / "first"
    assert run_here(folder, *SEARCH, "--json", folder.parent / "first.json") == 0
    return folder


def test_each_trial_stands_once_in_the_study_and_in_the_table(searched):
    trials = study_of(searched).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    rows = trials_of(searched)
    assert len(rows) == 3
    assert sorted(row["ppo.lr"] for row in rows) == sorted(trial.params["overrides/ppo.lr"] for trial in trials)
    assert sorted(row["score"] for row in rows) == pytest.approx(sorted(trial.value for trial in trials))


def test_every_trial_trains_with_what_was_drawn_for_it(searched):
    rates = set()
    for folder in searched.glob("trial_*"):
        rates.add(json.loads((folder / "params.json").read_text())["overrides"]["ppo.lr"])
    assert rates == {row["ppo.lr"] for row in trials_of(searched)}
    assert len(rates) == 3


def test_best_settings_are_a_file_of_settings(searched):
    config, _ = parse_run(["--config", str(searched / "best_config.yaml"), "--name", "new"])
    best = max(trials_of(searched), key=lambda row: row["score"])
    assert (config.algo, config.ppo.lr, config.ppo.lambda_) == ("ppo", best["ppo.lr"], best["ppo.lambda_"])


def test_summary_and_backtest_are_of_the_best_trial(searched):
    found = summary(searched)
    best = max(trials_of(searched), key=lambda row: row["score"])
    assert found["status"] == "complete"
    assert found["best_checkpoint"] == f"trial_{best['trial']}/best_checkpoint"
    meta = json.loads((searched / found["best_checkpoint"] / "checkpoint_meta.json").read_text())
    assert found["best_metric"] == {"name": "sharpe", "value": meta["sharpe"]}
    assert (searched / "backtest" / "backtest.json").exists()
    payload = json.loads((searched.parent / "first.json").read_text())
    assert (payload["summary"], payload["trials"]) == (found, trials_of(searched))


def test_same_command_again_is_already_complete(searched, capsys):
    before = tree(searched)
    assert run_here(searched, *SEARCH) == 0
    assert "search already complete" in capsys.readouterr().out
    assert tree(searched) == before


@pytest.mark.parametrize("words", [["--episodes", "32"], ["--search.num-trials", "4"], ["--capital", "5e5"]])
def test_search_is_not_made_into_another_one(searched, words, capsys):
    assert run_here(searched, *SEARCH, *words) == 2
    assert "cannot be carried on with other settings" in capsys.readouterr().err


def test_checkpoint_of_a_search_is_not_continued(searched, capsys):
    assert exit_code(run, ["--resume", str(checkpoints(searched)[0])]) == 2
    assert "carried on as a whole" in capsys.readouterr().err


@pytest.mark.parametrize("algo", ["qmix", "vdn", "ppo", "dqn"])
def test_same_seed_draws_the_same_settings(tmp_path, algo):
    def draws(name, seed):
        config, _ = parse_run(["--algo", algo, "--search.num-trials", "3", "--seed", str(seed)])
        folder = tmp_path / name
        folder.mkdir()
        searcher = _searcher(config, folder)
        searcher.set_search_properties(METRIC, "max", dict(SPACES[algo]))
        drawn = []
        for i in range(3):
            drawn.append(searcher.suggest(f"{name}{i}"))
            searcher.on_trial_complete(f"{name}{i}", {METRIC: 0.1 * i})
        return drawn

    assert draws("a", 0) == draws("b", 0) != draws("c", 1)


@pytest.mark.slow
def test_failed_search_says_so(tmp_path, capsys):
    words = ["--search.num-trials", "1", "--ppo.vf-loss-coeff", "1e300"]
    assert run_here(tmp_path / "fails", *SEARCH, *words) == 1
    assert "error: no trial finished" in capsys.readouterr().err
    assert summary(tmp_path / "fails")["status"] == "failed"


@pytest.mark.slow
def test_same_seed_finds_the_same(searched, tmp_path):
    assert run_here(tmp_path / "again", *SEARCH) == 0
    shown = [[{**row, "trial": ""} for row in trials_of(folder)] for folder in (searched, tmp_path / "again")]
    assert shown[0] == shown[1]


@pytest.mark.slow
def test_trials_that_fall_behind_are_stopped_early(tmp_path):
    words = [*PPO, "--episodes", "96", "--search.num-trials", "6", "--search.grace-episodes", "16"]
    assert run_here(tmp_path / "asha", *words) == 0
    episodes = [row["episodes"] for row in trials_of(tmp_path / "asha")]
    assert len(episodes) == 6
    assert min(episodes) < 96 <= max(episodes)
    assert summary(tmp_path / "asha")["status"] == "complete"


@pytest.mark.slow
def test_killed_search_carries_on(tmp_path, capfd):
    folder = tmp_path / "killed"
    words = [*PPO, "--episodes", "64", "--search.num-trials", "3", "--search.no-use-asha"]
    with Started(folder, *words) as started:
        while len(list(folder.glob("trial_*/best_checkpoint"))) < 2:
            assert started.process.poll() is None
        started.kill()
    assert summary_path(folder).exists()
    before = {path.parent.name for path in folder.glob("trial_*/params.json")}
    moved = shutil.copytree(folder, tmp_path / "copy" / "killed")
    shutil.rmtree(folder)
    os.rename(moved, folder)
    assert run_here(folder, *words) == 0
    rows = trials_of(folder)
    assert len(rows) == 3
    assert all(row["episodes"] >= 64 for row in rows)
    assert {row["trial"] for row in rows} >= {name.removeprefix("trial_") for name in before}
    states = [trial.state.name for trial in study_of(folder).trials]
    assert states.count("COMPLETE") == 3
    assert "RUNNING" not in states
