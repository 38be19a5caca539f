"""Environments of every kind have one interface."""

import numpy as np
import pytest
from foreign_envs import STEPS, BatchedWalk, GymWalk, MultiAgentWalk, ParallelWalk

from algos.any_env import as_multi_agent_env
from algos.team_env import make_team_env
from common.errors import IncompatibleError

KINDS = (GymWalk, ParallelWalk, MultiAgentWalk, BatchedWalk)


@pytest.mark.parametrize("make", KINDS)
def test_an_episode_pays_what_its_actions_pay(make):
    env = as_multi_agent_env(make)
    obs, _ = env.reset(seed=1)
    agents = sorted(obs)
    total, is_over = dict.fromkeys(agents, 0.0), False
    while not is_over:
        obs, rewards, terminated, truncated, _ = env.step({a: n % 2 for n, a in enumerate(agents)})
        total = {a: total[a] + rewards[a] for a in agents}
        is_over = terminated["__all__"] or truncated["__all__"]
    assert total == {a: STEPS * (1.0 if n % 2 else -1.0) for n, a in enumerate(agents)}
    last = obs[agents[0]]
    np.testing.assert_allclose(last["observations"] if isinstance(last, dict) else last, 1.0)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("with_state", [True, False])
def test_the_team_path_steps_many_of_them(make, with_state):
    env = make_team_env(lambda: as_multi_agent_env(make), 3, device="cpu", seed=0, with_state=with_state)
    step = env.reset(0)
    assert step.obs.shape == (3, env.num_agents, 2)
    assert (step.state is not None) == with_state
    for _ in range(STEPS):
        step = env.step(step.obs.new_ones(3, env.num_agents).long())
    assert step.truncated.all()
    assert step.reward.tolist() == [[1.0] * env.num_agents] * 3


def test_what_is_no_environment_is_named():
    with pytest.raises(IncompatibleError, match=r"^dict is none of: a Gymnasium Env, a PettingZoo ParallelEnv"):
        as_multi_agent_env(dict)
