import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets

from algos.returns import generalised_advantages, lambda_returns, n_step_returns


def arrays(seed: int, T: int, B: int):
    rng = np.random.default_rng(seed)
    terminated = rng.random((T, B)) < 0.2
    truncated = (rng.random((T, B)) < 0.2) & ~terminated
    rewards, values, next_values = (rng.standard_normal((T, B)) for _ in range(3))
    # within an episode the next value is the value of the next step's observation
    ended = terminated | truncated
    next_values[:-1] = np.where(ended[:-1], next_values[:-1], values[1:])
    return rewards, values, next_values, terminated, ended


def advantages_of(rewards, values, next_values, terminated, ended, gamma, lambda_):
    tensors = [torch.from_numpy(a) for a in (rewards, values, next_values, terminated, ended)]
    return generalised_advantages(*tensors, gamma=gamma, lambda_=lambda_).numpy()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    T=st.integers(1, 9),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    lambda_=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_advantage_is_the_discounted_sum_of_td_errors_up_to_the_end_of_the_episode(seed, T, gamma, lambda_):
    rewards, values, next_values, terminated, ended = arrays(seed, T, 3)
    got = advantages_of(rewards, values, next_values, terminated, ended, gamma, lambda_)
    for b in range(3):
        for t in range(T):
            wanted, weight = 0.0, 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, b] else next_values[k, b]
                wanted += weight * (rewards[k, b] + gamma * bootstrap - values[k, b])
                weight *= gamma * lambda_
                if ended[k, b]:
                    break
            assert got[t, b] == pytest.approx(wanted, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), T=st.integers(1, 12))
def test_targets_equal_rllibs_on_the_same_episodes(seed, T):
    rewards, values, next_values, terminated, ended = arrays(seed, T, 1)
    got = advantages_of(rewards, values, next_values, terminated, ended, 0.9, 0.8)[:, 0] + values[:, 0]
    # RLlib wants every chunk lengthened by the observation that its last step led to
    rows, kept = [], []
    for t in range(T):
        is_last = bool(ended[t, 0]) or t == T - 1
        kept.append(len(rows))
        rows.append((values[t, 0], rewards[t, 0], terminated[t, 0], is_last and not terminated[t, 0]))
        if is_last:
            rows.append((next_values[t, 0], 0.0, False, False))
    columns = [np.array(c, float) for c in zip(*rows, strict=True)]
    wanted = compute_value_targets(*columns, gamma=0.9, lambda_=0.8)[kept]
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_truncation_bootstraps_and_termination_does_not():
    one, no, yes = np.ones((1, 1)), np.zeros((1, 1), bool), np.ones((1, 1), bool)
    assert advantages_of(one, 0 * one, 10 * one, no, yes, 0.9, 1.0) == pytest.approx(1 + 9.0)
    assert advantages_of(one, 0 * one, 10 * one, yes, yes, 0.9, 1.0) == pytest.approx(1.0)


def test_flags_without_an_agent_axis_hold_for_every_agent():
    rewards, values, next_values, terminated, ended = (torch.from_numpy(a) for a in arrays(3, 7, 4))
    both = [torch.stack([v, v], -1) for v in (rewards, values, next_values)]
    wide = generalised_advantages(*both, terminated.unsqueeze(-1), ended.unsqueeze(-1), gamma=0.9, lambda_=0.9)
    one = generalised_advantages(rewards, values, next_values, terminated, ended, gamma=0.9, lambda_=0.9)
    assert torch.equal(wide, torch.stack([one, one], -1))


@settings(max_examples=60, deadline=None)
@given(
    rewards=st.lists(st.floats(-10, 10), min_size=1, max_size=8),
    data=st.data(),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_n_step_return_stops_at_the_end_of_the_episode(rewards, data, gamma):
    n_step = data.draw(st.integers(1, len(rewards)))
    ended = data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards)))
    total, last, discount = n_step_returns(
        torch.tensor(rewards, dtype=torch.float64).unsqueeze(1),
        torch.tensor(ended).unsqueeze(1),
        gamma=gamma,
        n_step=n_step,
    )
    wanted, at = 0.0, 0
    for at in range(n_step):
        wanted += gamma**at * rewards[at]
        if ended[at]:
            break
    assert float(total) == pytest.approx(wanted, abs=1e-9)
    assert int(last) == at
    assert float(discount) == pytest.approx(gamma ** (at + 1))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    T=st.integers(1, 9),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    lambda_=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
def test_lambda_return_is_the_weighted_sum_of_all_n_step_returns_up_to_the_end(seed, T, gamma, lambda_):
    rewards, _, next_values, terminated, ended = arrays(seed, T, 3)
    discounts = gamma * ~terminated
    tensors = [torch.from_numpy(a) for a in (rewards, discounts, next_values, ended)]
    got = lambda_returns(*tensors, lambda_=lambda_).numpy()
    for b in range(3):
        for t in range(T):
            last = next((k for k in range(t, T) if ended[k, b]), T - 1)
            returns = [  # after 1, 2, ... steps, never past the end of the episode
                sum(gamma**k * rewards[t + k, b] for k in range(n))
                + gamma**n * next_values[t + n - 1, b] * (not terminated[t + n - 1, b])
                for n in range(1, last - t + 2)
            ]
            weights = [(1 - lambda_) * lambda_**n for n in range(len(returns) - 1)]
            weights.append(lambda_ ** (len(returns) - 1))
            assert sum(weights) == pytest.approx(1.0)
            assert got[t, b] == pytest.approx(np.dot(weights, returns), abs=1e-10)


def test_lambda_return_is_the_advantage_and_the_value_where_both_know_the_same_values():
    rewards, values, next_values, terminated, ended = arrays(5, 8, 4)
    wanted = advantages_of(rewards, values, next_values, terminated, ended, 0.9, 0.7) + values
    tensors = [torch.from_numpy(a) for a in (rewards, 0.9 * ~terminated, next_values, ended)]
    np.testing.assert_allclose(lambda_returns(*tensors, lambda_=0.7).numpy(), wanted, atol=1e-12)


def test_lambda_returns_of_agents_and_of_one_team_reward():
    rewards, _, next_values, terminated, ended = (torch.from_numpy(a) for a in arrays(3, 7, 4))
    discounts = 0.9 * ~terminated
    one = lambda_returns(rewards, discounts, next_values, ended, lambda_=0.6)
    wide = [v.unsqueeze(-1) for v in (rewards, discounts)]
    both = lambda_returns(*wide, torch.stack([next_values] * 2, -1), ended.unsqueeze(-1), lambda_=0.6)
    assert torch.equal(both, torch.stack([one, one], -1))


def test_n_step_needs_that_many_rewards():
    with pytest.raises(ValueError, match="n_step is 3, but only 2"):
        n_step_returns(torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool), gamma=0.9, n_step=3)
