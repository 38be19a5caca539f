"""Every instant at which a command can be frozen is a call that the code still makes."""

import functools
import importlib

import killing
import pytest
import searches

POPULATION = "experiments.search.population:PopulationBasedTraining"
RUNNERS = {*killing.RUNNER.values(), killing.TEAM_RUNNER}
POINTS = {
    point.format(runner=runner, scheduler=scheduler).rpartition(":")[0]
    for phases in (killing.PHASES, searches.PHASES)
    for points in phases.values()
    for point in points
    for runner in RUNNERS
    for scheduler in (*searches.SCHEDULER.values(), POPULATION)
}


@pytest.mark.parametrize("point", sorted(POINTS))
def test_function_is_there(point):
    module, _, attribute = point.partition(":")
    found = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    assert callable(found)
