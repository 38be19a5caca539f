"""What the score verb can be asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from algos.registry import TEAM, algorithm
from common.errors import InputError
from common.strict import STRICT
from experiments.scoring.recipes import recipe
from experiments.settings.algorithm_flags import check_network, scan_algo_flags
from experiments.settings.arguments import named_values, parse_flags
from experiments.settings.groups import check_groups, settings_of_algo, with_groups
from experiments.settings.run_config import MOST_SEED

OF_TABLE = ("table", "only", "out", "seeds", "seed", "jobs", "json")
"""Settings that the table knows: the rest, each of its rows says itself."""

_SHARING = ("use_shared_networks", "use_agent_id")
"""Settings that only make sense together."""
NUM_POINTS = 20
"""Evaluations on the way of a learner."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
@with_groups(runner=TEAM)
class ScoreConfig:
    """What is learned, by what, how often."""

    table: bool = False
    """Run the standing table in place of one learner: every problem with the learners that are to solve it. Rows that
    were run before with the same settings are not run again."""
    only: str = ""
    """Rows of the table whose problem or algorithm has this in its name."""
    market: str = "merton"
    """Market or game whose best policy is known: two-step, climbing, penalty, merton, merton-relative,
    garleanu-pedersen, almgren-chriss, kyle or market-making, or floor:merton, which is played on the trading floor
    itself. Or a benchmark: lbf:ID (level-based foraging, as in lbf:8x8-2p-2f-coop) or mpe:ID (multi-particle
    environments, as in mpe:simple_spread)."""
    agents: int | None = Field(default=None, gt=0)
    """How many agents, where that can be chosen; None takes the market's own number."""
    settings: tuple[str, ...] = ()
    """Settings of the market, as name=value: reward=team num_steps=20. Those of a benchmark are the package's."""
    algo: str = "mappo"
    """Learning algorithm. vdn takes its settings from the qmix group, ippo from the mappo group."""
    seeds: int = Field(default=5, gt=0)
    """How many runs."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the first; the others follow."""
    jobs: int = Field(default=1, gt=0)
    """How many seeds learn at once, each in a process and on a CPU of its own; what they find does not depend on it."""
    steps: int | None = Field(default=None, gt=0)
    """Environment steps of each run; None takes those of the recipe for this market and algorithm."""
    num_episodes: int | None = Field(default=None, gt=1)
    """Episodes by which the chosen policy is valued; None takes those of the recipe."""
    num_evaluation_episodes: int | None = Field(default=None, gt=1)
    """Episodes of each evaluation on the way, at most num_episodes; None takes those of the recipe, or num_episodes
    where that is less."""
    select: Literal["last", "best"] = "last"
    """Which policy is scored: the last one, or the one that did best at the evaluations on the way (of equals the
    latest). Both are valued on other episodes than those. An equilibrium has no best policy on the way."""
    out: str | None = None
    """Folder for picture and figures. None: results/score-MARKET-ALGO, for the table results/scores."""
    json: str | None = None
    """File for what is printed, as plain JSON."""


def parse_score(argv: Sequence[str]) -> ScoreConfig:
    """Read what is asked for: the recipe of market and algorithm, then flags.

    Raises:
        InputError: one line for the first mistake.
    """
    named = scan_algo_flags(ScoreConfig, argv, ScoreConfig.algo).get("algo", [ScoreConfig.algo])[0]
    flags = scan_algo_flags(ScoreConfig, argv, named)
    plain = parse_flags(ScoreConfig, flags, base={})
    section = algorithm(plain.algo).group
    base = recipe(plain.market, plain.algo, plain.steps).settings
    if any(f"{section}.{name}" in flags for name in _SHARING):  # who says one of them means none of the recipe's
        base = {name: value for name, value in base.items() if name not in _SHARING}
    if plain.seed + plain.seeds - 1 > MOST_SEED:
        raise InputError(f"--seed {plain.seed} leaves no room for --seeds {plain.seeds}: the largest is {MOST_SEED}")
    check_groups(plain.algo, flags)
    config = parse_flags(ScoreConfig, flags, base={section: base})
    most = config.num_episodes or recipe(config.market, config.algo).num_episodes
    if (config.num_evaluation_episodes or 0) > most:
        raise InputError(
            f"--num-evaluation-episodes {config.num_evaluation_episodes} is more than the {most} episodes that the "
            "chosen policy is valued by: raise --num-episodes too"
        )
    check_network(section, getattr(config, section), flags)
    return config


def asked_for(config: ScoreConfig) -> dict[str, Any]:
    """All that a score is asked for, but the seeds: market, learner, the settings of both, steps and episodes.

    Settings that are None are left out: an option whose default None leaves it off may be added, and what was found
    before is what would be found now. Those of a market are all that it has, for its defaults may change.
    """
    rule = recipe(config.market, config.algo, config.steps)
    num_episodes = config.num_episodes or rule.num_episodes
    return {
        "market": config.market,
        "agents": config.agents,
        "market_settings": _whole_market(config),
        "algo": config.algo,
        "steps": rule.steps,
        "select": config.select,
        "algo_settings": without_none(dataclasses.asdict(settings_of_algo(config))),
        "num_episodes": num_episodes,
        "num_evaluation_episodes": min(config.num_evaluation_episodes or rule.num_evaluation_episodes, num_episodes),
    }


def _whole_market(config: ScoreConfig) -> dict[str, Any]:
    """All settings of the market; of a benchmark those that were said, for the rest are its package's."""
    from envs.benchmarks.rllib import is_benchmark
    from envs.optima.catalog import problem_config
    from envs.optima.floor_merton import MARKET as FLOOR_MERTON
    from envs.optima.floor_merton import floor_merton_config

    said = named_values(config.settings, flag="--settings")
    if is_benchmark(config.market):
        return said
    make = floor_merton_config if config.market == FLOOR_MERTON else partial(problem_config, config.market)
    return without_none(dataclasses.asdict(make(num_agents=config.agents, settings=said)))


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}
