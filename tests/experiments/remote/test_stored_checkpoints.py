"""checkpoints.py on an address: what a store holds, verified byte by byte, with nothing written there."""

import json
import shutil

import pytest
from machines import objects

from experiments.checkpoints import run
from experiments.command_line import exit_code
from experiments.remote.mirror import Mirror


def asked(*words):
    return exit_code(run, [str(word) for word in words])


@pytest.fixture
def stored(first, tmp_path):
    """Two checkpoints with a shared buffer, and the best, in the store."""
    (first.folder / "config.json").write_text('{"config": {}, "format": 1}')
    for step in (1, 2, 3):
        first.save(step)
    best = shutil.copytree(first.previous, first.folder / "trial_0" / "best_checkpoint")
    first.mirror.push_checkpoint(best)
    return tmp_path / "store" / "dow" / "trial_0"


def test_list_tells_of_each_what_it_is_worth(stored, address, tmp_path, capsys):
    before = objects(tmp_path, "")
    assert asked("list", address, "--json", tmp_path / "out.json") == 0
    assert "Checkpoints of dow/trial_0" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["checkpoint"], row["episode"], row["best"], row["state"]) for row in rows] == [
        ("checkpoint_000001", 2, "", "whole"),
        ("checkpoint_000002", 3, "best", "whole"),
        ("best_checkpoint", 3, "best", "whole"),
    ]
    assert all(row["size_mb"] > 0 and row["trial"] == "dow/trial_0" for row in rows)
    assert objects(tmp_path, "") == before


def test_verify_of_a_folder_of_runs_finds_what_has_changed(stored, tmp_path, capsys):
    above = f"file://{tmp_path}/store"
    assert asked("verify", above) == 0
    assert "3 checked, all whole" in capsys.readouterr().out
    pack = next((stored / "checkpoint_000002").glob("pack-*"))
    pack.write_bytes(pack.read_bytes()[:-1] + b"x")
    assert asked("verify", above) == 1
    assert "3 checked, 1 damaged" in capsys.readouterr().out
    next((stored / "segments").iterdir()).unlink()
    assert asked("verify", above) == 1
    assert "3 checked, 3 damaged" in capsys.readouterr().out
    assert pack.exists(), "nothing is set aside: another machine may be writing there"


def test_upload_under_way_is_no_checkpoint_and_half_of_one_is_a_damaged_one(stored, address, capsys):
    newest = stored / "checkpoint_000002"
    (newest / "COMPLETE").unlink()
    assert asked("verify", address) == 1
    assert "3 checked, 1 damaged" in capsys.readouterr().out
    (newest / "checkpoint_meta.json").unlink()
    assert asked("verify", address) == 0
    assert "2 checked, all whole" in capsys.readouterr().out


def test_record_that_is_damaged_or_missing_is_told(stored, address, capsys):
    record = stored.parent / "config.json"
    record.write_text('{"config": {}, "format": 1}')
    assert asked("verify", address) == 0
    for text in ("{", None):
        (record.write_text(text) if text else record.unlink())
        (stored.parent / "summary.json").write_text('{"status": "running"}')
        assert asked("verify", address) == 1
        assert "dow/config.json is missing or damaged" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "file:///nowhere/at/all"), "holds no checkpoints"),
        (("list", "what://bucket/dow"), "cannot be used"),
        (("prune", "file:///nowhere", "--yes"), "a run's own command makes room: give it another --keep"),
    ],
)
def test_address_that_does_not_serve_is_one_line(capsys, words, said):
    assert asked(*words) == 2
    assert said in capsys.readouterr().err


def test_marker_that_says_something_else_is_damage(stored, address, capsys):
    (stored / "checkpoint_000002" / "COMPLETE").write_text('{"format": 1}')
    assert asked("verify", address) == 1
    assert "3 checked, 1 damaged" in capsys.readouterr().out


def test_address_of_a_trial_or_an_export_beside_the_runs_changes_nothing(stored, tmp_path, capsys):
    assert asked("verify", f"file://{stored}") == 0
    assert "3 checked, all whole" in capsys.readouterr().out
    (stored.parent / "export" / "one").mkdir(parents=True)
    (stored.parent / "export" / "one" / "summary.json").write_text("{}")
    assert asked("verify", f"file://{tmp_path}/store") == 0


def test_what_a_run_has_branched_from_is_verified_as_it_lies_there(first, stored, address, capsys):
    branch = shutil.copytree(first.previous, first.folder / "branched_from")
    for path in branch.rglob("*"):
        if path.is_file():
            first.mirror.store.put(path.relative_to(first.folder).as_posix(), path.read_bytes())
    assert asked("verify", address) == 0
    assert "4 checked, all whole" in capsys.readouterr().out
    (stored.parent / "branched_from" / "weights").write_text("others")
    assert asked("verify", address) == 1
    assert "4 checked, 1 damaged" in capsys.readouterr().out


def test_checkpoint_that_is_deleted_meanwhile_is_no_damage(stored, address, monkeypatch, capsys):
    real = Mirror.check

    def deleted(mirror, name):
        if name.endswith("000001"):
            shutil.rmtree(stored / "checkpoint_000001", ignore_errors=True)
        return real(mirror, name)

    monkeypatch.setattr(Mirror, "check", deleted)
    assert asked("verify", address) == 0
    assert "2 checked, all whole" in capsys.readouterr().out
