"""Run folders that an earlier version has written (commit 4ad5f17): still carried on, backtested and exported."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from commands import meta, run_here, summary

from algos.snapshots import read_module_states
from common.errors import InputError
from common.manifests import find_damage
from experiments.backtest import run as backtest
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code
from experiments.recovery.names import BRANCH_FOLDER
from experiments.remote.addresses import mirror_of
from experiments.run import run
from experiments.runs import rewriting
from experiments.runs.models import load_policy
from experiments.runs.run import find_run
from experiments.settings.run_config import config_to_json

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD_RUN = ["--checkpoint-interval", "8", "--evaluation-interval", "8", "--data.synthetic.num-bars", "400"]
OLD_RUN += ["--floor.horizon-bars", "20", "--keep", "1", "--algo", "indq", "--indq.hidden", "8"]
OLD_RUN += ["--indq.replay-capacity", "256", "--indq.learning-starts", "64", "--indq.num-envs-per-env-runner", "4"]
OLD_RUN += ["--floor.observe-episode", "--floor.costs.max-participation", "None"]
OLD_RUN += ["--floor.costs.permanent-impact", str(0.003 / 0.01), "--desk.observe-tradable", "False"]
"""What the old run was asked for, in today's words."""
pytestmark = pytest.mark.usefixtures("ray_session")


def unpacked(name, folder):
    with tarfile.open(FIXTURES / f"{name}-4ad5f17.tar.xz") as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python 3.11.4
    return folder / name


def written_anew(name, folder):
    assert exit_code(checkpoints, ["rewrite", str(unpacked(name, folder)), "--trust"]) == 0
    return folder / name


@pytest.fixture
def old_run(tmp_path):
    """Independent Q-learning, which was called iql then, complete at 24 episodes."""
    return written_anew("old-run", tmp_path)


@pytest.fixture
def old_search(tmp_path):
    """Two trials of PPO, complete."""
    return written_anew("old-search", tmp_path)


@pytest.fixture
def old_iql_search(tmp_path):
    """Two trials of independent Q-learning, of quantiles and by priority, complete."""
    return written_anew("old-iql-search", tmp_path)


def commands(folder, tmp_path):
    yield lambda: run_here(folder, "--episodes", 32)
    yield lambda: run_here(tmp_path / "new", "--load-model", folder, "--episodes", 8)
    yield lambda: run_here(tmp_path / "branch", "--branch-from", folder, "--episodes", 32)
    yield lambda: exit_code(backtest, ["--model", str(folder), "--out", str(tmp_path / "again")])
    yield lambda: exit_code(checkpoints, ["export", str(folder), "--out", str(tmp_path / "export")])
    yield lambda: exit_code(checkpoints, ["rewrite", str(folder)])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_pickles_are_refused_until_somebody_trusts_them(tmp_path, capsys):
    folder = unpacked("old-run", tmp_path)
    before = contents(folder)
    for command in commands(folder, tmp_path):
        assert command() == 2
        shown = capsys.readouterr().err
        assert "was written by an earlier version, as pickles, which can run code" in shown
        assert f"checkpoints.py rewrite {folder} --trust" in shown
    with pytest.raises(InputError, match="--trust"):
        load_policy(folder)
    assert contents(folder) == before
    assert exit_code(checkpoints, ["rewrite", str(folder), "--trust"]) == 0
    assert not list(folder.glob("trial_0/**/*.pkl"))
    assert exit_code(checkpoints, ["verify", str(folder)]) == 0
    assert exit_code(checkpoints, ["rewrite", str(folder), "--trust"]) == 0
    assert "0 checkpoints" in capsys.readouterr().out


@pytest.mark.parametrize("call", range(4))
def test_a_kill_leaves_every_checkpoint_whole(tmp_path, monkeypatch, call):
    """Each call that changes a name may be the last one."""
    folder, calls, real = unpacked("old-run", tmp_path), [], rewriting.os.rename

    def rename(source, target):
        calls.append(target)
        if len(calls) > call:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(rewriting.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        rewriting.rewrite(folder)
    monkeypatch.undo()
    rewriting.rewrite(folder)
    names = {path.name for path in (folder / "trial_0").iterdir() if path.is_dir()}
    assert names == {"checkpoint_000002", "best_checkpoint"}
    assert all(not find_damage(folder / "trial_0" / name) for name in names)
    assert load_policy(folder) is not None


def test_old_run_in_a_store_is_written_anew_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    storage = f"file://{tmp_path}/store"
    mirror = mirror_of(storage, "old-run")
    shutil.move(unpacked("old-run", tmp_path), mirror.folder)
    newest = mirror.folder / "trial_0" / "checkpoint_000002"
    shutil.copytree(newest, mirror.folder / BRANCH_FOLDER)  # as a branch has it
    mirror.push_all()
    words = ["--storage", storage, "--name", "old-run", "--episodes", "32"]
    assert exit_code(run, words) == 2
    assert f"checkpoints.py rewrite {mirror.address} --trust" in capsys.readouterr().err
    assert exit_code(checkpoints, ["rewrite", mirror.address, "--trust"]) == 0
    shutil.rmtree(tmp_path / "work")
    assert load_policy(mirror.address) is not None
    assert find_damage(mirror.folder / BRANCH_FOLDER) == []
    assert exit_code(checkpoints, ["verify", mirror.address]) == 0


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


def test_old_run_of_iql_is_what_indq_makes_of_the_same_settings(old_run, tmp_path):
    """But for what its market has changed: permanent impact is measured by days, and was by the last twenty bars."""
    assert run_here(tmp_path / "new", *OLD_RUN, "--episodes", 24) == 0
    ends = [folder / summary(folder)["latest_checkpoint"] for folder in (old_run, tmp_path / "new")]
    old, wanted = (read_module_states(end)["team"] for end in ends)
    assert old.keys() == wanted.keys()
    apart = np.concatenate([np.abs(old[name] - wanted[name]).ravel() for name in wanted])
    assert np.quantile(apart, 0.95) < 1e-4  # Adam makes whole steps of the smallest gradients
    assert run_here(old_run, "--episodes", 32) == 0
    assert meta(old_run / summary(old_run)["latest_checkpoint"])["algo"] == "indq"


def test_old_run_of_iql_is_branched_from(old_run, tmp_path, capsys):
    words = ["--branch-from", old_run, "--episodes", 32]
    assert run_here(tmp_path / "refused", *words, "--indq.hidden", 16) == 2
    assert "--indq.hidden was [8] and is now [16]" in capsys.readouterr().err
    assert run_here(tmp_path / "branch", *words, "--indq.lr", 1e-3) == 0
    assert (summary(tmp_path / "branch")["algo"], summary(tmp_path / "branch")["episodes"]) == ("indq", 32)


def test_weights_of_an_old_run_of_iql_start_a_new_one(old_run, tmp_path, capsys):
    words = ["--load-model", old_run, "--episodes", 8]
    assert run_here(tmp_path / "new", *words) == 0
    assert summary(tmp_path / "new")["algo"] == "indq"
    assert find_run(["--load-model", str(old_run), "--algo", "vdn"]).config.qmix.hidden == (8,), "they fit it as before"
    capsys.readouterr()
    assert run_here(tmp_path / "wider", *words, "--indq.hidden", 16) == 2
    shown = capsys.readouterr().err
    assert "does not fit this run: " in shown
    assert "it was trained by" not in shown, "it is the same algorithm"


@pytest.mark.parametrize("name", ["old-run", "old-search", "old-iql-search"])
def test_old_models_are_backtested_and_exported(tmp_path, name):
    folder = written_anew(name, tmp_path)
    before = json.loads((folder / "backtest" / "backtest.json").read_text())["strategy"]
    assert exit_code(backtest, ["--model", str(folder), "--out", str(tmp_path / "again")]) == 0
    after = json.loads((tmp_path / "again" / "backtest.json").read_text())["strategy"]
    assert after["total_return"] == pytest.approx(before["total_return"], abs=1e-5)  # impact is measured otherwise
    assert after["num_trades"] == before["num_trades"]
    assert exit_code(checkpoints, ["export", str(folder), "--out", str(tmp_path / "export")]) == 0
    assert list((tmp_path / "export").rglob("*.safetensors"))
    assert load_policy(folder) is not None


def test_old_search_is_complete_and_extended(old_search, capsys):
    assert run_here(old_search) == 0
    assert "search already complete" in capsys.readouterr().out
    assert run_here(old_search, "--search.num-trials", 3) == 0
    assert len(json.loads((old_search / "trials.json").read_text())) == 3


def test_old_search_of_iql_is_extended_under_todays_names(old_iql_search, capsys):
    before = json.loads((old_iql_search / "trials.json").read_text())
    assert run_here(old_iql_search, "--search.num-trials", 3) == 0
    shown = capsys.readouterr()
    assert "carrying on: 2 of 2 trials have ended" in shown.out
    after = json.loads((old_iql_search / "trials.json").read_text())
    known = [{name.replace("qmix.", "indq."): value for name, value in row.items()} for row in before]
    assert [row for row in after if row["trial"] != "00002"] == known
    (new,) = (row for row in after if row["trial"] == "00002")
    assert (new["state"], new.keys()) == ("done", known[0].keys())


@pytest.mark.parametrize("lost", ["config.json rewritten", "record gone"])
def test_old_search_of_iql_is_extended_after_a_kill_between_its_two_records(old_iql_search, lost):
    """What was drawn is told by folders of trials, or by a record that is older than the settings."""
    find = ["--storage", str(old_iql_search.parent), "--name", old_iql_search.name]
    if lost == "record gone":
        (old_iql_search / "search.json").unlink()
    else:
        record = json.loads((old_iql_search / "config.json").read_text())
        record["config"] = config_to_json(find_run(find).config)
        (old_iql_search / "config.json").write_text(json.dumps({**record, "format": 1}))
    assert run_here(old_iql_search, "--search.num-trials", 3) == 0
    found = json.loads((old_iql_search / "trials.json").read_text())
    assert {row["trial"] for row in found} == {"00000", "00001", "00002"}
    assert {name.partition(".")[0] for row in found for name in row if "." in name} == {"indq"}


def test_best_settings_of_an_old_search_of_iql_are_todays(old_iql_search):
    found = find_run(["--config", str(old_iql_search / "best_config.yaml"), "--name", "new"])
    drawn = {"lr": 0.0020252177496030985, "gamma": 0.9, "target_network_update_freq": 50, "n_step": 5}
    drawn |= {"epsilon_decay_steps": 10_000, "dueling": False}
    assert found.config.algo == "indq"
    assert {name: getattr(found.config.indq, name) for name in drawn} == drawn
    assert found.by_hand.keys() - {"config", "name", "algo"} == {f"indq.{name}" for name in drawn}
