from __future__ import annotations

import pytest
from floors import spec_of
from pettingzoo.test import parallel_api_test, parallel_seed_test

from envs.market import spec_to_json
from envs.pettingzoo import parallel_env
from envs.rllib import TradingEnv


@pytest.mark.parametrize("desk", [{}, {"preset": "roles", "action": "continuous"}, {"preset": "rivals"}])
def test_passes_pettingzoos_own_tests(desk, capsys) -> None:
    spec = spec_of(desk=desk)
    parallel_api_test(parallel_env(spec), num_cycles=60)
    parallel_api_test(parallel_env(spec, use_action_mask=True), num_cycles=30)
    parallel_seed_test(lambda: parallel_env(spec), num_cycles=30)


def test_gives_the_numbers_of_trading_env() -> None:
    spec = spec_of()
    mine, theirs = parallel_env(spec), TradingEnv({"spec": spec_to_json(spec)})
    mine.reset(seed=3)
    theirs.reset(seed=3)
    for number in range(12):
        actions = dict.fromkeys(mine.agents, number % 5)
        got, expected = mine.step(actions), theirs.step(actions)
        assert got[1] == expected[1]
        assert all((got[0][agent] == expected[0][agent]).all() for agent in got[0])
    assert mine.agents == []
    assert mine.step({}) == ({}, {}, {}, {}, {})
