import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly, gain_of_deviating, loss_of
from scipy.optimize import minimize

from common.errors import InputError
from envs.optima.batched import OptimaEnv
from envs.optima.evaluation import value
from envs.optima.merton import MertonConfig, certainty_equivalent_rate, merton_weights
from envs.optima.merton_relative import MertonRelativeConfig, nash_weights, relative_rate

FIVE = MertonConfig(
    drift=(0.05, 0.06, 0.07, 0.08, 0.09), volatility=(0.15, 0.2, 0.2, 0.25, 0.3), correlation=0.3, risk_aversion=2.0
)
SETTINGS = {"one": MertonConfig(), "five": FIVE, "team": MertonConfig(**{**vars(FIVE), "agents": "per_asset"})}


def test_known_numbers():
    one = np.array([[0.04]])
    mu = np.array([0.08])
    assert merton_weights(mu, 0.02, one, 3.0) == pytest.approx([0.5])
    assert certainty_equivalent_rate(np.array([0.5]), mu, 0.02, one, 3.0) == pytest.approx(0.035)
    assert certainty_equivalent_rate(np.array([1.0]), mu, 0.02, one, 3.0) == pytest.approx(0.020)
    assert merton_weights(mu, 0.02, one, 1.0) == pytest.approx([1.5])
    assert certainty_equivalent_rate(np.array([1.5]), mu, 0.02, one, 1.0) == pytest.approx(0.065)
    assert MertonConfig().build().optimal_value.tolist() == pytest.approx([3.5])


def test_weights_are_what_a_numerical_optimiser_finds():
    problem = FIVE.build()
    args = (problem._drift, FIVE.rate, problem._covariance, FIVE.risk_aversion)
    found = minimize(lambda w: -certainty_equivalent_rate(w, *args), np.zeros(5), tol=1e-12)
    assert problem.best_weights == pytest.approx(found.x, abs=1e-5)


def test_certainty_equivalent_is_that_of_simulated_wealth():
    problem = MertonConfig().build()
    env = OptimaEnv(problem, num_replicas=100_000, seed=2)
    step = env.reset()
    for _ in range(problem.num_steps):
        step = env.step(problem.optimal(step.obs))
    growth = step.final_obs[:, 0, 1].double()
    utility = torch.exp(-2.0 * growth)
    equivalent = -0.5 * torch.log(utility.mean())
    error = 0.5 * utility.std() / utility.mean() / len(utility) ** 0.5
    assert abs(float(equivalent) - 0.035) < 4 * float(error) < 0.003


@pytest.mark.parametrize("name", SETTINGS)
def test_optimum_is_earned_and_state_resumes(name):
    problem = SETTINGS[name].build()
    check_optimum_is_earned(problem, num_episodes=8)
    check_state_resumes_exactly(problem)
    assert value(problem, problem.baseline, num_episodes=2).mean.tolist() == pytest.approx([2.0] * problem.num_agents)


def test_noisy_rewards_have_the_same_mean():
    problem = MertonConfig(**{**vars(FIVE), "noisy": True}).build()
    got = check_optimum_is_earned(problem, num_episodes=40_000)
    assert 0.05 < float(got.standard_error[0]) < 0.2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(direction=st.lists(st.floats(-1, 1), min_size=5, max_size=5), size=st.floats(0.02, 0.5))
def test_other_weights_earn_less(direction, size):
    problem = FIVE.build()
    way = torch.tensor(direction, dtype=torch.float64)
    if float(way.norm()) < 0.1:
        return
    loss, _ = loss_of(problem, lambda obs: problem.optimal(obs) + size * way / way.norm(), num_episodes=2)
    assert loss > 0.0


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="volatility 2"):
        MertonConfig(drift=(0.1,), volatility=(0.1, 0.2)).build()
    with pytest.raises(InputError, match="max_weight is 0"):
        MertonConfig(max_weight=0.2).build()
    with pytest.raises(InputError, match="positive definite"):
        MertonConfig(drift=(0.05,) * 4, volatility=(0.2,) * 4, correlation=-0.5).build()
    with pytest.raises(InputError, match="volatility is"):
        MertonConfig(volatility=(0.0,)).build()
    with pytest.raises(InputError, match="concern"):
        MertonRelativeConfig(concern=(1.0,) * 4).build()
    with pytest.raises(InputError, match="investors"):
        MertonRelativeConfig(concern=(0.5,) * 3).build()
    with pytest.raises(InputError, match="equilibrium"):
        MertonRelativeConfig(max_weight=2.0).build()


def test_equilibrium_with_relative_concerns():
    problem = MertonRelativeConfig().build()
    assert problem.nash == pytest.approx([1.35, 3.0, 2.25, 5.4])
    delta = np.array([0.5, 1.0, 1.5, 2.0])
    assert problem.optimal_value.tolist() == pytest.approx((100 * delta * 0.06**2 / (2 * 0.04)).tolist())
    check_optimum_is_earned(problem, num_episodes=4)
    check_state_resumes_exactly(problem)
    base = value(problem, problem.baseline, num_episodes=2)
    assert base.mean.tolist() == pytest.approx(problem.baseline_value.tolist())


def test_equilibrium_is_where_best_responses_lead():
    delta, theta = np.array([0.3, 0.9, 2.0]), np.array([0.9, 0.1, 0.4])
    grid = np.linspace(-8, 8, 16_001)
    amounts = np.zeros(3)
    for _ in range(60):
        for i in range(3):
            tried = np.tile(amounts, (len(grid), 1))
            tried[:, i] = grid
            exposure = tried[:, i] - theta[i] * tried.mean(1)
            amounts[i] = grid[(exposure * 0.05 - exposure**2 * 0.04 / (2 * delta[i])).argmax()]
    assert nash_weights(delta, theta, 0.05, 0.2) == pytest.approx(amounts, abs=3e-3)
    assert relative_rate(nash_weights(delta, theta, 0.05, 0.2), delta, theta, 0.05, 0.2) == pytest.approx(
        delta * 0.05**2 / 0.08
    )


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("agent", range(4))
def test_nobody_gains_by_leaving_the_equilibrium_alone(agent, noisy):
    problem = MertonRelativeConfig(noisy=noisy).build()
    for change in (-2.0, -0.5, 0.5, 2.0):
        gain, error = gain_of_deviating(
            problem, agent, lambda a, _, c=change: a + c, num_episodes=20_000 if noisy else 2
        )
        assert gain < (4 * error if noisy else 0.0)


def test_noisy_relative_rewards_have_the_same_mean():
    check_optimum_is_earned(MertonRelativeConfig(noisy=True).build(), num_episodes=20_000)
