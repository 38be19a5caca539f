"""What can be set for a floor: prices, agents, costs, rewards and rules; plain values, without what they set up.

They stand in one file that imports nothing heavy, so that a command line is read, and refused, before torch is loaded.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from common.strict import STRICT

FillRule = Literal["next_open", "next_vwap", "next_close", "same_close_unsafe"]
CalendarPolicy = Literal["union", "intersect", "fill", "strict"]
Missing = Literal["blanks", "zeros", "drop", "fill"]
Adjust = Literal["total", "split", "none"]
Jumps = Literal["refuse", "accept"]
ActionKind = Literal["discrete", "continuous"]
BookRule = Literal["equal", "inverse_volatility"]
Preset = Literal["desk", "roles", "rivals"]
Law = Literal["stylised", "brownian"]
Regime = Literal["calm", "volatile", "crisis"]
REGIMES: tuple[Regime, ...] = ("calm", "volatile", "crisis")
BAR_COSTS = (
    "commission_bps", "commission_min_usd", "commission_fixed_usd", "half_spread_bps", "temporary_impact",
    "borrow_rate_annual",
)  # fmt: skip
"""Costs that may differ from bar to bar, as columns of a price file."""
FUNDING = "funding"
"""Column of the rate at which longs of perpetual futures pay shorts, a bar."""
MOST_BPS = 5_000
"""Half of a price: commission and half spread each stay below it."""
LEAST_EXPOSURE = 1e-6
"""Least limit of an agent and leverage of an account: observations are divided by them."""
MOST_CAPITAL_USD = 1e13
"""Ten trillion US dollars: of larger sums a float64 keeps no mills, and books would not balance to the cent."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SyntheticConfig:
    """The built-in daily market. The defaults meet the statistics of real stocks; a test holds them to it."""

    law: Law = "stylised"
    """stylised: regimes, clustered volatility, fat tails. brownian: geometric Brownian motion, without overnight gaps;
    settings of regimes do nothing."""
    num_assets: int = 8
    """Assets in the market."""
    num_bars: int = 1_512
    """Length of the history in business days; 252 are a year."""
    seed: int = 0
    """The same seed gives the same prices, to the last bit."""
    start_date: str = "2015-01-02"
    """Date of the first bar, or the first business day after it."""
    annual_volatility: float = 0.24
    """Volatility of a typical asset over all regimes, as a fraction a year."""
    annual_drift: float = 0.08
    """Expected return of a typical asset, as a fraction a year, outside of any planted signal."""
    correlation: float = 0.34
    """Share of variance that all assets have in common."""
    regimes: tuple[Regime, ...] = REGIMES
    """Regimes that occur: one of calm, volatile, crisis, or several."""
    regime_bars: tuple[float, float, float] = (120.0, 50.0, 20.0)
    """Mean stay in calm, volatile and crisis, in bars."""
    regime_volatility: tuple[float, float, float] = (0.82, 1.2, 1.95)
    """Volatility in calm, volatile and crisis, as a multiple of the typical one."""
    dollar_volume_usd: float = Field(default=250e6, le=1e18)
    """Typical value traded in an asset a day, in US dollars."""
    signal_strength: float = 0.0
    """Best Sharpe ratio a year that the planted signal allows on one asset, before costs and beside the drift; 0 plants
    none."""
    signal_half_life_bars: float = 10.0
    """Bars after which a forecast of the planted signal has lost half its size."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Where prices come from and how their history is divided."""

    path: str | tuple[str, ...] | None = None
    """Price file, or several, or a folder of them: CSV, Parquet, feather or Excel, long or wide, or price relatives in
    an .npz. None: the built-in synthetic market."""
    assets: tuple[str, ...] | None = None
    """Assets to keep, in this order. None: all of them."""
    universe: str | None = None
    """Table of when assets come in and go out (date, tic, in or out), as of an index: an asset is hidden and cannot be
    traded outside of that, and is paid out when it goes out. None: all assets, all the time."""
    columns: tuple[str, ...] | None = None
    """What columns of the file are: date=Time close=Last; of date, time, asset, open, high, low, close, volume,
    adj_close, dividends, splits, funding and costs (commission_bps). None: what their names say."""
    date_format: str | None = None
    """How dates are written: %d.%m.%Y, %m/%d/%Y %H:%M, in the letters of Python's strptime. None: what they show."""
    decimal: Literal[".", ","] | None = None
    """Decimal sign of the numbers of a CSV; the other one divides thousands. None: what the numbers show."""
    calendar: CalendarPolicy | None = None
    """Dates that some assets lack: keep them all (union) or those from the first that all have (fill), where an asset
    that lacks one cannot be traded; drop them (intersect), or refuse the file (strict). None: union where assets begin
    or end more than five bars and seven days apart, else intersect."""
    missing: Missing = "blanks"
    """What a missing bar is in the file: blanks in place of all its prices, zeros too (zeros), or a blank in place of
    any (drop). fill: a blank open, high or low is taken from the close of its row; without a close there is no bar."""
    adjust: Adjust | None = None
    """Adjust prices for stock splits (split), for dividends too, as if they were reinvested (total), or not (none), by
    columns of the file: an adjusted close, or dividends and splits. None: by those that it has, and shown."""
    jumps: Jumps = "refuse"
    """Prices that jump as by a stock split they are not adjusted for (2:1, 3:2, 1:10): refuse the file, or accept them
    as moves of the market."""
    frequency: str | None = None
    """Spacing of the bars: 5min, 1h, 1d, 1w, 1mo, 3mo, 1y. None: inferred from the dates, and shown. Set it where that
    goes wrong, as with many holes; it makes no other bars of those of the file."""
    periods_per_year: float | None = None
    """Bars in a year, for annualising. None: what frequency and dates make of it (252 or 365 days where that is
    clearly the calendar, else counted), and shown."""
    timezone: str | None = None
    """Zone of the exchange (Asia/Tokyo), whose dates bars of a day or longer have. None: that of the stamps;
    where they are in UTC inferred, and shown. Intraday bars stand in UTC; those without a zone are then times in this
    one."""
    train: float = Field(default=0.6, gt=0, le=1)
    """Share of the usable bars for training."""
    validation: float = Field(default=0.2, gt=0, le=1)
    """Share of the usable bars for validation."""
    test: float = Field(default=0.2, gt=0, le=1)
    """Share of the usable bars for the final test."""
    validation_start: str | None = None
    """First date of the validation split (2017-01-01). With test_start it replaces the three shares."""
    test_start: str | None = None
    """First date of the test split."""
    groups: int | None = Field(default=None, gt=1)
    """Groups of equal length that the usable bars are divided into, for combinatorial purged cross-validation; with
    test_groups it replaces train and test. None: no groups."""
    test_groups: tuple[int, ...] = ()
    """Groups that are kept for tests, of 1 to groups. The others train, but for an embargo on both sides of each test,
    and the share validation of them at the end of their longest stretch. A backtest of the run takes the last one."""
    start: str | None = None
    """Bars before this date are left out, and not looked at (2000-01-01). None: the history has its first bar."""
    end: str | None = None
    """Bars from this date on are left out, and not looked at (2018-01-01). None: the history goes to its last bar."""
    embargo_bars: int | None = None
    """Bars left out between splits. None: what the features and the observation window look back on."""
    evaluation_bars: int | None = Field(default=None, gt=0)
    """Bars of the validation split, and of the test split, at which evaluations and backtests decide: the last ones of
    each. None: all of them, which takes minutes where they are a hundred thousand."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """The built-in market; used where path is None."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AgentConfig:
    """How an agent sees, acts, is limited and is paid: set for all agents of a desk, settled in a mandate."""

    action: ActionKind = "discrete"
    """discrete: one step of the ladder for the whole book. continuous: a weight for each asset of the book."""
    ladder: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """Target exposures of a discrete agent, as multiples of its limit, rising and within -1 and 1."""
    limit: float | None = Field(default=None, ge=LEAST_EXPOSURE)
    """Largest gross exposure of one agent, as a fraction of its account's equity. None: the floor's leverage divided by
    the agents on the account."""
    book_rule: BookRule = "equal"
    """How a discrete agent's exposure is spread over its book: equally, or by inverse volatility."""
    observe: Literal["book", "each"] = "book"
    """Features averaged over the book, or those of each asset side by side."""
    feature_groups: tuple[str, ...] | None = None
    """Feature groups that every agent sees; their windows are in bars, whatever the length of these. None: all that the
    prices can feed (desk, rivals), or those of its role."""
    observe_tradable: bool | None = None
    """Whether agents see which assets trade in a bar, and since when the others have not. None: where some did not in
    the share of history that is for training (with data.groups: in all of it, so that folds agree)."""
    max_rung_change: int | None = Field(default=None, gt=0)
    """Most steps of the ladder in one bar. None: any."""
    allow_short: bool = True
    """Whether agents may hold less than nothing."""
    team_share: float = 1.0
    """Weight of the account's reward in each agent's reward."""
    own_share: float = 0.0
    """Weight of the profit of the agent's own book in its reward."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Roster:
    """How many agents there are, and what divides assets, roles and capital among them."""

    preset: Preset | None = None
    """desk: an agent for each asset or group of assets, one account. roles: five roles on the same assets and one
    account. rivals: each agent its own account, all assets, one impacted market. None: desk, or roles on one asset."""
    num_agents: int | None = Field(default=None, gt=0, le=10_000)
    """Number of agents. None: one for each asset up to 5 (desk), 5 (roles), 4 (rivals)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeskConfig(AgentConfig, Roster):
    """Who trades. A preset divides assets, roles and capital among agents; other settings hold for every agent."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CostConfig:
    """What trading and holding cost. A cost of zero costs no time either."""

    commission_bps: float = Field(default=1.0, ge=0, lt=MOST_BPS)
    """Commission, in basis points of the traded value."""
    commission_min_usd: float = Field(default=0.0, ge=0)
    """Smallest commission of an order."""
    commission_fixed_usd: float = Field(default=0.0, ge=0)
    """Added to the commission of every order."""
    half_spread_bps: float = Field(default=2.0, ge=0, lt=MOST_BPS)
    """Half of the bid-ask spread, in basis points of the price, paid on every share."""
    temporary_impact: float | None = Field(default=None, ge=0)
    """Price concession of an order as large as an average bar's volume, in volatilities of a bar. 0: none. None: 0.5,
    or 0 where the prices have no volumes, which is shown."""
    impact_law: Literal["square_root", "linear"] = "square_root"
    """How the concession grows with participation."""
    permanent_impact: float | None = Field(default=None, ge=0)
    """Lasting move of the log price by a flow as large as the volume of an average day, in daily volatilities, both of
    the share of history that is for training, its embargo included. 0: none. None: 0.314 (Almgren, Thum, Hauptmann and
    Li 2005), or 0 where the prices have no volumes."""
    max_participation: float | None = Field(default=0.1, gt=0)
    """Largest part of the volume of its bar that all orders of an asset may fill; the rest stays unfilled. None: any,
    but nothing where the asset does not trade."""
    carry_orders: bool = False
    """Whether what an order leaves unfilled waits with its number of shares while its agent's target stays the same:
    never more than that is bought or sold then, and less where the target needs less. Otherwise each bar's order is
    that which its target needs, whatever was ordered before."""
    borrow_rate_annual: float = Field(default=0.005, ge=0)
    """Yearly rate paid on the value of short positions, whose shares are borrowed."""
    loan_rate_annual: float = Field(default=0.005, ge=0)
    """Yearly rate paid on borrowed cash, which an account may have where its leverage is above 1, or where
    funding, or a short whose asset trades no more, takes more than its cash."""
    cash_rate_annual: float = Field(default=0.0, ge=0)
    """Yearly rate earned on cash."""
    delisting_haircut: float = Field(default=0.0, ge=0, le=1)
    """Part of its last price that a position loses when its asset trades no more, and the position is closed."""
    lot_size: float = Field(default=0.0, ge=0)
    """Shares in a lot; orders are rounded toward zero to whole lots. 0: any fraction of a share."""
    table: str | None = None
    """CSV of costs of single assets: a column tic, and columns named like settings of this group (half_spread_bps,
    lot_size). Its cells count before the settings, which hold for assets and cells that it leaves out. What it says
    belongs to the prices: a run is carried on with the same numbers."""

    def settled(self, *, has_volume: bool) -> CostConfig:
        """The same with impact as a number where it is left to the prices."""
        temporary, permanent = (0.5, 0.314) if has_volume else (0.0, 0.0)
        return replace(
            self,
            temporary_impact=temporary if self.temporary_impact is None else self.temporary_impact,
            permanent_impact=permanent if self.permanent_impact is None else self.permanent_impact,
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardConfig:
    """What is rewarded at every bar. Without penalties the rewards of an episode sum to the account's gain."""

    kind: Literal["profit", "log_growth"] = "profit"
    """profit: change of equity over initial capital. log_growth: log of equity over the equity before."""
    mark: Literal["close", "liquidation"] = "close"
    """What positions are worth when an episode ends: their last close, or what is left after selling them, impact,
    spread and commission paid, and the last observation shows them sold. Set liquidation where an account can hold more
    than a day's volume of an asset, and would be paid for having moved the price."""
    scale: float = Field(default=1.0, gt=0)
    """Factor on the whole reward."""
    lambda_cvar: float = Field(default=0.0, ge=0)
    """Weight of the tail-loss penalty."""
    cvar_level: float = Field(default=0.95, gt=0, lt=1)
    """Level of the conditional value at risk that the penalty stands for."""
    cvar_threshold: float = Field(default=0.02, ge=0)
    """Loss of a bar, as a fraction of equity, beyond which the penalty counts: the value at risk."""
    lambda_turn: float = Field(default=0.0, ge=0)
    """Weight of the turnover penalty: traded value over equity."""

    @property
    def has_penalty(self) -> bool:
        """Whether rewards are more than the gain."""
        return self.lambda_cvar > 0 or self.lambda_turn > 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FloorConfig:
    """Capital, time, costs and rewards of a trading floor."""

    capital: float = Field(default=1_000_000.0, gt=0, le=MOST_CAPITAL_USD)
    """Cash of each account at the start of an episode."""
    horizon_bars: int | None = Field(default=128, gt=0)
    """Decisions in an episode. None: the whole split."""
    window: int = Field(default=1, gt=0)
    """Bars of market features in an observation."""
    observe_episode: bool = False
    """Whether observations show what an account has earned and lost since the episode began, and the share of the
    episode that is left. A backtest is one long episode, in which these leave the range that training showed; and
    decisions then depend on how much history follows."""
    fill: FillRule = "next_open"
    """Price at which orders fill: the next bar's open, its typical price (high + low + close) / 3, or its close.
    same_close_unsafe fills at the price that was seen when deciding: it looks ahead, and exists to show by how much."""
    max_leverage: float = Field(default=1.0, ge=LEAST_EXPOSURE)
    """Largest gross exposure of an account's targets, as a multiple of its equity; cash may fall to minus (this - 1)
    times equity."""
    min_order: float = Field(default=1e-9, ge=0, lt=1)
    """Orders of an agent below this fraction of its account's equity are not sent."""
    ruin_fraction: float = Field(default=0.1, gt=0, lt=1)
    """An account whose equity falls to this fraction of its capital is ruined: it trades no more. An episode ends when
    all accounts are."""
    costs: CostConfig = Field(default_factory=CostConfig)
    """What trading and holding cost."""
    reward: RewardConfig = Field(default_factory=RewardConfig)
    """What agents are paid for."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FloorSpec:
    """A trading floor in settings: its prices, its agents and its rules."""

    data: DataConfig = Field(default_factory=DataConfig)
    """Where prices come from and how history is divided."""
    desk: DeskConfig = Field(default_factory=DeskConfig)
    """Who trades."""
    floor: FloorConfig = Field(default_factory=FloorConfig)
    """Capital, time, costs and rewards."""
