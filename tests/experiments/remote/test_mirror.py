"""A run folder in a store; here the store is a folder too, so that it can be damaged by hand."""

import os
import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from machines import objects

from common import store as store_module
from common.errors import InputError
from common.manifests import MARKER_FILE, find_damage
from common.store import Store, is_remote, join
from experiments.remote.addresses import bring_back, check_storage, find_mirror, mirror_of, storage_of, working_folder


def packs(tmp_path, name):
    return sorted((tmp_path / "store" / "dow" / "trial_0" / name).glob("pack-*"))


# --- there and back ---------------------------------------------------------------------------------------------------


def test_another_machine_carries_on_where_the_first_was_lost(first, second):
    for step in (1, 2, 3):
        first.save(step)
    shutil.rmtree(first.folder)
    assert second.pull() == []
    assert second.newest() == 3
    assert (second.folder / "trial_0" / "result.json").read_text() == "1\n2\n3\n"
    assert find_damage(second.folder / "trial_0" / "checkpoint_000002") == []
    second.save(4)
    first.folder.parent.mkdir(exist_ok=True)
    first.pull()
    assert first.newest() == 4


@pytest.fixture
def numbered(first, second):
    """Two machines whose next checkpoint is the last of six digits."""
    for machine in (first, second):
        (machine.folder / "trial_0" / "damaged-checkpoint_999998").mkdir(parents=True)


@pytest.mark.usefixtures("numbered")
def test_store_goes_on_by_number_beyond_six_digits(first, second, tmp_path):
    first.save(1)
    first.save(2)
    assert second.pull() == []
    assert second.newest() == 2
    shutil.rmtree(first.folder / "trial_0" / "checkpoint_1000000")
    first.pull()
    assert first.newest() == 2, "what is here is not the newest of the store"
    first.save(3)
    first.save(4)
    assert not objects(tmp_path, "trial_0/checkpoint_999999")


@pytest.mark.usefixtures("numbered")
def test_what_was_overtaken_beyond_six_digits_is_set_aside(first, second):
    first.mirror.push_files()
    first.save(1, reaches_store=False)
    first.save(2, reaches_store=False)
    second.save(3)
    names = ["checkpoint_999999", "checkpoint_1000000"]
    assert [line.split()[0] for line in first.pull()] == names
    assert first.newest() == 3
    assert all((first.folder / "trial_0" / f"overtaken-{name}").is_dir() for name in names)


def test_a_checkpoint_is_three_objects_and_what_is_new_of_the_buffer(first, tmp_path):
    first.save(3)
    names = objects(tmp_path, "trial_0")
    assert sum("segments/" in n for n in names) == 3
    assert sum("checkpoint_000000/" in n for n in names) == 3
    before = {n: (tmp_path / "store" / "dow" / "trial_0" / n).stat().st_mtime_ns for n in names}
    first.save(4)
    after = objects(tmp_path, "trial_0")
    new = set(after) - set(before)
    assert sum("segments/" in n for n in new) == 1
    assert all(
        (tmp_path / "store" / "dow" / "trial_0" / n).stat().st_mtime_ns == before[n] for n in before if "seg" in n
    )


def test_retention_reaches_the_store_and_its_segments(first, second, tmp_path):
    first.save(4)
    shutil.rmtree(first.previous / "replay")  # what follows has another buffer
    first.previous = None
    for step in (1, 2):
        first.save(step)
    names = objects(tmp_path, "trial_0")
    assert {n.split("/")[0] for n in names if "checkpoint" in n} == {"checkpoint_000001", "checkpoint_000002"}
    assert sum(n.startswith("segments/") for n in names) == 2, "those that the first alone needed are gone"
    second.pull()
    assert second.newest() == 2


def in_store(tmp_path):
    """Numbers of the checkpoints in the store."""
    found = {n.split("/")[0] for n in objects(tmp_path, "trial_0") if n.endswith(f"/{MARKER_FILE}")}
    return sorted(int(n.removeprefix("checkpoint_")) for n in found if n.startswith("checkpoint_"))


def test_a_machine_that_takes_over_deletes_what_is_too_old_and_nothing_else(first, second, tmp_path):
    for machine in (first, second):
        machine.keep, machine.keep_every = 3, 4
    for step in range(1, 9):
        first.save(step)
    assert in_store(tmp_path) == [0, 4, 5, 6, 7]
    second.pull()
    assert [path.name for path in second.checkpoints.published()] == ["checkpoint_000007"], "it has this one only"
    second.save(9)
    assert in_store(tmp_path) == [0, 4, 6, 7, 8]
    for number in (0, 4, 6, 7):
        second.mirror.fetch(f"trial_0/checkpoint_{number:06d}")


def test_what_is_damaged_in_the_store_does_not_push_out_what_is_whole(first, tmp_path):
    for step in (1, 2):
        first.save(step)
    packs(tmp_path, "checkpoint_000001")[0].unlink()
    first.mirror.prune("trial_0", keep=1)
    assert in_store(tmp_path) == [0, 1]


def test_the_best_one_is_replaced_in_one_step_and_survives_retention(first, second, tmp_path):
    for step in (1, 2, 3, 4):
        path = first.save(step)
        if step in (1, 2):
            best = path.parent / "best_checkpoint"
            shutil.rmtree(best, ignore_errors=True)
            shutil.copytree(path, best)
            first.mirror.push_checkpoint(best)
    assert len(packs(tmp_path, "best_checkpoint")) == 1
    second.pull()
    assert (second.folder / "trial_0" / "best_checkpoint" / "weights").read_text() == "weights of 2"
    assert second.newest() == 4


def test_a_database_in_use_is_copied_whole(first, second):
    with closing(sqlite3.connect(first.folder / "optuna.db")) as study:
        study.execute("create table trials (number)")
        study.commit()
        study.execute("insert into trials values (1)")  # not committed
        first.save(1)
    second.pull()
    with closing(sqlite3.connect(second.folder / "optuna.db")) as study:
        assert study.execute("select count(*) from trials").fetchone() == (0,)


# --- whose copy counts ------------------------------------------------------------------------------------------------


def test_a_machine_that_is_ahead_of_the_store_keeps_what_it_has(first, tmp_path):
    first.save(1)
    first.save(2, reaches_store=False)
    assert first.pull() == []
    assert first.newest() == 2
    assert (first.folder / "trial_0" / "result.json").read_text() == "1\n2\n"
    first.mirror.push_all()
    assert "trial_0/checkpoint_000001/COMPLETE" in objects(tmp_path)


def test_a_machine_that_was_left_behind_takes_what_the_store_has(first, second):
    first.save(1)
    second.pull()
    for step in (2, 3, 4):
        second.save(step)
    first.pull()
    assert first.newest() == 4
    assert (first.folder / "trial_0" / "result.json").read_text() == "1\n2\n3\n4\n"


def test_a_checkpoint_that_the_other_machine_has_written_otherwise_does_not_survive_here(first, second):
    first.save(1)
    second.pull()
    first.save(20, reaches_store=False)  # number 1 here
    second.save(2)  # number 1 there, and in the store
    told = first.pull()
    assert first.newest() == 2
    assert any("checkpoint_000001" in line and "another machine" in line for line in told)


# --- damage -----------------------------------------------------------------------------------------------------------


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated pack": lambda c, t: cut(next(c.glob("pack-*"))),
    "empty pack": lambda c, t: os.truncate(next(c.glob("pack-*")), 0),
    "flipped byte": lambda c, t: flip(next(c.glob("pack-*"))),
    "missing pack": lambda c, t: next(c.glob("pack-*")).unlink(),
    "missing marker": lambda c, t: (c / MARKER_FILE).unlink(),
    "truncated marker": lambda c, t: cut(c / MARKER_FILE),
    "missing segment": lambda c, t: [p.unlink() for p in t.glob("segments/*") if "segment 2" in p.read_text()],
    "truncated segment": lambda c, t: [cut(p) for p in t.glob("segments/*") if "segment 2" in p.read_text()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_in_the_store_is_set_aside_and_the_one_before_it_is_used(first, second, tmp_path, kind):
    for step in (1, 2, 3):
        first.save(step)
    trial = tmp_path / "store" / "dow" / "trial_0"
    held = set(objects(tmp_path, "trial_0/checkpoint_000002"))
    DAMAGE[kind](trial / "checkpoint_000002", trial)
    left = set(objects(tmp_path, "trial_0/checkpoint_000002"))
    told = second.pull()
    assert second.newest() == 2
    assert len(told) == 1
    assert "checkpoint_000002 in the store is damaged" in told[0]
    assert set(objects(tmp_path, "trial_0/damaged-checkpoint_000002")) == left <= held
    second.save(3)
    second.mirror.prune("trial_0", keep=1)
    assert set(objects(tmp_path, "trial_0/damaged-checkpoint_000002")) == left, "nothing is deleted"


def test_a_damaged_best_one_in_the_store_is_left_out(first, second, tmp_path):
    path = first.save(1)
    first.mirror.push_checkpoint(shutil.copytree(path, path.with_name("best_checkpoint")))
    cut(packs(tmp_path, "best_checkpoint")[0])
    (told,) = second.pull()
    assert told.startswith("best_checkpoint in the store is damaged, pack-")
    assert told.endswith(": it is left out")
    assert second.newest() == 1
    assert not (second.folder / "trial_0" / "best_checkpoint").exists()


def test_an_upload_that_was_cut_never_was_a_checkpoint(first, second, tmp_path, monkeypatch):
    first.save(1)
    monkeypatch.setattr(Store, "put", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("cut")))
    path = first.save(2, reaches_store=False)
    with pytest.raises(OSError, match="cut"):
        first.mirror.push_checkpoint(path)
    monkeypatch.undo()
    assert len(packs(tmp_path, "checkpoint_000001")) == 1, "it came so far"
    assert second.pull() == []
    assert second.newest() == 1
    assert packs(tmp_path, "checkpoint_000001") == []


def test_what_another_machine_may_be_writing_is_left_alone(first, second, tmp_path):
    for step in (1, 2, 3):
        first.keep = 3
        first.save(step)
    trial = tmp_path / "store" / "dow" / "trial_0"
    for name in (MARKER_FILE, "checkpoint_meta.json"):
        (trial / "checkpoint_000002" / name).unlink()
    cut(packs(tmp_path, "checkpoint_000001")[0])
    with first.mirror.lease():
        held = objects(tmp_path, "trial_0")
        told = second.pull()
        assert objects(tmp_path, "trial_0") == held
    assert second.newest() == 1
    assert len(told) == 1
    assert "checkpoint_000001 in the store is damaged" in told[0]
    assert told[0].endswith("left out")


def test_when_nothing_in_the_store_is_whole_that_is_said(first, second, tmp_path):
    first.save(1)
    cut(packs(tmp_path, "checkpoint_000000")[0])
    with pytest.raises(InputError, match=r"none of the 1 checkpoints of trial_0 .* is whole"):
        second.pull()


def test_what_this_machine_still_has_whole_mends_the_store(first, second, tmp_path):
    for step in (1, 2):
        first.save(step)
    (tmp_path / "store" / "dow" / "trial_0" / "checkpoint_000001" / MARKER_FILE).unlink()
    assert first.pull() == []
    first.mirror.push_all()
    assert second.pull() == []
    assert second.newest() == 2


def test_a_damaged_database_that_was_set_aside_does_not_keep_the_rest_from_the_store(first, second):
    (first.folder / "damaged-optuna.db").write_bytes(b"no database at all" * 100)
    first.save(1)
    second.pull()
    assert second.newest() == 1
    assert (second.folder / "damaged-optuna.db").read_bytes() == b"no database at all" * 100


# --- a store that does not answer -------------------------------------------------------------------------------------


def test_a_store_that_is_away_for_a_while_is_waited_for(first, monkeypatch, tmp_path):
    clock = [0.0]
    of_the_store = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda s: clock.__setitem__(0, clock[0] + s))
    monkeypatch.setattr(store_module, "time", of_the_store)  # threads of others sleep as they like
    first.mirror.store.patience_s = 60.0
    real = first.mirror.store._fs

    class Away:
        def __getattr__(self, name):
            if clock[0] < 20.0:
                raise OSError("no answer")
            return getattr(real, name)

    first.mirror.store._fs = Away()
    first.save(1)
    assert 20.0 <= clock[0] < 40.0
    assert len(packs(tmp_path, "checkpoint_000000")) == 1
    clock[0] = -100.0
    with pytest.raises(OSError, match="no answer"):
        first.mirror.push_all()
    assert -45.0 < clock[0] < 0.0


# --- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_are_told_from_folders_and_options_stay_at_their_end(monkeypatch, tmp_path):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    assert is_remote("s3://bucket/a")
    assert not is_remote("results")
    assert join("s3://bucket/a/?scheme=http", "dow", "x") == "s3://bucket/a/dow/x?scheme=http"
    assert working_folder("results", "dow").as_posix() == "results/dow"
    one, two = working_folder("s3://bucket/a", "dow"), working_folder("s3://bucket/b", "dow")
    assert one != two
    assert one.is_relative_to(tmp_path / "work")
    assert mirror_of("results", "dow") is None
    monkeypatch.delenv("TRADING_FLOOR_WORK")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert working_folder("s3://bucket/a", "dow").is_relative_to(tmp_path / ".cache" / "trading-floor")


def test_a_path_in_the_store_is_brought_here(first, tmp_path, monkeypatch, address):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    for step in (1, 2, 3):
        first.save(step)
    folder = bring_back(address)
    assert (folder / "trial_0" / "checkpoint_000002" / "weights").read_text() == "weights of 3"
    older = bring_back(f"{address}/trial_0/checkpoint_000001")
    assert (older / "weights").read_text() == "weights of 2"
    assert storage_of(find_mirror(f"{address}/trial_0/checkpoint_000001")[0].address) == address.removesuffix("/dow")
    assert find_mirror(f"{address}/trial_0")[1] == "trial_0"
    with pytest.raises(InputError, match="neither a run folder nor a checkpoint"):
        bring_back(f"file://{tmp_path}/store/other")


def test_a_storage_that_cannot_be_written_to_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"--storage file://.*/file/store cannot be written to"):
        check_storage(f"file://{tmp_path}/file/store")
    check_storage(f"file://{tmp_path}/store")
    assert objects(tmp_path) == []


def test_an_address_that_cannot_be_used_is_refused_in_one_line():
    with pytest.raises(InputError, match="nothing://x/y cannot be used"):
        Store("nothing://x/y")


def test_best_that_has_not_been_copied_stays_in_the_store_too(first):
    def stored():
        return {name.split("/")[0] for name in first.mirror.store.names("trial_0") if "checkpoint_" in name}

    first.keep = 1
    for step in (1, 2, 3):
        first.save(step, is_best=step == 2)
    assert (
        {path.name for path in first.checkpoints.published()} == stored() == {"checkpoint_000001", "checkpoint_000002"}
    )
    shutil.copytree(first.folder / "trial_0" / "checkpoint_000001", first.folder / "trial_0" / "best_checkpoint")
    first.save(4)
    assert {path.name for path in first.checkpoints.published()} == stored() == {"checkpoint_000003"}
