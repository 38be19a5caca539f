import numpy as np
import pytest
import torch
from optima_checks import check_state_resumes_exactly, random_actions

from algos.team_env import TeamEnv
from common.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.catalog import CATALOG, make_problem, problem_config
from envs.optima.evaluation import action_distance, score, value


@pytest.mark.parametrize("name", CATALOG)
def test_every_problem_is_a_team_env_of_order_one(name):
    problem = make_problem(name)
    env = OptimaEnv(problem, num_replicas=64, seed=4, with_state=True)
    assert isinstance(env, TeamEnv)
    step, generator = env.reset(), torch.Generator().manual_seed(0)
    assert step.obs.abs().max() <= 8.0
    for _ in range(min(problem.num_steps, 30)):
        for agent, space in env.observation_spaces.items():
            assert space.contains(step.obs[0, env.agent_ids.index(agent)].numpy())
        for n, agent in enumerate(env.agent_ids):
            best = problem.optimal(step.obs)[0, n].numpy()
            assert env.action_spaces[agent].contains(best.astype(env.action_spaces[agent].dtype))
        step = env.step(problem.optimal(step.obs))
        assert step.obs.abs().max() <= 10.0
        assert step.reward.shape == (64, problem.num_agents)
        assert step.state.shape == (64, problem.state_dim)
    env.step(random_actions(env, generator))


@pytest.mark.parametrize("name", CATALOG)
def test_every_known_policy_acts_and_the_optimum_is_its_own(name):
    problem = make_problem(name)
    env = OptimaEnv(problem, num_replicas=5)
    obs = env.reset().obs
    for policy in problem.policies().values():
        env.reset()
        env.step(policy(obs))
    assert float(action_distance(problem, problem.optimal, num_episodes=3).abs().max()) == 0.0


@pytest.mark.parametrize("name", CATALOG)
def test_episodes_of_a_replica_do_not_depend_on_its_company(name):
    problem = make_problem(name)
    few, many = (OptimaEnv(problem, num_replicas=n, seed=8) for n in (2, 5))
    one, other = few.reset(), many.reset()
    for _ in range(4):
        assert torch.equal(one.obs, other.obs[:2])
        one, other = few.step(problem.optimal(one.obs)), many.step(problem.optimal(other.obs))
        assert torch.equal(one.reward, other.reward[:2])


def test_numbers_of_agents():
    assert make_problem("almgren-chriss", num_agents=4).num_agents == 4
    assert make_problem("almgren-chriss", num_agents=4).is_nash
    assert float(make_problem("almgren-chriss", num_agents=4, settings={"reward": "team"}).optimal_value[0]) == (
        pytest.approx(-2.4)
    )
    assert make_problem("kyle", num_agents=5).num_agents == 5
    assert make_problem("garleanu-pedersen", num_agents=3).agent_ids == ("asset_0", "asset_1", "asset_2")
    assert make_problem("two-step", num_agents=2).num_agents == 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("kile", {}, r"'kile' does not exist \(did you mean 'kyle'\?\)"),
        ("kyle", {"settings": {"nun_rounds": 3}}, "market kyle: setting 'nun_rounds'"),
        ("kyle", {"settings": {"num_rounds": 0}}, "market kyle: setting 'num_rounds'"),
        ("kyle", {"num_agents": 0}, "at least 1"),
        ("two-step", {"num_agents": 3}, "has 2 agents"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(name, arguments, message):
    with pytest.raises(InputError, match=message):
        problem_config(name, **arguments)


def test_actions_that_cannot_be_taken_are_refused():
    env = OptimaEnv(make_problem("kyle"), num_replicas=3)
    with pytest.raises(ValueError, match="shape"):
        env.step(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="finite"):
        env.step(torch.full((3, 2, 1), float("nan")))
    game = OptimaEnv(make_problem("climbing"), num_replicas=3)
    with pytest.raises(ValueError, match="int64"):
        game.step(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="outside 0 to 2"):
        game.step(torch.full((3, 2), 3))
    with pytest.raises(InputError, match="num_replicas"):
        OptimaEnv(make_problem("kyle"), num_replicas=0)


def test_numbers_beyond_the_box_count_as_its_edge():
    problem = make_problem("merton")
    near, far = (value(problem, lambda obs, x=x: torch.full((len(obs), 1, 1), x), num_episodes=2) for x in (2.0, 50.0))
    assert torch.equal(near.returns, far.returns)


def test_states_of_other_problems_are_refused():
    kyle, merton = (OptimaEnv(make_problem(name), num_replicas=2) for name in ("kyle", "garleanu-pedersen"))
    with pytest.raises(ValueError, match="differ"):
        kyle.set_state(merton.get_state())
    with pytest.raises(ValueError, match="lacks 'books'"):
        kyle.set_state({"seed": 0, "step": np.zeros(2), "episode": np.zeros(2)})


def test_a_seed_starts_another_stream_and_skip_leaves_the_episode():
    env = OptimaEnv(make_problem("kyle"), num_replicas=4)
    first, other, again = env.reset(1).obs, env.reset(2).obs, env.reset(1).obs
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    skipped = env.skip().obs
    assert not torch.equal(skipped, first)
    assert env.get_state()["episode"].tolist() == [1] * 4


def test_only_the_replicas_that_end_begin_again():
    env = OptimaEnv(make_problem("garleanu-pedersen", settings={"num_steps": 5}), num_replicas=3, with_state=True)
    before = env.reset()
    env.set_state({**env.get_state(), "step": np.array([0, 4, 1])})
    after = env.step(torch.ones(3, 1, 1))
    assert after.terminated.tolist() == [False, True, False]
    assert after.obs[:, 0, 0].tolist() == pytest.approx([0.8, 1.0, 0.6])
    assert (after.obs[:, 0, 1] != 0).tolist() == [True, False, True]
    assert torch.equal(after.final_obs[0], after.obs[0])
    assert float(after.final_obs[1, 0, 0]) == 0.0
    assert not torch.equal(after.final_obs[1], after.obs[1])
    assert torch.equal(after.final_state, after.final_obs[:, 0])
    assert not torch.equal(before.obs[1], after.obs[1])
    assert env.get_state()["episode"].tolist() == [0, 1, 0]


def test_every_episode_and_step_draws_afresh():
    env = OptimaEnv(make_problem("kyle", settings={"num_rounds": 3}), num_replicas=4)
    drawn = [env.reset().obs[:, 0, 0]]
    drawn += [env.step(torch.zeros(4, 2, 1)).obs[:, 0, 0] for _ in range(8)]
    assert len(set(torch.cat(drawn).tolist())) == 36


def test_value_of_more_episodes_than_replicas_takes_new_ones(monkeypatch):
    monkeypatch.setattr("envs.optima.evaluation._MOST_REPLICAS", 4)
    problem = make_problem("kyle")
    got = value(problem, problem.optimal, num_episodes=10)
    assert got.returns.shape == (10, 2)
    assert len(set(got.returns[:, 0].tolist())) == 10
    with pytest.raises(InputError, match="at least 2"):
        value(problem, problem.optimal, num_episodes=1)


def test_scores():
    assert score(3.0, 5.0, 1.0) == 0.5
    assert score(-2.4, -2.4, -3.2) == 1.0
    with pytest.raises(InputError, match="nothing to score"):
        score(1.0, 2.0, 2.0)


def test_resuming_many_replicas_with_a_ladder():
    check_state_resumes_exactly(make_problem("almgren-chriss", num_agents=2, settings={"actions": "ladder"}))
