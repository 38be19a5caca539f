"""A buffer that holds nothing as long as what is asked for says so, where RLlib's would look for it for ever."""

import pytest
from replays import whole_episode

from algos.episode_replay import EpisodeReplay
from common.errors import InputError


def episode(num_steps, *agents):
    return whole_episode(*agents, num_steps=num_steps)


def replay_of(*episodes, capacity=100):
    buffer = EpisodeReplay(capacity=capacity)
    for one in episodes:
        buffer.add(one)
    return buffer


def test_returns_that_some_episode_is_long_enough_for_are_drawn():
    buffer = replay_of(episode(2, "a", "b"), episode(5, "a", "b"))
    drawn = buffer.sample(8, n_step=5)
    assert {(one.module_id, one.t_started) for one in drawn} == {("of a", 0), ("of b", 0)}
    assert len(drawn) == 16


@pytest.mark.timeout(30)
def test_returns_that_no_episode_of_a_network_is_long_enough_for_are_an_error():
    with pytest.raises(InputError, match="no episode of 'of b' in the replay buffer has the 3 steps of n_step"):
        replay_of(episode(2, "a", "b"), episode(5, "a")).sample(8, n_step=3)


def test_network_of_whose_agents_nothing_is_left_is_passed_over():
    buffer = replay_of(episode(5, "a", "b"), episode(5, "a"), episode(5, "a"), capacity=10)
    assert {one.module_id for one in buffer.sample(4)} == {"of a"}
