import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from teams import Clockwork, ParallelClock, TwoStepGame, floor_env

from algos.team_env import MultiAgentTeamEnv, Step, TeamEnv, make_team_env
from common.errors import IncompatibleError
from envs.floor import TradingFloor
from envs.rllib import TradingEnv


def clocks(num=2, *, with_state=False, seed=0, **config):
    return make_team_env(lambda: Clockwork(config), num, device="cpu", seed=seed, with_state=with_state)


def act(*rows):
    return torch.tensor(rows)


def test_agents_keep_their_order_and_width():
    env = clocks()
    assert isinstance(env, TeamEnv)
    assert env.agent_ids == ("zoe", "abe")
    assert list(env.obs_dims) == [3, 2]
    first = env.reset()
    assert first.obs.shape == (2, 2, 3)
    assert first.obs.dtype == torch.float32
    assert first.obs[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    step = env.step(act([1, 2], [0, 0]))
    assert step.obs[0].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert step.reward.tolist() == [[11, 12], [10, 10]]
    assert step.action_mask[0].tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_replica_that_ends_starts_again_and_its_last_observation_is_kept(end):
    env = clocks(length=2, end=end, with_state=True)
    env.reset()
    middle = env.step(act([0, 0], [0, 0]))
    assert (middle.final_obs, middle.final_state, middle.final_mask) == (None, None, None)
    last = env.step(act([0, 1], [0, 0]))
    assert getattr(last, end).tolist() == [True, True]
    assert getattr(last, "truncated" if end == "terminated" else "terminated").tolist() == [False, False]
    assert last.final_obs[0].tolist() == [[2, 0, 0], [2, 0, 0]]
    assert last.final_state[0].tolist() == last.final_obs[0].ravel().tolist()
    assert last.final_mask[0, 1].tolist() == [True] * 3
    assert last.obs[0].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert last.reward[0].tolist() == [20, 21]


def test_rows_of_replicas_that_go_on_are_left_out_of_the_finals():
    short, long = Clockwork({"length": 1}), Clockwork({"length": 3})
    env = MultiAgentTeamEnv([short, long])
    env.reset()
    step = env.step(act([0, 0], [0, 0]))
    assert step.truncated.tolist() == [True, False]
    assert not step.final_obs[1].any()
    assert step.obs[1, 0].tolist() == [1, 0, 0]


def test_masks_of_the_environment_are_passed_on():
    env = clocks(use_masks=True)
    assert env.reset().action_mask[0].tolist() == [[True, True, False], [True, True, True]]
    assert env.step(act([0, 0], [0, 0])).action_mask[0].tolist() == [[False, True, False], [False, True, False]]
    assert env.observation_spaces["zoe"].shape == (3,)


def test_an_agent_that_left_gets_zeros_and_is_asked_for_nothing():
    env = clocks(num=1, length=3, leaves={"zoe": 1})
    env.reset()
    left = env.step(act([1, 1]))
    assert left.obs[0].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert left.action_mask[0].tolist() == [[True, False, False], [True] * 3]
    assert left.final_obs is None
    after = env.step(act([0, 2]))
    assert after.reward[0].tolist() == [0, 22]
    assert env.envs[0].received[1] == {"abe": 2}
    end = env.step(act([0, 0]))
    assert end.truncated.tolist() == [True], "the last agent was truncated, which RLlib's __all__ may not say"
    assert end.terminated.tolist() == [False]
    assert env.step(act([1, 1])).reward[0].tolist() == [11, 11], "after the reset both play again"


def test_everyone_who_terminated_one_by_one_terminates_the_episode():
    env = clocks(num=1, length=9, leaves={"zoe": 1, "abe": 2})
    env.reset()
    assert not env.step(act([0, 0])).terminated.any()
    assert env.step(act([0, 0])).terminated.tolist() == [True]


def test_agents_act_only_when_they_were_observed():
    env = clocks(num=1, turns=True)
    first = env.reset()
    assert first.action_mask[0].tolist() == [[True, True, False], [True, False, False]]
    env.step(act([1, 0]))
    env.step(act([0, 2]))
    assert env.envs[0].received == [{"zoe": 1}, {"abe": 2}]


def test_replicas_are_seeded_apart_and_large_seeds_fit_any_environment():
    env = clocks(num=3, seed=2**62 + 5)
    env.reset()
    assert [e.seed_ for e in env.envs] == [5, 6, 7]
    env.reset(seed=2**32 - 1)
    assert [e.seed_ for e in env.envs] == [2**32 - 1, 0, 1]


def test_box_actions_are_cut_to_each_agents_width():
    env = clocks(num=1, is_box=True)
    env.reset()
    step = env.step(torch.tensor([[[1.5, 9.0], [0.25, 0.5]]]))
    assert step.action_mask is None
    sent = env.envs[0].received[0]
    assert {a: v.tolist() for a, v in sent.items()} == {"zoe": [1.5], "abe": [0.25, 0.5]}


def test_discrete_actions_that_start_elsewhere_are_shifted():
    env = Clockwork()
    env.action_spaces["zoe"] = gym.spaces.Discrete(2, start=5)
    team = MultiAgentTeamEnv([env])
    team.reset()
    team.step(act([1, 0]))
    assert env.received[0] == {"zoe": 6, "abe": 0}


def test_mixed_and_other_action_spaces_are_refused():
    env = Clockwork()
    env.action_spaces["zoe"] = gym.spaces.Box(-1, 1, (1,), np.float32)
    with pytest.raises(IncompatibleError, match="all in Discrete or all in Box"):
        MultiAgentTeamEnv([env])


def test_the_environments_own_state_is_used_where_it_has_one():
    env = make_team_env(TwoStepGame, 2, device="cpu", seed=0, with_state=True)
    assert env.state_dim == 3
    assert env.reset().state.tolist() == [[1, 0, 0]] * 2
    assert env.step(act([0, 0], [1, 0])).state.tolist() == [[0, 1, 0], [0, 0, 1]]
    end = env.step(act([0, 0], [1, 1]))
    assert end.final_state.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert end.state.tolist() == [[1, 0, 0]] * 2


def test_pettingzoo_environments_play_in_their_own_order_until_all_have_left():
    env = make_team_env(lambda: ParallelPettingZooEnv(ParallelClock()), 2, device="cpu", seed=0, with_state=True)
    assert env.agent_ids == ("z", "m", "a")
    first = env.reset()
    assert first.obs[0].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert first.state[0].tolist() == [0, -1, 7, 2]
    for t in (1, 2, 3, 4):
        step = env.step(torch.zeros(2, 3, dtype=torch.int64))
        assert step.reward[0].tolist() == [t, t if t <= 2 else 0, t]
        if t in (2, 3):
            assert step.obs[0].tolist() == [[0, t], [0, 0], [2, t]]
    assert step.truncated.tolist() == [True, True]
    assert step.final_obs[0, 0].tolist() == [0, 4]
    assert step.obs[0].tolist() == first.obs[0].tolist()


def test_an_environment_that_steps_many_replicas_at_once_is_asked_for_them():
    floor = make_team_env(lambda: TradingEnv(floor_env()), 5, device="cpu", seed=3, with_state=True)
    assert isinstance(floor, TradingFloor)
    assert isinstance(floor, TeamEnv)
    assert floor.num_replicas == 5
    assert floor.reset().state is not None


def test_adapted_floor_and_batched_floor_give_the_same_numbers():
    batched = make_team_env(lambda: TradingEnv(floor_env()), 1, device="cpu", seed=3, with_state=False)
    adapted = MultiAgentTeamEnv([TradingEnv(floor_env())], seed=3)
    one, two = batched.reset(seed=3), adapted.reset(seed=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(14):
        assert torch.equal(one.obs, two.obs)
        actions = torch.randint(0, 3, (1, batched.num_agents), generator=generator)
        one, two = batched.step(actions), adapted.step(actions)
        assert torch.equal(one.reward, two.reward)
        assert torch.equal(one.truncated, two.truncated)
        assert (one.final_obs is None) == (two.final_obs is None)
        if one.final_obs is not None:
            assert torch.equal(one.final_obs, two.final_obs)


def test_adapted_environments_refuse_the_state_of_others():
    env = clocks()
    env.set_state(env.get_state())
    with pytest.raises(IncompatibleError, match="another kind of environment"):
        env.set_state({"clock": 1})


def test_a_resumed_step_shows_only_what_the_next_action_needs():
    step = Step.resumed(torch.ones(2, 3, 4), None, None)
    assert step.reward.shape == (2, 3)
    assert not step.terminated.any()
    assert step.final_obs is None
