import json
import shutil
from unittest import mock

import pytest
from rehearsal import Clock, Killed, Trial, outcome, rehearse

from common.errors import InputError
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import SEARCH_FILE
from experiments.search.reconcile import last_result, reconcile
from experiments.search.record import Rung, SearchRecord, TrialRecord


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "search"
    folder.mkdir()
    rehearse(folder, "asha")
    return folder


@pytest.fixture
def searched(whole, tmp_path):
    """A search that is over, to be damaged."""
    return shutil.copytree(whole, tmp_path / "search")


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halfway") / "search"
    folder.mkdir()
    with pytest.raises(Killed):
        rehearse(folder, "asha", clock=Clock(90))
    return folder


def states(folder):
    return {trial.trial_id: trial.state for trial in SearchRecord.read(folder).trials}


def test_lost_record_is_made_up_from_the_folders(whole, searched, capsys):
    (searched / SEARCH_FILE).unlink()
    rehearse(searched, "none")
    assert "search.json did not know of 00000, 00001, 00002" in capsys.readouterr().out
    ours, theirs = outcome(searched), outcome(whole)
    assert [t["result"] for t in ours[0]["trials"]] == [t["result"] for t in theirs[0]["trials"]]
    assert ours[1:] == theirs[1:], "study, result lines and best checkpoints: nothing was trained again"


def test_population_that_lost_its_record_forgets_who_went_on_from_whom(tmp_path):
    rehearse(tmp_path, "pbt")
    before = SearchRecord.read(tmp_path)
    assert before.exploits
    (tmp_path / SEARCH_FILE).unlink()
    record = SearchRecord.read(tmp_path)
    reconcile(record)
    assert record.exploits == []
    assert [trial.overrides for trial in record.trials] == [trial.overrides for trial in before.trials]
    assert [trial.result for trial in record.trials] == [trial.result for trial in before.trials]


def test_search_that_lost_its_record_halfway_loses_no_trial_and_repeats_none(whole, halfway, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "search")
    kept = {path: path.read_text() for path in folder.glob("trial_*/result.json")}
    (folder / SEARCH_FILE).write_text("{")
    rehearse(folder, "asha")
    assert (folder / f"damaged-{SEARCH_FILE}").is_file()
    assert [row[2] for row in outcome(folder)[1]] == [row[2] for row in outcome(whole)[1]]
    assert kept
    for path, text in kept.items():
        assert path.read_text().startswith(text[: text.rindex('{"trial_id"')])


def test_record_that_is_older_than_the_folders_learns_from_them(searched):
    record = SearchRecord.read(searched)
    record.trials = record.trials[:1]
    record.save()
    rehearse(searched, "asha")
    assert list(states(searched)) == ["00000", "00001", "00002"]


def test_folder_that_does_not_say_what_was_drawn_is_set_aside(searched, capsys):
    record = SearchRecord.read(searched)
    record.trials = record.trials[:2]
    (searched / "trial_00002" / "params.json").write_text("{")
    reconcile(record)
    assert [trial.trial_id for trial in record.trials] == ["00000", "00001"]
    assert (searched / "damaged-trial_00002" / "result.json").is_file()
    assert "trial_00002 does not say what was drawn for it" in capsys.readouterr().out


def test_trial_that_ended_unseen_is_not_run_again(searched):
    record = SearchRecord.read(searched)
    before = [(trial.state, trial.result) for trial in record.trials]
    for trial in record.trials:
        trial.state, trial.result, trial.ended = "RUNNING", None, None
    assert reconcile(record) == record.trials
    assert [(trial.state, trial.result) for trial in record.trials] == before


def test_trial_that_ended_unseen_is_compared_all_the_same(whole, searched):
    record = SearchRecord.read(searched)
    first = record.trials[0]
    first.state, first.result, first.ended = "RUNNING", None, None
    record.rungs = [rung for rung in record.rungs if rung.trial_id != first.trial_id or rung.milestone < 64]
    record.save()
    rehearse(searched, "asha")
    assert outcome(searched) == outcome(whole)


def test_trial_is_handed_over_with_the_records_of_its_checkpoint(halfway, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "search")
    trial = next(trial for trial in SearchRecord.read(folder).trials if not trial.has_ended)
    results = folder / trial.folder_name / "result.json"
    results.write_text('{"training_iteration": 99, "episodes": 9, "target_episodes": 64}\n')
    with pytest.raises(Killed), mock.patch.object(Trial, "start", side_effect=Killed):
        rehearse(folder, "asha")
    assert results.read_text() == ""


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        ({"done": True}, True),
        ({"done": True, "should_checkpoint": True}, False),
        ({"done": True, "is_stopped": True}, False),
        ({"done": False}, False),
        ({"done": True, "should_checkpoint": True, "fatal": "NaN"}, True),
    ],
)
def test_trial_is_over_when_its_last_result_says_so_and_its_checkpoint_is_there(tmp_path, last, ended):
    record = SearchRecord(tmp_path)
    record.trials.append(TrialRecord("00000", {}, {}))
    folder = tmp_path / "trial_00000"
    folder.mkdir()
    line = {"training_iteration": 3, "episodes": 24, "target_episodes": 64, **last}
    (folder / "result.json").write_text(json.dumps(line) + '\n{"cut')
    assert bool(reconcile(record)) is ended


def test_trial_that_has_lost_its_checkpoints_is_not_started_over(tmp_path):
    record = SearchRecord(tmp_path)
    record.trials.append(TrialRecord("00000", {}, {}))
    record.save()
    folder = tmp_path / "trial_00000"
    (folder / "best_checkpoint").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has lost its checkpoints .*move trial_00000 out of the search"):
        reconcile(record)
    folder.rename(tmp_path / "elsewhere")
    assert reconcile(record) == [], "and then it begins anew"


def test_comparisons_that_no_checkpoint_has_reached_are_made_again(tmp_path):
    def write(folder):
        (folder / "checkpoint_meta.json").write_text('{"episode": 16, "is_best": false}')
        (folder / "run_state.json").write_text('{"iteration": 2}')

    record = SearchRecord(tmp_path)
    record.trials = [TrialRecord(f"0000{i}", {}, {}) for i in range(3)]
    record.trials[0].state = "COMPLETE"
    TrialCheckpoints(tmp_path / "trial_00001").publish(write)
    record.rungs = [Rung(8, f"0000{i}", episodes, 0.5, False) for i in range(3) for episodes in (16, 24)]
    reconcile(record)
    assert [(r.trial_id, r.episodes) for r in record.rungs] == [("00000", 16), ("00000", 24), ("00001", 16)]


def test_last_result_passes_over_lines_that_cannot_be_read(tmp_path):
    assert last_result(tmp_path) is None
    one, two, three = (json.dumps({"training_iteration": i}).encode() for i in (1, 2, 3))
    for flipped in (bytes([three[0] | 0x80]) + three[1:], three[:2] + b"x" + three[3:]):
        (tmp_path / "result.json").write_bytes(b"\n".join([one, two, flipped, three[:9]]))
        assert last_result(tmp_path) == {"training_iteration": 2}


@pytest.fixture
def interrupted(tmp_path):
    """A search of two trials, each with two checkpoints of which the newer is the best; the first has ended."""

    def write(folder):
        meta = {"episode": 16, "is_best": True, "metric_name": "sharpe", "metric_value": 0.5}
        (folder / "checkpoint_meta.json").write_text(json.dumps(meta))
        (folder / "run_state.json").write_text('{"iteration": 2}')

    record = SearchRecord(tmp_path)
    record.trials = [TrialRecord(f"0000{i}", {}, {}) for i in range(2)]
    record.trials[0].state = "COMPLETE"
    for trial in record.trials:
        checkpoints = TrialCheckpoints(tmp_path / trial.folder_name)
        for _ in range(2):
            checkpoints.publish(write)
        shutil.copytree(checkpoints.published()[-1], checkpoints.folder / "best_checkpoint")
    record.save()
    return record


def damage(checkpoint):
    (checkpoint / "checkpoint_meta.json").write_text("{}")


def test_trial_none_of_whose_checkpoints_is_whole_is_no_failure_and_not_started_over(interrupted):
    trial = interrupted.trials[1]
    folder = interrupted.folder / trial.folder_name
    for path in TrialCheckpoints(folder).published():
        damage(path)
    words = r"none of the 2 checkpoints in .*trial_00001 is whole.*_meta.json: has 2 bytes.*move trial_00001 out"
    with pytest.raises(InputError, match=words):
        reconcile(interrupted)
    with pytest.raises(InputError, match="they were set aside before; put one back, or move"):
        reconcile(interrupted)
    assert not trial.has_ended
    shutil.copytree(folder / "best_checkpoint", folder / "checkpoint_000001")
    assert reconcile(interrupted) == [], "one that was put back is gone on from"


@pytest.mark.parametrize("number", [0, 1], ids=["of a trial that has ended", "of one that goes on"])
def test_damaged_best_checkpoint_of_a_trial_is_set_aside_and_made_again(interrupted, capsys, number):
    folder = interrupted.folder / interrupted.trials[number].folder_name
    damage(folder / "best_checkpoint")
    reconcile(interrupted)
    assert json.loads((folder / "best_checkpoint" / "checkpoint_meta.json").read_text())["metric_value"] == 0.5
    assert (folder / "damaged-best_checkpoint").is_dir()
    assert "best_checkpoint is damaged" in capsys.readouterr().out


def test_search_that_is_carried_on_sweeps_what_a_kill_has_left(searched):
    (searched / "trial_00001" / ".publishing-deleting-checkpoint_000000").mkdir()
    reconcile(SearchRecord.read(searched))
    assert not list(searched.rglob(".publishing-*"))
