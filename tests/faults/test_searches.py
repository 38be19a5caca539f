"""Searches that are killed end as the search that never was: trials, settings, scores, stops and exchanges."""

import os
from random import Random

import pytest
from searches import PHASES, SEARCHES, SearchCampaign, phases_of


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return SearchCampaign(tmp_path_factory.mktemp("searches"), seed=int(os.environ.get("FAULTS_SEED", "0")))
