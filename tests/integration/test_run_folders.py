"""What a run folder may be called, and what is never written over."""

import errno
import json
import os
import shutil

import pandas as pd
import pytest
from commands import MARKET, QMIX, run_here, summary, tree

from common import manifests
from experiments.command_line import exit_code
from experiments.run import run
from experiments.runs.folders import has_begun
from experiments.runs.run import find_run

no_ray = pytest.mark.usefixtures("no_ray")
NAMES = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "a\nb",
    "*",
    "a?",
    "[a]",
    " a",
    "a ",
    "-x",
    "x" * 101,
    "\udcff",
]


@no_ray
@pytest.mark.parametrize("name", NAMES)
def test_name_that_is_no_plain_folder_name_is_refused(mistake, tmp_path, name):
    assert mistake("--name", name).startswith("--name is ")
    assert list(tmp_path.iterdir()) == []


@no_ray
def test_name_in_a_file_of_settings_is_held_to_the_same(mistake, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: ../x\n")
    assert "--name is '../x'" in mistake("--config", "mine.yaml")


@no_ray
@pytest.mark.parametrize("name", ["a b", "é", "x" * 100, "dow.2", "1"])
def test_plain_names_are_fine(name):
    assert find_run(["--name", name]).config.name == name


@no_ray
@pytest.mark.parametrize("words", [[], ["--resume", "never"]])
def test_folder_of_something_else_is_refused_and_stays(mistake, tmp_path, words):
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    assert "is no run, and holds notes.txt" in mistake("--name", "mine", *words)
    assert tree(tmp_path) == before


@no_ray
def test_file_of_that_name_is_refused(mistake, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").write_text("mine")
    assert "is a file" in mistake("--name", "mine")


@no_ray
@pytest.mark.parametrize("lost", [["config.json"], ["config.json", "summary.json"], ["config.json", "trial_0"]])
def test_run_without_its_record_is_not_written_over(mistake, folder, lost):
    for name in lost:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = tree(folder)
    assert "has lost its config.json" in mistake("--name", "old")
    assert tree(folder) == before


@no_ray
@pytest.mark.parametrize("text", [None, "{"], ids=["lost", "damaged"])
def test_run_whose_record_is_no_good_is_moved_aside_where_that_is_asked_for(folder, text):
    record = folder / "config.json"
    record.unlink() if text is None else record.write_text(text)
    assert exit_code(run, ["--name", "old"]) == 2
    with pytest.raises(AssertionError, match="before Ray was started"):
        run(["--name", "old", "--resume", "never", *MARKET])


@no_ray
def test_checkpoint_that_cannot_be_read_just_now_is_the_same_commands_another_time(folder, monkeypatch, capsys):
    def unread(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    shutil.rmtree(folder / "trial_0" / "checkpoint_000001")  # which is damaged
    before = tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "file_sha256", unread)
        assert exit_code(run, ["--name", "old"]) == 1
    assert os.strerror(errno.ESTALE) in capsys.readouterr().err.splitlines()[-1]
    assert tree(folder) == before
    with pytest.raises(AssertionError, match="before Ray was started"):
        run(["--name", "old"])


@no_ray
def test_impact_that_is_asked_for_without_volumes_is_refused_before_a_folder_is_made(mistake, tmp_path):
    dates = pd.bdate_range("2020-01-01", periods=700)
    table = pd.concat(pd.DataFrame({"date": dates, "tic": name, "close": 100.0 + i}) for i, name in enumerate("ABC"))
    table.to_csv(tmp_path / "prices.csv", index=False)
    words = ["--data.path", "prices.csv", "--name", "new", "--floor.horizon-bars", 20]
    assert "price impact needs volumes" in mistake(*words, "--floor.costs.temporary-impact", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["prices.csv"]


@no_ray
@pytest.mark.parametrize("json_file", ["nowhere/out.json", "nowhere/deeper/out.json"])
def test_json_into_a_folder_that_is_not_there_is_refused(mistake, tmp_path, json_file):
    assert "does not exist: make it first" in mistake("--name", "new", "--json", json_file)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def begun_by_nobody(folder):
    """A run that ended before its first checkpoint."""
    shutil.rmtree(folder / "trial_0")
    (folder / "summary.json").write_text(json.dumps({"status": "failed", "latest_checkpoint": None}))
    return folder


@no_ray
@pytest.mark.parametrize("words", [["--qmix.lr", "0.1"], ["--preset", "demo"], ["--data.synthetic.seed", "9"]])
def test_run_without_a_checkpoint_does_not_hold_its_settings(begun_by_nobody, words):
    with pytest.raises(AssertionError, match="before Ray was started"):
        run(["--name", "old", *words, "--floor.horizon-bars", "20"])


@no_ray
def test_run_without_a_checkpoint_is_read_back_where_nothing_else_is_asked_for(begun_by_nobody):
    assert find_run(["--name", "old"]).config.data.synthetic.num_assets == 3
    assert find_run(["--name", "old", "--preset", "demo"]).config.data.synthetic.num_assets != 3


@no_ray
def test_run_without_a_checkpoint_cannot_be_resumed_from(mistake, begun_by_nobody):
    assert "leave --resume out" in mistake("--resume", begun_by_nobody)


@no_ray
@pytest.mark.parametrize("named", ["new", "other"])
def test_resume_of_another_run_says_how_to_make_a_new_one(mistake, folder, named):
    shutil.copytree(folder, folder.with_name("other"))
    checkpoint = "results/old/trial_0/checkpoint_000000"
    assert f"--load-model {checkpoint} --name NEW" in mistake("--name", named, "--resume", checkpoint)


@no_ray
def test_run_that_lost_its_checkpoints_has_begun(folder):
    shutil.rmtree(folder / "trial_0")
    (folder / "summary.json").write_text(json.dumps({"status": "complete", "latest_checkpoint": "trial_0/c"}))
    assert has_begun(folder)
    (folder / "summary.json").write_text("{")
    assert has_begun(folder)
    (folder / "summary.json").unlink()
    assert not has_begun(folder)


@pytest.mark.usefixtures("ray_session")
def test_changed_settings_start_in_a_folder_that_holds_no_checkpoint(begun_by_nobody, capsys):
    words = [*QMIX, "--data.synthetic.seed", "9", "--episodes", "8"]
    assert run_here(begun_by_nobody, *words) == 0
    assert "starting" in capsys.readouterr().out
    assert summary(begun_by_nobody)["status"] == "complete"
    record = json.loads((begun_by_nobody / "config.json").read_text())
    assert record["config"]["data"]["synthetic"]["seed"] == 9
    assert "resumes" not in record["provenance"]
    assert run_here(begun_by_nobody, *MARKET, "--data.synthetic.seed", "8") == 2, "now it has begun"
