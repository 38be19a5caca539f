"""A reader of the store never finds a summary that names a checkpoint which is not there."""

import json
import shutil

import pytest
from machines import objects

from common.manifests import MARKER_FILE


def summarise(machine, path, best=None):
    """What the monitor writes when a checkpoint has been published."""
    names = {"latest_checkpoint": str(path.relative_to(machine.folder)), "best_checkpoint": best}
    (machine.folder / "summary.json").write_text(json.dumps({"status": "running", **names}))


def named_in_store(tmp_path):
    """The newest checkpoint by the store's summary; it must be there."""
    path = tmp_path / "store" / "dow" / "summary.json"
    if not path.exists():
        return None
    name = json.loads(path.read_text())["latest_checkpoint"]
    assert f"{name}/{MARKER_FILE}" in objects(tmp_path)
    return name.split("/")[1]


def test_summary_of_a_checkpoint_that_the_store_did_not_take_waits_for_it(first, tmp_path):
    summarise(first, first.save(1, reaches_store=False))
    first.mirror.push_files()
    assert "trial_0/result.json" in objects(tmp_path)
    assert named_in_store(tmp_path) is None
    first.mirror.push_all()
    assert named_in_store(tmp_path) == "checkpoint_000000"
    summarise(first, first.save(2, reaches_store=False))
    first.mirror.push_files()
    assert named_in_store(tmp_path) == "checkpoint_000000", "the one before it"
    summarise(first, first.save(3))
    first.mirror.push_files()
    assert named_in_store(tmp_path) == "checkpoint_000002"


def test_summary_of_another_best_checkpoint_than_the_store_has_waits_for_it(first, tmp_path):
    best = first.folder / "trial_0" / "best_checkpoint"
    for step in (1, 2):
        path = first.save(step)
        shutil.rmtree(best, ignore_errors=True)
        shutil.copytree(path, best)
        summarise(first, path, best="trial_0/best_checkpoint")
        if step == 1:
            first.mirror.push_checkpoint(best)
        first.mirror.push_files()
    assert named_in_store(tmp_path) == "checkpoint_000000"
    first.mirror.push_checkpoint(best)
    first.mirror.push_files()
    assert named_in_store(tmp_path) == "checkpoint_000001"


def test_what_the_summary_in_the_store_names_outlives_retention_there(first, tmp_path):
    first.keep = 1
    summarise(first, first.save(1))
    for step in (2, 3):
        path = first.save(step)
        assert named_in_store(tmp_path) == "checkpoint_000000", "the summary comes after the checkpoint"
    summarise(first, path)
    first.mirror.push_files()
    first.save(4)
    assert named_in_store(tmp_path) == "checkpoint_000002"
    assert not any("checkpoint_000000" in name for name in objects(tmp_path))


def test_all_that_the_summary_names_is_brought_to_the_store_at_the_end(first, tmp_path):
    older = first.save(1, reaches_store=False)
    first.save(2, reaches_store=False)
    summarise(first, older)
    first.mirror.push_all()
    assert named_in_store(tmp_path) == "checkpoint_000000"


@pytest.mark.parametrize("text", ["{", "[]", '{"latest_checkpoint": 3}'])
def test_summary_that_names_nothing_is_brought_to_the_store_as_it_is(first, tmp_path, text):
    (first.folder / "summary.json").write_text(text)
    first.mirror.push_all()
    assert (tmp_path / "store" / "dow" / "summary.json").read_text() == text
