"""The command line of a run, read without looking at any run: flags, the YAML file and the preset that they name.

Layers, the later wins: defaults, the preset, the settings of the run folder or of the run that is started from, the
``--config`` file, flags. ``read_command`` reads what the command itself says, ``settle`` lays the layers over one
another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algos.registry import algorithm
from common.errors import InputError, nearest
from experiments.settings.algorithm_flags import check_network, of_algo, scan_algo_flags
from experiments.settings.arguments import build_settings, parse_flags
from experiments.settings.fields import settings_of, value_of
from experiments.settings.groups import check_groups, settings_of_algo
from experiments.settings.help import asks_for_help, print_help
from experiments.settings.layers import check_keys, flatten, merge, read_yaml
from experiments.settings.metric_names import RETURN, VALIDATION_METRICS, check_metric_name
from experiments.settings.old_names import file_of_today
from experiments.settings.run_config import RunConfig, SearchConfig

PRESETS = Path(__file__).parents[1] / "presets"
ALIASES = {
    "capital": "floor.capital",
    "gpu": "scaling.num_gpus_per_learner",
    "evaluation_bars": "data.evaluation_bars",
}
"""Flat names of nested settings."""
MAIN_SETTINGS = (
    "name", "storage", "preset", "config", "algo", "qmix.network", "episodes", "data.path", "floor.capital", "seed",
    "resume", "load_model", "branch_from", "skip_training", "checkpoint_interval", "evaluation_interval",
    "data.evaluation_bars", "keep", "search.num_trials", "scaling.num_env_runners", "scaling.num_gpus_per_learner",
    "env", "json",
)  # fmt: skip
"""Settings that ``--help`` shows; the others it names by their groups."""
SCHEDULER_OF = dict.fromkeys(("search.grace_episodes", "search.reduction_factor"), "asha") | dict.fromkeys(
    ("search.perturbation_interval", "search.quantile_fraction", "search.resample_probability"), "pbt"
)
"""Settings of a search that only one scheduler uses."""
_OF_FILES = tuple(
    f"data.{name}"
    for name in ("columns", "date_format", "decimal", "calendar", "missing", "adjust", "jumps", "timezone")
)
"""How price files are read."""
_DESCRIPTION = (
    "Train a desk of agents, evaluate it on the validation split, backtest it on the test split. "
    "The same command run again carries on. --network is that of the chosen algorithm's group, as in --qmix.network. "
    "Layers, the later wins: defaults, --preset, the run folder's config.json, --config, flags."
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a command line says.

    Attributes:
        argv: Words after the program's name.
        asked: What is set at the top level, by flag or in the ``--config`` file, as text: where the run lies and what
            it is made from.
        by_file: Settings of the ``--config`` file, nested.
        preset: Settings of the preset, nested.
    """

    argv: tuple[str, ...]
    asked: Mapping[str, str]
    by_file: Mapping[str, Any]
    preset: Mapping[str, Any]

    @property
    def skips_training(self) -> bool:
        """Whether a model that is there is only to be tested."""
        return self.asked.get("skip_training") == "True"

    def get(self, name: str, default: str) -> str:
        """A setting at the top level, as the command or else its preset says it."""
        return self.asked.get(name) or str(self.preset.get(name) or default)


def read_command(argv: Sequence[str], *, prog: str = "experiments/run.py") -> Command:
    """Read a command line, and the YAML file and the preset that it names; no run is looked at.

    Args:
        argv: Words after the program's name; ``--help`` prints every flag and exits with 0.
        prog: Name of the command, for the help.

    Raises:
        InputError: one line for the first mistake.
        SystemExit: code 0 after ``--help``.
    """
    if asks_for_help(argv):
        print_run_help(argv, prog=prog, description=_DESCRIPTION)
        raise SystemExit(0)
    flags = scan_algo_flags(RunConfig, argv, RunConfig.algo, aliases=ALIASES)
    by_file = read_config_file(flags["config"][0] if flags.get("config", ["None"]) != ["None"] else None)
    asked = {name: str(value) for name, value in by_file.items() if value is not None and not isinstance(value, dict)}
    asked |= {name: words[0] for name, words in flags.items() if words[0] != "None"}
    return Command(argv=tuple(argv), asked=asked, by_file=by_file, preset=_preset_layer(asked.get("preset")))


def settle(command: Command, *, below: Mapping[str, Any], name: str) -> tuple[RunConfig, dict[str, Any]]:
    """Lay all layers over one another and check the result.

    Args:
        command: What the command says.
        below: The layers below those of the command: the preset, and settings of the run that is carried on or
            started from; nested.
        name: Of the run folder, where no layer sets it.

    Returns:
        All settings; and those that the user set by hand, by flag or in the ``--config`` file, by dotted name.

    Raises:
        InputError: one line for the first mistake.
    """
    base = merge(below, command.by_file)
    algo = command.asked.get("algo") or base.get("algo", RunConfig.algo)
    flags = scan_algo_flags(RunConfig, command.argv, algo, aliases=ALIASES)  # only now is known whose network is meant
    config = parse_flags(RunConfig, flags, base=base)
    config = replace(config, name=config.name or name)
    by_hand = {n: value_of(config, n) for n in (*flatten(command.by_file, settings_of(RunConfig)), *flags)}
    if config.env is not None:
        config = _without_prices(config, by_hand)
    check_combination(config, flags)
    return config, by_hand


def print_run_help(
    argv: Sequence[str], *, prog: str, description: str, own: type | None = None, without: Collection[str] = ()
) -> None:
    """Print what can be set for a run (see ``print_help``)."""
    aliases = ALIASES | of_algo(RunConfig.algo)
    about: dict[str, Any] = {"description": description, "aliases": aliases, "own": own, "without": without}
    print_help(RunConfig, argv, prog=prog, main=MAIN_SETTINGS, **about)


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
        if name in ("env_settings", "evaluation_episodes") and config.env is None:
            raise InputError(f"{flag} has no effect without an environment of your own: give --env as well")
        if name.startswith("data.synthetic.") and config.data.path is not None:
            raise InputError(f"{flag} has no effect: prices come from files, not from the built-in market")
        if name in _OF_FILES and config.data.path is None:
            raise InputError(f"{flag} has no effect on the built-in market: give --data.path as well")
        if group == "search" and name != "search.num_trials" and config.search.num_trials == 0:
            raise InputError(f"{flag} has no effect without a search: give --search.num-trials as well")
        if SCHEDULER_OF.get(name, config.search.scheduler) != config.search.scheduler:
            needed = SCHEDULER_OF[name]
            raise InputError(f"{flag} has no effect on --search.scheduler {config.search.scheduler}, only on {needed}")
    if hasattr(own, "network"):
        check_network(chosen.group, own, by_flag)
    _check_population(config.search, episodes=config.episodes)
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


def _without_prices(config: RunConfig, by_hand: Collection[str]) -> RunConfig:
    """Judge policies by their return in an environment that has no figures of a floor.

    Raises:
        InputError: if a setting of the floor, or a figure of it, is asked for by hand.
    """
    for name in by_hand:
        if name.split(".")[0] in ("data", "desk", "floor"):
            flag = settings_of(RunConfig)[name].flag
            raise InputError(f"{flag} has no effect with --env {config.env}: it is a setting of the trading floor")
    for name in ("checkpoint_metric", "search.objective"):
        value = value_of(config, name)
        if value in VALIDATION_METRICS and name in by_hand:
            flag = settings_of(RunConfig)[name].flag
            raise InputError(
                f"{flag} is {value!r}, a figure of the trading floor, which {config.env} has not: use return"
            )
    metric = RETURN if config.checkpoint_metric in VALIDATION_METRICS else config.checkpoint_metric
    return replace(config, checkpoint_metric=metric, search=replace(config.search, objective="return"))


def _check_population(search: SearchConfig, *, episodes: int) -> None:
    """Refuse a population that could never be compared.

    Raises:
        InputError: naming the setting.
    """
    if search.scheduler != "pbt" or not search.num_trials:
        return
    if search.num_trials == 1:
        raise InputError("--search.num-trials is 1: --search.scheduler pbt needs a population of 2 or more")
    if search.perturbation_interval >= episodes:
        raise InputError(
            f"--search.perturbation-interval is {search.perturbation_interval}, but trials end at --episodes "
            f"{episodes}: lower it, or the population is never compared"
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
    said, old_names = file_of_today(read_yaml(path), settings_of(RunConfig))
    values = check_keys(said, RunConfig, where=path, aliases=ALIASES | old_names)
    build_settings(RunConfig, values, where=path)
    return values


def _preset_layer(name: str | None) -> dict[str, Any]:
    return {} if name is None else read_preset(name) | {"preset": name}
