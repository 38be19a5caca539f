import numpy as np
import pytest
from scipy.stats import norm

from envs import sharpe

YEAR = {"periods_per_year": 252.0}


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return 0.0006 + 0.012 * np.random.default_rng(5).standard_t(4, 800)


def test_error_of_independent_returns_is_the_same_by_both_formulas(returns):
    assert sharpe.sharpe_standard_error_hac(returns[:1], **YEAR) == 0
    assert sharpe.sharpe_standard_error_hac(np.full(50, 0.001), **YEAR) == 0
    independent = sharpe.sharpe_standard_error(returns, **YEAR)
    assert sharpe.sharpe_standard_error_hac(returns, **YEAR) == pytest.approx(independent, rel=0.15)


@pytest.mark.parametrize("persistence", [-0.4, 0.0, 0.4])
def test_errors_of_returns_that_follow_one_another_are_what_ratios_scatter_by(persistence):
    rng, T = np.random.default_rng(4), 1500
    shocks = rng.standard_normal((T, 400))
    series = shocks.copy()
    for t in range(1, T):
        series[t] = persistence * series[t - 1] + shocks[t]
    series = 0.0005 + 0.01 * series
    ratios = [sharpe.sharpe_ratio(x, **YEAR) for x in series.T]
    errors = [sharpe.sharpe_standard_error_hac(x, **YEAR) for x in series.T]
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)
    independent = np.mean([sharpe.sharpe_standard_error(x, **YEAR) for x in series.T])
    factor = np.sqrt((1 + persistence) / (1 - persistence))  # of the variance of a mean of such a process
    assert np.mean(errors) / independent == pytest.approx(factor, rel=0.15)


def test_standard_error_is_lo_for_normal_returns_and_matches_monte_carlo():
    rng = np.random.default_rng(1)
    sample = 0.1 + rng.standard_normal((4000, 500))
    sharpes = sample.mean(axis=1) / sample.std(axis=1, ddof=1)
    lo = np.sqrt((1 + 0.1**2 / 2) / 499)
    errors = [sharpe.sharpe_standard_error(row, periods_per_year=1.0) for row in sample[:200]]
    assert np.mean(errors) == pytest.approx(lo, rel=0.01)
    assert sharpes.std() == pytest.approx(lo, rel=0.04)


def test_standard_error_sees_skew_and_fat_tails():
    """Crash-prone returns: Lo's formula is too small by a third, Mertens' is not."""
    rng = np.random.default_rng(2)
    crash = rng.random((4000, 1000)) < 0.02
    sample = np.where(crash, -0.10, 0.006) + 0.005 * rng.standard_normal((4000, 1000))
    sharpes = sample.mean(axis=1) / sample.std(axis=1, ddof=1)
    errors = [sharpe.sharpe_standard_error(row, periods_per_year=1.0) for row in sample[:400]]
    lo = np.sqrt((1 + sharpes.mean() ** 2 / 2) / 999)
    assert sharpes.std() > 1.2 * lo
    assert np.mean(errors) == pytest.approx(sharpes.std(), rel=0.05)


def test_standard_error_is_annualised_like_the_ratio(returns):
    daily = sharpe.sharpe_standard_error(returns, periods_per_year=1.0)
    assert sharpe.sharpe_standard_error(returns, **YEAR) == pytest.approx(daily * np.sqrt(252))


def test_probabilistic_sharpe_of_the_papers_example():
    """Bailey and Lopez de Prado (2014): Sharpe 2.5, 1,250 days, skew -3, kurtosis 10; 100 trials of variance 1/2."""
    ratio, hurdle = 2.5 / np.sqrt(250), 0.1132
    variance = sharpe._sharpe_variance(ratio, -3.0, 10.0, 1250)
    assert norm.cdf((ratio - hurdle) / np.sqrt(variance)) == pytest.approx(0.9004, abs=2e-4)
    trials = np.random.default_rng(0).standard_normal(100)
    trials = (trials - trials.mean()) / trials.std(ddof=1) * np.sqrt(0.5 / 250)
    assert sharpe.expected_max_sharpe(trials) == pytest.approx(hurdle, abs=1e-4)


def test_expected_max_sharpe_matches_monte_carlo():
    trials = np.random.default_rng(3).standard_normal((4000, 50))
    assert trials.max(axis=1).mean() == pytest.approx(
        np.mean([sharpe.expected_max_sharpe(t) for t in trials[:200]]), rel=0.02
    )


def test_deflated_sharpe_falls_as_the_search_widens(returns):
    rng = np.random.default_rng(4)
    few, many = rng.standard_normal(5), rng.standard_normal(500)
    alone = sharpe.probabilistic_sharpe_ratio(returns, **YEAR)
    assert sharpe.deflated_sharpe_ratio(returns, [[1.0]], **YEAR) == alone
    assert (
        alone
        > sharpe.deflated_sharpe_ratio(returns, [few], **YEAR)
        > sharpe.deflated_sharpe_ratio(returns, [many], **YEAR)
    )


def test_trials_are_compared_within_their_period_whatever_the_market_did_in_another(returns):
    """Four periods of eight trials that differ far less than the periods: a hurdle of .30, where 2.44 was told."""
    draws = np.random.default_rng(6).standard_normal(8)
    trials = 0.2058 * (draws - draws.mean()) / draws.std(ddof=1)
    periods = [mean + trials for mean in (-1.55, -0.385, 0.385, 1.55)]
    hurdle = np.mean([sharpe.expected_max_sharpe(trials) for trials in periods])
    assert hurdle == pytest.approx(0.30, abs=5e-3)
    assert sharpe.expected_max_sharpe(np.concatenate(periods)) == pytest.approx(2.44, abs=0.02)
    found = sharpe.deflated_sharpe_ratio(returns, periods, **YEAR)
    assert found == sharpe.probabilistic_sharpe_ratio(returns, **YEAR, benchmark=hurdle)


def test_who_never_trades_hardly_beats_what_earns_and_is_as_likely_as_not_to_beat_nothing():
    flat, rng = np.zeros(1_000), np.random.default_rng(0)
    assert sharpe.probabilistic_sharpe_ratio(flat, **YEAR) == 0.5
    noise = rng.standard_normal(1_000)
    noise = (noise - noise.mean()) * 1e-6  # hardly trades: a ratio of 0
    for benchmark in (-2.0, 0.3, 2.0):
        nearly = sharpe.probabilistic_sharpe_ratio(noise, benchmark=benchmark, **YEAR)
        assert sharpe.probabilistic_sharpe_ratio(flat, benchmark=benchmark, **YEAR) == pytest.approx(nearly, rel=1e-6)
    assert sharpe.probabilistic_sharpe_ratio(flat, benchmark=2.0, **YEAR) < 0.01
    assert sharpe.probabilistic_sharpe_ratio([0.1], benchmark=2.0, **YEAR) == 0.5


def test_probabilistic_sharpe_of_pure_noise_is_uniform():
    rng = np.random.default_rng(6)
    ranks = [sharpe.probabilistic_sharpe_ratio(rng.standard_normal(300), **YEAR) for _ in range(1000)]
    assert np.quantile(ranks, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
