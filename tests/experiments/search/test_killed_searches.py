import shutil

import pytest
from rehearsal import Clock, Killed, Trial, decisions, outcome, rehearse

from experiments.recovery.signals import STOP_FILE
from experiments.remote.addresses import mirror_of

SCHEDULERS = ("asha", "pbt", "none")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What searches that nothing happens to leave behind, and how many instants they have."""
    found = {}
    for scheduler in SCHEDULERS:
        folder, clock = tmp_path_factory.mktemp(scheduler) / "search", Clock()
        folder.mkdir()
        rehearse(folder, scheduler, clock=clock)
        found[scheduler] = outcome(folder), clock.now
    return found


@pytest.fixture(scope="module")
def whole_decisions(tmp_path_factory):
    """What searches that nothing happens to decide, and how many evaluations they make."""
    found = {}
    for scheduler in SCHEDULERS:
        folder = tmp_path_factory.mktemp(scheduler) / "search"
        folder.mkdir()
        rehearse(folder, scheduler, leave_at=10**6)
        found[scheduler] = decisions(folder), Trial.num_evaluations
    return found


def run_killed(folder, scheduler, kills):
    """Kill the search at each instant in turn, counted from its start or its last restart; says how often it was."""
    folder.mkdir()
    for done, kill_at in enumerate(kills):
        try:
            rehearse(folder, scheduler, clock=Clock(kill_at))
        except Killed:
            continue
        return done
    rehearse(folder, scheduler)
    return len(kills)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_search_that_was_never_killed_is_what_is_meant(whole, scheduler):
    (record, rows, _, best), _ = whole[scheduler]
    assert len(record["trials"]) == len(rows) == len(best) == 3
    states = {row[1] for row in rows}
    assert states == ({"COMPLETE", "PRUNED"} if scheduler == "asha" else {"COMPLETE"})
    assert bool(record["rungs"]) == (scheduler == "asha")
    assert len(record["population"]["exploits"]) == (3 if scheduler == "pbt" else 0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("part", range(6))
def test_a_kill_at_an_instant_changes_nothing(whole, tmp_path, scheduler, part):
    reference, num_instants = whole[scheduler]
    kill_at = 4 + part * num_instants // 6
    assert run_killed(tmp_path / "search", scheduler, [kill_at]) == 1
    assert outcome(tmp_path / "search") == reference


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kills", [[3, 5, 7, 9, 11], [20, 1, 2, 3, 4, 30], [45] * 3])
def test_many_kills_change_nothing(whole, tmp_path, scheduler, kills):
    assert run_killed(tmp_path / "search", scheduler, kills) > 1
    assert outcome(tmp_path / "search") == whole[scheduler][0]


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_kill_at_any_instant_changes_nothing(whole, tmp_path, scheduler):
    reference, num_instants = whole[scheduler]
    for kill_at in range(1, num_instants + 1):
        folder = tmp_path / str(kill_at) / "search"
        folder.parent.mkdir()
        assert run_killed(folder, scheduler, [kill_at]) == 1
        assert outcome(folder) == reference, kill_at


@pytest.mark.parametrize("kill_at", [40, 90, 110, 130, 170, 220])
def test_a_population_in_a_store_outlives_its_machine(whole, tmp_path, monkeypatch, kill_at):
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    storage = f"file://{tmp_path}/store"
    mirror = mirror_of(storage, "search")
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "config.json").write_text("{}")
    mirror.push_files()
    with pytest.raises(Killed):
        rehearse(mirror.folder, "pbt", clock=Clock(kill_at), storage=storage)
    shutil.rmtree(mirror.folder)
    mirror.pull(pytest.fail)
    rehearse(mirror.folder, "pbt", storage=storage)
    assert outcome(mirror.folder) == whole["pbt"][0]


@pytest.mark.parametrize(("scheduler", "leave_at"), [("asha", 2), ("asha", 12), ("pbt", 1), ("pbt", 5), ("none", 4)])
def test_an_evaluation_that_is_left_changes_no_decision_of_a_search(whole_decisions, tmp_path, scheduler, leave_at):
    """A signal comes in the n-th evaluation, which is made up for when the same command is given again."""
    folder = tmp_path / "search"
    folder.mkdir()
    rehearse(folder, scheduler, leave_at=leave_at)
    assert (folder / STOP_FILE).exists() == (leave_at <= whole_decisions[scheduler][1])
    rehearse(folder, scheduler)
    assert decisions(folder) == whole_decisions[scheduler][0]


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("leave_at", range(1, 13))
def test_any_evaluation_that_is_left_changes_no_decision(whole_decisions, tmp_path, scheduler, leave_at):
    test_an_evaluation_that_is_left_changes_no_decision_of_a_search(whole_decisions, tmp_path, scheduler, leave_at)
