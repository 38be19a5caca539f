"""Agents that a record describes: those of the market that is made now, or refused by the first thing that differs."""

import pytest

from common.errors import InputError
from envs.agents import check_agents

NOW = {"name": "trader_0", "action": "discrete", "num_actions": 5, "feature_groups": ["price"]}
NOW |= {"observe": "book", "num_assets": 3}


def test_size_of_a_book_counts_only_where_its_assets_are_told_apart():
    check_agents([NOW | {"num_assets": 2}], [NOW], model="dow", prices="new.csv")
    apart = NOW | {"observe": "assets"}
    with pytest.raises(InputError, match=r"num_assets of agent 'trader_0' was 2 in training and is 3 here"):
        check_agents([apart | {"num_assets": 2}], [apart], model="dow", prices="new.csv")


@pytest.mark.parametrize("key", NOW)
def test_record_that_lacks_something_of_an_agent_is_refused_by_its_name(key):
    lacking = {name: value for name, value in NOW.items() if name != key}
    with pytest.raises(InputError, match=rf"dow does not fit new\.csv: {key} of agent 'trader_0' was None"):
        check_agents([lacking], [NOW], model="dow", prices="new.csv")
    with pytest.raises(InputError, match=r"dow was trained with 2 agents"):
        check_agents([lacking, lacking], [NOW], model="dow", prices="new.csv")
