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


@pytest.mark.parametrize(("title", "words"), [("TeamEnvRunner", accidents.SCALED), ("Floor", [])])
def test_first_signal_ends_a_run_that_hangs(tmp_path, title, words):
    assert accidents.interrupted_while_hung(tmp_path / "run", title, words) == ""
