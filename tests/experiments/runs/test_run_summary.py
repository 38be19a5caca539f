"""What summary.json says of a run, and what is said where it cannot be read or written."""

import errno
import json
import os

import pytest
from trials import folder_of

from common.errors import InputError
from experiments.runs.summary import note_status, read_summary, why_unsaved, write_summary


def test_summary_has_every_field_from_the_start_and_keeps_what_is_not_named(tmp_path):
    first = write_summary(tmp_path, {"status": "running", "algo": "vdn"})
    assert {"episodes", "target_episodes", "env_steps", "agent_steps", "latest_checkpoint"} <= set(first)
    assert {"best_checkpoint", "best_metric", "weights_sha256", "metrics", "seed"} <= set(first)
    write_summary(tmp_path, {"episodes": 7})
    found = read_summary(tmp_path)
    assert (found["status"], found["algo"], found["episodes"]) == ("running", "vdn", 7)


@pytest.mark.parametrize("text", ["", "{}", '{"status": "comp', "[1]"])
def test_damaged_summary_is_set_aside_and_written_anew(tmp_path, capsys, text):
    (tmp_path / "summary.json").write_text(text)
    assert write_summary(tmp_path, {"status": "running", "episodes": 7})["episodes"] == 7
    assert read_summary(tmp_path)["status"] == "running"
    assert (tmp_path / "damaged-summary.json").read_text() == text
    said = "summary.json is damaged: set aside as damaged-summary.json, and written anew\n"
    assert capsys.readouterr().out == said


def test_summary_of_a_new_folder_is_empty_and_a_damaged_one_is_refused(tmp_path):
    assert read_summary(tmp_path) == {}
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="holds no status"):
        read_summary(tmp_path)


def test_reason_why_a_due_checkpoint_is_not_there(tmp_path):
    assert why_unsaved(tmp_path, 8) == "the reason could not be written"
    (tmp_path / "save_error.txt").unlink()
    (tmp_path / "save_error.txt").symlink_to("/dev/full")
    assert why_unsaved(tmp_path, 8) == "No space left on device"
    (tmp_path / "save_error.txt").unlink()
    (tmp_path / "save_error.txt").write_text("No space left on device")
    assert why_unsaved(tmp_path, 8) == "No space left on device"
    for episode, wanted in ((4, "No space left on device"), (8, None)):
        folder_of(tmp_path / f"checkpoint_{episode:06d}", **{"checkpoint_meta.json": json.dumps({"episode": episode})})
        assert why_unsaved(tmp_path, 8) == wanted


def test_end_that_cannot_be_written_is_said(tmp_path, capsys, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_summary(tmp_path, {"status": "running"})
    note_status(tmp_path, "interrupted")
    assert read_summary(tmp_path)["status"] == "interrupted"
    monkeypatch.setattr(os, "fsync", full)
    note_status(tmp_path, "failed")
    assert "No space left on device; it does not say yet that the run is failed\n" in capsys.readouterr().err
