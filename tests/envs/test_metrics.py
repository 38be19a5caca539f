from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import metrics
from envs.sharpe import probabilistic_sharpe_ratio, sharpe_ratio

YEAR = {"periods_per_year": 252.0}


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return 0.0006 + 0.012 * np.random.default_rng(5).standard_t(4, 800)


@pytest.fixture(scope="module")
def equity(returns) -> np.ndarray:
    return 1e6 * np.cumprod(np.append(1.0, 1 + returns))


def test_performance_has_exactly_the_promised_names(equity):
    result = metrics.performance(equity, **YEAR, turnover=3.0, total_costs=12.5, num_trades=7)
    assert list(result) == [
        *("total_return", "annual_return", "annual_volatility", "sharpe", "sharpe_se", "sharpe_se_hac", "sortino"),
        *("calmar", "max_drawdown", "cvar_95", "turnover", "total_costs", "win_rate", "num_trades", "final_equity"),
        *("liquidation_equity", "unfilled_notional", "gross_exposure", "net_exposure"),
    ]
    assert (result["turnover"], result["total_costs"], result["num_trades"]) == (3.0, 12.5, 7)
    assert result["final_equity"] == equity[-1]
    assert all(type(value) in (float, int) for value in result.values())


@pytest.mark.parametrize("periods", [252, 365, 8760, 52])
def test_agrees_with_empyrical(equity, returns, periods):
    year = {"periods_per_year": float(periods)}
    result = metrics.performance(equity, **year)
    expected = {
        "total_return": empyrical.cum_returns_final(returns),
        "annual_return": empyrical.annual_return(returns, annualization=periods),
        "annual_volatility": empyrical.annual_volatility(returns, annualization=periods),
        "sharpe": empyrical.sharpe_ratio(returns, annualization=periods),
        "sortino": empyrical.sortino_ratio(returns, annualization=periods),
        "calmar": empyrical.calmar_ratio(returns, annualization=periods),
        "max_drawdown": empyrical.max_drawdown(returns),
        "cvar_95": empyrical.conditional_value_at_risk(returns),
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-9), name


def test_what_cash_earns_is_taken_off_every_bar(returns):
    ratio = sharpe_ratio(returns, **YEAR, risk_free=0.04)
    assert ratio == pytest.approx(empyrical.sharpe_ratio(returns, risk_free=0.04 / 252))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
def test_a_portfolio_that_is_mixed_with_cash_has_the_same_ratios(returns, share):
    """Who keeps 98 % in cash at 5 % has a return that hardly varies, and would seem to be a genius."""
    rate = 0.05
    mixed = share * returns + (1 - share) * rate / 252
    curves = np.cumprod(np.vstack([np.ones(2), 1 + np.stack([returns, mixed], axis=1)]), axis=0)
    whole, part = (metrics.performance(curve, **YEAR, risk_free=rate) for curve in curves.T)
    for name in ("sharpe", "sharpe_se", "sortino"):
        assert part[name] == pytest.approx(whole[name], rel=1e-9), name
    both = metrics.performance_of_sums(sums_of(curves), **YEAR, risk_free=rate)["sharpe"]
    assert both == pytest.approx([whole["sharpe"]] * 2, rel=1e-8)
    psr = [probabilistic_sharpe_ratio(x, **YEAR, risk_free=rate) for x in (returns, mixed)]
    assert psr[1] == pytest.approx(psr[0])


def test_two_percent_in_stocks_have_the_ratio_of_stocks():
    """Stocks that earn 10 % with a volatility of 11.67 %, cash that earns 5 %: .43, where 21.86 was told."""
    noise = np.tile([1.0, -1.0], 1_260)
    stocks = 0.10 / 252 + noise / noise.std(ddof=1) * 0.11665 / np.sqrt(252)
    curve = np.cumprod(np.r_[1.0, 1.0 + 0.02 * stocks + 0.98 * 0.05 / 252])
    assert metrics.performance(curve, **YEAR, risk_free=0.05)["sharpe"] == pytest.approx(0.43, abs=5e-3)
    assert metrics.performance(curve, **YEAR)["sharpe"] == pytest.approx(21.86, abs=5e-3)


def test_known_curve_by_hand():
    curve = [100.0, 110.0, 99.0, 99.0, 108.9]  # +10 %, -10 %, 0, +10 %
    result = metrics.performance(curve, periods_per_year=4.0)
    assert result["total_return"] == pytest.approx(0.089)
    assert result["annual_return"] == pytest.approx(0.089)  # four bars are the year
    assert result["max_drawdown"] == pytest.approx(-0.1)
    assert result["calmar"] == pytest.approx(0.89)
    assert result["win_rate"] == pytest.approx(2 / 3)  # the flat bar does not count
    assert result["cvar_95"] == pytest.approx(-0.1)
    assert result["sharpe"] == pytest.approx(0.025 / np.std([0.1, -0.1, 0, 0.1], ddof=1) * 2)
    assert result["sortino"] == pytest.approx(0.025 / 0.05 * 2)


def test_turnover_counts_both_sides_over_mean_equity():
    assert metrics.annual_turnover([50.0, 0.0, 50.0], [100.0] * 4, periods_per_year=252) == pytest.approx(84.0)
    assert metrics.annual_turnover([50.0], [100.0], periods_per_year=252) == 0


@pytest.mark.parametrize("curve", [[5.0], [5.0, 5.0], [5.0] * 100, [0.1] * 3])
def test_constant_curve_has_no_ratio(curve):
    result = metrics.performance(curve, **YEAR)
    assert {value for name, value in result.items() if name not in ("final_equity", "liquidation_equity")} == {0.0}


def test_constant_growth_is_without_risk():
    """The returns of 1.01^t differ by rounding only, which must not make a Sharpe ratio of 1e14."""
    result = metrics.performance(1.01 ** np.arange(50), **YEAR)
    assert (result["sharpe"], result["sortino"], result["calmar"], result["max_drawdown"]) == (0, 0, 0, 0)
    assert result["win_rate"] == 1


@pytest.mark.parametrize("last", [0.0, -30.0])
def test_ruin_is_a_total_loss_and_stays_one(last):
    result = metrics.performance([100.0, 120.0, last, last, 0.0], **YEAR)
    assert result["total_return"] == result["annual_return"] == -1
    assert result["max_drawdown"] == -1
    assert result["sharpe"] < 0
    np.testing.assert_array_equal(metrics.simple_returns([100.0, 120.0, last, last, 50.0])[2:], 0)


def test_explosive_first_bar_stays_a_number():
    assert np.isfinite(metrics.performance([1.0, 1e6], periods_per_year=1e5)["annual_return"])


@pytest.mark.parametrize("curve", [[], [1.0, np.nan], [0.0, 1.0], [[1.0, 2.0]], [1.0, np.inf]])
def test_what_is_no_curve_is_refused(curve):
    with pytest.raises(ValueError, match="equity must be a finite curve"):
        metrics.performance(curve, **YEAR)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.0, 1e9), max_size=30), st.floats(1.0, 1e6), st.floats(-0.5, 0.5))
def test_no_curve_gives_a_nan(rest, first, risk_free):
    result = metrics.performance([first, *rest], **YEAR, risk_free=risk_free)
    assert all(np.isfinite(value) for value in result.values())
    assert -1 <= result["max_drawdown"] <= 0
    assert 0 <= result["win_rate"] <= 1
    assert 0 <= probabilistic_sharpe_ratio(metrics.simple_returns([first, *rest]), **YEAR) <= 1


# --- from sums -------------------------------------------------------------------------------------------------------


def sums_of(curves, traded=0.0) -> metrics.CurveSums:
    """What a floor would have added up along curves [T, B]; a NaN ends a curve in ruin."""
    curves = np.asarray(curves, dtype=np.float64)
    length = np.isfinite(curves).sum(axis=0)
    held = pd.DataFrame(curves).ffill().to_numpy()
    returns = held[1:] / held[:-1] - 1
    return metrics.CurveSums(
        num_bars=len(curves) - 1,
        num_traded=length - 1.0,
        first=curves[0],
        last=held[-1],
        equity=np.nansum(curves[1:], axis=0),
        returns=returns.cumsum(axis=0)[-1],  # bar by bar, as a floor does
        squares=(returns**2).cumsum(axis=0)[-1],
        deepest=(1 - held / np.maximum.accumulate(held)).max(axis=0),
        traded_usd=np.broadcast_to(np.asarray(traded, dtype=np.float64), curves.shape[1]),
    )


def test_figures_from_sums_are_those_of_the_curves():
    rng = np.random.default_rng(3)
    curves = 1e6 * np.vstack([np.ones(5), np.cumprod(1 + 0.02 * rng.standard_normal((40, 5)), axis=0)])
    curves[7:, 4] = np.nan  # ruined on the way; the account stays closed
    found = metrics.performance_of_sums(sums_of(curves, traded=4e6), **YEAR)
    for b, curve in enumerate(pd.DataFrame(curves).ffill().to_numpy().T):
        turnover = metrics.annual_turnover([4e6], curve, **YEAR)
        expected = metrics.performance(curve, **YEAR, turnover=turnover)
        assert {name: values[b] for name, values in found.items()} == pytest.approx(
            {name: expected[name] for name in found}, rel=1e-9
        )


def test_degenerate_sums_give_what_degenerate_curves_give():
    rates = np.linspace(0.005, 0.1, 20)  # cash that earns interest: every return is the same
    steady = np.cumprod(np.vstack([np.ones(20), np.full((500, 20), 1 + rates / 252)]), axis=0)
    assert metrics.performance_of_sums(sums_of(steady), **YEAR)["sharpe"].tolist() == [0.0] * 20
    assert [metrics.performance(curve, **YEAR)["sharpe"] for curve in steady.T] == [0.0] * 20
    lost = np.concatenate([[1.0, 0.5, -0.2], np.full(498, np.nan)])
    found = metrics.performance_of_sums(sums_of(np.stack([np.ones(501), steady[:, 0], lost], axis=1)), **YEAR)
    assert found["calmar"].tolist() == [0.0, 0.0, -1.0]
    assert found["max_drawdown"].tolist() == [0.0, 0.0, -1.0]
    one = metrics.performance_of_sums(sums_of([[1.0], [1.1]]), **YEAR)
    assert (one["sharpe"][0], one["calmar"][0]) == (0.0, 0.0)


def test_drawdowns_are_distances_below_the_peak():
    np.testing.assert_array_equal(metrics.drawdowns([1.0, 2.0, 1.0, 3.0]), [0.0, 0.0, -0.5, 0.0])
    np.testing.assert_array_equal(metrics.drawdowns([1.0, -1.0, -2.0]), [0.0, -1.0, -1.0])
