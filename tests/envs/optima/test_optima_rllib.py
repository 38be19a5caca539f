import numpy as np
import pytest
import torch

from algos.team_env import make_team_env
from common.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.catalog import CATALOG
from envs.optima.rllib import KnownMarketEnv


@pytest.mark.parametrize("name", CATALOG)
def test_view_pays_what_the_batch_pays(name):
    env = KnownMarketEnv({"market": name, "seed": 3})
    batch = env.batched(1, seed=3, with_state=True)
    step, (seen, _) = batch.reset(), env.reset()
    for _ in range(batch.problem.num_steps):
        actions = {agent: space.sample() for agent, space in env.action_spaces.items()}
        assert env.observation_spaces.keys() == seen.keys()
        assert env.state() == pytest.approx(step.state[0].numpy())
        step = batch.step(np.stack(list(actions.values()))[None])
        seen, rewards, terminateds, truncateds, _ = env.step(actions)
        assert list(rewards.values()) == step.reward[0].tolist()
        shown = step.obs if step.final_obs is None else step.final_obs
        assert np.array_equal(np.stack(list(seen.values())), shown[0].numpy())
        assert terminateds["__all__"] == bool(step.terminated[0])
        assert not any(truncateds.values())
    assert terminateds["__all__"]
    assert env.agents == []
    assert np.array_equal(env.state(), step.final_state[0].numpy())
    with pytest.raises(ValueError, match="reset"):
        env.step(actions)
    seen, _ = env.reset()
    assert np.array_equal(np.stack(list(seen.values())), step.obs[0].numpy())
    assert env.agents == list(env.possible_agents)


def test_view_resumes_exactly():
    first, second = (KnownMarketEnv({"market": "kyle", "seed": seed}) for seed in (3, 4))
    first.reset()
    for _ in range(10):
        first.step({agent: np.array([0.5]) for agent in first.agents})
    second.set_state(first.get_state())
    assert second.agents == []
    assert first.reset()[0]["trader_0"] == second.reset()[0]["trader_0"]
    action = {agent: np.array([0.3]) for agent in first.agents}
    assert first.step(action)[1] == second.step(action)[1]
    first.reset()
    second.reset()
    assert np.array_equal(first.state(), second.state())
    assert second.get_state()["batch"]["episode"].tolist() == [2]


def test_team_path_takes_the_batch():
    env = make_team_env(
        lambda: KnownMarketEnv({"market": "almgren-chriss", "num_agents": 4, "settings": {"actions": "ladder"}}),
        16,
        device="cpu",
        seed=1,
        with_state=True,
    )
    assert isinstance(env, OptimaEnv)
    assert env.reset().state.shape == (16, 5)
    assert env.step(torch.ones(16, 4, dtype=torch.int64)).reward.shape == (16, 4)


@pytest.mark.parametrize(
    ("config", "message"), [({}, "'market' is missing"), ({"market": "kyle", "sead": 1}, r"did you mean 'seed'")]
)
def test_configs_that_cannot_be_used_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        KnownMarketEnv(config)


def test_missing_actions_are_named():
    env = KnownMarketEnv({"market": "kyle"})
    with pytest.raises(ValueError, match="reset"):
        env.state()
    env.reset()
    with pytest.raises(ValueError, match="trader_1"):
        env.step({"trader_0": np.zeros(1)})
