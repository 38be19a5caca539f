"""Train, carry on, search or backtest: ``python experiments/run.py --name dow --algo qmix --data.path prices.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import experiments.interrupts  # before what takes seconds to import
from experiments.backtesting.results_folders import OWN
from experiments.command_line import DONE, check_json_flag, write_json_flag
from experiments.remote.addresses import check_storage
from experiments.remote.store import absolute
from experiments.runs.folders import check_folder
from experiments.settings.fields import value_of
from experiments.settings.run_config import RunConfig, floor_spec, parse_run, run_folder, run_mirror


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for; returns the exit code."""
    config, by_hand = parse_run(argv)
    check_json_flag(config.json)
    if config.skip_training:
        from experiments.tuning.ending import backtest_run  # only now: torch takes seconds to import

        source = str(by_hand.get("load_model") or run_folder(config))
        result = backtest_run(source, capital=by_hand.get("floor.capital"), is_alone=True)
        write_json_flag(config.json, {"backtest": result})
        return DONE
    check_storage(config.storage)
    mirror = run_mirror(config)
    if mirror is None:
        return _train(config, by_hand)
    with mirror.lease():  # only from now on does nobody else bring anything there: look again
        return _train(*parse_run(argv))


def _train(config: RunConfig, by_hand: dict[str, Any]) -> int:
    """Train, carry on or search, unless all that is asked for is there; returns the exit code."""
    check_folder(run_folder(config), is_moved_aside=config.resume == "never")
    config = _with_absolute_paths(config, by_hand)
    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from envs.floor import build_floor
        from envs.market import build_market
        from experiments.tuning import resume
        from experiments.tuning.algorithms import check_algorithm

    if resume.is_known(config):
        resume.check_changes(config, by_hand)
        if resume.is_automatic(config) and resume.is_complete(config):
            return _say_complete(config, by_hand)
    elif config.resume not in ("auto", "never"):
        raise resume.nothing_to_resume(config)
    resume_from = resume.named_checkpoint(config)
    market = build_market(floor_spec(config))
    check_algorithm(config)
    build_floor(market)  # and this too
    if config.search.num_trials:
        # The checkpoint that is kept is the one that the search is after.
        if "checkpoint_metric" not in by_hand and not resume.is_known(config):
            config = replace(config, checkpoint_metric=config.search.objective, checkpoint_mode="max")
        from experiments.search.search import search

        return search(config, market, fixed=by_hand)
    from experiments.tuning.training import train_run

    return train_run(config, market, resume_from)


def _say_complete(config: RunConfig, by_hand: Mapping[str, Any]) -> int:
    """Nothing is left to train; a backtest that a kill has prevented is made up for.

    Raises:
        InputError: if something else is asked for that only more episodes could use.
    """
    from experiments.tuning.algorithms import replicas
    from experiments.tuning.ending import backtest_run, finish_in_store, repeat_backtest
    from experiments.tuning.monitor import read_summary
    from experiments.tuning.resume import check_of_use

    folder = run_folder(config)
    check_of_use(config, by_hand)
    if config.search.num_trials:
        print(f"search already complete: {folder} has its {config.search.num_trials} trials")
    else:
        done = int(read_summary(folder)["episodes"])
        asked = "" if done < config.episodes + replicas(config) else f", more than the {config.episodes} asked for"
        print(f"training already complete: {folder} has {done} episodes{asked} (raise --episodes for more)")
    own = folder.absolute() / OWN
    result = repeat_backtest(own) or backtest_run(str(folder), is_alone=True)
    finish_in_store(config)
    write_json_flag(config.json, {"summary": read_summary(folder), "backtest": result})
    return DONE


def _with_absolute_paths(config: RunConfig, by_hand: dict[str, Any]) -> RunConfig:
    """Make the paths of prices and weights absolute: workers run elsewhere, and later commands too."""
    changed = config
    if config.load_model is not None:
        changed = replace(changed, load_model=absolute(config.load_model))
    if config.branch_from is not None:
        changed = replace(changed, branch_from=absolute(config.branch_from))
    if config.data.path is not None:
        changed = replace(changed, data=replace(config.data, path=absolute(config.data.path)))
    by_hand.update(
        {name: value_of(changed, name) for name in ("load_model", "branch_from", "data.path") if name in by_hand}
    )
    return changed


if __name__ == "__main__":
    from experiments.command_line import main

    main(run)
