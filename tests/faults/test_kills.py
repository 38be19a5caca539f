"""Runs that are killed again and again end as the run that never was, bit for bit (all of it: ``make faults``)."""

import pytest
from killing import PHASES, RUNS, Campaign


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("kills"))


def check(campaign, name, phases):
    assert campaign.run(name, phases) == len(phases), "a run must not have ended before it could be killed"
    assert [fault for tally in campaign.tallies.values() for fault in tally.faults] == []


def test_kills_in_a_save_in_a_restore_and_after_it_change_nothing(campaign):
    check(campaign, "qmix", ["between save and state", "restore", "save"])


@pytest.mark.faults
@pytest.mark.parametrize("name", RUNS)
def test_a_kill_in_every_phase_changes_nothing(campaign, name):
    phases = [phase for phase in PHASES if phase != "any moment"]
    campaign.run(name, phases)
    assert [fault for tally in campaign.tallies.values() for fault in tally.faults] == []
