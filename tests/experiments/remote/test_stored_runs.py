"""Commands on a run that is kept in a store, which here is a folder."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sample_runs import config_of

from common.errors import InputError
from common.store import Store
from experiments import run as verb
from experiments.command_line import DONE, FAILED, exit_code
from experiments.remote import lease as lease_module
from experiments.remote.mirror import Mirror
from experiments.runs.record import write_run_record
from experiments.runs.run import Run
from experiments.search import search
from experiments.settings.run_config import config_to_json
from experiments.tuning import resume, session, training


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(lease_module, "_DECIDED_S", 0.0)
    return replace(config_of("qmix"), storage=f"file://{tmp_path}/store", name="dow")


def put_record(folder, config):
    write_run_record(folder, config=config_to_json(config), provenance={}, scaler=None, agents=None)


def test_a_name_that_was_never_used_can_be_started_anew(config):
    run = Run.of(config)
    with run.place.held():
        resume.set_aside(run)
        run.mirror.store.put("config.json", b"{}")
        with pytest.raises(InputError, match="exists, and a store cannot move it aside"):
            resume.set_aside(run)


def test_what_another_machine_brings_until_the_run_is_held_counts(config, tmp_path, monkeypatch):
    real, seen = Mirror.lease, []

    @contextmanager
    def lease(self):
        with real(self):
            put_record(tmp_path / "store" / "dow", replace(config, seed=5))
            yield

    def train(run):
        seen.append((run.config.seed, run.by_hand["name"], (run.folder / "config.json").is_file()))
        return DONE

    monkeypatch.setattr(Mirror, "lease", lease)
    monkeypatch.setattr(verb, "_train", train)
    assert exit_code(verb.run, ["--storage", config.storage, "--name", "dow"]) == DONE
    assert seen == [(5, "dow", True)]
    assert Store(f"{config.storage}/dow").size("lease.json") is None


def test_the_store_says_of_a_run_that_has_failed_that_it_has(config, tmp_path, monkeypatch, capsys):
    def train(run, scaler, *, devices, is_to_check):
        session.write_summary(run.folder, {"status": "failed"})
        return session.Outcome("failed", RuntimeError("a worker has died"))

    monkeypatch.setattr(training, "open_run", lambda run, market: (run.config.scaling, "room"))
    monkeypatch.setattr(training, "announce", lambda *_, **__: None)
    monkeypatch.setattr(training, "describe_run", lambda *_: {})
    monkeypatch.setattr(session, "record_run", lambda run, *_, **__: put_record(run.folder, run.config))
    monkeypatch.setattr(session, "train", train)
    assert training.train_run(Run.of(config), SimpleNamespace(), None) == FAILED
    assert "training failed: a worker has died" in capsys.readouterr().err
    assert session.read_summary(tmp_path / "store" / "dow")["status"] == "failed"
    assert "training failed: a worker has died" in (tmp_path / "store" / "dow" / "train.log").read_text()


def test_a_run_is_recorded_as_it_was_asked_for_and_trained_on_the_devices_that_are_there(config, monkeypatch):
    recorded, trained = [], []
    monkeypatch.setattr(training, "open_run", lambda *_: (replace(config.scaling, num_gpus_per_learner=1.0), "room"))
    monkeypatch.setattr(training, "announce", lambda *_, **__: None)
    monkeypatch.setattr(training, "describe_run", lambda *_: {})
    monkeypatch.setattr(session, "record_run", lambda run, *_, **__: recorded.append(run.config.scaling))
    failed = session.Outcome("failed", RuntimeError("no"))
    monkeypatch.setattr(
        session, "train", lambda run, scaler, *, devices, is_to_check: (trained.append(devices), failed)[1]
    )
    training.train_run(Run.of(config), SimpleNamespace(), None)
    assert [s.num_gpus_per_learner for s in (*recorded, *trained)] == [None, 1.0]


def test_the_store_says_of_a_search_that_has_failed_that_it_has(config, tmp_path, monkeypatch):
    def record_run(run, *_, **__):
        put_record(run.folder, run.config)
        session.write_summary(run.folder, {"status": "failed"})
        raise RuntimeError("a worker has died")

    monkeypatch.setattr(search, "open_run", lambda run, market, **_: (run.config.scaling, "room"))
    monkeypatch.setattr(session, "record_run", record_run)
    with pytest.raises(RuntimeError, match="a worker has died"):
        search.search(Run.of(config), SimpleNamespace())
    assert session.read_summary(tmp_path / "store" / "dow")["status"] == "failed"
