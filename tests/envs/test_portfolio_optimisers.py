import numpy as np
import pytest

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
