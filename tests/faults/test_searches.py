"""Searches that are killed end as the search that never was (all of it: ``make test-faults``)."""

import os
from random import Random

import pytest
from searches import PHASES, SEARCH, SEARCHES, SearchCampaign, phases_of

from experiments.recovery.names import SEARCH_FILE


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return SearchCampaign(tmp_path_factory.mktemp("searches"), seed=int(os.environ.get("FAULTS_SEED", "0")))


def test_kill_at_the_end_of_a_trial_changes_nothing(campaign):
    kills = [f"{SEARCH}.on_trial_complete:before:1"]
    assert campaign.run("short", kills) == kills


@pytest.mark.faults
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_in_a_phase_changes_nothing(campaign, name, phase):
    if phase in phases_of(name):
        campaign.run(name, [phase])


@pytest.mark.faults
@pytest.mark.parametrize("name", SEARCHES)
def test_many_kills_change_nothing(campaign, name):
    dice = Random(name)
    campaign.run(name, [dice.choice(phases_of(name)) for _ in range(5)])


@pytest.mark.faults
@pytest.mark.parametrize("name", ["asha", "pbt"])
@pytest.mark.parametrize("lost", ["tuner.pkl", "experiment_state-*.json"])
def test_killed_search_without_tunes_files_is_the_same(campaign, name, lost):
    def damage(folder):
        for path in folder.glob(lost):
            os.truncate(path, path.stat().st_size // 2)

    campaign.run(name, ["the scheduler"], before_the_end=damage)


@pytest.mark.faults
def test_killed_search_that_loses_its_record_is_the_same(campaign):
    campaign.run("none", ["the end of a trial"], before_the_end=lambda folder: os.truncate(folder / SEARCH_FILE, 99))
