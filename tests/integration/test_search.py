import json
import os
import shutil

import optuna
import pytest
from commands import MARKET, PPO, QMIX, Started, checkpoints, meta, run_here, summary, summary_path, tree

from algos.policy import flat_weights, weights_sha256
from experiments.command_line import exit_code
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import SEARCH_FILE
from experiments.run import run
from experiments.runs.run import find_run
from experiments.search.study import STUDY_FILE
from experiments.settings.run_config import config_to_json
from experiments.tuning.run_trainable import algorithm_class

pytestmark = pytest.mark.usefixtures("ray_session")
DQN = [*MARKET, "--algo", "dqn", "--dqn.learning-starts", "64"]
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
    assert sorted(row["ppo.lr"] for row in rows) == sorted(trial.params["ppo.lr"] for trial in trials)
    assert sorted(row["score"] for row in rows) == pytest.approx(sorted(trial.value for trial in trials))


def test_every_trial_trains_with_what_was_drawn_for_it(searched):
    rates = set()
    for folder in searched.glob("trial_*"):
        rates.add(json.loads((folder / "params.json").read_text())["overrides"]["ppo.lr"])
    assert rates == {row["ppo.lr"] for row in trials_of(searched)}
    assert len(rates) == 3


def test_search_says_what_its_trials_train_in(searched):
    said, _, _ = (searched / "train.log").read_text().partition("drawn: ")
    assert "built-in synthetic market" in said


def test_best_settings_are_a_file_of_settings(searched):
    config = find_run(["--config", str(searched / "best_config.yaml"), "--name", "new"]).config
    best = max(trials_of(searched), key=lambda row: row["score"])
    assert (config.algo, config.ppo.lr, config.ppo.lambda_) == ("ppo", best["ppo.lr"], best["ppo.lambda_"])


def test_best_settings_alone_repeat_the_best_trial(searched, tmp_path):
    assert run_here(tmp_path / "again", "--config", searched / "best_config.yaml") == 0
    best = TrialCheckpoints(searched / f"trial_{summary(searched)['search']['best_trial']}").published()[-1]
    assert summary(tmp_path / "again")["weights_sha256"] == meta(best)["weights_sha256"]


def test_summary_and_backtest_are_of_the_best_trial(searched):
    found = summary(searched)
    best = max(trials_of(searched), key=lambda row: row["score"])
    assert found["status"] == "complete"
    assert found["best_checkpoint"] == f"trial_{best['trial']}/best_checkpoint"
    assert found["search"] == {"num_trials": 3, "num_begun": 3, "num_ended": 3, "best_trial": best["trial"]}
    assert found["best_metric"] == {"name": "sharpe", "value": meta(searched / found["best_checkpoint"])["sharpe"]}
    latest = TrialCheckpoints(searched / f"trial_{best['trial']}").published()[-1]
    assert searched / found["latest_checkpoint"] == latest
    assert found["weights_sha256"] == meta(latest)["weights_sha256"]
    assert found["episodes"] == meta(latest)["episode"] >= found["target_episodes"] == 16
    assert (searched / "backtest" / "backtest.json").exists()
    payload = json.loads((searched.parent / "first.json").read_text())
    assert (payload["summary"], payload["trials"]) == (found, trials_of(searched))


def test_same_command_again_is_already_complete(searched, capsys):
    before = tree(searched)
    assert run_here(searched, *SEARCH) == 0
    assert "search already complete" in capsys.readouterr().out
    assert tree(searched) == before


@pytest.mark.parametrize("words", [["--episodes", "32"], ["--capital", "5e5"]])
def test_search_is_not_made_into_another_one(searched, words, capsys):
    assert run_here(searched, *SEARCH, *words) == 2
    assert "cannot be carried on with other settings" in capsys.readouterr().err


def test_what_is_drawn_cannot_be_set_by_hand_any_more(searched, tmp_path, capsys):
    folder = shutil.copytree(searched, tmp_path / "first")
    rate = json.loads((folder / "config.json").read_text())["config"]["ppo"]["lr"]
    assert run_here(folder, "--search.num-trials", "4", "--ppo.lr", str(rate)) == 2
    assert "error: --ppo.lr cannot be set by hand" in capsys.readouterr().err
    assert len(list(folder.glob("trial_*"))) == 3


def test_search_that_is_over_and_was_renamed_takes_more_trials(searched, tmp_path, capsys):
    folder = shutil.copytree(searched, tmp_path / "renamed")
    assert exit_code(run, ["--resume", str(folder)]) == 0
    assert f"search already complete: {folder}" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in folder.glob("trial_*/result.json")}
    assert run_here(folder, "--search.num-trials", "4") == 0
    rows = {row["trial"]: row for row in trials_of(folder)}
    assert {row["trial"]: row for row in trials_of(searched)}.items() < rows.items()
    assert {path: path.read_bytes() for path in before} == before
    assert [trial.state.name for trial in study_of(folder).trials] == ["COMPLETE"] * 4
    assert study_of(folder).trials[3].params["ppo.lr"] == rows["00003"]["ppo.lr"]
    found = summary(folder)
    assert (found["status"], found["search"]["num_ended"]) == ("complete", 4)
    assert found["search"]["best_trial"] == max(rows, key=lambda name: rows[name]["score"])


def test_search_does_not_forget_trials(searched, capsys):
    before = tree(searched)
    assert run_here(searched, "--search.num-trials", "2") == 2
    assert "3 trials" in capsys.readouterr().err
    assert tree(searched) == before


def test_checkpoint_of_a_search_is_not_continued(searched, capsys):
    assert exit_code(run, ["--resume", str(checkpoints(searched)[0])]) == 2
    assert "carried on as a whole" in capsys.readouterr().err


@pytest.mark.slow
def test_failed_search_says_so(tmp_path, capsys):
    words = ["--search.num-trials", "1", "--ppo.vf-loss-coeff", "1e300"]
    assert run_here(tmp_path / "fails", *SEARCH, *words) == 1
    assert "error: no trial finished" in capsys.readouterr().err
    assert summary(tmp_path / "fails")["status"] == "failed"


@pytest.mark.slow
def test_same_seed_finds_the_same(searched, tmp_path):
    assert run_here(tmp_path / "again", *SEARCH) == 0
    assert trials_of(searched) == trials_of(tmp_path / "again")


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
    words = [*PPO, "--episodes", "64", "--search.num-trials", "3", "--search.scheduler", "none"]
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
    assert len(states) == 3


@pytest.mark.filterwarnings("ignore:.*Overriding environment.*:UserWarning")  # gymnasium, at a second algorithm
@pytest.mark.parametrize(("algo", "words"), [("ppo", PPO), ("qmix", QMIX), ("dqn", DQN)])
def test_checkpoint_of_another_trial_brings_weights_and_not_its_settings(tmp_path, algo, words):
    config = find_run(words).config
    better, worse = (
        algorithm_class(config)(
            {"run": config_to_json(config), "overrides": {f"{algo}.lr": lr, f"{algo}.gamma": gamma}}
        )
        for lr, gamma in ((1e-3, 0.9), (2e-4, 0.97))
    )
    better.train()
    better.save_checkpoint(str(tmp_path))
    assert weights_sha256(flat_weights(worse)) != weights_sha256(flat_weights(better))
    worse.load_checkpoint(str(tmp_path))
    assert weights_sha256(flat_weights(worse)) == weights_sha256(flat_weights(better))
    optimizers = worse.learner_group._learner._optimizer_lr_schedules
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {2e-4}
    assert worse.config.gamma == 0.97
    for algorithm in (better, worse):
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)


STATE = "experiment_state-*.json"
DAMAGE = {
    "tuner.pkl cut": lambda f: os.truncate(f / "tuner.pkl", 100),
    "tuner.pkl gone": lambda f: (f / "tuner.pkl").unlink(),
    "state cut": lambda f: os.truncate(sorted(f.glob(STATE))[-1], 500),
    "state gone": lambda f: [path.unlink() for path in f.glob(STATE)],
    "record cut": lambda f: os.truncate(f / SEARCH_FILE, 700),
    "record gone": lambda f: (f / SEARCH_FILE).unlink(),
    "study cut": lambda f: os.truncate(f / STUDY_FILE, 5000),
    "study gone": lambda f: (f / STUDY_FILE).unlink(),
}
SET_ASIDE = {"record cut": SEARCH_FILE, "study cut": STUDY_FILE}
"""Our own files; Tune's are read by nobody."""


@pytest.fixture
def as_if_killed(searched, tmp_path):
    """The search, killed just before its table was written."""
    folder = shutil.copytree(searched, tmp_path / searched.name)
    shutil.rmtree(folder / "backtest")
    for name in ("trials.json", "best_config.yaml"):
        (folder / name).unlink()
    content = json.loads(summary_path(folder).read_text())
    summary_path(folder).write_text(json.dumps(content | {"status": "running"}))
    return folder


@pytest.mark.parametrize("damage", ["state cut", "record cut"])
def test_damaged_files_of_a_search_are_set_aside_and_nothing_is_trained_again(searched, as_if_killed, damage, capsys):
    DAMAGE[damage](as_if_killed)
    before = {path: path.read_bytes() for path in as_if_killed.glob("trial_*/result.json")}
    assert run_here(as_if_killed, *SEARCH) == 0
    assert trials_of(as_if_killed) == trials_of(searched)
    assert {path: path.read_bytes() for path in before} == before
    assert (as_if_killed / "best_config.yaml").read_bytes() == (searched / "best_config.yaml").read_bytes()
    assert [(t.state, t.params, t.values) for t in study_of(as_if_killed).trials] == [
        (t.state, t.params, t.values) for t in study_of(searched).trials
    ]
    shown = [line for line in capsys.readouterr().out.splitlines() if "is damaged" in line]
    aside = [f"damaged-{SET_ASIDE[damage]}"] if damage in SET_ASIDE else []
    assert [path.name for path in as_if_killed.glob("damaged-*")] == aside
    assert len(shown) == len(aside)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_search_outlives_damage_to_any_of_its_files(searched, as_if_killed, damage):
    DAMAGE[damage](as_if_killed)
    assert run_here(as_if_killed, *SEARCH) == 0
    assert trials_of(as_if_killed) == trials_of(searched)
    assert len(study_of(as_if_killed).trials) == 3
    assert len(list(as_if_killed.glob("damaged-*"))) == (damage in SET_ASIDE)


@pytest.mark.slow
def test_search_is_carried_on_by_its_name_alone(searched, tmp_path):
    """Settings that were fixed by hand stay fixed, although the command does not name them again."""
    folder = tmp_path / "search"
    words = [*SEARCH, "--ppo.gamma", "0.9"]
    with Started(folder, *words) as started:
        while not list(folder.glob("trial_*/best_checkpoint")):
            assert started.process.poll() is None
        started.kill()
    assert run_here(folder) == 0
    assert all("ppo.gamma" not in row for row in trials_of(folder))
    assert len(trials_of(folder)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_interrupted_search_writes_checkpoints_and_carries_on(tmp_path, scheduler):
    folder = tmp_path / "stopped"
    words = [*PPO, "--episodes", "128", "--search.num-trials", "2", "--search.scheduler", scheduler]
    with Started(folder, *words) as started:
        while not list(folder.glob("trial_*/best_checkpoint")):
            assert started.process.poll() is None
        assert started.interrupt() == 130
    assert "interrupted; the same command carries on" in started.out.read_text()
    assert run_here(folder, *words) == 0
    assert [row["trial"] for row in sorted(trials_of(folder), key=lambda row: row["trial"])] == ["00000", "00001"]
    assert len(study_of(folder).trials) == 2


@pytest.mark.slow
def test_population_takes_over_weights_and_settings(tmp_path, monkeypatch):
    words = [*PPO, "--episodes", "48", "--keep", "9", "--search.num-trials", "3", "--search.scheduler", "pbt"]
    folder = tmp_path / "population"
    assert run_here(folder, *words, "--search.perturbation-interval", "24") == 0
    found = json.loads((folder / SEARCH_FILE).read_text())
    (exploit,) = found["population"]["exploits"]
    copied = folder / f"trial_{exploit['trial_id']}" / exploit["checkpoint"]
    source = folder / f"trial_{exploit['source']}" / exploit["source_checkpoint"]
    assert meta(copied)["weights_sha256"] == meta(source)["weights_sha256"]
    lines = [json.loads(line) for line in (copied.parent / "result.json").read_text().splitlines()]
    assert [line["training_iteration"] for line in lines] == list(range(1, len(lines) + 1))
    before, after = ([line for line in lines if (line["episodes"] > 24) is late] for late in (False, True))
    trial = next(trial for trial in found["trials"] if trial["trial_id"] == exploit["trial_id"])
    assert {line["config"]["overrides"]["ppo.lr"] for line in before} == {trial["drawn"]["ppo.lr"]}
    assert {line["config"]["overrides"]["ppo.lr"] for line in after} == {exploit["overrides"]["ppo.lr"]}
    rates = {r["default_optimizer_learning_rate"] for line in after for r in line["learners"].values() if len(r) > 9}
    assert list(rates) == [pytest.approx(exploit["overrides"]["ppo.lr"])]
    assert json.loads((copied.parent / "params.json").read_text())["overrides"] == exploit["overrides"]
