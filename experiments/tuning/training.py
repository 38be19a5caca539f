"""One training run as the command line asks for it: opened, trained under its lock and log, backtested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.market import Market
from experiments.command_line import DONE, is_disk_error, is_user_error, log_to, write_json_flag
from experiments.recovery.lock import lock_if_there, run_lock
from experiments.recovery.names import LOG_FILE
from experiments.runs.models import Model
from experiments.settings.run_config import RunConfig, run_folder, run_mirror
from experiments.tuning import session
from experiments.tuning.branching import check_branch
from experiments.tuning.ending import backtest_run, ended_in_store, last_line, say_failed, say_interrupted
from experiments.tuning.monitor import read_summary
from experiments.tuning.opening import announce, describe_run, open_run
from experiments.tuning.resume import check_checkpoints, is_known


def train_run(config: RunConfig, market: Market, resume_from: Mapping[str, str] | None) -> int:
    """Start a run or carry it on, and backtest what came of it.

    Args:
        config: The settings.
        market: What they make.
        resume_from: The checkpoint that the user named, from ``named_checkpoint``.

    Returns:
        Exit code.
    """
    folder, known = run_folder(config), is_known(config)
    with lock_if_there(folder):
        is_named = resume_from is not None
        reports = check_checkpoints(folder, is_named=is_named, mirror=run_mirror(config)) if known else []
        parent = check_branch(config, market) if config.branch_from is not None and not known else None
        opened = open_run(config, market)
    with run_lock(folder):
        return ended_in_store(
            opened, lambda: _train_run(config, opened, market, resume_from, parent, reports, known=known)
        )


def _train_run(
    config: RunConfig,
    opened: RunConfig,
    market: Market,
    resume_from: Mapping[str, str] | None,
    parent: Model | None,
    reports: Sequence[str],
    *,
    known: bool,
) -> int:
    """Record the run as it was asked for, and train it as it was opened, on the devices that are there today."""
    folder = run_folder(config)
    with log_to(folder / LOG_FILE):
        scaler = session.record_run(config, market, resume_from=resume_from, parent=parent)
        announce(config, market, is_known=known)
        told = {"run": describe_run(config, market)}
        for report in reports:
            print(report)
        if resume_from is not None:
            print(f"from {resume_from['checkpoint']}, as asked")
        if parent is not None:
            print(f"branched off {parent.name}: {parent.checkpoint}")
        outcome = session.train(opened, scaler)
        if outcome.status != "complete":
            write_json_flag(config.json, told | {"summary": read_summary(folder), "backtest": None})
        if outcome.status == "interrupted":
            return say_interrupted(folder)
        if outcome.status == "failed":
            assert outcome.error is not None
            if is_user_error(outcome.error) or is_disk_error(outcome.error):
                raise outcome.error
            kept = f"the last good checkpoint is kept; details in {folder}/trial_*/error.txt"
            return say_failed(f"training failed: {last_line(outcome.error)}", kept=kept)
        try:
            result = backtest_run(str(folder))
        except KeyboardInterrupt:
            return say_interrupted(folder)
    write_json_flag(config.json, told | {"summary": read_summary(folder), "backtest": result})
    return DONE
