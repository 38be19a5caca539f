"""Walk a learner forward through history: ``python experiments/evaluate.py --data.path prices.csv --algo qmix``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from experiments.evaluation.runs import Job

SET_HERE = (
    "resume", "load_model", "branch_from", "skip_training", "data.validation_start", "data.test_start", "data.end"
)  # fmt: skip
"""Settings of a run that a walk-forward sets itself, or that make no sense for many runs."""


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


def split_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the words of the walk from those of its runs."""
    own: list[str] = []
    rest: list[str] = []
    names = {setting.flag for setting in settings_of(WalkConfig).values()}
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
        print_run_help(argv, prog="experiments/evaluate.py", description=__doc__ or "", own=WalkConfig)
        return DONE
    own, asked = split_words(argv)
    walk = parse_flags(WalkConfig, scan_flags(WalkConfig, own), base={})
    config, folder = _check(walk, asked)
    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from envs.market import build_market
        from experiments.evaluation.folds import walk_forward
        from experiments.evaluation.report import print_evaluation, write_evaluation
        from experiments.evaluation.results import STRATEGY, evaluated, stitched
        from experiments.evaluation.runs import equity_table, jobs, run_jobs, trial_sharpes
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
    words = _words_of_runs(asked)
    try:
        for i, (job, seconds) in enumerate(run_jobs(todo, words, at_once=walk.jobs)):
            tested = f"{job.fold.test_start[:10]} to {(job.fold.end or str(market.bars.dates[-1]))[:10]}"
            which = f"fold {job.fold.number}, test {tested}, seed {job.seed}"
            print(f"run {i + 1} of {len(todo)}: {which}, {seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; the same command carries on: {folder}")
        return INTERRUPTED
    by_seed = {seed: [j for j in todo if j.seed == seed] for seed in dict.fromkeys(j.seed for j in todo)}
    found = evaluated(
        {seed: stitched([equity_table(j) for j in of_seed], STRATEGY) for seed, of_seed in by_seed.items()},
        {name: stitched([equity_table(j) for j in by_seed[config.seed]], name) for name in _baselines(todo[0])},
        periods_per_year=market.bars.periods_per_year,
        trial_sharpes={seed: [s for j in of_seed for s in trial_sharpes(j)] for seed, of_seed in by_seed.items()},
    )
    command = shlex.join(["python", "experiments/evaluate.py", *argv])
    record = write_evaluation(found, folder, config=config, folds=folds, bars=market.bars, command=command)
    print_evaluation(found, folder, config=config, folds=folds, bars=market.bars)
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


def _words_of_runs(asked: Sequence[str]) -> list[str]:
    """What every run is asked for: all but what differs from run to run."""
    kept, keeps = [], True
    for word in asked:
        if word.startswith("--"):
            keeps = word.partition("=")[0] not in ("--name", "--storage", "--seed", "--json")
        if keeps:
            kept.append(word)
    return kept


def _baselines(job: Job) -> list[str]:
    from experiments.evaluation.results import STRATEGY
    from experiments.evaluation.runs import equity_table

    return [name for name in dict.fromkeys(equity_table(job)["series"]) if name != STRATEGY]


if __name__ == "__main__":
    main(run, sys.argv[1:])
