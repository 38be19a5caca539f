"""Train, carry on, search or backtest: ``python experiments/run.py --name dow --algo qmix --data.path prices.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import experiments.interrupts  # before what takes seconds to import
from experiments.command_line import DONE, check_json_flag, main, write_json_flag
from experiments.remote.addresses import check_storage
from experiments.runs.folders import check_folder
from experiments.runs.run import Run, locate, read_run
from experiments.settings.command import read_command


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for; returns the exit code."""
    command = read_command(argv)
    place = locate(command)
    if command.skips_training:
        return _backtest(read_run(command, place))
    check_storage(place.storage)
    with place.held():
        return _train(read_run(command, place))


def _backtest(asked: Run) -> int:
    """Test a model that is there."""
    from experiments.tuning.ending import backtest_run

    config, by_hand = asked.config, asked.by_hand
    check_json_flag(config.json)
    source = str(by_hand.get("load_model") or asked.folder)
    result = backtest_run(source, capital=by_hand.get("floor.capital"), is_alone=True)
    write_json_flag(config.json, {"backtest": result})
    return DONE


def _train(asked: Run) -> int:
    """Train, carry on or search, unless all that is asked for is there; returns the exit code."""
    check_json_flag(asked.config.json)
    check_folder(asked.folder, is_moved_aside=asked.config.resume == "never")
    with experiments.interrupts.leaving_at_once():  # only now: what a start needs takes a second
        from experiments.builders.environments import check_actions, environment_of
        from experiments.runs.rewriting import refuse_old
        from experiments.tuning import resume
        from experiments.tuning.hooks import hooks_of

        if asked.is_search:
            from experiments.search.search import search
        else:
            from experiments.tuning.training import train_run

    config = asked.config
    if asked.is_known:
        resume.check_changes(asked)
        if asked.is_automatic and resume.is_complete(asked):
            return _say_complete(asked)
        refuse_old(asked.folder, run=asked.address or asked.folder)
    elif config.resume not in ("auto", "never"):
        raise resume.nothing_to_resume(asked)
    resume_from = resume.named_checkpoint(asked)
    environment = environment_of(config)
    check_actions(config.algo, environment)
    hooks_of(config)
    if asked.is_search:
        # The checkpoint that is kept is the one that the search is after.
        if "checkpoint_metric" not in asked.by_hand and not asked.is_known:
            config = replace(config, checkpoint_metric=config.search.objective, checkpoint_mode="max")
        return search(replace(asked, config=config), environment)
    return train_run(asked, environment, resume_from)


def _say_complete(asked: Run) -> int:
    """Nothing is left to train; a backtest that a kill has prevented is made up for.

    Raises:
        InputError: if something else is asked for that only more episodes could use.
    """
    from experiments.runs.summary import read_summary
    from experiments.settings.groups import replicas
    from experiments.settings.metric_names import clock_of
    from experiments.tuning.ending import backtest_run, conclude, finish_in_store, repeat_backtest
    from experiments.tuning.resume import check_of_use

    folder, config = asked.folder, asked.config
    check_of_use(asked)
    if asked.is_search:
        print(f"search already complete: {folder} has its {config.search.num_trials} trials")
    else:
        done = clock_of(read_summary(folder))
        more = "" if done < config.episodes + replicas(config) else f", more than the {config.episodes} asked for"
        print(f"training already complete: {folder} has {done} {config.clock}{more} (raise --episodes for more)")
    if config.env is None:
        done_before = repeat_backtest(folder.absolute(), capital=config.floor.capital)
        result: Any = done_before or backtest_run(str(folder), is_alone=True)
    else:
        result = conclude(asked)
    finish_in_store(asked.mirror)
    write_json_flag(config.json, {"summary": read_summary(folder), "backtest": result})
    return DONE


if __name__ == "__main__":
    main(run)
