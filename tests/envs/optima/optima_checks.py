"""What every problem with a known optimum is tested for."""

import math

import torch

from envs.optima.batched import OptimaEnv
from envs.optima.evaluation import value


def random_actions(env, generator):
    problem, shape = env.problem, (env.num_replicas, env.num_agents)
    if problem.num_actions:
        return torch.randint(problem.num_actions, shape, generator=generator)
    low, high = torch.tensor(problem.low), torch.tensor(problem.high)
    return low + (high - low) * torch.rand(*shape, len(low), generator=generator)


def check_state_resumes_exactly(problem, *, num_steps=None):
    """Steps after set_state are those of an unbroken environment, across the end of episodes."""
    generator = torch.Generator().manual_seed(3)
    first = OptimaEnv(problem, num_replicas=3, seed=5, with_state=True)
    first.reset()
    plan = [random_actions(first, generator) for _ in range(num_steps or problem.num_steps + 3)]
    for actions in plan[:2]:
        first.step(actions)
    saved = first.get_state()
    second = OptimaEnv(problem, num_replicas=3, seed=99, with_state=True)
    second.reset()
    second.set_state(saved)
    assert torch.equal(second.observe().obs, first.observe().obs)
    for actions in plan[2:]:
        a, b = first.step(actions), second.step(actions)
        assert torch.equal(a.obs, b.obs)
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.state, b.state)
        assert torch.equal(a.terminated, b.terminated)
    assert a.obs.shape == (3, problem.num_agents, problem.obs_dim)
    assert a.state.shape == (3, problem.state_dim)
    assert a.obs.dtype == torch.float32


def check_optimum_is_earned(problem, *, num_episodes, seed=1, errors=4.0, exactly=1e-9):
    """The optimal policy earns the optimal value: within Monte Carlo error, or exactly where there is no chance."""
    got = value(problem, problem.optimal, num_episodes=num_episodes, seed=seed)
    gap = (got.mean - problem.optimal_value).abs()
    assert bool((gap <= errors * got.standard_error + exactly * (1 + problem.optimal_value.abs())).all()), (
        f"earned {got.mean.tolist()} +- {got.standard_error.tolist()}, optimum {problem.optimal_value.tolist()}"
    )
    return got


def loss_of(problem, policy, *, num_episodes, seed=1):
    """Mean over agents of what the optimal policy earns more, on the same draws, and its standard error."""
    best = value(problem, problem.optimal, num_episodes=num_episodes, seed=seed).returns.mean(1)
    other = value(problem, policy, num_episodes=num_episodes, seed=seed).returns.mean(1)
    gap = best - other
    return float(gap.mean()), float(gap.std()) / math.sqrt(len(gap))


def gain_of_deviating(problem, agent, change, *, num_episodes, seed=1):
    """What one agent earns more by changing its actions alone, on the same draws, and the standard error."""

    def deviating(obs):
        actions = problem.optimal(obs).clone()
        actions[:, agent] = change(actions[:, agent], obs[:, agent])
        return actions

    best = value(problem, problem.optimal, num_episodes=num_episodes, seed=seed).returns[:, agent]
    other = value(problem, deviating, num_episodes=num_episodes, seed=seed).returns[:, agent]
    gap = other - best
    return float(gap.mean()), float(gap.std()) / math.sqrt(len(gap))
