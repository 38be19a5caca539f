"""Cross-validate a learner over history: ``python experiments/evaluate.py --data.path prices.csv --algo qmix``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # before what takes seconds to import
from common.errors import InputError
from common.files import check_folder_writable
from common.store import is_remote
from common.strict import STRICT
from envs.baseline_names import DEFAULT_BASELINES
from experiments.command_line import DONE, INTERRUPTED, check_json_flag, main, write_json_flag
from experiments.runs.run import find_run
from experiments.settings.algorithm_flags import scan_algo_flags
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.command import ALIASES, print_run_help
from experiments.settings.fields import settings_of
from experiments.settings.help import asks_for_help
from experiments.settings.run_config import MOST_SEED, RunConfig, floor_spec

if TYPE_CHECKING:
    from envs.folds import CrossValidation
    from envs.market import Market

SET_HERE = (
    "resume", "load_model", "branch_from", "trust", "skip_training", "data.validation_start", "data.test_start",
    "data.groups", "data.test_groups",
)  # fmt: skip
"""Settings of a run that its fold sets, or that make no sense for many runs."""

OF_KIND = {"walk_forward": ("folds", "first_test"), "cpcv": ("groups", "test_groups")}
"""Settings that only one kind of cross-validation has."""

OF_EACH_RUN = ("--name", "--storage", "--seed", "--json")
"""Flags that differ from run to run, or are of the walk."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WalkConfig:
    """How history is divided into folds; everything else is a setting of experiments/run.py."""

    kind: Literal["walk_forward", "cpcv"] = "walk_forward"
    """walk_forward: each test comes after its training. cpcv: combinatorial purged cross-validation (Lopez de Prado
    2018, chapter 12): every choice of test groups is a fold, and their tests join to several paths through all of
    history."""
    folds: int = Field(default=4, gt=0)
    """Tests, one after the other (walk_forward)."""
    first_test: float = Field(default=0.5, gt=0, lt=1)
    """Share of history before the first test (walk_forward)."""
    groups: int = Field(default=6, gt=1)
    """Groups of equal length that history is divided into (cpcv)."""
    test_groups: int = Field(default=2, gt=0)
    """Groups that each fold tests, and does not train on (cpcv): 2 of 6 are 15 folds, and 5 paths."""
    seeds: int = Field(default=5, gt=0)
    """Runs of each fold; --seed is the first seed."""
    validation_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the bars that are not tested by which the checkpoint is chosen: the last ones before the test
    (walk_forward), or the end of the longest stretch without a test (cpcv)."""
    jobs: int = Field(default=1, gt=0)
    """Runs at once."""


def split_words(argv: Sequence[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """Tell the words of some flags from all others."""
    own: list[str] = []
    rest: list[str] = []
    current = rest
    for word in argv:
        if word.startswith("--"):
            current = own if word.partition("=")[0].replace("_", "-") in names else rest
        current.append(word)
    return own, rest


def run(argv: Sequence[str]) -> int:
    """Train and test every fold with every seed, and show what it comes to; returns the exit code.

    Raises:
        InputError: if a setting cannot be used.
    """
    if asks_for_help(argv):
        about = __doc__ or ""
        print_run_help(argv, prog="experiments/evaluate.py", description=about, own=WalkConfig, without=SET_HERE)
        return DONE
    ours, asked = split_words(argv, [setting.flag for setting in settings_of(WalkConfig).values()])
    flags = scan_flags(WalkConfig, ours)
    walk = parse_flags(WalkConfig, flags, base={})
    for kind, names in OF_KIND.items():
        if kind != walk.kind and (given := [name for name in names if name in flags]):
            raise InputError(f"{settings_of(WalkConfig)[given[0]].flag} is for --kind {kind}: leave one of them out")
    config, folder = _check(walk, asked)
    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from experiments.evaluation.report import Walk, print_evaluation, write_evaluation
        from experiments.evaluation.results import evaluated, series_name
        from experiments.evaluation.runs import jobs, run_jobs, trial_sharpes
    market, parts = _divide(walk, config)
    todo = jobs(folder, parts.folds, range(config.seed, config.seed + walk.seeds))
    _, words = split_words(asked, OF_EACH_RUN)
    if config.desk.observe_tradable is None and not market.bars.tradable.all():  # else each fold decides it for itself
        words += ["--desk.observe-tradable", str(market.spec.desk.observe_tradable)]
    try:
        for i, (job, seconds) in enumerate(run_jobs(todo, words, at_once=walk.jobs)):
            tested = " and ".join(f"{first[:10]} to {last[:10]}" for first, last in job.fold.tests)
            which = f"fold {job.fold.number}, test {tested}, seed {job.seed}"
            print(f"run {i + 1} of {len(todo)}: {which}, {seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; the same command carries on: {folder}")
        return INTERRUPTED
    with experiments.interrupts.leaving_at_once():  # only now: nothing before has a use for RLlib
        from experiments.backtesting.compare import told_now_and_then
        from experiments.evaluation.walking import walk_baselines, walk_path
    paths = {
        series_name(seed, p, len(parts.paths)): [job for i in path for job in todo if job[:2] == (parts.folds[i], seed)]
        for seed in dict.fromkeys(job.seed for job in todo)
        for p, path in enumerate(parts.paths)
    }
    on_bar = told_now_and_then(len(paths) + len(DEFAULT_BASELINES))
    seeds = {
        name: walk_path([job.folder for job in own], parts.starts, market, name=f"seed {name}", on_bar=on_bar)
        for name, own in paths.items()
    }
    baselines = walk_baselines(parts.starts, market, seed=config.seed, on_bar=on_bar)
    found = evaluated(
        seeds,
        baselines,
        num_paths=len(parts.paths),
        periods_per_year=market.bars.periods_per_year,
        risk_free=config.floor.costs.cash_rate_annual,
        trial_sharpes={name: [trial_sharpes(job) for job in own] for name, own in paths.items()},
    )
    done = Walk(config, parts, market.bars, found, baselines | seeds)
    record = write_evaluation(done, folder, command=shlex.join(["python", "experiments/evaluate.py", *argv]))
    print_evaluation(done, folder)
    write_json_flag(config.json, record)
    return DONE


def _divide(walk: WalkConfig, config: RunConfig) -> tuple[Market, CrossValidation]:
    """The market in which paths are traded, and the folds."""
    from envs.folds import combinatorial, walk_forward
    from envs.market import build_market

    data, is_walk = config.data, walk.kind == "walk_forward"
    if not is_walk:
        if walk.test_groups >= walk.groups:
            raise InputError(f"--test-groups {walk.test_groups} of --groups {walk.groups} leave none for training")
        last = tuple(range(walk.groups - walk.test_groups + 1, walk.groups + 1))
        data = replace(data, groups=walk.groups, test_groups=last, validation=walk.validation_share)
    market = build_market(floor_spec(replace(config, data=data)))
    bars, splits = market.bars, market.splits
    lengths = {"lookback_bars": splits.train.start, "embargo_bars": splits.embargo_bars}
    if is_walk:
        first, share = walk.first_test, walk.validation_share
        return market, walk_forward(bars, num_folds=walk.folds, first_test=first, validation=share, **lengths)
    horizon = config.floor.horizon_bars
    if horizon is None:
        raise InputError(
            "--floor.horizon-bars is None, but the training of --kind cpcv has holes: set a number of bars"
        )
    return market, combinatorial(bars, data=data, num_tested=walk.test_groups, horizon_bars=horizon, **lengths)


def _check(walk: WalkConfig, asked: Sequence[str]) -> tuple[RunConfig, Path]:
    """Read the settings of the runs, and where all of it goes."""
    flags = scan_algo_flags(RunConfig, asked, RunConfig.algo, aliases=ALIASES)  # find_run says whose network is meant
    if taken := [name for name in flags if name in SET_HERE]:
        raise InputError(
            f"{settings_of(RunConfig)[taken[0]].flag} is set by each fold, or not for many runs: leave it out"
        )
    storage = flags.get("storage", [""])[0]
    if is_remote(storage):
        raise InputError(f"--storage is {storage}: cross-validation is kept in a folder of this machine")
    kind = "walk" if walk.kind == "walk_forward" else walk.kind
    named = [] if "name" in flags else ["--name", f"{kind}-{''.join(flags.get('algo', ['qmix']))}"]
    config = find_run([*asked, *named], prog="experiments/evaluate.py").config
    if config.search.num_trials and config.search.objective != "sharpe":
        raise InputError("--search.objective must be sharpe: the Sharpe ratio is what is deflated by the trials")
    if config.seed + walk.seeds - 1 > MOST_SEED:
        raise InputError(f"--seed {config.seed} leaves no room for --seeds {walk.seeds}: the largest is {MOST_SEED}")
    check_json_flag(config.json)
    folder = Path(config.storage).absolute() / str(config.name)
    if (folder / "config.json").is_file():
        raise InputError(f"{folder} is a run: choose another --name for the cross-validation")
    check_folder_writable(folder, setting="the folder of the cross-validation")
    return config, folder


if __name__ == "__main__":
    main(run, sys.argv[1:])
