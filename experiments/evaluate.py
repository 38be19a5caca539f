"""Walk a learner forward through history: ``python experiments/evaluate.py --data.path prices.csv --algo qmix``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # before what takes seconds to import
from common.errors import InputError
from common.files import check_folder_writable
from common.store import is_remote
from common.strict import STRICT
from experiments.command_line import DONE, INTERRUPTED, check_json_flag, main, write_json_flag
from experiments.runs.run import find_run
from experiments.settings.algorithm_flags import scan_algo_flags
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.command import ALIASES, print_run_help
from experiments.settings.fields import settings_of
from experiments.settings.help import asks_for_help
from experiments.settings.run_config import MOST_SEED, RunConfig, floor_spec

SET_HERE = (
    "resume", "load_model", "branch_from", "trust", "skip_training", "data.validation_start", "data.test_start",
    "data.end",
)  # fmt: skip
"""Settings of a run that a walk-forward sets itself, or that make no sense for many runs."""

OF_EACH_RUN = ("--name", "--storage", "--seed", "--json")
"""Flags that differ from run to run, or are of the walk."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WalkConfig:
    """How history is walked through; everything else is a setting of experiments/run.py."""

    folds: int = Field(default=4, gt=0)
    """Tests, one after the other."""
    seeds: int = Field(default=5, gt=0)
    """Runs of each fold; --seed is the first seed."""
    first_test: float = Field(default=0.5, gt=0, lt=1)
    """Share of history before the first test."""
    validation_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the bars before a test by which the checkpoint is chosen."""
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
    walk = parse_flags(WalkConfig, scan_flags(WalkConfig, ours), base={})
    config, folder = _check(walk, asked)
    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from envs.folds import walk_forward
        from envs.market import build_market
        from experiments.evaluation.report import Walk, print_evaluation, write_evaluation
        from experiments.evaluation.results import evaluated
        from experiments.evaluation.runs import jobs, run_jobs, trial_sharpes
    market = build_market(floor_spec(config))
    folds = walk_forward(
        market.bars,
        num_folds=walk.folds,
        first_test=walk.first_test,
        validation=walk.validation_share,
        lookback_bars=market.splits.train.start,
        embargo_bars=market.splits.embargo_bars,
    )
    todo = jobs(folder, folds, range(config.seed, config.seed + walk.seeds))
    _, words = split_words(asked, OF_EACH_RUN)
    try:
        for i, (job, seconds) in enumerate(run_jobs(todo, words, at_once=walk.jobs)):
            tested = f"{job.fold.test_start[:10]} to {(job.fold.end or str(market.bars.dates[-1]))[:10]}"
            which = f"fold {job.fold.number}, test {tested}, seed {job.seed}"
            print(f"run {i + 1} of {len(todo)}: {which}, {seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; the same command carries on: {folder}")
        return INTERRUPTED
    of_seed = {seed: [job for job in todo if job.seed == seed] for seed in dict.fromkeys(job.seed for job in todo)}
    with experiments.interrupts.leaving_at_once():  # only now: nothing before has a use for RLlib
        from experiments.evaluation.walking import walk_baselines, walk_seed
    seeds = {seed: walk_seed([job.folder for job in own], folds, market) for seed, own in of_seed.items()}
    baselines = walk_baselines(folds, market, seed=config.seed)
    found = evaluated(
        seeds,
        baselines,
        periods_per_year=market.bars.periods_per_year,
        risk_free=config.floor.costs.cash_rate_annual,
        trial_sharpes={seed: [trial_sharpes(job) for job in own] for seed, own in of_seed.items()},
    )
    shown = baselines | {str(seed): course for seed, course in seeds.items()}
    done = Walk(config, folds, market.bars, found, shown)
    record = write_evaluation(done, folder, command=shlex.join(["python", "experiments/evaluate.py", *argv]))
    print_evaluation(done, folder)
    write_json_flag(config.json, record)
    return DONE


def _check(walk: WalkConfig, asked: Sequence[str]) -> tuple[RunConfig, Path]:
    """Read the settings of the runs, and where all of it goes."""
    flags = scan_algo_flags(RunConfig, asked, RunConfig.algo, aliases=ALIASES)  # find_run says whose network is meant
    if taken := [name for name in flags if name in SET_HERE]:
        raise InputError(f"{settings_of(RunConfig)[taken[0]].flag} is not for a walk-forward: leave it out")
    storage = flags.get("storage", [""])[0]
    if is_remote(storage):
        raise InputError(f"--storage is {storage}: a walk-forward is kept in a folder of this machine")
    named = [] if "name" in flags else ["--name", f"walk-{''.join(flags.get('algo', ['qmix']))}"]
    config = find_run([*asked, *named], prog="experiments/evaluate.py").config
    if config.search.num_trials and config.search.objective != "sharpe":
        raise InputError("--search.objective must be sharpe: the Sharpe ratio is what is deflated by the trials")
    if config.seed + walk.seeds - 1 > MOST_SEED:
        raise InputError(f"--seed {config.seed} leaves no room for --seeds {walk.seeds}: the largest is {MOST_SEED}")
    check_json_flag(config.json)
    folder = Path(config.storage).absolute() / str(config.name)
    if (folder / "config.json").is_file():
        raise InputError(f"{folder} is a run: choose another --name for the walk-forward")
    check_folder_writable(folder, setting="the folder of the walk-forward")
    return config, folder


if __name__ == "__main__":
    main(run, sys.argv[1:])
