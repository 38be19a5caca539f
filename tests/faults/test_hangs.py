"""Processes of a run that are stopped, not dead: the run replaces them, says so, and can be interrupted."""

import accidents
import pytest

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("are_stopped", [False, True], ids=["dead", "hung"])
@pytest.mark.parametrize(
    ("title", "words"),
    [("TeamEnvRunner", accidents.SCALED), ("_WrappedExecutable", accidents.LEARNER), ("Floor", [])],
    ids=["env runners", "learner", "trainer"],
)
def test_lost_processes_are_replaced_and_told(tmp_path, title, words, are_stopped):
    assert accidents.with_lost_workers(tmp_path / "run", title, words, are_stopped=are_stopped) == ""


@pytest.mark.parametrize("are_stopped", [False, True], ids=["dead", "hung"])
def test_run_does_not_stop_for_a_lost_runner_while_another_one_samples(tmp_path, are_stopped):
    found = accidents.with_lost_workers(
        tmp_path / "run", "TeamEnvRunner", accidents.SCALED, are_stopped=are_stopped, count=1
    )
    assert found == ""


@pytest.mark.parametrize(("title", "words"), [("TeamEnvRunner", accidents.SCALED), ("Floor", [])])
def test_first_signal_ends_a_run_that_hangs(tmp_path, title, words):
    assert accidents.interrupted_while_hung(tmp_path / "run", title, words) == ""
