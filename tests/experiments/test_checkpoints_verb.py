import errno
import json
import os
import shutil

import pytest
from sample_runs import make_run

from common.manifests import seal
from experiments import checkpoints as verb
from experiments.checkpoints import run
from experiments.command_line import exit_code
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.lock import run_lock
from experiments.runs.run import Run


@pytest.fixture
def folder(tmp_path):
    """A run folder with checkpoints of 0, 10, 20 and 30 episodes; that of 10 was the best."""
    folder = Run.of(make_run(tmp_path / "dow")).folder
    for path in folder.glob("checkpoint_*"):
        shutil.rmtree(path)
    for i in range(4):

        def write(path, i=i):
            meta = {"episode": 10 * i, "total_steps": 100 * i, "is_best": i == 1, "metric_name": "sharpe"}
            meta |= {"metric_value": 0.5 * i, "timestamp": "2026-01-01T00:00:00+00:00"}
            (path / "checkpoint_meta.json").write_text(json.dumps(meta))
            (path / "weights").write_bytes(b"x" * 1000)

        TrialCheckpoints(folder / "trial_0").publish(write)
    return folder


def asked(*words):
    return exit_code(run, [str(word) for word in words])


def numbers(folder):
    return [int(path.name[-6:]) for path in TrialCheckpoints(folder / "trial_0").published()]


def test_list_tells_what_each_is_worth(folder, tmp_path, capsys):
    assert asked("list", folder, "--json", tmp_path / "out.json") == 0
    assert "checkpoint_000003" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["episode"], row["value"], row["best"], row["state"]) for row in rows] == [
        (0, 0.0, "", "whole"),
        (10, 0.5, "best", "whole"),
        (20, 1.0, "", "whole"),
        (30, 1.5, "", "whole"),
    ]


def test_only_the_checkpoint_that_is_the_best_now_is_marked(folder, tmp_path):
    trial = folder / "trial_0"
    newest = trial / "checkpoint_000003"

    def copy(path):
        shutil.copytree(newest, path, dirs_exist_ok=True)

    TrialCheckpoints(trial).publish(copy)
    meta = json.loads((newest / "checkpoint_meta.json").read_text()) | {"is_best": True, "episode": 40}
    (trial / "checkpoint_000004" / "checkpoint_meta.json").write_text(json.dumps(meta))
    seal(trial / "checkpoint_000004")
    for best, expected in ((4, [4]), (1, [1, -1])):
        if best == 1:
            shutil.copytree(trial / "checkpoint_000001", trial / "best_checkpoint")
        assert asked("list", folder, "--json", tmp_path / "out.json") == 0
        rows = json.loads((tmp_path / "out.json").read_text())["rows"]
        marked = [row["checkpoint"] for row in rows if row["best"]]
        assert marked == ["best_checkpoint" if i < 0 else f"checkpoint_{i:06d}" for i in expected]


def test_list_fits_a_terminal_of_80_columns(folder, monkeypatch, capsys):
    (folder / "trial_0" / "checkpoint_000000" / "weights").write_bytes(b"")
    monkeypatch.setattr("experiments.reporting.tables.WIDTH_OF_A_PIPE", 80)
    assert asked("list", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {"checkpoint_000003", "sharpe", "episode", "age", "whole"} <= set(" ".join(lines).split())
    assert lines[0].startswith("Checkpoints of dow/trial_0")


def test_verify_says_how_many_were_looked_at(folder, capsys):
    assert asked("verify", folder) == 0
    assert "4 checked, all whole" in capsys.readouterr().out
    (folder / "trial_0" / "checkpoint_000002" / "weights").unlink()
    assert asked("verify", folder) == 1
    assert "4 checked, 1 damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "{", "config.json is damaged"),
        (lambda text: text.replace('"seed": 0', '"seed": 7', 1), "SHA-256 differs"),
    ],
    ids=["cut", "changed"],
)
def test_damaged_record_of_a_run_is_remarked(folder, tmp_path, capsys, change, said):
    path = folder / "config.json"
    path.write_text(change(path.read_text()))
    assert asked("list", folder) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert asked("verify", folder, "--json", tmp_path / "out.json") == 1
    (remark,) = json.loads((tmp_path / "out.json").read_text())["remarks"]
    assert remark in capsys.readouterr().out
    assert "put it back from a copy" in remark


def test_verify_finds_damage_in_a_whole_tree_and_touches_nothing(folder, capsys):
    assert asked("verify", folder.parent) == 0
    (folder / "trial_0" / "checkpoint_000002" / "weights").write_bytes(b"y" * 1000)
    assert asked("verify", folder.parent) == 1
    assert "weights: has other content than was written" in capsys.readouterr().out
    assert asked("list", folder.parent) == 0
    assert numbers(folder) == [0, 1, 2, 3]


@pytest.mark.parametrize("moment", ["find_damage", "read_meta", "folder_bytes"])
@pytest.mark.parametrize("action", ["list", "verify"])
def test_checkpoint_that_a_live_run_deletes_meanwhile_is_passed_over(folder, monkeypatch, capsys, action, moment):
    doomed, real = folder / "trial_0" / "checkpoint_000000", getattr(verb, moment)

    def delete_first(path):
        if path == doomed and path.is_dir():
            TrialCheckpoints(path.parent).prune(3)
        return real(path)

    monkeypatch.setattr(verb, moment, delete_first)
    assert asked(action, folder) == 0
    shown = capsys.readouterr().out
    assert "checkpoint_000001" in shown
    assert "checkpoint_000000" not in shown


def test_folder_that_vanishes_during_the_walk_is_no_error(folder, monkeypatch):
    real = os.scandir

    def delete_first(path="."):
        if str(path) == str(folder / "trial_0"):
            shutil.rmtree(path)
        return real(path)

    (folder / "trial_1").mkdir()
    shutil.move(folder / "trial_0" / "checkpoint_000003", folder / "trial_1")
    monkeypatch.setattr(os, "scandir", delete_first)
    assert verb.look_below(str(folder)) == ([folder / "trial_1" / "checkpoint_000003"], [])


def close(monkeypatch, folder, code):
    """Let a folder not be listed from now on, which a mode cannot do to root."""
    real = os.scandir

    def scandir(path="."):
        if str(path) == str(folder):
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_folder_that_cannot_be_listed_is_told_and_not_passed_over(folder, tmp_path, monkeypatch, capsys, code):
    hidden = tmp_path / "other" / "trial_0"
    shutil.copytree(folder / "trial_0", hidden)
    close(monkeypatch, hidden, code)
    assert asked("verify", tmp_path, "--json", tmp_path / "out.json") == 1
    shown, told = capsys.readouterr(), f"{hidden} cannot be listed ({os.strerror(code)})"
    assert "4 checked, all whole" in shown.out
    assert told in " ".join(shown.out.split())
    assert shown.err == ""
    assert json.loads((tmp_path / "out.json").read_text())["remarks"] == [told]
    assert asked("list", tmp_path) == 0
    assert told in " ".join(capsys.readouterr().out.split())


def test_folder_that_cannot_be_listed_may_be_all_that_there_is(folder, monkeypatch, capsys):
    close(monkeypatch, folder, errno.EACCES)
    assert asked("verify", folder) == 1
    shown = capsys.readouterr()
    assert "0 checked" in shown.out
    assert f"{folder} cannot be listed (Permission denied)" in " ".join(shown.out.split())
    assert shown.err == ""
    assert asked("list", folder) == 0
    assert "nothing to delete" not in capsys.readouterr().out


def make_export(path):
    path.mkdir(parents=True)
    for name in ("networks.json", "summary.json", "summary.md"):
        (path / name).write_text("{}")
    seal(path)
    return path


@pytest.mark.parametrize("place", ["dow/export/trial_0-000030", "elsewhere"])
def test_verify_reaches_exports(folder, tmp_path, capsys, place):
    export = make_export(tmp_path / place)
    assert asked("verify", tmp_path) == 0
    assert "5 checked, all whole" in capsys.readouterr().out
    assert asked("verify", export) == 0
    assert "1 checked, all whole" in capsys.readouterr().out
    for name in ("COMPLETE", "networks.json"):
        whole = (export / name).read_bytes()
        (export / name).write_bytes(b"x")
        assert asked("verify", tmp_path) == 1
        (export / name).unlink()
        assert asked("verify", export) == 1
        (export / name).write_bytes(whole)
    assert "1 checked, 1 damaged" in capsys.readouterr().out
    assert asked("prune", export) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_export_in_a_run_is_not_listed_as_a_trial(folder, capsys):
    assert asked("list", folder) == 0
    before = capsys.readouterr().out
    export = make_export(folder / "export" / "trial_0-000030")
    assert asked("list", folder) == 0
    assert capsys.readouterr().out == before
    assert asked("list", export) == 2
    assert "holds no checkpoints" in capsys.readouterr().err


def test_checkpoints_of_no_run_are_looked_at_whatever_lies_beside_their_folder(folder, tmp_path, capsys):
    shutil.copytree(folder / "trial_0", tmp_path / "home" / "kept")
    (tmp_path / "home" / "disk").symlink_to("/")
    assert asked("verify", tmp_path / "home" / "kept") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "4 checked, all whole" in out
    assert "config.json" in out
    assert "leads out of" not in out
    (tmp_path / "home" / "kept" / "way").symlink_to("/")
    assert asked("verify", tmp_path / "home" / "kept") == 1
    assert "leads out of" in " ".join(capsys.readouterr().out.split())


def test_run_whose_only_trial_is_a_link_is_told_among_others(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / "trial_0")
    (other / "trial_0").symlink_to(folder / "trial_0")
    assert asked("verify", tmp_path) == 1
    assert f"leads out of {other}" in " ".join(capsys.readouterr().out.split())


def test_export_that_is_still_being_written_is_passed_over(folder, tmp_path, capsys):
    (make_export(tmp_path / "mine" / ".exporting") / "networks.json").unlink()
    assert asked("verify", tmp_path) == 0
    assert "4 checked, all whole" in capsys.readouterr().out


def test_best_one_that_a_live_run_replaces_meanwhile_is_looked_at_again(folder, monkeypatch, capsys):
    copied = shutil.copytree(folder / "trial_0" / "checkpoint_000001", folder / "trial_0" / "best_checkpoint")
    found = {copied: [["half of the old one"]]}
    real = verb.find_damage
    monkeypatch.setattr(verb, "find_damage", lambda path: found[path].pop() if found.get(path) else real(path))
    assert asked("verify", folder) == 0
    assert "5 checked, all whole" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["branched_from", "trial_1/best_checkpoint", "trial_0/overtaken-checkpoint_000003"])
def test_verify_reaches_what_no_run_numbers(folder, capsys, place):
    (folder / place).parent.mkdir(exist_ok=True)
    copied = shutil.copytree(folder / "trial_0" / "checkpoint_000002", folder / place)
    assert asked("verify", folder.parent) == 0
    assert "5 checked, all whole" in capsys.readouterr().out
    (copied / "weights").write_bytes(b"y" * 1000)
    assert asked("verify", folder.parent) == 1
    assert "5 checked, 1 damaged" in capsys.readouterr().out


def keep_best(folder, number=1):
    trial = folder / "trial_0"
    return shutil.copytree(trial / f"checkpoint_{number:06d}", trial / "best_checkpoint")


def test_prune_shows_first_and_deletes_when_told(folder, tmp_path, capsys):
    out = tmp_path / "out.json"
    keep_best(folder)
    assert asked("prune", folder, "--keep", 2, "--json", out) == 0
    assert json.loads(out.read_text())["deleted"] is False
    shown = capsys.readouterr().out
    assert "Would be deleted" in shown
    assert "checkpoint_000001" in shown
    assert "checkpoint_000002" not in shown
    assert numbers(folder) == [0, 1, 2, 3]
    assert asked("prune", folder, "--keep", 2, "--yes", "--json", out) == 0
    assert json.loads(out.read_text())["deleted"] is True
    assert numbers(folder) == [2, 3]
    assert asked("prune", folder, "--keep", 2, "--yes", "--json", out) == 0
    assert json.loads(out.read_text())["deleted"] is False
    assert "nothing to delete" in capsys.readouterr().out


def test_what_a_killed_prune_has_left_is_swept_by_the_next_one(folder, monkeypatch, capsys):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    keep_best(folder)
    with monkeypatch.context() as patch:
        patch.setattr("experiments.recovery.checkpoints._delete", killed)
        with pytest.raises(KeyboardInterrupt):
            run(["prune", str(folder), "--keep", "3", "--yes"])
    assert list(folder.rglob(".publishing-*"))
    assert asked("prune", folder, "--keep", "3") == 0
    assert list(folder.rglob(".publishing-*")), "nothing is deleted where --yes was not said"
    assert asked("prune", folder, "--keep", "3", "--yes") == 0
    assert not list(folder.rglob(".publishing-*"))
    assert numbers(folder) == [1, 2, 3]


def test_prune_leaves_a_best_checkpoint_of_which_there_is_no_copy(folder):
    assert asked("prune", folder, "--keep", 1, "--yes") == 0
    assert numbers(folder) == [1, 3]


@pytest.mark.parametrize("file", ["weights", "checkpoint_meta.json"])
def test_prune_never_deletes_the_last_whole_copy_of_the_best(folder, capsys, file):
    path = folder / "trial_0" / "checkpoint_000001" / "checkpoint_meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metric_value": 9.0}))
    seal(path.parent)
    best = keep_best(folder)
    (best / file).write_bytes(b"damage")
    out = folder.parent / "out.json"
    assert asked("prune", folder, "--keep", 1, "--yes", "--json", out) == 0
    assert "best_checkpoint is damaged" in capsys.readouterr().out
    deleted = [int(row["checkpoint"][-6:]) for row in json.loads(out.read_text())["rows"]]
    assert sorted([*deleted, *numbers(folder)]) == [0, 1, 2, 3]
    assert json.loads((best / "checkpoint_meta.json").read_text())["metric_value"] == 9.0
    assert (best / "weights").read_bytes() == b"x" * 1000
    assert numbers(folder)[-1] == 3


def test_prune_keeps_every_so_manieth_for_the_record(folder, capsys):
    keep_best(folder)
    assert asked("prune", folder, "--keep", 1, "--keep-every", 2) == 0
    shown = capsys.readouterr().out
    assert "checkpoint_000001" in shown
    assert "checkpoint_000000" not in shown
    assert asked("prune", folder, "--keep", 1, "--keep-every", 2, "--yes") == 0
    assert numbers(folder) == [0, 2, 3]


def test_prune_never_deletes_the_only_whole_ones(folder, capsys):
    (folder / "trial_0" / "checkpoint_000003" / "COMPLETE").unlink()
    assert asked("prune", folder, "--keep", 1, "--yes") == 2
    assert "is whole: nothing is deleted" in capsys.readouterr().err
    assert numbers(folder) == [0, 1, 2, 3]


def test_prune_does_not_touch_a_run_that_is_being_written(folder, capsys):
    with run_lock(folder):
        assert asked("prune", folder, "--keep", 1, "--yes") == 2
    assert "is being written by process" in capsys.readouterr().err
    assert numbers(folder) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["lsit"], "did you mean 'list'"),
        (["list"], "the path is missing"),
        (["list", "nowhere"], "nowhere is no folder"),
        (["prune", ".", "--keep", "0"], "keep"),
        (["list", "."], "holds no checkpoints"),
        (["list", ".", "--keep", "3"], "--keep has no effect on list, only on prune"),
        (["verify", ".", "--yes"], "--yes has no effect on verify, only on prune"),
        (["export", ".", "--keep-every", "2"], "--keep-every has no effect on export, only on prune"),
        (["prune", ".", "--out", "there"], "--out has no effect on prune, only on export"),
    ],
)
def test_mistakes_are_refused_in_one_line(words, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert asked(*words) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("timestamp", ["2026-13-01T00:00:00+00:00", "2026-01-01T00:00:00x00:00", "2026-01-01", 7])
def test_timestamp_that_is_damaged_hides_no_damage(folder, capsys, timestamp):
    path = folder / "trial_0" / "checkpoint_000002" / "checkpoint_meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestamp": timestamp}))
    assert asked("verify", folder) == 1
    assert "checkpoint_meta.json" in capsys.readouterr().out
