"""The settings of a run: the one place where their defaults live, and the order in which layers of them win.

Defaults, then the preset, then the config of an existing run folder, then ``--config FILE.yaml``, then flags.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # noqa: F401  before what takes seconds to import
from algos.registry import algorithm, groups
from algos.scaling import ScalingSettings
from common.errors import InputError, nearest
from common.strict import STRICT
from envs.bars import DataConfig
from envs.floor import FloorConfig
from envs.mandates import DeskConfig
from envs.market import FloorSpec
from experiments.recovery.names import RECORD_FILE
from experiments.remote.addresses import mirror_of, place_of, pulled, working_folder
from experiments.remote.mirror import Mirror
from experiments.remote.store import absolute
from experiments.runs.folders import check_name, has_begun
from experiments.runs.record import find_run_folder, name_of_run, read_run_record
from experiments.settings.algorithm_flags import check_network, scan_algo_flags
from experiments.settings.arguments import build_settings, dump_settings, parse_flags, print_help
from experiments.settings.fields import settings_of, value_of
from experiments.settings.groups import check_groups, settings_of_algo, with_groups
from experiments.settings.layers import check_keys, flatten, merge, read_yaml
from experiments.settings.metric_names import check_metric_name

PRESETS = Path(__file__).parents[1] / "presets"
Metric = Literal["sharpe", "return", "calmar", "max_drawdown"]

MOST_SEED = 2**31 - 1
"""Some of the generators that are seeded take 32 bits, and workers count on from the run's own seed."""
MOST_EPISODES = 10**12

ALIASES = {"capital": "floor.capital"}
"""Flat names of nested settings."""
SCHEDULER_OF = dict.fromkeys(("search.grace_episodes", "search.reduction_factor"), "asha") | dict.fromkeys(
    ("search.perturbation_interval", "search.quantile_fraction", "search.resample_probability"), "pbt"
)
"""Settings of a search that only one scheduler uses."""
PER_INVOCATION = ("config", "resume", "skip_training", "json")
"""Settings that belong to one command and are not read back from a run folder."""


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
    """Learning algorithm. vdn and iql (independent Q-learning: DQN for teams) take their settings from the qmix group,
    ippo from the mappo group; sac and tqc need --desk.action continuous."""
    runner: Literal["team", "rllib"] = "team"
    """Who samples for ppo: the batched team runner, or RLlib's own. qmix, vdn, iql, mappo, ippo and maddpg use the
    first, dqn, sac, tqc, impala and appo the second."""
    episodes: int = Field(default=400, gt=0, le=MOST_EPISODES)
    """Target: finished replica episodes over the whole life of the run. It can be raised later."""
    checkpoint_interval: int = Field(default=10, gt=0)
    """Episodes between two checkpoints."""
    keep: int = Field(default=5, gt=0)
    """Newest checkpoints to keep; the best one is kept beside them."""
    keep_every: int | None = Field(default=None, gt=0)
    """Every so manieth checkpoint stays for the record, whatever its age. None: only the newest and the best stay."""
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
    skip_training: bool = False
    """Backtest only."""
    json: str | None = None
    """File for what is printed, as plain JSON."""
    data: DataConfig = field(default_factory=DataConfig)
    desk: DeskConfig = field(default_factory=DeskConfig)
    floor: FloorConfig = field(default_factory=FloorConfig)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    search: SearchConfig = field(default_factory=SearchConfig)


FROM_MODEL = ("algo", "runner", "data", "desk", "floor", *groups(), "scaling")
"""Settings that a new run takes over from the run whose weights it loads."""


def floor_spec(config: RunConfig) -> FloorSpec:
    """Gather what a floor is built from; the price file's path is made absolute, because workers run elsewhere."""
    data = config.data
    if data.path is not None:
        data = replace(data, path=str(Path(data.path).expanduser().absolute()))
    return FloorSpec(data=data, desk=config.desk, floor=config.floor)


def run_name(config: RunConfig) -> str:
    """Name of the run folder: as set, or made from preset and algorithm, or from the run that it comes from."""
    return config.name or _default_name(config.preset, config.algo, config.load_model, config.branch_from)


def run_folder(config: RunConfig) -> Path:
    """Path of the run folder on this machine; for a run that is kept in a store, of its working folder."""
    return working_folder(config.storage, run_name(config))


def run_mirror(config: RunConfig) -> Mirror | None:
    """The mirror of a run that is kept in a store; None where its storage is a folder."""
    return mirror_of(config.storage, run_name(config))


def config_to_json(config: RunConfig) -> dict[str, Any]:
    """Give every setting as nested plain values; ``config_from_json`` gives the same config back."""
    return dump_settings(config)


def config_from_json(values: Mapping[str, Any], *, where: str = "") -> RunConfig:
    """Make a config from nested plain values.

    Raises:
        InputError: if a setting is unknown or its value not allowed.
    """
    return build_settings(RunConfig, values, where=where)


def read_run_config(folder: str | Path) -> RunConfig:
    """Read the config of a run folder.

    Raises:
        InputError: if ``config.json`` is missing, damaged, or does not fit this version.
    """
    record = read_run_record(folder)
    return config_from_json(record.config, where=str(record.folder / RECORD_FILE))


def parse_run(argv: Sequence[str], *, prog: str = "experiments/run.py") -> tuple[RunConfig, dict[str, Any]]:
    """Read the settings of a run from its command line, and from the files and folders that it names.

    Args:
        argv: Words after the program's name; ``--help`` prints every flag and exits with 0.
        prog: Name of the command, for the help.

    Returns:
        The config, with ``name`` filled in; and what the user set by hand, by flag or in the ``--config`` file, as
        dotted name -> value. A run verb compares the latter with an existing run folder.

    Raises:
        InputError: one line for the first mistake.
        SystemExit: code 0 after ``--help``.
    """
    if any(word in ("-h", "--help") for word in argv):
        print_help(RunConfig, prog=prog, description=_DESCRIPTION)
        raise SystemExit(0)
    flags = scan_algo_flags(RunConfig, argv, RunConfig.algo, aliases=ALIASES)
    asked = {name: words[0] for name, words in flags.items() if words[0] != "None"}
    by_file = read_config_file(asked.get("config"))
    asked = {name: str(value) for name, value in by_file.items() if value is not None} | asked
    if "name" in asked:
        check_name(asked["name"])
    base = _preset_layer(asked.get("preset"))
    of_run = _run_layer(asked, base)
    if not of_run:  # a run that exists has taken over what it needs, and what it was made from may be gone
        base = merge(merge(_branch_layer(asked.get("branch_from")), _model_layer(asked.get("load_model"))), base)
    base = merge(merge(base, of_run), by_file)
    algo = (flags["algo"][0] if "algo" in flags else None) or base.get("algo", RunConfig.algo)
    flags = scan_algo_flags(RunConfig, argv, algo, aliases=ALIASES)  # only now is known whose network is meant
    config = parse_flags(RunConfig, flags, base=base)
    config = replace(config, name=run_name(config))
    by_hand = {name: value_of(config, name) for name in (*flatten(by_file, settings_of(RunConfig)), *flags)}
    check_combination(config, flags)
    return config, by_hand


def check_combination(config: RunConfig, by_flag: Collection[str]) -> None:
    """Refuse flags that would have no effect; a file of settings may serve several algorithms and is not held to this.

    Raises:
        InputError: naming the setting and why it would be ignored.
    """
    chosen, own = algorithm(config.algo), settings_of_algo(config)
    settings = settings_of(RunConfig)
    check_groups(config.algo, by_flag)
    for name in by_flag:
        flag = settings[name].flag
        group = name.split(".")[0]
        if name.startswith("data.synthetic.") and config.data.path is not None:
            raise InputError(f"{flag} has no effect: prices come from {config.data.path}, not from the built-in market")
        if group == "search" and name != "search.num_trials" and config.search.num_trials == 0:
            raise InputError(f"{flag} has no effect without a search: give --search.num-trials as well")
        if SCHEDULER_OF.get(name, config.search.scheduler) != config.search.scheduler:
            needed = SCHEDULER_OF[name]
            raise InputError(f"{flag} has no effect on --search.scheduler {config.search.scheduler}, only on {needed}")
    if hasattr(own, "network"):
        check_network(chosen.group, own, by_flag)
    _check_population(config)
    if "runner" in by_flag and config.runner not in chosen.configs:
        raise InputError(f"--runner {config.runner} does not exist for --algo {config.algo}: leave it out")
    check_metric_name(config.checkpoint_metric)
    if hasattr(own, "minibatch_size") and own.minibatch_size > own.train_batch_size_per_learner:
        raise InputError(
            f"--{chosen.group}.minibatch-size is {own.minibatch_size}, more than the batch that it is a part of: "
            f"lower it, or raise --{chosen.group}.train-batch-size-per-learner above {own.train_batch_size_per_learner}"
        )
    if config.branch_from is not None and config.load_model is not None:
        raise InputError("--branch-from takes over weights too, so --load-model has no effect: leave one of them out")
    if config.branch_from is not None and config.search.num_trials:
        raise InputError("--branch-from goes on with one run, not with a search: leave out --search.num-trials")
    if config.skip_training:
        source = ("load_model",) if "load_model" in by_flag else ("name", "storage")
        idle = [n for n in by_flag if n not in ("skip_training", "floor.capital", "json", *source)]
        if idle:
            raise InputError(
                f"{settings[idle[0]].flag} has no effect with --skip-training, which tests a model as it was trained: "
                "experiments/backtest.py takes other prices and folders"
            )
    if config.skip_training and "load_model" not in by_flag and config.resume == "never":
        raise InputError(
            "--skip-training needs a trained model: give --load-model PATH, or the --name of a finished run"
        )


def _check_population(config: RunConfig) -> None:
    """Refuse a population that could never be compared.

    Raises:
        InputError: naming the setting.
    """
    if config.search.scheduler != "pbt" or not config.search.num_trials:
        return
    if config.search.num_trials == 1:
        raise InputError("--search.num-trials is 1: --search.scheduler pbt needs a population of 2 or more")
    if config.search.perturbation_interval >= config.episodes:
        raise InputError(
            f"--search.perturbation-interval is {config.search.perturbation_interval}, but trials end at --episodes "
            f"{config.episodes}: lower it, or the population is never compared"
        )


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset's differences from the defaults.

    Raises:
        InputError: if there is no preset of that name (the nearest is named).
    """
    if name not in preset_names():
        meant = nearest(name, preset_names()) or f": choose one of {', '.join(preset_names())}"
        raise InputError(f"--preset {name} does not exist{meant}")
    path = PRESETS / f"{name}.yaml"
    values = check_keys(read_yaml(path), RunConfig, where=f"preset {name}", aliases=ALIASES)
    build_settings(RunConfig, values, where=f"preset {name}")
    return values


def read_config_file(path: str | None) -> dict[str, Any]:
    """Read a user's YAML file of settings; nothing where there is none.

    Raises:
        InputError: if it is missing, not YAML, or holds a setting or value that does not exist.
    """
    if path is None:
        return {}
    values = check_keys(read_yaml(path), RunConfig, where=path, aliases=ALIASES)
    build_settings(RunConfig, values, where=path)
    return values


def _default_name(preset: str | None, algo: str, load_model: str | None, branch_from: str | None) -> str:
    if branch_from is not None:
        return f"branch-of-{name_of_run(branch_from)}"
    if load_model is not None:
        return f"from-{name_of_run(load_model)}"
    return f"{preset or 'default'}-{algo}"


def _preset_layer(name: str | None) -> dict[str, Any]:
    return {} if name is None else read_preset(name) | {"preset": name}


def _model_layer(path: str | None) -> dict[str, Any]:
    """Settings that come with loaded weights: networks fit only the desk and algorithm they were trained with."""
    if path is None:
        return {}
    config = read_run_record(find_run_folder(path)).config
    return {name: config[name] for name in FROM_MODEL if name in config}


def _branch_layer(path: str | None) -> dict[str, Any]:
    """Settings of the run that a branch goes on from: all but what belongs to that run alone."""
    if path is None:
        return {}
    config = config_to_json(read_run_config(find_run_folder(path)))
    own = (*PER_INVOCATION, "name", "storage", "load_model", "branch_from")
    return {name: value for name, value in config.items() if name not in own}


def _run_layer(asked: Mapping[str, str], base: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run folder that the command carries on with, if there is one."""
    resume = asked.get("resume", "auto")
    storage = str(asked.get("storage", base.get("storage", RunConfig.storage)))
    if resume == "never":
        return {}
    if resume != "auto":
        folder = find_run_folder(resume, may_be_gone=True)  # the same command again outlives what it has named
        storage, name = place_of(resume, folder)
    else:
        name = asked.get("name") or base.get("name") or ""
        if not name:
            name = _default_name(
                asked.get("preset"),
                asked.get("algo", base.get("algo", RunConfig.algo)),
                asked.get("load_model"),
                asked.get("branch_from"),
            )
        folder = pulled(storage, name)
        if not (folder / RECORD_FILE).exists():
            return {}
    config = config_to_json(read_run_config(folder))
    if not has_begun(folder) and _starts_from_other(asked, config):
        return {}
    return {key: value for key, value in config.items() if key not in PER_INVOCATION} | {
        "storage": storage,
        "name": name,
    }


def _starts_from_other(asked: Mapping[str, str], recorded: Mapping[str, Any]) -> bool:
    """Whether a preset, weights or a parent are named that a run, which nothing has come of yet, was not given."""
    sources = [name for name in ("load_model", "branch_from") if name in asked]
    has_other = any(absolute(asked[name]) != recorded.get(name) for name in sources)
    return has_other or asked.get("preset", recorded["preset"]) != recorded["preset"]


_DESCRIPTION = (
    "Train a desk of agents, evaluate it on the validation split, backtest it on the test split. "
    "The same command run again carries on. --capital is short for --floor.capital, and "
    "--network for that of the algorithm's group, as in --qmix.network. "
    "Layers, the later wins: defaults, --preset, the run folder's config.json, --config, flags."
)
