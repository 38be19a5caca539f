"""Paired tests against the package ``arch`` (8.0.0), the papers' formulas, and series whose answer is known.

``arch`` is no dependency: its figures stand here, from 20,000 resamples (one more digit than ours have).
"""

import numpy as np
import pytest
from scipy.stats import binom

from envs.paired_tests import block_length, paired_tests, resamples
from envs.sharpe import sharpe_difference_error, sharpe_ratio

YEAR = {"periods_per_year": 252.0}


def autoregression(persistence, *, seed=7, num_bars=1000):
    series = np.random.default_rng(seed).standard_normal(num_bars)
    for t in range(1, num_bars):
        series[t] += persistence * series[t - 1]
    return series


@pytest.fixture(scope="module")
def rivals():
    """A strategy, and baselines that are 3 and 1 bp a day better, 2 bp and 20 bp worse, in the same market."""
    rng = np.random.default_rng(11)
    market = 0.0004 + 0.008 * rng.standard_normal(750)
    own = market + 0.003 * rng.standard_normal(750)
    edges = np.array([0.0003, 0.0001, -0.0002, -0.002])
    others = market[:, None] + edges + 0.003 * rng.standard_normal((750, 4))
    return own, {f"{edge:+}": column for edge, column in zip(edges, others.T, strict=True)}


@pytest.mark.parametrize(
    ("persistence", "length"), [(0.0, 1.549494243122), (0.6, 19.201495324325), (-0.4, 8.204327410529)]
)
def test_blocks_are_as_long_as_arch_says(persistence, length):
    """arch.bootstrap.optimal_block_length(series)["stationary"]."""
    assert block_length(autoregression(persistence)) == pytest.approx(length, rel=1e-10)


@pytest.mark.parametrize("series", [[], [0.1], [0.1, 0.2] * 3, np.zeros(500), np.full(500, 0.001)])
def test_blocks_of_what_is_short_or_flat_are_single_bars(series):
    assert block_length(series) == 1


def test_resamples_are_blocks_of_the_history_of_the_mean_length_that_was_asked_for():
    indices = np.concatenate(list(resamples(100, 8.0, 3000)))
    assert indices.shape == (3000, 100)
    goes_on = (indices[:, 1:] - indices[:, :-1]) % 100 == 1
    assert 1 - goes_on.mean() == pytest.approx((1 - 1 / 100) / 8, rel=0.02)  # one in 100 blocks begins where it was
    np.testing.assert_allclose(np.bincount(indices.ravel()) / 3000, 1.0, atol=0.2)  # every bar is as likely
    assert len(set(map(tuple, indices))) == 3000


def test_long_histories_are_drawn_in_parts_that_hold_as_much():
    parts = [part.shape for part in resamples(1_500_000, 50.0, 5)]
    assert parts == [(2, 1_500_000), (2, 1_500_000), (1, 1_500_000)]


def test_means_are_tested_as_by_arch(rivals):
    """arch.bootstrap.StationaryBootstrap(1, difference).apply(mean, 20000), its share of centred means below the mean.

    Blocks of 1 and of 5 bars give 0.0054 and 0.0066, 0.0464 and 0.0377, 0.9424 and 0.9240, 1 and 1; ours are of 2.1.
    """
    own, others = rivals
    found = [test.mean_confidence for test in paired_tests(own, others, **YEAR).against.values()]
    assert found == pytest.approx([0.006, 0.042, 0.933, 1.0], abs=0.012)


def test_all_baselines_at_once_are_tested_as_by_arch(rivals):
    """0.0192 from the means of 20,000 resamples of arch.bootstrap.StationaryBootstrap(2, others - own), by Hansen.

    arch.bootstrap.SPA(-own, -others, block_size=2, reps=20000) gives 0.0174: it does not divide means by their errors.
    """
    own, others = rivals
    assert paired_tests(own, others, **YEAR).not_beaten_p == pytest.approx(0.0192, abs=0.006)


def test_baselines_that_are_hopeless_do_not_hide_one_that_is_better(rivals):
    own, others = rivals
    rng = np.random.default_rng(3)
    hopeless = {f"hopeless {k}": own - 0.004 + 0.003 * rng.standard_normal(750) for k in range(40)}
    equals = {f"equal {k}": own - own.mean() + 0.0004 + 0.003 * rng.standard_normal(750) for k in range(40)}
    alone = paired_tests(own, others, **YEAR).not_beaten_p
    assert paired_tests(own, others | hopeless, **YEAR).not_beaten_p == pytest.approx(alone, abs=0.005)
    assert paired_tests(own, others | equals, **YEAR).not_beaten_p > 5 * alone


@pytest.mark.parametrize(("edge", "confidence", "p"), [(2e-4, 1.0, 1.0), (-2e-4, 0.0, 0.0), (0.0, 0.5, 1.0)])
def test_what_is_always_better_or_worse_by_two_points_a_day_is_certain(rivals, edge, confidence, p):
    own, _ = rivals
    found = paired_tests(own + edge, {"baseline": own}, **YEAR)
    test = found.against["baseline"]
    assert test.mean_difference == pytest.approx(252 * edge, abs=1e-15)
    assert test.mean_confidence == confidence
    assert test.sharpe_confidence == pytest.approx(confidence, abs=1e-6)
    assert found.not_beaten_p == p


def test_what_differs_by_rounding_is_equal(rivals):
    own, _ = rivals
    rounded = own + 1e-16 * np.random.default_rng(0).standard_normal(len(own))
    test = paired_tests(rounded, {"same": own}, **YEAR).against["same"]
    assert (test.mean_confidence, test.sharpe_confidence) == (0.5, 0.5)


def test_a_single_bar_says_nothing():
    found = paired_tests([0.01], {"better": [0.02]}, **YEAR)
    assert found.against["better"].mean_confidence == found.against["better"].sharpe_confidence == 0.5
    assert found.not_beaten_p == 1


def test_who_never_trades_is_tested_too(rivals):
    own, _ = rivals
    flat, both = np.zeros(750), paired_tests(np.zeros(750), {"own": own, "cash": np.zeros(750)}, **YEAR).against
    assert both["own"].sharpe_difference == pytest.approx(-sharpe_ratio(own, **YEAR))
    assert (both["cash"].mean_confidence, both["cash"].sharpe_confidence) == (0.5, 0.5)
    back = paired_tests(own, {"flat": flat}, **YEAR).against["flat"]
    assert back.sharpe_confidence == pytest.approx(1 - both["own"].sharpe_confidence)
    assert back.mean_confidence == pytest.approx(1 - both["own"].mean_confidence, abs=1e-3)


def test_the_same_returns_give_the_same_figures(rivals):
    own, others = rivals
    assert paired_tests(own, others, **YEAR) == paired_tests(own, others, **YEAR)


def test_a_common_market_cancels(rivals):
    """Both errors are of the whole ratio, some 0.6; that of the difference is of what is not common to both."""
    own, others = rivals
    test = paired_tests(own, others, **YEAR).against["-0.002"]
    assert test.sharpe_difference > 0
    error = sharpe_difference_error(own, others["-0.002"], **YEAR)
    assert error < 0.5 * np.sqrt(2 * 252 / 750)
    assert test.sharpe_confidence > 0.999


def test_series_of_different_lengths_are_refused(rivals):
    own, _ = rivals
    with pytest.raises(ValueError, match="shape"):
        paired_tests(own, {"short": own[1:]}, **YEAR)


@pytest.mark.parametrize("persistence", [0.0, 0.4])
def test_error_of_a_difference_of_ratios_is_that_of_the_paper(persistence):
    """Ledoit and Wolf (2008, section 3.1): sqrt(g' Psi g / T) of means and second moments, Psi by Bartlett."""
    pair = 0.0005 + 0.01 * np.stack([autoregression(persistence, seed=k, num_bars=600) for k in (1, 2)], axis=1)
    pair[:, 1] += 0.5 * pair[:, 0]
    T, mean, second = len(pair), pair.mean(axis=0), (pair**2).mean(axis=0)
    variance = second - mean**2
    gradient = np.array([*(second / variance**1.5), *(-0.5 * mean / variance**1.5)]) * [1, -1, 1, -1]
    moments = np.concatenate([pair - mean, pair**2 - second], axis=1)
    num_lags = int(4 * (T / 100) ** (2 / 9))
    psi = moments.T @ moments / T
    for lag in range(1, num_lags + 1):
        covariance = moments[lag:].T @ moments[:-lag] / T
        psi += (1 - lag / (num_lags + 1)) * (covariance + covariance.T)
    error = np.sqrt(gradient @ psi @ gradient / T * 252)
    assert sharpe_difference_error(pair[:, 0], pair[:, 1], **YEAR) == pytest.approx(error, rel=2e-3)


@pytest.mark.slow
def test_equals_are_told_apart_in_one_trial_of_twenty():
    """Independent series of one distribution: tests at 5 % are wrong in 5 % of 1,000 trials, and SPA in no more."""
    num_trials, rng = 1000, np.random.default_rng(8)
    found = []
    for _ in range(num_trials):
        own, *others = 0.0005 + 0.01 * rng.standard_t(5, (4, 250))
        tests = paired_tests(own, {str(k): other for k, other in enumerate(others)}, **YEAR)
        found.append((tests.against["0"].mean_confidence, tests.against["0"].sharpe_confidence, tests.not_beaten_p))
    mean, ratio, p = np.array(found).T
    low, high = binom.interval(0.999, num_trials, 0.05)
    for confidence in (mean, ratio):
        assert low <= (confidence > 0.95).sum() <= high
        assert low <= (confidence < 0.05).sum() <= high
    assert (p < 0.05).sum() <= high
