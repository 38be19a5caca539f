"""The built-in market: daily prices with regimes, clustered volatility, fat tails and a planted signal.

Log return of asset i in bar t, up to a constant drift::

    sigma_i m(regime_t) exp(v_t + u_ti) (sqrt(rho) f_t + sqrt(1 - rho) e_ti + b s_(t-1)i)

with a calm / volatile / crisis Markov chain, mean-reverting log volatilities v (common) and u (own) that rise when
prices fall (leverage), Student-t shocks f and e, and the planted signal s. A quarter of the variance falls
overnight, into the gap between close and open; highs and lows are those of a Brownian bridge from open to close
(Glasserman 2003, section 6.4). Log volume has a persistent level and rises with the size of the return. The facts
that this reproduces are those of Cont (2001).

Signal. ``bars.signal[t, i]`` is a standard-normal AR(1), independent across assets. It shifts the return between
the **open and the close of bar t + 1** by ``b`` times that bar's volatility, and nothing else, so an order decided
at bar t and filled at the next open earns it. ``signal_strength`` is the best Sharpe ratio a year of trading one
asset on it, re-set at every open, before costs, beside the drift, by one who knows the volatility of the coming
bar; see ``best_sharpe``.

Geometric Brownian prices, ``law = "brownian"``, leave all of it out but the signal: returns are independent and normal
with one volatility, every bar opens where the last one has closed, and but for what a signal adds, means, variances and
correlations over the whole history are exactly those that were asked for (moment matching: Boyle, Broadie and
Glasserman 1997).
The best portfolio is known there; see ``envs.optima.floor_merton``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, shown
from common.memory import check_memory
from envs.bar_data import Bars
from envs.settings import REGIMES, SyntheticConfig

ASSET_NAMES = (
    "ALFA", "BRAV", "CHAR", "DELT", "ECHO", "FOXT", "GOLF", "HOTL", "INDI", "JULI", "KILO", "LIMA", "MIKE",
    "NOVE", "OSCR", "PAPA", "QUEB", "ROME", "SIER", "TANG", "UNIF", "VICT", "WHSK", "XRAY", "YANK", "ZULU",
)  # fmt: skip


# Shape of the market, fitted once to the acceptance table (real daily stocks) and not meant to be set.
_FACTOR_TAIL, _OWN_TAIL = 6.0, 4.6  # degrees of freedom of the common and the own Student-t shocks
# Log volatility: persistence, stationary spread, correlation with the shock of the bar before.
_LOG_VOL = {"common": (0.955, 0.29, -0.85), "own": (0.92, 0.24, -0.7)}
_STREAM = 1  # under it the default seed gives a history with every regime and typical statistics
_OVERNIGHT = 0.25  # share of a bar's variance that falls between the close and the next open
_MOST_LOG_PRICE = 600.0  # a float64 ends at 709, and volumes and values are products of prices
PERIODS_PER_YEAR = 252.0
_MOST_PER_YEAR = 100.0
"""Of a volatility, a drift or a Sharpe ratio: beyond any market, and well within what can be computed."""
_LEAST_VOLATILITY = 1e-9
_MOST_MULTIPLE = 1e6
"""Of one regime's volatility to the typical one, and of that to the least."""
_ARRAYS = 40
"""Arrays of [T, A] float64 that are there at once while a market and its features are made."""
_PLANTED = (
    "a signal is planted in it, by which the best Sharpe ratio is {:g} an asset and year before costs: good results "
    "show that learning works, and promise nothing for real prices"
)


def generate_bars(config: SyntheticConfig) -> Bars:
    """Make the built-in market, as told at the top of this module.

    Args:
        config: What market to make.

    Returns:
        Bars with volumes, regime labels and, where one is planted, the signal.

    Raises:
        InputError: if a setting is out of its range.
    """
    _check(config)
    rng = np.random.default_rng([_STREAM, config.seed])
    T, A = config.num_bars, config.num_assets
    made = _stylised(config, rng) if config.law == "stylised" else _brownian(config, rng)
    night, day, reach = made.night, made.day, made.reach
    first = np.exp(rng.uniform(np.log(20.0), np.log(200.0), A))
    way = np.cumsum(night + day, axis=0)
    log_price = np.log(first) + way
    if np.abs(log_price).max() > _MOST_LOG_PRICE:
        farthest = log_price.flat[np.abs(log_price).argmax()]
        raise InputError(
            f"data.synthetic: over {T} bars prices go to e^{farthest:.0f}, which no number holds: lower num_bars, "
            "annual_drift or annual_volatility"
        )
    close = first * np.exp(way)
    open_ = close * np.exp(-day)
    up, down = (np.sqrt(day**2 - reach * np.log1p(-rng.random((T, A)))) for _ in range(2))
    volume = _draw_volume(config, rng, np.abs(night + day) / made.volatility, close)
    return Bars(
        dates=np.busday_offset(np.datetime64(config.start_date, "D"), np.arange(T), roll="forward"),
        assets=_asset_names(A),
        open=open_,
        high=np.maximum(open_ * np.exp((day + up) / 2), np.maximum(open_, close)),
        low=np.minimum(open_ * np.exp((day - down) / 2), np.minimum(open_, close)),
        close=close,
        volume=volume,
        frequency="1d",
        periods_per_year=PERIODS_PER_YEAR,
        source="synthetic",
        notes=(
            f"built-in synthetic market, seed {config.seed}: {A} assets, {T} business days, 252 periods a year",
            *(("prices are geometric Brownian motion",) if config.law == "brownian" else ()),
            *(() if config.signal_strength == 0 else (_PLANTED.format(config.signal_strength),)),
        ),
        regimes=made.regimes,
        signal=made.signal if config.signal_strength > 0 else None,
    )


class _Returns(NamedTuple):
    """Log returns of a market, [T, A] each but for the last two.

    Attributes:
        night: From the close before to the open.
        day: From the open to the close.
        reach: Twice the variance of the way from open to close.
        signal: What is planted.
        regimes: [T] int64.
        volatility: Typical, of one bar, [A].
    """

    night: NDArray[np.float64]
    day: NDArray[np.float64]
    reach: NDArray[np.float64]
    signal: NDArray[np.float64]
    regimes: NDArray[np.int64]
    volatility: NDArray[np.float64]


def _stylised(config: SyntheticConfig, rng: np.random.Generator) -> _Returns:
    """The market that is told of at the top."""
    T, A = config.num_bars, config.num_assets
    regimes = _draw_regimes(config, rng)
    spread = np.exp(0.22 * _even_normals(A, rng))
    volatility = config.annual_volatility / np.sqrt(PERIODS_PER_YEAR) * spread  # [A], of one bar
    factor = _student_t(rng, (T, 1), _FACTOR_TAIL)
    own = _student_t(rng, (T, A), _OWN_TAIL)
    log_vol = _log_volatility(factor, _LOG_VOL["common"], rng) + _log_volatility(own, _LOG_VOL["own"], rng)
    multiple = np.asarray(config.regime_volatility)
    sigma = volatility * (multiple / _typical_multiple(config))[regimes][:, None] * np.exp(log_vol)
    signal, edge = _draw_signal(config, rng)

    # Each bar's shock, in units of sigma: a mixture scale (fat tails) times a Gaussian that is divided into night and
    # day.
    share = config.correlation
    scale = np.sqrt(share * factor.scale**2 + (1 - share) * own.scale**2)
    shock = np.sqrt(share) * factor.value + np.sqrt(1 - share) * own.value
    bridge = rng.standard_normal((T, A)) * np.sqrt(_OVERNIGHT * (1 - _OVERNIGHT)) * scale
    drift = np.log1p(config.annual_drift) / PERIODS_PER_YEAR - sigma**2 / 2
    night = sigma * (_OVERNIGHT * shock + bridge)
    day = sigma * ((1 - _OVERNIGHT) * shock - bridge + edge) + drift
    reach = 2 * (1 - _OVERNIGHT) * (sigma * scale) ** 2
    return _Returns(night, day, reach, signal, regimes, volatility)


def _brownian(config: SyntheticConfig, rng: np.random.Generator) -> _Returns:
    """Geometric Brownian prices with exact moments, before what a signal adds."""
    T, A = config.num_bars, config.num_assets
    sigma = config.annual_volatility / np.sqrt(PERIODS_PER_YEAR)
    draws = rng.standard_normal((T, A))
    draws -= draws.mean(0)
    found = np.linalg.cholesky(draws.T @ draws / T)
    wanted = np.linalg.cholesky(np.full((A, A), config.correlation) + (1 - config.correlation) * np.eye(A))
    signal, edge = _draw_signal(config, rng)
    day = sigma * (draws @ np.linalg.solve(found.T, wanted.T) + edge) + np.log1p(config.annual_drift) / PERIODS_PER_YEAR
    day -= sigma**2 / 2
    calm = np.full(T, REGIMES.index("calm"))
    return _Returns(np.zeros((T, A)), day, np.full((T, A), 2 * sigma**2), signal, calm, np.full(A, sigma))


def best_sharpe(edge: float) -> float:
    """Best Sharpe ratio per bar where the return is ``edge * s + noise``, s known, both of variance 1.

    The weight of highest Sharpe ratio is proportional to mu / (1 + mu^2) with mu = edge * s (Hansen and Richard 1987;
    Ferson and Siegel 2001, eq. 10), and gives sqrt(h / (1 - h)) with h = E[mu^2 / (1 + mu^2)] = 1 - sqrt(pi / 2) / edge
    * erfcx(1 / (edge sqrt(2))). Only the variance of the noise matters, not its shape.

    Args:
        edge: Size of the forecast in noise standard deviations, >= 0.

    Returns:
        Sharpe ratio per bar; about ``edge`` while that is small.
    """
    if edge <= 1e-4:  # the closed form cancels to nothing there, and h = edge^2 to nine digits
        return edge
    from scipy.special import erfcx  # here, for it takes a tenth of what a process needs to start

    h = 1 - np.sqrt(np.pi / 2) / edge * float(erfcx(1 / (edge * np.sqrt(2))))
    return float(np.sqrt(h / (1 - h)))


def signal_edge(signal_strength: float) -> float:
    """Size of the planted forecast, in standard deviations of a bar: the inverse of ``best_sharpe`` over a year."""
    if signal_strength == 0:
        return 0.0
    from scipy.optimize import brentq  # here, as above

    target = signal_strength / np.sqrt(PERIODS_PER_YEAR)
    return float(brentq(lambda edge: best_sharpe(edge) - target, 0.0, 1e3, xtol=1e-12))


class _StudentT:
    """Student-t draws of variance 1 as Gaussian times scale: ``value = gaussian * scale``."""

    def __init__(self, gaussian: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self.gaussian, self.scale, self.value = gaussian, scale, gaussian * scale


def _student_t(rng: np.random.Generator, shape: tuple[int, int], degrees: float) -> _StudentT:
    gaussian = rng.standard_normal(shape)
    return _StudentT(gaussian, np.sqrt((degrees - 2) / rng.chisquare(degrees, shape)))


def _log_volatility(
    shock: _StudentT, shape: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean-reverting log volatility of the coming bar, [T, ...], shifted so that its exponential has mean square 1.

    It answers to the Gaussian part of the bar before, not to the fat-tailed one, which would let a single day rule a
    month.
    """
    persistence, spread, leverage = shape
    fresh = rng.standard_normal(shock.gaussian.shape)
    push = spread * np.sqrt(1 - persistence**2) * (leverage * shock.gaussian + np.sqrt(1 - leverage**2) * fresh)
    level = np.empty_like(push)
    level[0] = spread * rng.standard_normal(push.shape[1])
    for t in range(1, len(push)):
        level[t] = persistence * level[t - 1] + push[t - 1]
    return level - spread**2


def _draw_regimes(config: SyntheticConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Markov chain over the regimes that occur, [T], begun in its stationary law."""
    chain = _transition(config)
    states, law = [REGIMES.index(name) for name in config.regimes], _stationary(chain)
    draws = rng.random(config.num_bars)
    cumulative = np.cumsum(chain, axis=1)
    regimes = np.empty(config.num_bars, np.int64)
    state = int(np.searchsorted(np.cumsum(law), draws[0] * law.sum()))
    for t, draw in enumerate(draws):
        if t:
            state = min(int(np.searchsorted(cumulative[state], draw)), len(states) - 1)
        regimes[t] = states[state]
    return regimes


def _transition(config: SyntheticConfig) -> NDArray[np.float64]:
    """Transition matrix of the regimes that occur; calm mostly turns volatile before it turns to crisis."""
    preference = np.array([[0.0, 0.85, 0.15], [0.7, 0.0, 0.3], [0.15, 0.85, 0.0]])
    states = [REGIMES.index(name) for name in config.regimes]
    leave = 1 / np.asarray(config.regime_bars)[states]
    toward = preference[np.ix_(states, states)]
    if len(states) == 1:
        return np.ones((1, 1))
    return np.diag(1 - leave) + leave[:, None] * toward / toward.sum(axis=1, keepdims=True)


def _stationary(chain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Long-run share of time in each state of a Markov chain."""
    size = len(chain)
    system = np.vstack([chain.T - np.eye(size), np.ones(size)])
    return np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0].clip(0)


def _typical_multiple(config: SyntheticConfig) -> float:
    """Root mean square of the multiples over all three regimes, so that a market of crisis alone stays violent."""
    from_all = SyntheticConfig(regime_bars=config.regime_bars)
    law = _stationary(_transition(from_all))
    return float(np.sqrt(law @ np.asarray(config.regime_volatility) ** 2))


def _draw_signal(config: SyntheticConfig, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Planted signal [T, A] and what it adds to each bar's day, in standard deviations of that bar [T, A]."""
    persistence = 0.5 ** (1 / config.signal_half_life_bars)
    signal = rng.standard_normal((config.num_bars + 1, config.num_assets))
    for t in range(1, len(signal)):
        signal[t] = persistence * signal[t - 1] + np.sqrt(1 - persistence**2) * signal[t]
    return signal[1:], signal_edge(config.signal_strength) * signal[:-1]


def _draw_volume(
    config: SyntheticConfig, rng: np.random.Generator, size: NDArray[np.float64], close: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares traded, [T, A]: log volume persists, and rises with ``size``, the return in typical deviations."""
    T, A = size.shape
    level = rng.standard_normal((T, A + 1))
    for t in range(1, T):
        level[t] = 0.85 * level[t - 1] + np.sqrt(1 - 0.85**2) * level[t]
    log_volume = 0.12 * level[:, :1] + 0.24 * level[:, 1:] + 0.30 * np.log(0.5 + size)
    log_volume += 0.13 * rng.standard_normal((T, A))
    typical = config.dollar_volume_usd * np.exp(0.6 * _even_normals(A, rng)) / close[0]
    return np.round(np.exp(log_volume) * typical) + 1.0


def _even_normals(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard normals shifted to mean 0, so that the typical asset is typical whatever the seed."""
    draws = rng.standard_normal(count)
    return draws - draws.mean()


def _asset_names(count: int) -> tuple[str, ...]:
    return tuple(ASSET_NAMES[i] if i < len(ASSET_NAMES) else f"A{i:03d}" for i in range(count))


def _check(config: SyntheticConfig) -> None:
    """Refuse settings that make no market.

    Raises:
        InputError: naming the setting.
    """
    cells = config.num_bars * config.num_assets
    check_memory(
        _ARRAYS * 8 * cells,
        f"a market of data.synthetic.num_bars {shown(config.num_bars)} and num_assets {shown(config.num_assets)}",
    )
    positive = ("num_assets", "num_bars", "annual_volatility", "dollar_volume_usd", "signal_half_life_bars")
    for name in positive:
        if not getattr(config, name) > 0:
            raise InputError(f"data.synthetic.{name} is {getattr(config, name)}: it must be above 0")
    if config.annual_volatility < _LEAST_VOLATILITY:
        raise InputError(
            f"data.synthetic.annual_volatility is {config.annual_volatility}: it must be at least {_LEAST_VOLATILITY}"
        )
    if config.num_bars < 2:
        raise InputError(f"data.synthetic.num_bars is {config.num_bars}: a market needs at least 2 bars")
    if config.law == "brownian" and config.num_bars <= config.num_assets:
        raise InputError(
            f"data.synthetic.num_bars is {config.num_bars}: Brownian prices of {config.num_assets} assets need at "
            f"least {config.num_assets + 1}, for their moments to be exact"
        )
    for name in ("annual_volatility", "annual_drift", "signal_strength"):
        if getattr(config, name) > _MOST_PER_YEAR:
            raise InputError(
                f"data.synthetic.{name} is {getattr(config, name):g}: it must be at most {_MOST_PER_YEAR:g}"
            )
    if not 0 <= config.correlation < 1:
        raise InputError(f"data.synthetic.correlation is {config.correlation}: it must be at least 0 and below 1")
    if config.annual_drift <= -1 or config.signal_strength < 0 or config.seed < 0:
        raise InputError("data.synthetic: annual_drift must be above -1, signal_strength and seed at least 0")
    if not config.regimes or len(set(config.regimes)) < len(config.regimes):
        raise InputError(
            f"data.synthetic.regimes is {config.regimes}: name each of calm, volatile, crisis at most once"
        )
    if min(config.regime_bars) < 1:
        raise InputError(f"data.synthetic.regime_bars is {config.regime_bars}: each must be at least 1")
    if not 1 / _MOST_MULTIPLE <= min(config.regime_volatility) <= max(config.regime_volatility) <= _MOST_MULTIPLE:
        raise InputError(
            f"data.synthetic.regime_volatility is {config.regime_volatility}: each must lie between "
            f"{1 / _MOST_MULTIPLE:g} and {_MOST_MULTIPLE:g}"
        )
    try:
        np.datetime64(config.start_date, "D")
    except ValueError:
        raise InputError(
            f"data.synthetic.start_date is {config.start_date!r}: write a date such as 2015-01-02"
        ) from None
