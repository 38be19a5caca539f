"""What follows training, whichever way it ends: a line that says so, an exit code, or the backtest."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import WriteError, check_folder_writable, read_json
from common.paths import path_in
from common.store import first_line
from experiments.backtesting.results_folders import OWN, RESULTS_FILE, results_folder
from experiments.command_line import FAILED, INTERRUPTED
from experiments.recovery.checkpoints import read_meta, rename_aside
from experiments.recovery.names import RECORD_FILE, SUMMARY_FILE
from experiments.remote.lease import LostLeaseError
from experiments.remote.mirror import Mirror
from experiments.reporting.tables import format_metric
from experiments.runs.models import find_models
from experiments.runs.run import Run
from experiments.runs.summary import read_summary


def backtest_run(source: str, *, capital: float | None = None, is_alone: bool = False) -> dict[str, Any]:
    """Backtest a trained model on the test split and write the files into its run folder.

    Args:
        source: Run folder or checkpoint.
        capital: Capital instead of the run's own, USD.
        is_alone: Whether this is all that the command does: then a folder that cannot be written to is the user's to
            mend, and not an end of the work that was done before.

    Returns:
        What ``backtest.json`` holds, and the ``folder`` that it lies in.

    Raises:
        InputError: if the model cannot be tested, or alone, its folder not be written to.
        WriteError: if the results cannot be written after all.
    """
    from algos.policy import load_policy  # only now: a run that begins has no use for tables and pictures
    from experiments.backtesting.compare import backtest_models, print_backtest, write_backtest

    models = find_models([source])
    out = results_folder(models, capital=capital)
    if is_alone:
        _check_writable(out, source)
    done = backtest_models(models, load=load_policy, capital=capital)
    summary = write_backtest(done, out)
    print_backtest(done, out)
    return summary | {"folder": str(out)}


def _check_writable(out: Path, source: str) -> None:
    try:
        check_folder_writable(out, setting="the folder of the results")
    except InputError as error:
        raise InputError(f"{error}; experiments/backtest.py --model {source} --out FOLDER writes elsewhere") from None


def conclude(run: Run) -> dict[str, Any] | None:
    """Backtest what came of a run; where it has trained without prices, say which checkpoint is its best.

    Returns:
        What ``backtest.json`` holds, and the ``folder`` that it lies in; None without prices.
    """
    if run.config.env is None:
        return backtest_run(str(run.folder))
    summary = read_summary(run.folder)
    best = summary.get("best_metric") or {}
    if best.get("value") is not None:
        print(f"best {best['name']}: {best['value']:.4g}, {run.folder / str(summary['best_checkpoint'])}")
    return None


def repeat_backtest(folder: Path, *, capital: float) -> dict[str, Any] | None:
    """Say in a line what a run's own backtest of before has found, and where its files are.

    Args:
        folder: The run folder.
        capital: The run's capital of each account now, USD.

    Returns:
        What it found; None where there is none, it is of other weights or another capital than the run's of now, as
        where the run has trained on and a kill has kept it from being tested again, or its results are damaged and
        have been set aside.
    """
    out = folder / OWN
    path = out / RESULTS_FILE
    if not path.is_file():
        return None
    now = {"weights_sha256": _weights_of(folder), "capital": capital}
    try:
        found: dict[str, Any] = read_json(path)
        line = f"{_found_before(found)}; files in {out}"
        tested = found.get("models", [{}])[0]  # earlier versions did not say it
        if any(None not in (tested.get(name), value) and tested[name] != value for name, value in now.items()):
            print(f"{path} is of what the run was before it trained on: backtested again")
            return None
        print(line)
    except InputError as error:
        damage = str(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        damage = f"{path} is damaged ({type(error).__name__})"
    else:
        return found | {"folder": str(out)}
    try:
        aside = rename_aside(out)
    except OSError as error:
        raise InputError(f"{damage}; it cannot be set aside ({error.strerror}): move {out} away") from None
    print(f"{damage}; set aside as {aside.name}, backtested again")
    return None


def _weights_of(folder: Path) -> str | None:
    """Hash of the weights that a run's own backtest is of now; None where no checkpoint says it."""
    summary = read_summary(folder)
    name = summary.get("best_checkpoint") or summary.get("latest_checkpoint")
    if name is None:
        return None
    found: str | None = read_meta(path_in(folder, name, source=folder / SUMMARY_FILE)).get("weights_sha256")
    return found


def _found_before(found: Mapping[str, Any]) -> str:
    period, own, other = found["period"], found["strategy"], found["baselines"]["buy_and_hold"]
    shown = [f"{word} {format_metric(name, own[name])}" for name, word in _REPEATED.items()]
    start, end = (str(period[name])[:10] for name in ("start", "end"))
    held = format_metric("total_return", other["total_return"])
    return f"{period['split']} split, {start} to {end}: {', '.join(shown)} (buy and hold {held})"


_REPEATED = {"total_return": "return", "sharpe": "Sharpe", "max_drawdown": "drawdown", "num_trades": "trades"}


def ended_in_store(mirror: Mirror | None, work: Callable[[], int]) -> int:
    """Do what trains a run, and bring what is new into its store, where it has one, whichever way that ends.

    Of a failure, that is what the user is told, and what the store says is one line beside it.

    Args:
        mirror: The run's; None where it is kept in a folder.
        work: Returns an exit code.

    Returns:
        The exit code.

    Raises:
        WriteError: if there was no other failure, and the store does not take it.
    """
    try:
        code = work()
    except Exception:
        _bring_failed(mirror)
        raise
    if code == FAILED:
        _bring_failed(mirror)
    else:
        finish_in_store(mirror)
    return code


def _bring_failed(mirror: Mirror | None) -> None:
    try:
        finish_in_store(mirror)
    except WriteError as error:
        print(error.strerror, file=sys.stderr)


def finish_in_store(mirror: Mirror | None) -> None:
    """Bring what is new in a run into its store, where it has one; of a run that has not begun, nothing.

    Raises:
        WriteError: if the store does not take it; the same command tries again, unless another machine has the run.
    """
    if mirror is None or not (mirror.folder / RECORD_FILE).is_file():
        return
    try:
        mirror.push_all()
    except LostLeaseError as error:
        raise WriteError(errno.EIO, f"{error}; the last files are in {mirror.folder}") from error
    except OSError as error:
        raise WriteError(
            error.errno or errno.EIO,
            f"the store did not take the last files ({first_line(error)}): they are in {mirror.folder}, and the same "
            "command brings them there",
        ) from error


def say_interrupted(folder: Path) -> int:
    """Say that the run can be carried on; returns the exit code."""
    print(f"interrupted; the same command carries on: {folder}")
    return INTERRUPTED


def say_failed(what: str, *, kept: str = "") -> int:
    """Say what failed, and what is kept all the same; returns the exit code."""
    print(f"error: {what}", file=sys.stderr)
    if kept:
        print(kept, file=sys.stderr)
    return FAILED
