import json
import re
import shutil

import pytest
from commands import QMIX, checkpoints, episodes_shown, meta, run_command, run_here, summary, tree

from algos.policy import weights_sha256
from algos.snapshots import read_module_states
from experiments.command_line import exit_code
from experiments.reporting.tables import format_metric
from experiments.run import run
from experiments.runs.summary import write_summary
from experiments.tuning import training

pytestmark = pytest.mark.usefixtures("ray_session")
EPISODES = 40
METRICS = {
    *("total_return", "annual_return", "annual_volatility", "sharpe", "sharpe_se", "sharpe_se_hac", "sortino"),
    *("calmar", "max_drawdown", "cvar_95", "turnover", "total_costs", "win_rate", "num_trades", "final_equity"),
}


def sha256_of(checkpoint):
    states = read_module_states(checkpoint)
    return weights_sha256({f"{m}/{name}": value for m, state in states.items() for name, value in state.items()})


def read(path):
    return json.loads(path.read_text())


def backtest_of(folder):
    return read(folder / "backtest" / "backtest.json") | {"folder": str(folder / "backtest")}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run and what its command printed."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = run_command(folder, *QMIX, "--episodes", EPISODES, "--json", folder.parent / "first.json")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def finished(first, tmp_path):
    """The finished run, moved elsewhere under another name."""
    return shutil.copytree(first[0], tmp_path / "moved")


def test_fresh_run_writes_what_other_programs_rely_on(first):
    folder, done = first
    assert done.stderr == ""
    record = read(folder / "config.json")
    assert record["config"]["seed"] == 0
    assert record["config"]["data"]["synthetic"]["num_assets"] == 3
    assert {"versions", "git_commit", "data_fingerprint"} <= set(record["provenance"])
    found = summary(folder)
    assert (found["status"], found["algo"], found["seed"]) == ("complete", "qmix", 0)
    assert found["episodes"] >= found["target_episodes"] == EPISODES
    assert found["agent_steps"] == 3 * found["env_steps"] > 0
    assert set(found["best_metric"]) == {"name", "value"}
    assert found["metrics"]["sharpe"] == meta(folder / found["latest_checkpoint"])["sharpe"]
    log = (folder / "train.log").read_text()
    assert episodes_shown(log) == episodes_shown(done.stdout)
    assert "buy and hold" in log


def test_every_checkpoint_says_what_it_is(first):
    folder, _ = first
    for checkpoint in [*checkpoints(folder), *folder.glob("trial_*/best_checkpoint")]:
        found = meta(checkpoint)
        assert {"episode", "total_steps", "timestamp", "epsilon", "is_best"} <= set(found)
        assert {"profit", "sharpe", "max_drawdown", "num_trades"} <= set(found)
        assert -1.0 <= found["max_drawdown"] <= 0.0, "the sign of a backtest's"
        assert (found["metric_name"], found["metric_value"]) == ("sharpe", found["sharpe"])
        assert found["weights_sha256"] == sha256_of(checkpoint)


def test_summary_hashes_the_weights_of_the_latest_checkpoint(first):
    folder, _ = first
    found = summary(folder)
    assert folder / found["latest_checkpoint"] == checkpoints(folder)[-1]
    assert found["weights_sha256"] == sha256_of(folder / found["latest_checkpoint"])


def test_newest_checkpoints_are_kept_and_the_best_beside_them(first):
    folder, done = first
    kept = [meta(path)["episode"] for path in checkpoints(folder)]
    assert kept == [EPISODES - 8, EPISODES]
    best = meta(folder / summary(folder)["best_checkpoint"])
    assert best["is_best"]
    shown = re.findall(r"sharpe ([-+.\d]+), .*checkpoint", done.stdout)
    assert len(shown) == EPISODES // 8
    assert f"{best['metric_value']:+.2f}" == max(shown, key=float)
    assert summary(folder)["best_metric"] == {"name": "sharpe", "value": best["metric_value"]}


def test_backtest_follows_the_training(first):
    folder, _ = first
    found = read(folder / "backtest" / "backtest.json")
    assert {"period", "costs", "capital", "strategy", "baselines"} <= set(found)
    assert set(found["strategy"]) >= METRICS
    assert set(found["baselines"]) == {
        *("cash", "buy_and_hold", "equal_weight", "minimum_variance", "momentum", "random")
    }
    names = {path.name for path in (folder / "backtest").iterdir()}
    assert {"backtest_results.png", "equity.parquet", "trades.parquet", "weights.parquet"} <= names


def test_json_holds_what_was_printed(first):
    folder, done = first
    found = read(folder.parent / "first.json")
    assert found["summary"] == summary(folder)
    assert found["backtest"] == backtest_of(folder)
    told = found["run"]
    assert (told["folder"], told["algo"], told["target_episodes"]) == (str(folder), "qmix", EPISODES)
    assert told["prices"]["num_bars"] == 600
    assert set(told["splits"]) == {"train", "validation", "test"}
    assert all(name in done.stdout for name in told["agents"])
    assert all(split["start"][:10] in done.stdout for split in told["splits"].values())


def test_same_command_again_is_already_complete_and_changes_nothing(first, tmp_path, capsys):
    folder, _ = first
    before = tree(folder)
    assert run_here(folder, *QMIX, "--episodes", EPISODES, "--json", tmp_path / "again.json") == 0
    shown = capsys.readouterr().out
    assert f"training already complete: {folder} has {EPISODES} episodes (raise" in shown
    assert f"files in {folder / 'backtest'}" in shown
    assert format_metric("total_return", backtest_of(folder)["strategy"]["total_return"]) in shown
    assert tree(folder) == before
    assert read(tmp_path / "again.json") == {"summary": summary(folder), "backtest": backtest_of(folder)}


def test_lower_target_is_said_to_be_reached_by_far(first, capsys):
    folder, _ = first
    assert run_here(folder, "--episodes", 8) == 0
    assert f"has {EPISODES} episodes, more than the 8 asked for" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "[]"])
def test_backtest_that_a_kill_prevented_or_damaged_is_made_up_for(finished, capsys, text):
    (finished / "backtest" / "backtest.json").unlink()
    if text is not None:
        (finished / "backtest" / "backtest.json").write_text(text)
    assert run_here(finished) == 0
    assert (finished / "damaged-backtest").is_dir() == (text is not None)
    assert "already complete" in capsys.readouterr().out
    assert (finished / "backtest" / "backtest.json").is_file()


def test_interrupt_during_the_backtest_is_made_up_for(finished, monkeypatch, capsys):
    def interrupt(run):
        raise KeyboardInterrupt

    words = ["--episodes", EPISODES + 8, "--capital", "2e6"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "conclude", interrupt)
        assert run_here(finished, *words) == 130
    assert f"interrupted; the same command carries on: {finished}" in capsys.readouterr().out
    assert read(finished / "backtest" / "backtest.json")["capital"] == 1e6, "of the run before it trained on"
    assert run_here(finished, "--episodes", EPISODES + 8) == 0
    assert "already complete" in capsys.readouterr().out
    assert read(finished / "backtest" / "backtest.json")["capital"] == 2e6


def test_raised_target_capital_and_interval_continue_a_finished_run(finished, capsys):
    before, log = summary(finished), (finished / "train.log").read_text()
    assert run_here(finished, "--episodes", EPISODES + 32, "--capital", "2e6", "--checkpoint-interval", 16) == 0
    after = summary(finished)
    assert after["episodes"] == EPISODES + 32
    assert after["env_steps"] > before["env_steps"]
    assert min(episodes_shown(capsys.readouterr().out)) >= EPISODES
    assert (finished / "train.log").read_text().startswith(log)
    assert [meta(path)["episode"] for path in checkpoints(finished)] == [EPISODES + 16, EPISODES + 32]
    assert after["weights_sha256"] == sha256_of(finished / after["latest_checkpoint"]) != before["weights_sha256"]
    assert read(finished / "config.json")["config"]["floor"]["capital"] == 2e6
    assert read(finished / "backtest" / "backtest.json")["capital"] == 2e6


def test_run_goes_on_from_a_named_checkpoint(finished, capsys):
    older = checkpoints(finished)[0]
    steps = meta(older)["total_steps"]
    assert run_here(finished, "--resume", older) == 0
    shown = capsys.readouterr().out
    assert "as asked" in shown
    assert min(episodes_shown(shown)) == EPISODES - 8
    new = summary(finished)["latest_checkpoint"]
    assert steps < meta(finished / new)["total_steps"]
    assert meta(finished / new)["episode"] == EPISODES
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]
    assert run_here(finished) == 0, "what was named counts once"
    assert "already complete" in capsys.readouterr().out


def test_lost_plan_is_no_obstacle(finished, capsys):
    (finished / "tuner.pkl").write_bytes(b"torn")
    for path in finished.glob("experiment_state-*.json"):
        path.write_text(path.read_text()[:100])
    assert run_here(finished, "--episodes", EPISODES + 8) == 0
    shown = capsys.readouterr().out
    assert summary(finished)["episodes"] == EPISODES + 8
    assert min(episodes_shown(shown)) >= EPISODES
    drawn = max(finished.glob("basic-variant-state-*.json"))
    drawn.write_bytes(b"")  # Tune was killed while it wrote it, and would draw another trial
    assert run_here(finished, "--episodes", EPISODES + 16) == 0
    assert [path.name for path in finished.glob("trial_*")] == ["trial_0"]
    lines = (finished / "trial_0" / "result.json").read_text().splitlines()
    iterations = [json.loads(line)["training_iteration"] for line in lines]
    assert iterations == list(range(1, len(iterations) + 1))


def test_a_run_that_has_lost_all_checkpoints_is_not_started_over(finished, capsys):
    for path in finished.glob("trial_0/checkpoint_*"):
        shutil.rmtree(path)
    before = tree(finished)
    assert run_here(finished, *QMIX, "--episodes", "64") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "has lost its checkpoints" in err
    best = finished / "trial_0" / "best_checkpoint"
    assert f"--resume {best}" in err
    assert tree(finished) == before
    assert run_here(finished, "--resume", best, "--episodes", "64") == 0
    assert summary(finished)["episodes"] == 64


def test_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_on(finished, capsys):
    newest = checkpoints(finished)[-1]
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    sha256 = summary(finished)["weights_sha256"]
    write_summary(finished, {"status": "running"})
    assert run_here(finished) == 0
    shown = capsys.readouterr().out
    assert f"checkpoint {newest.name} is damaged" in shown
    assert min(episodes_shown(shown)) >= EPISODES - 8
    assert summary(finished)["weights_sha256"] == sha256, "the same iterations give the same weights once more"
    assert (newest.parent / f"damaged-{newest.name}").is_dir()
    assert newest not in checkpoints(finished)


def test_nothing_is_started_over_checkpoints_none_of_which_is_whole(finished, capsys):
    for path in checkpoints(finished):
        (path / "weights.safetensors").unlink()
    write_summary(finished, {"status": "running"})
    for _ in range(2):
        assert run_here(finished) == 2
        err = capsys.readouterr().err
        assert "none of the 2 checkpoints in" in err
        assert err.count("\n") == 1
    assert len(list(finished.glob("trial_0/damaged-checkpoint_*"))) == 2


def test_resume_never_moves_the_earlier_run_aside(finished, capsys):
    before = tree(finished)
    assert run_here(finished, *QMIX, "--resume", "never", "--episodes", "8") == 0
    (aside,) = (path for path in finished.parent.iterdir() if path != finished)
    assert str(aside) in capsys.readouterr().out
    assert tree(aside) == before
    assert summary(finished)["episodes"] == 8


def test_changed_setting_is_refused_by_name(finished, capsys):
    before = tree(finished)
    assert run_here(finished, *QMIX, "--qmix.lr", "0.1", "--seed", "3", "--episodes", EPISODES) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "--qmix.lr was 0.0005 and is now 0.1; --seed was 0 and is now 3" in err
    assert err.count("\n") == 1
    assert tree(finished) == before


def test_new_run_starts_from_trained_weights(first, tmp_path):
    folder, _ = first
    words = ["--load-model", folder, "--qmix.learning-starts", "1000000", *("--episodes", "8")]
    assert run_here(tmp_path / "second", *words) == 0
    source = meta(folder / summary(folder)["best_checkpoint"])
    found = summary(tmp_path / "second")
    assert found["weights_sha256"] == source["weights_sha256"], "nothing was learned, so they are what was loaded"
    assert found["env_steps"] < source["total_steps"]


def test_loaded_weights_see_other_prices_through_the_scaler_they_were_trained_with(first, tmp_path, capsys):
    folder, _ = first
    words = ["--load-model", folder, "--data.synthetic.seed", "77", *("--episodes", "4")]
    assert run_here(tmp_path / "moved", *words) == 0
    old, new = (json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "moved"))
    assert new["scaler"] == old["scaler"]
    assert new["provenance"]["data_fingerprint"] != old["provenance"]["data_fingerprint"]
    assert "features are scaled as" in capsys.readouterr().out


def test_weights_that_do_not_fit_leave_no_folder_behind(first, tmp_path, capsys):
    folder, _ = first
    assert run_here(tmp_path / "other", "--load-model", folder, "--qmix.hidden", "32") == 2
    err = capsys.readouterr().err
    assert "does not fit this run" in err
    assert "shape [3, 1, 64], this run has [3, 1, 32]" in err
    assert run_here(tmp_path / "other", "--load-model", folder, "--algo", "vdn") == 2
    assert "it was trained by qmix, this run trains by vdn" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_skip_training_only_backtests(finished, tmp_path):
    (finished / "backtest" / "backtest.json").unlink()
    before = tree(finished)
    wanted = ["--load-model", str(finished), "--skip-training", "--json", str(tmp_path / "out.json")]
    assert exit_code(run, wanted) == 0
    assert read(tmp_path / "out.json")["backtest"] == backtest_of(finished)
    changed = {name for name, at in tree(finished).items() if before.get(name) != at}
    assert changed
    assert all(name.startswith("backtest/") for name in changed)


def test_loss_that_explodes_fails_the_run_and_keeps_its_last_good_checkpoint(tmp_path, capsys):
    words = [*QMIX, "--qmix.lr", "1e30", "--qmix.learning-starts", "300", "--episodes", "400"]
    folder = tmp_path / "explodes"
    assert run_here(folder, *words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: training failed: ")
    assert "lower lr" in err
    found = summary(folder)
    assert found["status"] == "failed"
    assert found["weights_sha256"] == sha256_of(folder / found["latest_checkpoint"])
    assert run_here(folder) == 1, "it carries on from there, and fails again"
