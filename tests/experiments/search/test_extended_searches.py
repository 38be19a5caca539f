"""A search that is given more trials is the search that would have been, had it been asked for all of them at once."""

import json
import shutil

import pytest
from rehearsal import Clock, Killed, outcome, rehearse

from experiments.recovery.names import SEARCH_FILE


@pytest.fixture(scope="module", params=["asha", "none"])
def searches(request, tmp_path_factory):
    """A search of three trials that is over, and one of five."""
    folders = {}
    for num_trials in (3, 5):
        folders[num_trials] = tmp_path_factory.mktemp(request.param) / "search"
        folders[num_trials].mkdir()
        rehearse(folders[num_trials], request.param, num_trials=num_trials)
    return request.param, folders[3], folders[5]


def test_more_trials_follow_those_that_have_ended_and_change_nothing_of_them(searches, tmp_path):
    scheduler, short, long = searches
    folder = shutil.copytree(short, tmp_path / "search")
    before = json.loads((folder / SEARCH_FILE).read_text())["trials"]
    results = {path: path.read_bytes() for path in folder.glob("trial_*/result.json")}
    rehearse(folder, scheduler, num_trials=5)
    assert json.loads((folder / SEARCH_FILE).read_text())["trials"][:3] == before, "with the times at which they ended"
    assert {path: path.read_bytes() for path in results} == results
    assert outcome(folder) == outcome(long), "record, study, results and best checkpoints"


def test_search_that_was_killed_and_renamed_ends_as_it_would_have(searches, tmp_path):
    scheduler, short, _ = searches
    folder = tmp_path / "before"
    folder.mkdir()
    with pytest.raises(Killed):
        rehearse(folder, scheduler, num_trials=3, clock=Clock(31))
    folder = folder.rename(tmp_path / "after")
    rehearse(folder, scheduler, num_trials=3)
    assert outcome(folder) == outcome(short)
    assert not list(folder.glob("damaged-*")), "the study has another name, and is whole"


@pytest.mark.parametrize("kill_at", [1, 5, 9, 14, 22, 31])
def test_kill_while_more_trials_run_changes_nothing(searches, tmp_path, kill_at):
    scheduler, short, long = searches
    folder = shutil.copytree(short, tmp_path / "search")
    with pytest.raises(Killed):
        rehearse(folder, scheduler, num_trials=5, clock=Clock(kill_at))
    rehearse(folder, scheduler, num_trials=5)
    assert outcome(folder) == outcome(long)
