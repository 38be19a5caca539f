"""What is damaged in the working folder of a run that is kept in a store is brought back from there."""

import json
import os
import threading

import pytest

from common.errors import InputError
from common.manifests import find_damage
from experiments.recovery.copies import copy_folder
from experiments.remote import mirror as mirror_module
from experiments.remote.mirror import Mirror
from experiments.runs.repair import newest_whole, restore_best


@pytest.fixture
def told():
    return []


def damage(checkpoint):
    (checkpoint / "weights").write_text("weights of 9")


def copy_best(machine, *, reaches_store=True):
    """Make the newest checkpoint the best one, as the monitor does."""
    best = machine.checkpoints.folder / "best_checkpoint"
    copy_folder(machine.checkpoints.published()[-1], best)
    if reaches_store:
        machine.mirror.push_checkpoint(best)
    return best


def value_of(checkpoint):
    return json.loads((checkpoint / "checkpoint_meta.json").read_text())["metric_value"]


def test_newest_checkpoint_that_is_damaged_here_is_brought_back(first, told, address):
    for step in (1, 2, 3):
        first.save(step)
    newest = first.checkpoints.published()[-1]
    damage(newest)
    assert newest_whole(newest.parent, told.append, mirror=first.mirror) == newest
    assert (newest / "weights").read_text() == "weights of 3"
    assert (newest.parent / f"damaged-{newest.name}" / "weights").read_text() == "weights of 9"
    assert told[0].startswith(f"checkpoint {newest.name} is damaged, weights")
    assert told[1:] == [f"{newest.name} is brought back from {address}, where it is whole"]


def test_of_several_that_are_damaged_here_only_the_newest_that_the_store_has_is_brought_back(first, told):
    for step in (1, 2):
        first.save(step)
    first.save(3, reaches_store=False)
    for path in first.checkpoints.published():
        damage(path)
    found = newest_whole(first.checkpoints.folder, told.append, mirror=first.mirror)
    assert found.name == "checkpoint_000001"
    assert first.checkpoints.published() == [found]


def test_what_is_damaged_in_both_places_is_passed_over(first, told, tmp_path):
    for step in (1, 2):
        first.save(step)
    older, newest = first.checkpoints.published()
    damage(newest)
    (pack,) = (tmp_path / "store" / "dow" / "trial_0" / newest.name).glob("*.tar")
    pack.write_bytes(pack.read_bytes()[:-1])
    assert newest_whole(newest.parent, told.append, mirror=first.mirror) == older
    assert len(told) == 1


def test_damaged_best_is_brought_back_and_not_written_over_in_the_store(first, told):
    first.keep = 1
    first.save(1, value=3.0)
    best = copy_best(first)
    first.save(2, value=2.0)
    damage(best)
    restore_best(best.parent, told.append, mirror=first.mirror)
    assert value_of(best) == 3.0
    assert find_damage(best) == []
    assert told[0].startswith("best_checkpoint is damaged, weights")
    assert told[1:] == [f"best_checkpoint is brought back from {first.mirror.address}, where it is whole"]
    first.mirror.push_all()
    assert first.mirror.check("trial_0/best_checkpoint") is None
    best.rename(best.with_name("elsewhere"))
    restore_best(best.parent, told.append, mirror=first.mirror)
    assert value_of(best) == 3.0, "and so is one that is gone"


def test_best_of_the_store_gives_way_to_a_better_one_that_is_left_here(first, told):
    first.save(1, value=1.0)
    copy_best(first)
    first.save(2, value=2.0)
    best = copy_best(first, reaches_store=False)
    damage(best)
    restore_best(best.parent, told.append, mirror=first.mirror)
    assert value_of(best) == 2.0


def test_store_that_does_not_answer_is_named(first, told, monkeypatch):
    def fetch(name):
        raise OSError("no answer")

    first.save(1)
    damage(first.checkpoints.published()[0])
    monkeypatch.setattr(first.mirror, "fetch", fetch)
    with pytest.raises(InputError, match=r"file://.*/dow cannot be read: no answer"):
        newest_whole(first.checkpoints.folder, told.append, mirror=first.mirror)


def test_run_that_has_lost_its_record_in_the_store_is_not_started_over(first, second, tmp_path):
    first.save(1)
    (tmp_path / "store" / "dow" / "config.json").unlink()
    with pytest.raises(InputError, match=r"/store/dow has lost its config.json, nothing is started over it: put it"):
        second.pull()
    assert not second.folder.exists()
    first.mirror = Mirror(first.mirror.address, first.folder)  # the next command on the machine that has it
    assert first.pull() == []
    first.mirror.push_files()
    assert second.pull() == []
    assert second.newest() == 1


def test_two_who_bring_a_run_here_at_once_do_not_disturb_each_other(first, second, tmp_path, told):
    for step in (1, 2):
        first.save(step)
    mirrors = [Mirror(first.mirror.address, second.folder) for _ in range(2)]
    has_begun, may_go_on = threading.Event(), threading.Event()
    download = mirrors[0].store.download

    def slowly(source, target):
        found = download(source, target)
        if target.name.endswith(".tar"):
            has_begun.set()
            may_go_on.wait(60)
        return found

    mirrors[0].store.download = slowly
    one, two = (threading.Thread(target=mirror.pull, args=(told.append,)) for mirror in mirrors)
    one.start()
    assert has_begun.wait(60)
    two.start()
    two.join(0.5)
    assert two.is_alive(), "it waits"
    may_go_on.set()
    one.join()
    two.join()
    assert told == []
    assert second.newest() == 2
    assert not list((tmp_path / "store" / "dow").glob("trial_0/damaged-*"))


def test_folder_that_another_process_writes_to_is_left_to_it(first, second, told, monkeypatch):
    first.save(1)
    monkeypatch.setattr(mirror_module, "is_held_by_another", lambda folder: True)
    second.mirror.pull(told.append)
    assert not second.folder.exists()


@pytest.mark.parametrize("marker", [None, b"\xff", b"0"], ids=["lost", "no text", "changed"])
def test_damaged_marker_of_what_the_store_has_makes_nothing_overtaken(first, told, marker):
    first.save(1)
    for step in (2, 3):
        first.save(step, reaches_store=False)
    of_first = first.checkpoints.published()[0] / "COMPLETE"
    of_first.unlink() if marker is None else of_first.write_bytes(marker + of_first.read_bytes()[1:])
    assert first.pull() == []
    assert first.newest() == 3
    assert len(first.checkpoints.published()) == 3


def test_best_whose_marker_is_damaged_is_not_brought_over_the_whole_one(first):
    first.save(1, value=1.0)
    best = copy_best(first)
    (best / "COMPLETE").write_bytes(b"\xff" + (best / "COMPLETE").read_bytes()[1:])
    with pytest.raises(OSError, match="best_checkpoint is damaged: the one in the store stays"):
        first.mirror.push_checkpoint(best)
    assert first.mirror.check("trial_0/best_checkpoint") is None


def test_folder_that_vanishes_while_files_are_brought_to_the_store_is_no_error(first, tmp_path, monkeypatch):
    first.save(1)
    vanishing = first.folder / "trial_0" / "vanishing"
    vanishing.mkdir()
    (vanishing / "file").write_text("x")
    (first.folder / "train.log").write_text("x")
    scandir = os.scandir

    def gone(path="."):
        if str(path) == str(vanishing):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    first.mirror.push_files()
    assert (tmp_path / "store" / "dow" / "train.log").read_text() == "x"
    assert not (tmp_path / "store" / "dow" / "trial_0" / "vanishing").exists()
