"""What a search draws, and what the user has fixed instead, is known whatever is lost."""

import json

import pytest
from rehearsal import SPACE, Clock, Killed, rehearse
from sample_runs import config_of

from common.errors import InputError
from experiments.builders.environments import environment_of
from experiments.recovery.lock import run_lock
from experiments.recovery.names import SEARCH_FILE
from experiments.runs.record import read_run_record
from experiments.runs.run import Run
from experiments.search import search
from experiments.search.record import SearchRecord


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of a search whose trials are never trained."""
    monkeypatch.setattr(search, "open_run", lambda run, market, **_: (run.config.scaling, "room"))
    monkeypatch.setattr(search, "_fit", lambda *_: None)
    return config_of("qmix", search={"num_trials": 3}, storage=str(tmp_path), name="search")


def names_drawn(config, folder, *, fixed):
    search.search(Run.of(config, dict.fromkeys(fixed)), environment_of(config))
    return SearchRecord.read(folder).drawn_names


@pytest.mark.parametrize("lost", ["not written yet", "lost", "damaged"])
def test_what_was_fixed_by_hand_stays_fixed_without_a_record(config, tmp_path, monkeypatch, lost):
    folder = tmp_path / "search"
    if lost == "not written yet":
        with monkeypatch.context() as patch:
            patch.setattr(SearchRecord, "save", lambda _: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                names_drawn(config, folder, fixed=["qmix.lr", "algo"])
        assert not (folder / SEARCH_FILE).exists()
    else:
        before = names_drawn(config, folder, fixed=["qmix.lr", "algo"])
        assert before == read_run_record(folder).drawn_names
        (folder / SEARCH_FILE).write_text("{")
    if lost == "lost":
        (folder / SEARCH_FILE).unlink()
    names = names_drawn(config, folder, fixed=[])
    assert "qmix.gamma" in names
    assert "qmix.lr" not in names


def test_what_is_drawn_cannot_be_set_by_hand_when_a_search_is_carried_on(config, tmp_path):
    names_drawn(config, tmp_path / "search", fixed=["qmix.lr"])
    names_drawn(config, tmp_path / "search", fixed=["qmix.lr", "name"])
    before = (tmp_path / "search" / SEARCH_FILE).read_bytes()
    with pytest.raises(InputError, match=r"^--qmix.gamma cannot be set by hand in .*search, where it is drawn: leave"):
        names_drawn(config, tmp_path / "search", fixed=["qmix.lr", "qmix.gamma"])
    assert (tmp_path / "search" / SEARCH_FILE).read_bytes() == before


def test_record_that_claims_to_draw_what_its_algorithm_does_not_have_is_refused(config, tmp_path):
    names_drawn(config, tmp_path / "search", fixed=[])
    path = tmp_path / "search" / SEARCH_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drawn_names": ["qmix.lr", "ppo.clip_param"]}))
    with pytest.raises(InputError, match=rf"{SEARCH_FILE} says that ppo.clip_param is drawn, which a search of qmix"):
        names_drawn(config, tmp_path / "search", fixed=[])


@pytest.mark.parametrize("scheduler", ["asha", "pbt", "none"])
def test_names_of_a_record_that_is_lost_are_those_of_its_trials(tmp_path, scheduler):
    folder = tmp_path / "search"
    folder.mkdir()
    with pytest.raises(Killed):
        rehearse(folder, scheduler, clock=Clock(50), planned=("ppo.clip_param",))
    assert list(folder.glob("trial_*/params.json"))
    (folder / SEARCH_FILE).unlink()
    rehearse(folder, scheduler, planned=tuple(SPACE))
    record = SearchRecord.read(folder)
    assert record.drawn_names == ["ppo.clip_param"]
    assert [list(trial.overrides) for trial in record.trials] == [["ppo.clip_param"]] * 3


def test_search_is_held_while_it_runs(config, tmp_path, monkeypatch):
    def fit(*_):
        with pytest.raises(InputError, match="is being written by"), run_lock(tmp_path / "search"):
            pass
        held.append(True)

    held = []
    monkeypatch.setattr(search, "_fit", fit)
    names_drawn(config, tmp_path / "search", fixed=[])
    assert held


def test_room_is_told_by_what_is_drawn_when_it_begins_and_when_it_is_carried_on(config, tmp_path, monkeypatch):
    asked = []

    def open_run(run, market, *, drawn):
        asked.append(list(drawn))
        return run.config.scaling, "room"

    monkeypatch.setattr(search, "open_run", open_run)
    names = names_drawn(config, tmp_path / "search", fixed=["qmix.lr"])
    assert "qmix.mixing_embed_dim" in names
    assert "qmix.lr" not in names
    assert names_drawn(config, tmp_path / "search", fixed=[]) == names
    assert asked == [names, names]
