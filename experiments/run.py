"""Train, carry on, search or backtest: ``python experiments/run.py --name dow --algo qmix --data.path prices.csv``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.errors import InputError
from envs.market import Market, build_market
from experiments.backtesting.compare import backtest_models, print_backtest, write_backtest
from experiments.cli import DONE, FAILED, INTERRUPTED, check_json_flag, is_user_error, log_to, write_json_flag
from experiments.config import RunConfig, floor_spec, parse_run, read_run_config, run_folder
from experiments.models import find_model, find_models
from experiments.recovery.lock import run_lock
from experiments.reporting.files import check_folder_writable
from experiments.settings import value_of

LOG_FILE = "train.log"


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for; returns the exit code."""
    config, by_hand = parse_run(argv)
    check_json_flag(config.json)
    if config.skip_training:
        source = config.load_model or str(run_folder(config))
        write_json_flag(config.json, {"backtest": backtest(source, capital=by_hand.get("floor.capital"))})
        return DONE
    check_folder_writable(config.storage, setting="--storage")
    config = _with_absolute_paths(config, by_hand)
    from experiments.tuning import resume
    from experiments.tuning.algorithms import algorithm_config

    if resume.is_known(config):
        resume.check_changes(config, by_hand)
        if config.resume == "auto" and resume.is_complete(config):
            return _say_complete(config, by_hand)
        if config.search.num_trials:
            resume.can_restore(config)  # refuses what is damaged before anything is written
    elif config.resume not in ("auto", "never"):
        raise InputError(f"--resume is {config.resume}, but {run_folder(config)} is no run folder")
    resume_from = resume.named_checkpoint(config)
    market = build_market(floor_spec(config))
    algorithm_config(config).validate()  # refuses here, in one line, what a worker process would only fail on
    if config.search.num_trials:
        if "checkpoint_metric" not in by_hand:  # the checkpoint that is kept is the one that the search is after
            config = replace(config, checkpoint_metric=config.search.objective)
        from experiments.search import search

        return search(config, market, fixed=by_hand)
    return _train(config, market, resume_from)


def _say_complete(config: RunConfig, by_hand: Mapping[str, Any]) -> int:
    """Nothing is left to train; a backtest that a kill has prevented is made up for.

    Raises:
        InputError: if other capital is asked for, which only more episodes or a backtest of its own could use.
    """
    from experiments.reporting.files import read_json
    from experiments.tuning.monitor import read_summary

    folder = run_folder(config)
    if by_hand.get("floor.capital", config.floor.capital) != read_run_config(folder).floor.capital:
        raise InputError(
            f"training already complete, so --capital has no effect: raise --episodes as well, or backtest with it: "
            f"experiments/backtest.py --model {folder} --capital {by_hand['floor.capital']:g}"
        )
    if config.search.num_trials:
        print(f"search already complete: {folder} has its {config.search.num_trials} trials")
    else:
        print(f"training already complete: {folder} has its {config.episodes} episodes (raise --episodes for more)")
    known = folder / "backtest" / "backtest.json"
    result = read_json(known) if known.is_file() else backtest(str(folder))
    write_json_flag(config.json, {"summary": read_summary(folder), "backtest": result})
    return DONE


def _train(config: RunConfig, market: Market, resume_from: Mapping[str, str] | None) -> int:
    from experiments.tuning import session
    from experiments.tuning.monitor import read_summary
    from experiments.tuning.resume import check_checkpoints, is_known, set_aside

    folder, known = run_folder(config), is_known(config)
    with run_lock(folder) if folder.exists() else nullcontext():
        reports = check_checkpoints(folder) if known else []
        session.start_ray(config)
        config = session.with_devices(config)
        if config.load_model is not None and not known:
            session.check_fits(config, market)
        if config.resume == "never":
            set_aside(config)
    with run_lock(folder), log_to(folder / LOG_FILE):
        scaler = session.record_run(config, market, resume_from=resume_from)
        _announce(config, market, is_known=known)
        for report in reports:
            print(report)
        if resume_from is not None:
            print(f"from {resume_from['checkpoint']}, as asked")
        outcome = session.train(config, scaler)
        if outcome.status != "complete":
            write_json_flag(config.json, {"summary": read_summary(folder), "backtest": None})
        if outcome.status == "interrupted":
            print(f"interrupted; the same command carries on: {folder}")
            return INTERRUPTED
        if outcome.status == "failed":
            assert outcome.error is not None
            if is_user_error(outcome.error):
                raise outcome.error
            print(f"error: training failed: {last_line(outcome.error)}", file=sys.stderr)
            print(f"the last good checkpoint is kept; details in {folder}/trial_*/error.txt", file=sys.stderr)
            return FAILED
        result = backtest(str(folder))
    write_json_flag(config.json, {"summary": read_summary(folder), "backtest": result})
    return DONE


def last_line(error: BaseException) -> str:
    """The last line of what a worker process reported: the error itself, below its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def backtest(source: str, *, capital: float | None = None) -> dict[str, Any]:
    """Backtest a trained model on the test split and write the files into its run folder.

    Args:
        source: Run folder or checkpoint.
        capital: Capital instead of the run's own, USD.

    Returns:
        What ``backtest.json`` holds.
    """
    from algos.policy import load_policy

    models = find_models([source])
    done = backtest_models(models, load=load_policy, capital=capital)
    out = find_model(source).record.folder / "backtest"
    summary = write_backtest(done, out)
    print_backtest(done, out)
    return summary


def _announce(config: RunConfig, market: Market, *, is_known: bool) -> None:
    """Say what is about to be trained, on what prices."""
    from experiments.tuning.algorithms import replicas

    bars, splits = market.bars, market.splits
    print(
        f"{'carrying on' if is_known else 'starting'} {run_folder(config)}: {config.algo}, {config.episodes} episodes"
    )
    print(f"prices: {bars.source}, {bars.num_assets} assets, {bars.num_bars} bars of {bars.frequency}, ", end="")
    print(f"{bars.periods_per_year:g} a year")
    for note in bars.notes:
        print(f"  {note}")
    for split in (splits.train, splits.validation, splits.test):
        first, last = (str(bars.dates[i])[:10] for i in (split.start, split.stop - 1))
        print(f"  {split.name}: {first} to {last}, {split.stop - split.start} bars")
    agents = ", ".join(
        f"{m.name} ({', '.join(m.assets[:3])}{', ...' if len(m.assets) > 3 else ''})" for m in market.mandates
    )
    print(f"agents: {agents}")
    together, every = replicas(config), config.checkpoint_interval
    if every % together:
        due = -(-every // together) * together
        print(f"{together} replicas end their episodes together: checkpoints come every {due} episodes, not {every}")


def _with_absolute_paths(config: RunConfig, by_hand: dict[str, Any]) -> RunConfig:
    """Make the paths of prices and weights absolute: workers run elsewhere, and later commands too."""
    changed = config
    if config.load_model is not None:
        changed = replace(changed, load_model=_absolute(config.load_model))
    if config.data.path is not None:
        changed = replace(changed, data=replace(config.data, path=_absolute(config.data.path)))
    by_hand.update({name: value_of(changed, name) for name in ("load_model", "data.path") if name in by_hand})
    return changed


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


if __name__ == "__main__":
    from experiments.cli import main

    main(run)
