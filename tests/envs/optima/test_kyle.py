import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly, gain_of_deviating, loss_of

from envs.optima.evaluation import action_distance, value
from envs.optima.kyle import (
    KyleConfig,
    collusive_profit,
    posterior_variance,
    price_impact,
    trader_profit,
    trading_intensity,
)

TABLE = [(1, 1, 0.5, 0.5, 0.0), (2, 0.7071, 0.4714, 0.23570, 0.125), (3, 0.5774, 0.4330, 0.14434, 1 / 3)]
TABLE += [(5, 0.4472, 0.3727, 0.07454, 0.8)]


@pytest.mark.parametrize(("num_traders", "beta", "impact", "profit", "gain"), TABLE)
def test_known_numbers(num_traders, beta, impact, profit, gain):
    sizes = (num_traders, 1.0, 1.0)
    assert trading_intensity(*sizes) == pytest.approx(beta, abs=5e-5)
    assert price_impact(*sizes) == pytest.approx(impact, abs=5e-5)
    assert trader_profit(*sizes) == pytest.approx(profit, abs=5e-6)
    assert collusive_profit(*sizes) / trader_profit(*sizes) - 1 == pytest.approx(gain)


@pytest.mark.parametrize("num_traders", [1, 2, 3, 5])
def test_price_is_the_expected_value_given_the_orders(num_traders):
    rng = np.random.default_rng(0)
    value_sd, noise_sd = 1.7, 0.6
    v = value_sd * rng.standard_normal(400_000)
    y = num_traders * trading_intensity(num_traders, value_sd, noise_sd) * v + noise_sd * rng.standard_normal(len(v))
    slope = (y @ v) / (y @ y)
    assert slope == pytest.approx(price_impact(num_traders, value_sd, noise_sd), rel=5e-3)
    assert np.var(v - slope * y) == pytest.approx(posterior_variance(num_traders, value_sd), rel=1e-2)


@pytest.mark.parametrize("reward", ["own", "team"])
@pytest.mark.parametrize("num_traders", [1, 2, 3, 5])
def test_optimum_is_earned_and_state_resumes(num_traders, reward):
    problem = KyleConfig(num_traders=num_traders, reward=reward, value_sd=1.5, noise_sd=2.0).build()
    expected = (trader_profit if reward == "own" else collusive_profit)(num_traders, 1.5, 2.0)
    assert problem.optimal_value.tolist() == pytest.approx([expected] * num_traders)
    got = check_optimum_is_earned(problem, num_episodes=8_000)
    assert float(got.standard_error[0]) < 0.01 * expected
    check_state_resumes_exactly(problem)
    base = value(problem, problem.baseline, num_episodes=8_000)
    assert (base.mean - problem.baseline_value).abs().max() < 4 * base.standard_error.max()


def test_noisy_profits_have_the_same_mean():
    check_optimum_is_earned(KyleConfig(noisy=True).build(), num_episodes=20_000)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    num_traders=st.sampled_from([2, 3, 5]),
    factor=st.floats(-0.5, 2.5),
    shift=st.floats(-0.5, 0.5),
    bend=st.floats(-0.2, 0.2),
)
def test_nobody_gains_by_leaving_the_equilibrium_alone(num_traders, factor, shift, bend):
    problem = KyleConfig(num_traders=num_traders).build()
    gain, error = gain_of_deviating(
        problem, 0, lambda a, v: factor * a + shift + bend * v.double() ** 3, num_episodes=3_000
    )
    assert gain <= 4 * error + 1e-12


def test_best_factor_for_one_who_leaves_alone_is_the_equilibrium():
    problem = KyleConfig(num_traders=3).build()
    factors = np.linspace(0.0, 2.0, 41)
    gains = [gain_of_deviating(problem, 1, lambda a, _, f=f: f * a, num_episodes=2_000)[0] for f in factors]
    assert factors[int(np.argmax(gains))] == pytest.approx(1.0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(first=st.floats(-1, 1), second=st.floats(-1, 1), shift=st.floats(-0.5, 0.5))
def test_no_other_orders_earn_the_team_more(first, second, shift):
    problem = KyleConfig(reward="team").build()

    def policy(obs):
        change = 1 + torch.tensor([[first], [second]], dtype=torch.float64)
        return problem.optimal(obs) * change + shift

    loss, error = loss_of(problem, policy, num_episodes=3_000)
    assert loss >= -4 * error - 1e-12
    if abs(first + second) > 0.2:
        assert loss > 0.0


def test_distance_of_a_scaled_policy():
    problem = KyleConfig().build()
    far = action_distance(problem, lambda obs: 1.1 * problem.optimal(obs), num_episodes=5_000)
    assert far.shape == (2, 1)
    assert far[:, 0].tolist() == pytest.approx([0.07071] * 2, rel=0.02)
