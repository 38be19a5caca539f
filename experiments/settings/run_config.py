"""The settings of a run: the one place where their defaults live, and the order in which layers of them win.

Defaults, then the preset, then the config of an existing run folder, then ``--config FILE.yaml``, then flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # noqa: F401  before what takes seconds to import
from algos.scaling import ScalingSettings
from common.store import absolute
from common.strict import STRICT
from envs.settings import DataConfig, DeskConfig, FloorConfig, FloorSpec
from experiments.settings.arguments import build_settings, dump_settings
from experiments.settings.fields import value_of
from experiments.settings.groups import with_groups
from experiments.settings.layers import merge, nested
from experiments.settings.old_names import settings_of_today

Metric = Literal["sharpe", "return", "calmar", "max_drawdown"]

MOST_SEED = 2**31 - 1
"""Some of the generators that are seeded take 32 bits, and workers count on from the run's own seed."""
MOST_EPISODES = 10**12
PATHS = ("load_model", "branch_from", "data.path", "data.universe", "floor.costs.table")
"""Settings that are made absolute: workers run elsewhere, and later commands too."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SearchConfig:
    """Hyperparameter search: Optuna through Tune."""

    num_trials: int = Field(default=0, ge=0)
    """Trials to run; 0 trains once, without a search. A search that has begun takes more of them (not pbt)."""
    objective: Metric = "sharpe"
    """Validation metric that the search raises (for max_drawdown: brings toward zero)."""
    max_concurrent: int = Field(default=1, gt=0)
    """Trials that run at the same time; the members of a population take turns."""
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    """asha stops trials that lag (Li et al. 2020); pbt lets them go on from better ones (Jaderberg et al. 2017)."""
    grace_episodes: int = Field(default=50, gt=0)
    """Episodes that every trial is given before it can be stopped early (asha)."""
    reduction_factor: int = Field(default=3, gt=1)
    """One trial in so many passes each of the early stopper's rungs (asha)."""
    perturbation_interval: int = Field(default=50, gt=0)
    """Episodes between two comparisons of the population, for which members stop and start again (pbt)."""
    quantile_fraction: float = Field(default=0.25, gt=0, le=0.5)
    """Share of the trials that go on from others, and of those that are gone on from (pbt)."""
    resample_probability: float = Field(default=0.25, ge=0, le=1)
    """Chance that a setting is drawn anew instead of perturbed when a trial goes on from another (pbt)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
@with_groups()
class RunConfig:
    """Everything that can be set for a run. Its values are written into the run folder as config.json."""

    name: str | None = None
    """Name of the run folder. None: made from preset and algorithm (demo-qmix), or from the loaded model (from-dow)."""
    storage: str = "results"
    """Folder that holds run folders, or an address in an object store: s3://bucket/folder."""
    preset: str | None = None
    """Named differences from the defaults: demo, desk, roles, rivals, dow, gpu, pymarl2 or finsense."""
    config: str | None = None
    """YAML file of your own with differences from the defaults; flags win over it."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of weights, exploration and floor. The built-in market has its own: data.synthetic.seed."""
    algo: str = "qmix"
    """Learning algorithm; indq is independent Q-learning, a DQN for each of a team. vdn takes its settings from the
    qmix group, ippo from the mappo group; sac and tqc need --desk.action continuous."""
    runner: Literal["team", "rllib"] = "team"
    """Who samples for ppo: the batched team runner, or RLlib's own. qmix, vdn, indq, mappo, ippo and maddpg use the
    first, dqn, sac, tqc, impala and appo the second."""
    episodes: int = Field(default=400, gt=0, le=MOST_EPISODES)
    """Target: finished replica episodes over the whole life of the run. It can be raised later."""
    checkpoint_interval: int = Field(default=10, gt=0)
    """Episodes between two checkpoints that are due."""
    checkpoint_interval_s: float = Field(default=5.0, ge=0)
    """Seconds between two checkpoints, at least: one that is due sooner is passed over, unless it is the best, the last
    or a search's. What is trained and evaluated does not depend on it. 0: every one that is due is taken."""
    keep: int = Field(default=5, gt=0)
    """Newest checkpoints to keep; the best one is kept beside them."""
    keep_every: int | None = Field(default=None, gt=0)
    """Each K-th checkpoint stays for the record, whatever its age. None: only the newest and the best stay."""
    checkpoint_metric: str = "sharpe"
    """Metric that decides which checkpoint is best: one of the validation split (sharpe, return, calmar, max_drawdown,
    profit, num_trades, turnover, total_costs_usd), or any other of a result (env_runners/episode_return_mean)."""
    checkpoint_mode: Literal["max", "min"] = "max"
    """Whether the largest value of that metric is best, or the smallest. A drawdown is negative: max."""
    evaluation_interval: int = Field(default=10, gt=0)
    """Episodes between two evaluations on the validation split."""
    resume: str = "auto"
    """auto carries on where the run folder stands; never starts anew; PATH continues from that checkpoint."""
    load_model: str | None = None
    """Run folder or checkpoint whose weights a new run starts from; its market, desk and algorithm are taken over."""
    branch_from: str | None = None
    """Run folder (its newest checkpoint) or checkpoint that a new run goes on from exactly, with its weights,
    optimizers, replay buffer and counters; its settings are taken over, and those of learning may be changed."""
    checkpoint_on_signal: bool = True
    """On Ctrl-C or SIGTERM write a checkpoint before ending; a second signal ends at once."""
    max_failures: int = Field(default=2, ge=0)
    """Times that a run is restarted from its last good checkpoint after a failure, before it fails."""
    hang_timeout_s: float = Field(default=60.0, ge=0)
    """Seconds after which a process of the run that stands still (stopped, frozen: it uses no processor time at all) is
    killed, and replaced as one that has died; 0 waits for ever. One that is busy, or waits for a slow environment, does
    not stand still."""
    env: str | None = None
    """Train in an environment of your own, named as module:object (a class, or a function that makes one): Gymnasium,
    PettingZoo's ParallelEnv, RLlib's MultiAgentEnv, or a TeamEnv. None: the trading floor."""
    env_settings: tuple[str, ...] = ()
    """Settings of that environment, as name=value, or of RLlib's env_config where it takes one mapping."""
    evaluation_episodes: int = Field(default=32, gt=0)
    """Episodes of each evaluation in an environment of your own; the floor takes one pass over the validation split."""
    clock: Literal["episodes", "steps", "updates"] = "episodes"
    """What --episodes, --checkpoint-interval and --evaluation-interval count: finished episodes, environment steps, or
    updates of the learners."""
    hooks: tuple[str, ...] = ()
    """What watches the run while it trains: names, or module:object for subclasses of algos.hooks.Hook of your own."""
    trust: bool = False
    """Run the code that a run folder's record names (--env, --hooks) although this command does not name it."""
    skip_training: bool = False
    """Backtest only."""
    json: str | None = None
    """File for what is printed, as plain JSON."""
    data: DataConfig = field(default_factory=DataConfig)
    desk: DeskConfig = field(default_factory=DeskConfig)
    floor: FloorConfig = field(default_factory=FloorConfig)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    search: SearchConfig = field(default_factory=SearchConfig)


def floor_spec(config: RunConfig) -> FloorSpec:
    """Gather what a floor is built from."""
    config = with_absolute_paths(config)
    return FloorSpec(data=config.data, desk=config.desk, floor=config.floor)


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The settings, with every path of ``PATHS`` made absolute."""
    paths = {name: absolute(value) for name in PATHS if (value := value_of(config, name)) is not None}
    return build_settings(RunConfig, merge(config_to_json(config), nested(paths)), where="")


def config_to_json(config: RunConfig) -> dict[str, Any]:
    """Give every setting as nested plain values; ``config_from_json`` gives the same config back."""
    return dump_settings(config)


def config_from_json(values: Mapping[str, Any], *, where: str = "") -> RunConfig:
    """Make a config from nested plain values, be they an earlier version's.

    Raises:
        InputError: if a setting is unknown or its value not allowed.
    """
    return build_settings(RunConfig, settings_of_today(values), where=where)
