import empyrical
import numpy as np
import pytest

from envs.benchmark_figures import BENCHMARK_FIGURES, benchmark_figures

MARKET = np.random.default_rng(0).normal(4e-4, 0.01, 500)
NOISY = 0.7 * MARKET + np.random.default_rng(1).normal(2e-4, 0.004, 500)


def figures(returns, benchmark=MARKET, risk_free=0.0, periods_per_year=252):
    found = benchmark_figures(returns, benchmark, periods_per_year=periods_per_year, risk_free=risk_free)
    assert tuple(found) == BENCHMARK_FIGURES
    assert all(type(value) is float and np.isfinite(value) for value in found.values())
    return found


def test_twice_the_benchmark_has_beta_two_and_no_alpha():
    found = figures(2 * MARKET)
    assert found["beta"] == pytest.approx(2, rel=1e-12)
    assert found["alpha"] == pytest.approx(0, abs=1e-12)
    assert found["tracking_error"] == pytest.approx(MARKET.std(ddof=1) * np.sqrt(252))
    assert found["information_ratio"] == pytest.approx(MARKET.mean() / MARKET.std(ddof=1) * np.sqrt(252))


def test_alpha_is_what_is_added_each_bar_above_what_cash_and_the_benchmark_earn():
    rate = 0.05
    mixture = 0.6 * MARKET + 0.4 * rate / 252
    assert figures(mixture, risk_free=rate)["alpha"] == pytest.approx(0, abs=1e-12)
    assert figures(mixture)["alpha"] == pytest.approx(0.4 * rate)
    assert figures(mixture + 1e-4, risk_free=rate)["alpha"] == pytest.approx(252e-4)
    assert figures(2 * MARKET, risk_free=rate)["alpha"] == pytest.approx(rate)  # the loan was free


def test_benchmark_against_itself_is_one_and_tracks_without_error():
    expected = {"alpha": 0, "beta": 1, "tracking_error": 0, "information_ratio": 0, "up_capture": 1, "down_capture": 1}
    assert figures(MARKET) == pytest.approx(expected, abs=1e-12)


def test_figures_agree_with_a_regression_and_with_another_library():
    found = figures(NOISY)
    slope, intercept = np.polyfit(MARKET, NOISY, 1)
    assert found["beta"] == pytest.approx(slope)
    assert found["alpha"] == pytest.approx(intercept * 252)
    assert found["beta"] == pytest.approx(empyrical.beta(NOISY, MARKET))
    assert found["information_ratio"] == pytest.approx(empyrical.excess_sharpe(NOISY, MARKET) * np.sqrt(252))


def test_capture_is_the_ratio_of_mean_growth_where_the_benchmark_rose_or_fell():
    benchmark, own = np.array([0.1, -0.1, 0.3, -0.2, 0.0]), np.array([0.2, -0.05, 0.1, 0.1, 0.5])
    found = figures(own, benchmark)
    assert found["up_capture"] == pytest.approx((np.sqrt(1.2 * 1.1) - 1) / (np.sqrt(1.1 * 1.3) - 1))
    assert found["down_capture"] == pytest.approx((np.sqrt(0.95 * 1.1) - 1) / (np.sqrt(0.9 * 0.8) - 1))
    noisy = figures(NOISY)  # of empyrical's growth a year that is wanted for which a bar counts as a year
    assert noisy["up_capture"] == pytest.approx(empyrical.up_capture(NOISY, MARKET, period="yearly"))
    assert noisy["down_capture"] == pytest.approx(empyrical.down_capture(NOISY, MARKET, period="yearly"))


@pytest.mark.parametrize("benchmark", [np.zeros(5), np.full(5, 0.01), np.full(5, -0.01)])
def test_benchmark_that_does_not_vary_explains_nothing(benchmark):
    found = figures(np.array([0.01, 0.02, 0.0, -0.01, 0.03]), benchmark, risk_free=0.02)
    assert found["beta"] == 0
    assert found["alpha"] == pytest.approx(0.01 * 252 - 0.02)
    assert (found["up_capture"] != 0) == (benchmark[0] > 0)
    assert (found["down_capture"] != 0) == (benchmark[0] < 0)


def test_all_that_is_lost_is_captured_once():
    found = figures(np.array([-1.0, 0.0, 0.0]), np.array([-0.1, -0.1, 0.1]))
    assert found["down_capture"] == pytest.approx(10.0)
