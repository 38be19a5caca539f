import numpy as np
import pytest
from scipy.optimize import minimize

from envs import portfolio_optimisers as optimisers


def test_minimum_variance_weights_are_the_best_long_only_ones():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 5))
    covariance = mix @ mix.T + 0.1 * np.eye(5)
    weights = optimisers.least_variance_weights(covariance)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    best = weights @ covariance @ weights
    others = rng.dirichlet(np.ones(5), size=20_000)
    assert best <= np.einsum("ki,ij,kj->k", others, covariance, others).min() + 1e-12
    gradient = covariance @ weights  # Karush-Kuhn-Tucker: equal where held, larger where not
    np.testing.assert_allclose(gradient[weights > 1e-9], best, rtol=1e-6)
    assert (gradient >= best - 1e-9).all()


def test_shrunk_covariance_lies_between_sample_and_identity():
    rng = np.random.default_rng(1)
    returns = rng.normal(size=(30, 20)) * 0.01
    sample = np.cov(returns.T, bias=True)
    shrunk = optimisers.shrunk_covariance(returns)
    assert np.linalg.cond(shrunk) < np.linalg.cond(sample) / 10
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))


def returns_of(num_bars=250, num_assets=6, seed=2):
    """Returns with a common factor, and means and volatilities that differ."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(num_bars, 1))
    scale = np.linspace(0.005, 0.03, num_assets)
    return scale * (0.5 * common + rng.normal(size=(num_bars, num_assets))) + np.linspace(-5e-4, 1e-3, num_assets)


def test_risk_parity_of_two_assets_is_inverse_to_their_volatilities_whatever_they_share():
    for correlation in (-0.9, 0.0, 0.7):
        covariance = np.array([[0.04, correlation * 0.06], [correlation * 0.06, 0.09]])
        np.testing.assert_allclose(optimisers.risk_parity_weights(covariance), [0.6, 0.4], rtol=1e-10)


def test_risk_parity_weights_add_equal_risk_and_agree_with_a_general_optimiser():
    covariance = np.cov(returns_of().T)
    weights = optimisers.risk_parity_weights(covariance)
    assert weights.sum() == pytest.approx(1.0)
    added = weights * (covariance @ weights)
    np.testing.assert_allclose(added, added.mean(), rtol=1e-9)
    scaled = covariance / np.trace(covariance)
    found = minimize(lambda logs: np.exp(logs) @ scaled @ np.exp(logs) / 2 - logs.mean(), np.zeros(6), tol=1e-14)
    np.testing.assert_allclose(weights, np.exp(found.x) / np.exp(found.x).sum(), rtol=1e-5)


def test_highest_ratio_weights_are_the_tangency_portfolio_where_that_is_long():
    covariance, means = np.diag([0.01, 0.04, 0.09]), np.array([0.02, 0.04, 0.03])
    tangency = np.linalg.solve(covariance, means)
    np.testing.assert_allclose(optimisers.highest_ratio_weights(means, covariance), tangency / tangency.sum())


@pytest.mark.parametrize("seed", range(4))
def test_highest_ratio_weights_are_the_best_long_only_ones(seed):
    returns = returns_of(seed=seed)
    covariance, means = np.cov(returns.T), returns.mean(axis=0)
    weights = optimisers.highest_ratio_weights(means, covariance)
    assert weights.min() == 0  # a bound holds, or this would be the closed form again
    assert weights.sum() == pytest.approx(1.0)

    def ratio(w):
        return w @ means / np.sqrt(w @ covariance @ w)

    bounds, whole = [(0, 1)] * 6, {"type": "eq", "fun": lambda w: w.sum() - 1}
    found = minimize(lambda w: -ratio(w), np.full(6, 1 / 6), bounds=bounds, constraints=whole, tol=1e-14)
    assert ratio(weights) >= ratio(found.x) - 1e-9
    np.testing.assert_allclose(weights, found.x, atol=1e-3)


def test_nothing_is_held_where_no_mean_is_above_zero():
    np.testing.assert_array_equal(optimisers.highest_ratio_weights(np.array([-1.0, 0.0]), np.eye(2)), [0, 0])


def test_shrunk_means_lie_between_the_samples_and_that_of_the_least_variance_portfolio():
    returns = returns_of()
    covariance = np.cov(returns.T)
    means, shrunk = returns.mean(axis=0), optimisers.shrunk_means(returns, covariance)
    least = np.linalg.solve(covariance, np.ones(6))
    centre = least @ means / least.sum()
    kept = (shrunk - centre) / (means - centre)
    np.testing.assert_allclose(kept, kept[0])
    apart = means - centre
    assert kept[0] == pytest.approx(1 - 8 / (8 + 250 * (apart @ np.linalg.solve(covariance, apart))))


@pytest.mark.parametrize("kind", ["flat", "one_moves", "two_days", "one_hedges_the_other", "same"])
def test_degenerate_returns_give_portfolios(kind):
    rng = np.random.default_rng(0)
    returns = {
        "flat": np.zeros((5, 3)),
        "one_moves": rng.normal(size=(50, 3)) * [0.01, 0, 0],
        "two_days": rng.normal(size=(2, 3)) * 0.01,
        "one_hedges_the_other": rng.normal(size=(50, 1)) * [0.01, -0.02, 0.01],
        "same": rng.normal(size=(50, 1)) * [0.01, 0.01, 0.01],
    }[kind]
    sample = np.cov(returns.T, bias=True)
    for covariance in (sample, optimisers.shrunk_covariance(returns)):
        means = optimisers.shrunk_means(returns, covariance)
        for weights in (
            optimisers.risk_parity_weights(covariance),
            optimisers.least_variance_weights(covariance),
            optimisers.highest_ratio_weights(np.abs(means) + 1e-6, covariance),
        ):
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1.0)
