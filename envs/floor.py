"""TradingFloor: B replicas of a market in which N agents trade A assets; reset, step, get_state, set_state."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from common.counted import counted_integers
from common.errors import InputError
from envs.accounts import Books, Layout, number, open_books
from envs.actions import ActionRules
from envs.bars import Split
from envs.costs import costs_of
from envs.features import Scaler
from envs.market import Market, build_market
from envs.metrics import CurveSums, performance_of_sums
from envs.observations import Observer
from envs.outcomes import Detail, Shown, Tally
from envs.settings import FloorSpec
from envs.states import require_same_parts
from envs.steps import FloorStep
from envs.tape import Tape
from envs.trading import Trading, total

Start = Literal["random", "first"]


class _Clock(NamedTuple):
    """Where each replica is in history, [B] int64 each: its bar, the bar on which its episode ends, and its episode."""

    bar: Tensor
    stop: Tensor
    episode: Tensor


class TradingFloor:
    """B replicas of one market, each with its own books and its own place in history.

    At bar t agents see bars up to t; their orders fill at bar t + 1 and are marked at its close; the reward is the
    change of their account's value from close to close. A replica whose episode ends is reset in the same step.

    Attributes:
        mandates: The agents, in the order of the agent axis.
        agent_ids: Their names.
        num_replicas: B.
        num_agents: N.
        observation_spaces: Box of each agent, as wide as its own observation.
        action_spaces: Discrete (rungs of its ladder) or Box (a weight for each asset of its book).
        num_rungs: Rungs of each agent's ladder, N of them; 0 for a continuous agent.
        tape_rows: Numbers of market data that a step reads for each replica.
        obs_dims: Width of each agent's observation, N of them.
        windows: Where the bars stand in each agent's observation, N of them: numbers before the first, bars W, features
            of each.
        state_dim: Width of the global state.
        device: Where tensors live.
        detail: Books of the last step, before any reset; None unless ``record``.
    """

    def __init__(
        self,
        market: Market,
        *,
        split: Split,
        num_replicas: int,
        scaler: Scaler,
        device: torch.device | str = "cpu",
        seed: int = 0,
        start: Start = "random",
        record: bool = False,
        use_compile: bool = False,
        with_state: bool = False,
    ):
        if num_replicas < 1:
            raise InputError(f"num_replicas is {num_replicas}: it must be at least 1")
        config, bars, mandates = market.spec.floor, market.bars, market.mandates
        self.config, self.mandates, self.split = config, mandates, split
        self.device = torch.device(device)
        self.num_replicas, self.num_agents = num_replicas, len(mandates)
        self.agent_ids = tuple(mandate.name for mandate in mandates)
        self.layout = Layout(mandates, bars.assets, self.device)
        self._with_state, self._seed, self._periods = with_state, int(seed), bars.periods_per_year
        self._tape = Tape(market, self.layout, self.device)
        self._rules = ActionRules(mandates, self.layout, config.max_leverage, self.device)
        self._trading = Trading(
            config,
            costs_of(config.costs, bars, self.layout),
            mandates,
            self.layout,
            bars.periods_per_year,
            record=record,
            device=self.device,
        )
        self._observer = Observer(
            mandates,
            self.layout,
            market.features,
            scaler,
            bars.assets,
            bars.alive,
            window=config.window,
            capital=config.capital,
            has_offset=self._tape.has_permanent,
            observe_episode=config.observe_episode,
            device=self.device,
        )
        self.num_rungs, self.tape_rows = self._rules.num_rungs, len(self._tape.table)
        self.obs_dims, self.state_dim = self._observer.dims, self._observer.state_dim
        self.windows = self._observer.windows
        self._set_episodes(split, start)
        self._make_spaces()
        self._advance = self._one_bar
        if use_compile:
            if self.device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++")):
                raise InputError(
                    "use_compile needs a C++ compiler, but neither g++ nor clang++ is on the PATH: "
                    "install one, or turn it off"
                )
            self._advance = torch.compile(self._one_bar, dynamic=False, fullgraph=True)
        self.detail: Detail | None = None
        with torch.no_grad():
            self._fresh = self._open()
        self._restart()

    def _set_episodes(self, split: Split, start: Start) -> None:
        horizon, longest = self.config.horizon_bars, max(block.num_decisions for block in split.blocks)
        if start == "first" or horizon is None:
            if split.holes:
                raise InputError(
                    f"the {split.name} split has holes, where data.test_groups are tested: no pass goes through it; "
                    "set --floor.horizon-bars to train, and take another split to test"
                )
            horizon = longest
        if horizon < 1 or horizon > longest:
            raise InputError(f"floor.horizon_bars is {horizon}, but the {split.name} split allows {longest} decisions")
        self.episode_bars = horizon
        starts = [np.arange(block.start, block.stop - horizon) for block in split.blocks]
        self._starts = torch.from_numpy(np.concatenate(starts)).to(self.device)

    def _make_spaces(self) -> None:
        self.observation_spaces: dict[str, spaces.Space[Any]] = {}
        self.action_spaces: dict[str, spaces.Space[Any]] = {}
        for mandate, width in zip(self.mandates, self.obs_dims, strict=True):
            self.observation_spaces[mandate.name] = spaces.Box(-np.inf, np.inf, (width,), np.float32)
            self.action_spaces[mandate.name] = (
                spaces.Discrete(len(mandate.ladder))
                if mandate.is_discrete
                else spaces.Box(-1.0 if mandate.allow_short else 0.0, 1.0, (len(mandate.assets),), np.float32)
            )

    def _open(self) -> tuple[Books, Tally, Tensor, Tensor, Tensor | None]:
        """Books, figures and what they show, of an episode that has just begun."""
        layout, B = self.layout, self.num_replicas
        books = open_books(layout, self.config.capital, B, self.device, carry_orders=self.config.costs.carry_orders)
        zero = torch.zeros(B, dtype=torch.float64, device=self.device)
        capital = torch.full_like(zero, self.config.capital * layout.num_accounts)
        tally = Tally(zero.expand(6, -1).clone(), capital[None], zero[None])
        none = torch.zeros_like(books.cash)
        shown = Shown(books.cash.new_zeros(layout.num_lines, B), books.holdings, none, books.cash, none)
        return books, tally, *self._observer.private(books, shown, torch.ones_like(zero), self._with_state)

    def _start_bars(self, episode: Tensor) -> Tensor:
        """First decision bar of each replica's episode, [B] int64: a hash of (seed, replica, episode)."""
        if len(self._starts) == 1:
            return self._starts.repeat(self.num_replicas)
        replica = torch.arange(self.num_replicas, device=self.device)
        return self._starts[counted_integers(len(self._starts), self._seed, replica, episode)]

    def _restart(self) -> None:
        episode = torch.zeros(self.num_replicas, dtype=torch.int64, device=self.device)
        bar = self._start_bars(episode)
        self._clock = _Clock(bar, bar + self.episode_bars, episode)
        self._books, self._tally, self._private, self._weights, self._state_rows = self._fresh
        start = self._rules.start_rung
        self._rung = start.expand(-1, self.num_replicas).clone() if self._rules.remembers_rung else None
        self._ruined = torch.zeros_like(self._books.cash, dtype=torch.bool) if self.layout.num_accounts > 1 else None
        self.detail = None

    @torch.no_grad()
    def reset(self, seed: int | None = None) -> FloorStep:
        """Begin the first episode in every replica.

        Args:
            seed: Starts a new stream of episodes; None goes back to the first episode of the present one.
        """
        if seed is not None:
            self._seed = int(seed)
        self._restart()
        return self.observe()

    @torch.no_grad()
    def skip(self) -> FloorStep:
        """Leave the present episodes where they are and begin the next one in every replica."""
        self._begin_again(torch.ones(self.num_replicas, dtype=torch.bool, device=self.device))
        return self.observe()

    @torch.no_grad()
    def observe(self) -> FloorStep:
        """What agents see now, as after a reset: zero rewards, nothing ended. For instance after ``set_state``."""
        B = self.num_replicas
        no = torch.zeros(B, dtype=torch.bool, device=self.device)
        reward = torch.zeros(B, self.num_agents, dtype=torch.float64, device=self.device)
        return FloorStep(*self._look(), reward, no, no.clone())

    def _look(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Observations, global state and masks of the present books."""
        bar = self._clock.bar
        obs = self._observer.observe(bar, self._private, self._weights)
        state = self._observer.state(bar, self._state_rows) if self._state_rows is not None else None
        return obs, state, self._rules.mask(self._rung, self.num_replicas)

    def _one_bar(
        self,
        bar: Tensor,
        stop: Tensor,
        books: Books,
        tally: Tally,
        actions: Tensor,
        rung: Tensor | None,
        ruined: Tensor | None,
    ) -> tuple[Any, ...]:
        """Everything of a step that is arithmetic on tensors of fixed shapes, so that it compiles to one graph."""
        quotes, weights = self._tape.read(bar)
        rung = self._rules.rungs(actions, rung)
        target = self._rules.exposures(actions, rung, weights)
        next_bar = bar + 1
        left = stop - next_bar
        is_last = left <= 0
        outcome = self._trading.step(books, tally, quotes, target, bar, is_last=is_last, ruined=ruined)
        time_left = left * number(1.0 / self.episode_bars)
        shown = self._observer.private(outcome.books, outcome.shown, time_left, self._with_state)
        terminated = outcome.ruined[0] if ruined is None else outcome.ruined.all(0)
        ended = is_last | terminated
        reward = outcome.reward.expand(self.num_agents, -1)
        ends = (terminated, ended ^ terminated, ended)
        ruined = None if ruined is None else outcome.ruined
        return next_bar, outcome.books, outcome.tally, rung, ruined, shown, reward, ends, outcome.detail

    @torch.no_grad()
    def step(self, actions: Tensor | np.ndarray[Any, Any]) -> FloorStep:
        """Trade one bar in every replica.

        Args:
            actions: Rungs, [B, N] int64, where all agents are discrete; else [B, N, D] float, D as wide as the widest
                book: weights, zero beyond an agent's own book, and the rung of a discrete agent in column 0.

        Raises:
            ValueError: if the shape is wrong, an action is not finite, or a rung does not exist; names agent and
                replica.
        """
        actions = self._rules.checked(actions, self.num_replicas)
        clock = self._clock
        bar, self._books, self._tally, rung, self._ruined, shown, paid, ends, self.detail = self._advance(
            clock.bar, clock.stop, self._books, self._tally, actions, self._rung, self._ruined
        )
        terminated, truncated, ended = ends
        reward = paid.t().contiguous()
        if self._rung is not None:
            self._rung = rung
        self._private, self._weights, self._state_rows = shown
        self._clock = _Clock(bar, clock.stop, clock.episode)
        if not bool(ended if self.num_replicas == 1 else ended.any()):
            return FloorStep(*self._look(), reward, terminated, truncated)
        final = self._look()
        stats = self._stats(bar)
        self._begin_again(ended)
        return FloorStep(*self._look(), reward, terminated, truncated, *final, stats)

    def _begin_again(self, ended: Tensor) -> None:
        """Start the next episode in the rows that ended."""
        books, tally, private, weights, state_rows = self._fresh
        self._books = Books(*(torch.where(ended, new, old) for new, old in zip(books, self._books, strict=True)))
        self._tally = Tally(*(torch.where(ended, new, old) for new, old in zip(tally, self._tally, strict=True)))
        self._private = torch.where(ended, private, self._private)
        if len(weights):
            self._weights = torch.where(ended, weights, self._weights)
        if self._state_rows is not None and state_rows is not None:
            self._state_rows = torch.where(ended, state_rows, self._state_rows)
        if self._rung is not None:
            self._rung = torch.where(ended, self._rules.start_rung, self._rung)
        if self._ruined is not None:
            self._ruined = self._ruined & ~ended
        clock = self._clock
        episode = clock.episode + ended
        bar = torch.where(ended, self._start_bars(episode), clock.bar)
        self._clock = _Clock(bar, torch.where(ended, bar + self.episode_bars, clock.stop), episode)

    def _stats(self, bar: Tensor) -> dict[str, Tensor]:
        """Figures of the episodes up to ``bar``, [B] float64 each."""
        tally, clock = self._tally, self._clock
        length = (bar - (clock.stop - self.episode_bars)).to(torch.float64)
        capital = self.config.capital * self.layout.num_accounts
        rows = torch.cat((total(self._books.equity), tally.drawdown, length[None], tally.sums)).cpu().numpy()
        last, deepest, num_traded, returns, squares, equity, num_trades, traded_usd, costs = rows
        sums = CurveSums(
            num_bars=self.episode_bars,
            num_traded=num_traded,
            first=np.full_like(last, capital),
            last=last,
            equity=equity,
            returns=returns,
            squares=squares,
            deepest=deepest,
            traded_usd=traded_usd,
        )
        figures = {
            "profit": last / capital - 1.0,
            **performance_of_sums(sums, periods_per_year=self._periods, risk_free=self.config.costs.cash_rate_annual),
            "num_trades": num_trades,
            "total_costs_usd": costs,
            "episode_len": num_traded,
        }
        return {name: torch.from_numpy(values) for name, values in figures.items()}

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as arrays and numbers; ``set_state`` goes on from it exactly."""
        state: dict[str, Any] = {"seed": self._seed}
        for name, values in (("clock", self._clock), ("books", self._books), ("tally", self._tally)):
            for field, value in values._asdict().items():
                if value.numel():  # where orders are not carried over, none wait
                    state[f"{name}.{field}"] = value.cpu().numpy().copy()
        for name in ("private", "weights", "state_rows", "rung", "ruined"):
            value = getattr(self, f"_{name}")
            if value is not None:
                state[name] = value.cpu().numpy().copy()
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from what ``get_state`` of a floor with the same arguments returned; ``observe`` shows where it is.

        Raises:
            ValueError: if a part is missing or has another shape.
        """
        own = self.get_state()
        if self._ruined is not None:  # states of before ended their episode with the first ruin
            state = {"ruined": np.zeros(self._ruined.shape, dtype=bool), **state}
        require_same_parts(state, own, of="floor")
        tensors = {
            name: torch.tensor(np.asarray(value), device=self.device)
            for name, value in state.items()
            if name in own and name != "seed"
        }
        self._seed = int(state["seed"])
        self._clock = _Clock(*(tensors[f"clock.{field}"] for field in _Clock._fields))
        self._books = self._books._replace(
            **{f: tensors[key] for f in Books._fields if (key := f"books.{f}") in tensors}
        )
        self._tally = Tally(*(tensors[f"tally.{field}"] for field in Tally._fields))
        self._private, self._weights = tensors["private"], tensors["weights"]
        self._state_rows, self._rung = tensors.get("state_rows"), tensors.get("rung")
        self._ruined = tensors.get("ruined")
        self.detail = None


def build_floor(
    source: FloorSpec | Market,
    *,
    split: str = "train",
    num_replicas: int = 1,
    device: torch.device | str = "cpu",
    seed: int = 0,
    start: Start = "random",
    record: bool = False,
    use_compile: bool = False,
    with_state: bool = False,
    scaler: Scaler | None = None,
) -> TradingFloor:
    """Make a floor over one split of a market.

    Args:
        source: A spec, or a market that was built from one.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        num_replicas: B.
        device: Where the floor is stepped.
        seed: Of the counted draws of start bars.
        start: ``"random"``: episodes of ``horizon_bars`` that start anywhere in the split; ``"first"``: one pass over
            the whole split.
        record: Keep the books of the last step in ``detail``.
        use_compile: Compile the step (pays for itself over thousands of steps of many replicas).
        with_state: Return the global state.
        scaler: Use this scaler, for instance a trained model's, instead of the market's.

    Raises:
        InputError: if prices, settings or the split cannot be used.
    """
    market = source if isinstance(source, Market) else build_market(source)
    return TradingFloor(
        market,
        split=market.splits[split],
        num_replicas=num_replicas,
        scaler=scaler or market.scaler,
        device=device,
        seed=seed,
        start=start,
        record=record,
        use_compile=use_compile,
        with_state=with_state,
    )
