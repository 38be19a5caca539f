from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from common.errors import InputError
from envs.settings import REGIMES, SyntheticConfig
from envs.synthetic import best_sharpe, generate_bars, signal_edge

SEEDS = range(8)

# The acceptance table for the daily generator: fact -> least, most (median across assets).
ACCEPTANCE = {
    "excess kurtosis": (4.0, 15.0),
    "kurtosis of 20-day sums over that of days": (-0.5, 0.5),
    "Hill tail index": (2.5, 4.0),
    "autocorrelation of r, lag 1": (-0.06, 0.06),
    "autocorrelation of abs r, lag 1": (0.12, 0.30),
    "autocorrelation of abs r, lag 5": (0.05, 0.25),
    "autocorrelation of abs r, lag 20": (0.02, 0.20),
    "leverage": (-0.08, -0.01),
    "rank correlation of volume and abs r": (0.30, 0.50),
    "pair correlation": (0.25, 0.40),
    "annual volatility": (0.18, 0.32),
}


def excess_kurtosis(x):
    centred = x - x.mean(axis=0)
    return (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2 - 3


def autocorrelation(x, lag):
    centred = x - x.mean(axis=0)
    return (centred[lag:] * centred[:-lag]).mean(axis=0) / (centred**2).mean(axis=0)


def hill_index(x, share=0.05):
    size = np.sort(np.abs(x - x.mean(axis=0)), axis=0)[::-1]
    count = int(share * len(size))
    return 1 / np.log(size[:count] / size[count]).mean(axis=0)


def leverage(x, ahead=10):
    """Mean over the next ten bars of corr(r_t, r_(t+k)^2)."""
    pairs = [[np.corrcoef(column[:-k], column[k:] ** 2)[0, 1] for k in range(1, ahead + 1)] for column in x.T]
    return np.mean(pairs, axis=1)


def facts(bars) -> dict[str, float]:
    r = np.diff(np.log(bars.close), axis=0)
    volume = bars.volume[1:]
    months = r[: len(r) // 20 * 20].reshape(-1, 20, bars.num_assets).sum(axis=1)
    upper = np.triu_indices(bars.num_assets, 1)
    values = {
        "excess kurtosis": excess_kurtosis(r),
        "kurtosis of 20-day sums over that of days": np.median(excess_kurtosis(months)) / np.median(excess_kurtosis(r)),
        "Hill tail index": hill_index(r),
        "autocorrelation of r, lag 1": autocorrelation(r, 1),
        "leverage": leverage(r),
        "rank correlation of volume and abs r": [
            spearmanr(volume[:, i], np.abs(r[:, i]))[0] for i in range(r.shape[1])
        ],
        "pair correlation": np.mean(np.corrcoef(r.T)[upper]),
        "annual volatility": r.std(axis=0) * np.sqrt(bars.periods_per_year),
    }
    values |= {f"autocorrelation of abs r, lag {k}": autocorrelation(np.abs(r), k) for k in (1, 5, 20)}
    return {name: float(np.median(value)) for name, value in values.items()}


@pytest.fixture(scope="module")
def tables() -> list[dict[str, float]]:
    return [facts(generate_bars(SyntheticConfig(seed=seed))) for seed in SEEDS]


@pytest.mark.parametrize("fact", ACCEPTANCE)
def test_statistics_are_those_of_real_stocks(tables, fact, capsys):
    least, most = ACCEPTANCE[fact]
    values = np.array([table[fact] for table in tables])
    measured = f"{fact}: {np.round(values, 3).tolist()} over seeds 0 to {len(tables) - 1}, wanted {least} to {most}"
    with capsys.disabled():
        print(f"\n{measured}", end=" ")
    assert least < values[0] < most, f"default seed; {measured}"
    assert least < np.median(values) < most, f"median; {measured}"
    assert np.mean((values > least) & (values < most)) >= 0.75, measured


def test_log_volume_persists():
    values = np.log(generate_bars(SyntheticConfig()).volume)
    assert 0.5 < np.median(autocorrelation(values, 1)) < 0.72


def test_bars_are_consistent():
    bars = generate_bars(SyntheticConfig(num_assets=5, num_bars=3000, seed=3))
    assert (bars.low > 0).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.volume >= 1).all()
    gap, day = np.log(bars.open[1:] / bars.close[:-1]), np.log(bars.close / bars.open)
    assert 0.2 < gap.var() / (gap.var() + day.var()) < 0.3
    assert abs(np.corrcoef(gap.ravel(), day[1:].ravel())[0, 1]) < 0.1


def test_range_is_that_of_a_brownian_path():
    """Parkinson's estimator from high and low agrees with the variance of open to close."""
    bars = generate_bars(SyntheticConfig(num_bars=8000, seed=1))
    parkinson = (np.log(bars.high / bars.low) ** 2).mean() / (4 * np.log(2))
    assert parkinson == pytest.approx((np.log(bars.close / bars.open) ** 2).mean(), rel=0.1)


def test_dates_are_business_days_from_the_start():
    bars = generate_bars(SyntheticConfig(start_date="2020-02-01"))  # a Saturday
    assert str(bars.dates[0])[:10] == "2020-02-03"
    assert np.is_busday(bars.dates.astype("datetime64[D]")).all()
    assert len(np.unique(bars.dates)) == bars.num_bars == 1512
    assert bars.periods_per_year == 252


def test_same_seed_same_bits_and_other_seed_other_market():
    first, again, other = (generate_bars(SyntheticConfig(seed=seed)) for seed in (7, 7, 8))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_regime_labels_tell_the_volatility():
    bars = generate_bars(SyntheticConfig(num_bars=20_000))
    r = np.diff(np.log(bars.close), axis=0)
    spread = [r[bars.regimes[1:] == i].std() for i in range(len(REGIMES))]
    assert spread[1] > 1.3 * spread[0]
    assert spread[2] > 1.3 * spread[1]


def test_regimes_stay_as_long_as_asked():
    config = SyntheticConfig(num_bars=60_000, num_assets=1, regime_bars=(40.0, 20.0, 10.0))
    regimes = generate_bars(config).regimes
    edges = np.flatnonzero(np.diff(regimes)) + 1
    stays = np.diff(np.concatenate([[0], edges]))
    for i, expected in enumerate(config.regime_bars):
        assert stays[regimes[edges - 1] == i].mean() == pytest.approx(expected, rel=0.1)


def test_market_of_one_regime_only():
    calm, crisis = (generate_bars(SyntheticConfig(regimes=(name,), num_bars=4000)) for name in ("calm", "crisis"))
    assert (calm.regimes == 0).all()
    assert (crisis.regimes == 2).all()
    assert np.diff(np.log(crisis.close), axis=0).std() > 2 * np.diff(np.log(calm.close), axis=0).std()


def test_drift_is_the_expected_simple_return():
    means = [
        (bars.close[1:] / bars.close[:-1]).mean() - 1
        for bars in (generate_bars(SyntheticConfig(seed=s, num_bars=4000, annual_drift=0.3)) for s in range(10))
    ]
    assert (1 + np.mean(means)) ** 252 - 1 == pytest.approx(0.3, abs=0.06)


# --- the planted signal ----------------------------------------------------------------------------------------------


def test_no_signal_unless_asked_for():
    assert generate_bars(SyntheticConfig()).signal is None


def test_signal_has_unit_variance_and_the_half_life_asked_for():
    bars = generate_bars(SyntheticConfig(num_bars=40_000, signal_strength=2.0, signal_half_life_bars=10.0))
    assert bars.signal.std() == pytest.approx(1.0, abs=0.03)
    assert np.median(autocorrelation(bars.signal, 10)) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(bars.signal[:, 0], bars.signal[:, 1])[0, 1]) < 0.1


def test_signal_tells_the_next_day_and_neither_the_bar_it_is_seen_on_nor_the_gap_after_it():
    """With a half-life of a tenth of a bar the signal has no memory, so only the very bar it moves can show it."""
    config = SyntheticConfig(num_bars=20_000, signal_strength=8.0, signal_half_life_bars=0.1, num_assets=4)
    bars = generate_bars(config)
    day, gap = np.log(bars.close / bars.open), np.log(bars.open[1:] / bars.close[:-1])

    def correlation(signal, returns):
        return np.mean([np.corrcoef(signal[:, i], returns[:, i])[0, 1] for i in range(4)])

    assert correlation(bars.signal[:-1], day[1:]) > 0.3
    assert abs(correlation(bars.signal, day)) < 0.02
    assert abs(correlation(bars.signal[:-1], gap)) < 0.02
    assert abs(correlation(bars.signal[:-2], day[2:])) < 0.02


@pytest.mark.parametrize("edge", [0.05, 0.3, 1.0, 3.0])
def test_best_sharpe_matches_monte_carlo_and_no_other_weight_beats_it(edge):
    rng = np.random.default_rng(0)
    s = rng.standard_normal(2_000_000)
    returns = edge * s + rng.standard_t(5, len(s)) * np.sqrt(3 / 5)
    mu = edge * s

    def sharpe(weight):
        gains = weight * returns
        return gains.mean() / gains.std()

    best = best_sharpe(edge)
    assert sharpe(mu / (1 + mu**2)) == pytest.approx(best, rel=0.02)
    for rival in (s, np.sign(s), np.tanh(s), s / (1 + s**2), s**3):
        assert sharpe(rival) < best + 0.002


def test_signal_edge_is_the_inverse_of_best_sharpe():
    for strength in (0.5, 2.0, 10.0, 50.0):
        assert best_sharpe(signal_edge(strength)) * np.sqrt(252) == pytest.approx(strength, rel=1e-9)
    assert signal_edge(0.0) == 0.0


def traded_sharpe(bars, weight) -> float:
    """Annual Sharpe ratio of holding ``weight[t]`` dollars from the open of t + 1 to that of t + 2."""
    night, day = bars.open[1:] / bars.close[:-1] - 1, bars.close / bars.open - 1
    gains = weight[1:-1] * day[2:] + weight[:-2] * night[1:]
    return float(gains.mean() / gains.std() * np.sqrt(252))


@pytest.mark.parametrize("strength", [2.0, 6.0])
def test_planted_signal_pays_its_stated_sharpe_through_next_open_fills(strength):
    """Monte Carlo on the bars themselves: an order decided at t on the signal, filled at the open of t + 1."""
    config = SyntheticConfig(num_bars=120_000, num_assets=1, annual_drift=0.0, signal_strength=strength, seed=5)
    bars = generate_bars(config)
    edge = signal_edge(strength)
    known = true_volatility(config)
    mu = edge * bars.signal
    best = (mu / (1 + mu**2))[:-1] / known[1:]
    best = np.append(best, best[-1:], axis=0)
    error = np.sqrt(252 / 120_000)
    assert traded_sharpe(bars, best) == pytest.approx(strength, abs=4 * error + 0.02 * strength)
    assert 0.7 * strength < traded_sharpe(bars, bars.signal) < strength + 4 * error


def true_volatility(config) -> np.ndarray:
    """Conditional volatility of each bar, read off a twin market with a stronger signal."""
    weak, strong = (generate_bars(dataclasses.replace(config, signal_strength=x)) for x in (1e-3, 1.0))
    shift = np.log(strong.close / strong.open) - np.log(weak.close / weak.open)
    s = weak.signal[:-1]
    sigma = np.ones_like(weak.close) * np.nan
    sigma[1:] = np.where(np.abs(s) > 1e-6, shift[1:] / ((signal_edge(1.0) - signal_edge(1e-3)) * s), np.nan)
    sigma[0] = sigma[1]
    return np.where(np.isfinite(sigma), sigma, np.nanmedian(sigma))


def test_signal_does_not_change_the_rest_of_the_market():
    plain, planted = (generate_bars(SyntheticConfig(signal_strength=x)) for x in (0.0, 3.0))
    np.testing.assert_array_equal(plain.regimes, planted.regimes)
    np.testing.assert_allclose(plain.open[1:] / plain.close[:-1], planted.open[1:] / planted.close[:-1], rtol=1e-12)


# --- bad settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        {"num_assets": 0},
        {"num_bars": 1},
        {"annual_volatility": -0.2},
        {"correlation": 1.0},
        {"signal_strength": -1.0},
        {"signal_half_life_bars": 0.0},
        {"regimes": ()},
        {"regimes": ("calm", "calm")},
        {"regime_bars": (0.0, 10.0, 10.0)},
        {"regime_volatility": (0.5, 0.5, 1e300)},
        {"start_date": "tomorrow"},
        {"seed": -1},
        {"annual_drift": -1.0},
    ],
)
def test_settings_that_make_no_market_are_refused_by_name(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        generate_bars(SyntheticConfig(**setting))


@pytest.mark.parametrize(("assets", "bars"), [(1, 2), (40, 100)])
def test_small_and_wide_markets(assets, bars):
    market = generate_bars(SyntheticConfig(num_assets=assets, num_bars=bars))
    assert market.close.shape == (bars, assets)
    assert len(set(market.assets)) == assets
    assert np.isfinite(market.close).all()


BROWNIAN = SyntheticConfig(law="brownian", num_assets=3, num_bars=2_000, correlation=0.3, annual_volatility=0.3)


def test_brownian_prices_have_the_moments_that_were_asked_for():
    bars = generate_bars(BROWNIAN)
    day = np.log(bars.close / bars.open)
    np.testing.assert_allclose(day.mean(0) * 252, np.log(1.08) - 0.3**2 / 2, rtol=1e-9)
    np.testing.assert_allclose(np.cov(day.T, ddof=0) * 252, 0.3**2 * (0.3 + 0.7 * np.eye(3)), rtol=1e-9)
    np.testing.assert_allclose(bars.open[1:], bars.close[:-1], rtol=1e-14)
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.regimes == REGIMES.index("calm")).all()


def test_brownian_returns_are_normal_and_independent():
    r = np.log(generate_bars(dataclasses.replace(BROWNIAN, num_bars=20_000)).close)
    r = np.diff(r, axis=0)
    error = 1 / np.sqrt(len(r))
    assert np.abs(excess_kurtosis(r)).max() < 4 * np.sqrt(24) * error
    for lag in (1, 5):
        assert np.abs(autocorrelation(r, lag)).max() < 4 * error
        assert np.abs(autocorrelation(np.abs(r), lag)).max() < 4 * error


def test_range_of_brownian_bars_tells_their_variance():
    """u (u - c) + d (d - c), of high, low and close over the open, has its mean there (Rogers and Satchell 1991)."""
    bars = generate_bars(dataclasses.replace(BROWNIAN, num_bars=20_000))
    u, d, c = (np.log(price / bars.open) for price in (bars.high, bars.low, bars.close))
    estimates = u * (u - c) + d * (d - c)
    error = estimates.std() / np.sqrt(estimates.size)
    assert abs(estimates.mean() - 0.3**2 / 252) < 4 * error
    assert error < 0.01 * 0.3**2 / 252


def test_signal_can_be_planted_in_brownian_prices():
    plain, planted = (generate_bars(dataclasses.replace(BROWNIAN, signal_strength=s)) for s in (0.0, 2.0))
    assert plain.signal is None
    moved = np.log(planted.close / planted.open) - np.log(plain.close / plain.open)
    np.testing.assert_allclose(
        moved[1:], signal_edge(2.0) * planted.signal[:-1] * 0.3 / np.sqrt(252), rtol=1e-6, atol=1e-9
    )


def test_brownian_prices_need_more_bars_than_assets():
    with pytest.raises(InputError, match="num_bars is 3: Brownian prices of 3 assets need at least 4"):
        generate_bars(dataclasses.replace(BROWNIAN, num_bars=3))
    day = np.log(generate_bars(least := dataclasses.replace(BROWNIAN, num_bars=4)).close / generate_bars(least).open)
    np.testing.assert_allclose(np.cov(day.T, ddof=0) * 252, 0.3**2 * (0.3 + 0.7 * np.eye(3)), rtol=1e-6)


@pytest.mark.parametrize("law", ["brownian", "stylised"])
@pytest.mark.parametrize(("drift", "volatility"), [(50.0, 0.2), (0.0, 6.0)])
def test_prices_that_no_number_holds_are_refused(law, drift, volatility):
    config = dataclasses.replace(
        BROWNIAN, law=law, num_bars=60_000, annual_drift=drift, annual_volatility=volatility, start_date="1700-01-01"
    )
    with pytest.raises(InputError, match=r"over 60000 bars prices go to e\^-?\d+, which no number holds"):
        generate_bars(config)
