import math
import os
import sqlite3
from contextlib import closing

import optuna
import pytest
from rehearsal import outcome, rehearse
from sqlalchemy.event import listen

from algos.registry import algorithms
from common.files import WriteError
from experiments.search.record import SearchRecord, TrialRecord
from experiments.search.spaces import search_space
from experiments.search.study import STUDY_FILE, Study
from experiments.settings.metric_names import SEARCH_SCORE


def open_study(folder, *, seed=0, num_trials=6):
    folder.mkdir(exist_ok=True)
    record = SearchRecord.read(folder)
    study = Study(folder, search_space("ppo", fixed=(), network="mlp"), seed=seed, num_trials=num_trials)
    study.sync(record)
    return record, study


def draw(record, study, score=None, *, episodes=10):
    """Draw one more trial, and end it where there is a score."""
    drawn = study.draw(record)
    trial = TrialRecord(record.next_id(), drawn, dict(drawn))
    record.trials.append(trial)
    record.save()
    if score is not None:
        record.end(trial, {SEARCH_SCORE: score, "episodes": episodes, "target_episodes": 10})
        record.save()
    return trial


def load(folder):
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / STUDY_FILE}")


def rows(folder):
    return [(row.number, row.state.name, row.params, row.values) for row in load(folder).get_trials()]


def test_a_process_of_its_own_for_every_draw_draws_the_same(tmp_path):
    drawn = []
    for name, is_reopened in (("one", False), ("many", True)):
        record, study = open_study(tmp_path / name)
        for i in range(6):
            draw(record, study, score=0.1 * i)
            study.sync(record)
            if is_reopened:
                record, study = open_study(tmp_path / name)
        drawn.append([trial.drawn for trial in record.trials])
    assert drawn[0] == drawn[1]
    assert len({trial["ppo.lr"] for trial in drawn[0]}) == 6


@pytest.mark.parametrize("algo", sorted(algorithms()))
def test_seed_decides_what_is_drawn(tmp_path, algo):
    def draws(name, seed):
        (tmp_path / name).mkdir()
        study = Study(tmp_path / name, search_space(algo, fixed=(), network="mlp"), seed=seed, num_trials=3)
        record = SearchRecord(tmp_path / name)
        return [draw(record, study).drawn for _ in range(3)]

    assert draws("a", 0) == draws("b", 0) != draws("c", 1)


def test_states_are_those_that_optuna_means(tmp_path):
    record, study = open_study(tmp_path / "s")
    for score, episodes in [(0.5, 10), (0.25, 5), (math.nan, 10), (None, 0)]:
        draw(record, study, score, episodes=episodes)
    study.sync(record)
    told = [(row[1], row[3]) for row in rows(tmp_path / "s")]
    assert told == [("COMPLETE", [0.5]), ("PRUNED", [0.25]), ("FAIL", None), ("RUNNING", None)]
    (tmp_path / "s" / STUDY_FILE).unlink()
    study.sync(record)
    assert [(row[1], row[3]) for row in rows(tmp_path / "s")] == told


def test_trial_that_ends_is_entered_where_it_stands(tmp_path):
    record, study = open_study(tmp_path / "s")
    study.sync(record)
    inode = (tmp_path / "s" / STUDY_FILE).stat().st_ino
    for score, episodes in [(0.5, 10), (0.25, 5), (math.nan, 10)]:
        trial = draw(record, study)
        study.sync(record)
        assert rows(tmp_path / "s")[-1][1] == "RUNNING"
        record.end(trial, {SEARCH_SCORE: score, "episodes": episodes, "target_episodes": 10})
        study.sync(record)
    told = [(row[1], row[3]) for row in rows(tmp_path / "s")]
    assert told == [("COMPLETE", [0.5]), ("PRUNED", [0.25]), ("FAIL", None)]
    assert (tmp_path / "s" / STUDY_FILE).stat().st_ino == inode


def test_study_holds_what_the_best_checkpoint_reached(tmp_path):
    record, study = open_study(tmp_path / "s")
    trial = draw(record, study, 0.5)
    trial.result["best_score"] = 0.75
    study.sync(record)
    assert rows(tmp_path / "s")[0][3] == [0.75]


@pytest.mark.parametrize("score", [0.5, None])
def test_row_that_was_asked_for_and_never_handed_out_is_gone(tmp_path, score):
    record, study = open_study(tmp_path / "s")
    draw(record, study, score)
    lost = study.draw(record)
    study.sync(record)
    load(tmp_path / "s").ask(fixed_distributions=study._distributions)  # as earlier versions drew
    assert len(rows(tmp_path / "s")) == 2
    record, study = open_study(tmp_path / "s")
    assert len(rows(tmp_path / "s")) == 1
    assert draw(record, study).drawn == lost, "drawn again, it is the same"


def test_what_the_record_says_and_the_study_does_not_is_entered(tmp_path):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    assert rows(tmp_path / "s") == []
    study.sync(record)
    assert [row[1] for row in rows(tmp_path / "s")] == ["COMPLETE"]


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_damaged_study_is_set_aside_and_written_anew(tmp_path, capsys, size):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    study.sync(record)
    before = rows(tmp_path / "s")
    os.truncate(tmp_path / "s" / STUDY_FILE, size)
    open_study(tmp_path / "s")
    assert rows(tmp_path / "s") == before
    if size:
        assert "optuna.db is damaged" in capsys.readouterr().out
        assert (tmp_path / "s" / f"damaged-{STUDY_FILE}").is_file()


def test_study_that_is_gone_is_written_anew(tmp_path):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    study.sync(record)
    before = rows(tmp_path / "s")
    (tmp_path / "s" / STUDY_FILE).unlink()
    open_study(tmp_path / "s")
    assert rows(tmp_path / "s") == before


def test_study_in_line_with_the_record_is_left_alone(tmp_path):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    study.sync(record)
    inode = (tmp_path / "s" / STUDY_FILE).stat().st_ino
    study.sync(record)
    assert (tmp_path / "s" / STUDY_FILE).stat().st_ino == inode


def test_study_that_cannot_be_written_does_not_end_the_search(tmp_path, capsys, monkeypatch):
    record, study = open_study(tmp_path / "s")
    draw(record, study)
    study.sync(record)

    def fail(*_, **__):
        raise OSError("disk full")

    record.end(record.trials[0], {SEARCH_SCORE: 0.5, "episodes": 10, "target_episodes": 10})
    monkeypatch.setattr(optuna.study.Study, "tell", fail)
    study.try_sync(record)
    assert "optuna.db: disk full; the search goes on" in capsys.readouterr().err


def test_trial_that_the_study_did_not_take_in_counts_in_the_next_draw(tmp_path, capsys, monkeypatch):
    for name in ("whole", "locked"):
        (tmp_path / name / "search").mkdir(parents=True)
    rehearse(tmp_path / "whole" / "search", "none", num_trials=6)

    left = ["at its end", "at the next draw"]

    def tell(self, number, *args, real=optuna.study.Study.tell, **kwargs):
        if number == 3 and left:  # the last one before draws that learn from the others
            left.pop()
            raise OSError("database is locked")
        return real(self, number, *args, **kwargs)

    monkeypatch.setattr(optuna.study.Study, "tell", tell)
    rehearse(tmp_path / "locked" / "search", "none", num_trials=6)
    assert "optuna.db: database is locked; the search goes on" in capsys.readouterr().err
    assert outcome(tmp_path / "locked" / "search") == outcome(tmp_path / "whole" / "search")


def test_study_that_takes_no_row_says_which_file_and_why(tmp_path, monkeypatch):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    monkeypatch.setattr("experiments.search.study._storage", read_only)
    with pytest.raises(WriteError, match=r"^cannot write .*optuna.db: attempt to write a readonly database$"):
        study.sync(record)
    assert rows(tmp_path / "s") == [], "it is not taken for damaged"
    gone = Study(tmp_path / "gone", search_space("ppo", fixed=(), network="mlp"), seed=0, num_trials=6)
    with pytest.raises(WriteError, match=r"^cannot write .*gone/optuna.db: unable to open database file$"):
        gone.sync(record)


def test_study_that_another_program_has_locked_is_not_taken_for_damaged(tmp_path, monkeypatch):
    record, study = open_study(tmp_path / "s")
    draw(record, study, 0.5)
    monkeypatch.setattr("experiments.search.study._storage", impatient)
    with closing(sqlite3.connect(tmp_path / "s" / STUDY_FILE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WriteError, match=r"^cannot write .*optuna.db: database is locked$"):
            study.sync(record)
    study.sync(record)
    assert [path.name for path in (tmp_path / "s").glob("*.db")] == [STUDY_FILE]
    assert [row[1] for row in rows(tmp_path / "s")] == ["COMPLETE"]


def impatient(path):
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 0}})


def read_only(path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    storage.engine.dispose()
    return storage


def test_study_that_cannot_be_written_anew_says_which_file_and_why(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.search.study.to_disk", fail)
    with pytest.raises(WriteError, match=r"^cannot write .*optuna.db: .*No space left on device$"):
        open_study(tmp_path / "s")
