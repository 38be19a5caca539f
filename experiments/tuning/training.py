"""One training run as the command line asks for it: opened, trained under its lock and log, backtested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress

from algos.scaling import ScalingSettings
from common.files import WriteError
from experiments.builders.environments import Environment
from experiments.command_line import DONE, is_disk_error, is_user_error, log_to, write_json_flag
from experiments.recovery.lock import lock_if_there, run_lock
from experiments.recovery.names import LOG_FILE
from experiments.runs.models import Model
from experiments.runs.repair import check_checkpoints
from experiments.runs.run import Run
from experiments.runs.summary import read_summary
from experiments.tuning import session
from experiments.tuning.branching import check_branch
from experiments.tuning.ending import conclude, ended_in_store, say_failed, say_interrupted
from experiments.tuning.opening import announce, describe_run, open_run, remove_new
from experiments.tuning.ray_internals import last_line


def train_run(run: Run, environment: Environment, resume_from: Mapping[str, str] | None) -> int:
    """Start a run or carry it on, and backtest what came of it.

    Args:
        run: The run.
        environment: What it trains in.
        resume_from: The checkpoint that the user named, from ``named_checkpoint``.

    Returns:
        Exit code.
    """
    with lock_if_there(run.folder):
        is_named = resume_from is not None
        reports = check_checkpoints(run.folder, is_named=is_named, mirror=run.mirror) if run.is_known else []
        parent = (
            check_branch(run.config, environment) if run.config.branch_from is not None and not run.is_known else None
        )
        devices, room = open_run(run, environment)
    with run_lock(run.folder):
        return ended_in_store(
            run.mirror, lambda: _train_run(run, environment, devices, resume_from, parent, reports, room)
        )


def _train_run(
    run: Run,
    environment: Environment,
    devices: ScalingSettings,
    resume_from: Mapping[str, str] | None,
    parent: Model | None,
    reports: Sequence[str],
    room: str | None,
) -> int:
    """Record the run as it was asked for, and train it on the devices that are there today."""
    folder, json = run.folder, run.config.json
    before = list(folder.iterdir())
    with log_to(folder / LOG_FILE):
        scaler = session.record_run(run, environment, devices=devices, resume_from=resume_from, parent=parent)
        announce(run, environment)
        told = {"run": describe_run(run, environment)}
        for line in reports if room is None else (room, *reports):
            print(line)
        if resume_from is not None:
            print(f"from {resume_from['checkpoint']}, as asked")
        if parent is not None:
            print(f"branched off {parent.name}: {parent.checkpoint}")
        outcome = session.train(run, scaler, devices=devices, is_to_check=room is None)
        if outcome.status == "refused":
            remove_new(folder, before)
            assert outcome.error is not None
            raise outcome.error
        if outcome.status != "complete":
            with suppress(WriteError) if outcome.status == "failed" else nullcontext():  # why it failed matters more
                write_json_flag(json, told | {"summary": read_summary(folder), "backtest": None})
        if outcome.status == "interrupted":
            return say_interrupted(folder)
        if outcome.status == "failed":
            assert outcome.error is not None
            if is_user_error(outcome.error) or is_disk_error(outcome.error):
                raise outcome.error
            kept = f"the last good checkpoint is kept; details in {folder}/trial_*/error.txt"
            return say_failed(f"training failed: {last_line(outcome.error)}", kept=kept)
        try:
            result = conclude(run)
        except KeyboardInterrupt:
            return say_interrupted(folder)
    write_json_flag(json, told | {"summary": read_summary(folder), "backtest": result})
    return DONE
