"""One machine writes to a run in a store, and one that is no longer it stops."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from machines import objects

from common.errors import InputError
from common.store import Store
from experiments.recovery.signals import STOP_FILE
from experiments.remote import lease as lease_module
from experiments.remote.lease import LEASE_FILE, LostLeaseError, hold_lease

OTHER = {"owner": "x", "host": "elsewhere", "pid": 7}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease_module, "_DECIDED_S", 0.0)


@pytest.fixture
def path(tmp_path):
    """Of the lease in the store."""
    path = tmp_path / "store" / "dow" / LEASE_FILE
    path.parent.mkdir(parents=True)
    return path


def now():
    return datetime.now(UTC).isoformat()


def lease(**changes):
    """What a process that has just renewed its lease has there."""
    return OTHER | {"renewed": now()} | changes


def killed_here(owner, folder):
    """Leave what a process that worked in a folder of this machine, and was killed, leaves there."""
    file = folder.with_name(f".{folder.name}.lease")
    file.parent.mkdir(parents=True)
    file.write_text(owner)
    return file


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_a_run_is_held_by_one_machine(address, monkeypatch, tmp_path):
    with hold_lease(Store(address), tmp_path / "first" / "dow"):
        held = json.loads((tmp_path / "store" / "dow" / LEASE_FILE).read_text())
        monkeypatch.setattr(lease_module.socket, "gethostname", lambda: "elsewhere")
        refusal = f"is being written by process {os.getpid()} on {held['host']}"
        with pytest.raises(InputError, match=refusal), hold_lease(Store(address), tmp_path / "second" / "dow"):
            pass
    with hold_lease(Store(address), tmp_path / "second" / "dow"):
        pass
    assert objects(tmp_path) == []
    assert [file.stat().st_size for file in (tmp_path / "first").iterdir()] == [0], "nor is anything said here"


STALE = {
    "not renewed": lambda: lease(renewed="2026-01-01T00:00:00+00:00"),
    "not ours": lambda: {"renewed": 3},
    "damaged": lambda: None,
}


@pytest.mark.parametrize("case", STALE)
def test_a_stale_lease_is_taken_over(address, path, tmp_path, case):
    found = STALE[case]()
    path.write_text("{" if found is None else json.dumps(found))
    with hold_lease(Store(address), tmp_path / "first" / "dow"):
        held = json.loads(path.read_text())
        assert held["pid"] == os.getpid()
        assert held["owner"] != "x"


@pytest.mark.parametrize(("age_s", "is_taken"), [(50, False), (70, True)])
def test_a_lease_may_be_taken_over_after_a_minute_and_not_before(address, path, tmp_path, age_s, is_taken):
    path.write_text(json.dumps(lease(renewed=(datetime.now(UTC) - timedelta(seconds=age_s)).isoformat())))
    refusal = nullcontext() if is_taken else pytest.raises(InputError, match="process 7 on elsewhere")
    with refusal, hold_lease(Store(address), tmp_path / "first" / "dow"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lease_whose_process_was_killed_on_this_machine_is_taken_over_at_once(address, path, tmp_path):
    path.write_text(json.dumps(lease()))
    killed_here("x", tmp_path / "first" / "dow")
    with hold_lease(Store(address), tmp_path / "first" / "dow"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("owner", ["", "of an earlier one"])
def test_a_live_lease_is_respected(address, path, tmp_path, owner):
    found = lease()
    path.write_text(json.dumps(found))
    file = killed_here(owner, tmp_path / "first" / "dow")
    refusal = "is being written by process 7 on elsewhere"
    with pytest.raises(InputError, match=refusal), hold_lease(Store(address), tmp_path / "first" / "dow"):
        pass
    assert json.loads(path.read_text()) == found
    assert file.read_text() == owner


def test_a_process_of_this_machine_that_lives_is_respected_however_long_the_store_has_been_silent(
    address, path, tmp_path
):
    path.write_text(json.dumps(lease(renewed="2026-01-01T00:00:00+00:00")))
    holds = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    file = killed_here("x", tmp_path / "first" / "dow")
    with subprocess.Popen(
        [sys.executable, "-c", holds, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        refusal = "is being written by process 7 on elsewhere"
        with pytest.raises(InputError, match=refusal), hold_lease(Store(address), tmp_path / "first" / "dow"):
            pass
        process.communicate("")
    with hold_lease(Store(address), tmp_path / "first" / "dow"):
        pass


def test_of_two_that_take_it_at_once_one_gives_way(address, path, tmp_path, monkeypatch):
    def overtake(seconds):
        path.write_text(json.dumps(OTHER | {"renewed": now()}))

    monkeypatch.setattr(lease_module.time, "sleep", overtake)
    with pytest.raises(InputError, match="process 7 on elsewhere"), hold_lease(Store(address), tmp_path / "dow"):
        pass
    assert json.loads(path.read_text())["owner"] == "x", "and leaves the other's alone"


# --- lost -------------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_it_is_held(first, path, monkeypatch):
    monkeypatch.setattr(lease_module, "_RENEWED_S", 0.01)
    with first.mirror.lease():
        before = json.loads(path.read_text())
        wait_for(lambda: json.loads(path.read_text() or "{}").get("renewed", before["renewed"]) != before["renewed"])
        first.save(1)
    assert not (first.folder / STOP_FILE).exists()


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_run_that_another_machine_has_taken_over_stops_and_writes_no_more(
    first, path, tmp_path, monkeypatch, capsys, has_ended
):
    monkeypatch.setattr(lease_module, "_RENEWED_S", 0.01)
    name = "another process" if has_ended else "process 7 on elsewhere"
    with first.mirror.lease():
        checkpoint = first.save(1)

        def has_noticed():
            if has_ended:
                path.unlink(missing_ok=True)
            else:
                path.write_text(json.dumps(OTHER | {"renewed": now()}))
            return (first.folder / STOP_FILE).exists()

        wait_for(has_noticed)
        held = objects(tmp_path)
        first.save(2, reaches_store=False)
        for write in (
            first.mirror.push_files,
            first.mirror.push_all,
            lambda: first.mirror.push_checkpoint(checkpoint),
            lambda: first.mirror.prune("trial_0", keep=1),
        ):
            with pytest.raises(LostLeaseError, match=f"has been taken over by {name}"):
                write()
        assert objects(tmp_path) == held
    assert path.exists() != has_ended, "only its owner deletes it, and it is not put there again"
    assert capsys.readouterr().err.count(f"has been taken over by {name}") == 1
    assert not (first.folder / STOP_FILE).exists(), "the next run is not asked to stop"


def test_the_process_that_writes_finds_out_before_the_next_renewal(first, path):
    with first.mirror.lease():
        path.write_text(json.dumps(OTHER | {"renewed": now()}))
        with pytest.raises(LostLeaseError, match="process 7 on elsewhere"):
            first.mirror.push_files()


def test_who_holds_nothing_writes_only_where_nobody_does(first, path):
    path.write_text(json.dumps(OTHER | {"renewed": now()}))
    with pytest.raises(LostLeaseError, match="is being written by process 7 on elsewhere"):
        first.mirror.push_files()
    path.write_text(json.dumps(OTHER | {"renewed": "2026-01-01T00:00:00+00:00"}))
    first.save(1)


def test_a_lease_does_not_travel_with_the_run(first, second, path):
    with first.mirror.lease():
        first.save(1)
        held = path.read_text()
        second.pull()
        assert not (second.folder / LEASE_FILE).exists()
        (first.folder / LEASE_FILE).write_text("of before")
        first.mirror.push_all()
        assert path.read_text() == held
