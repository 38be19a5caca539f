"""What follows training, whichever way it ends: a line that says so, an exit code, or the backtest."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

from experiments.backtesting.compare import backtest_models, print_backtest, write_backtest
from experiments.backtesting.places import results_folder
from experiments.cli import FAILED, INTERRUPTED
from experiments.config import RunConfig, run_vault
from experiments.models import find_models
from experiments.recovery.store import first_line
from experiments.reporting.files import WriteError, read_json
from experiments.reporting.tables import format_metric


def backtest_run(source: str, *, capital: float | None = None) -> dict[str, Any]:
    """Backtest a trained model on the test split and write the files into its run folder.

    Args:
        source: Run folder or checkpoint.
        capital: Capital instead of the run's own, USD.

    Returns:
        What ``backtest.json`` holds, and the ``folder`` that it lies in.
    """
    from algos.policy import load_policy  # only now: torch and RLlib take seconds to import

    models = find_models([source])
    done = backtest_models(models, load=load_policy, capital=capital)
    out = results_folder(models, capital=capital)
    summary = write_backtest(done, out)
    print_backtest(done, out)
    return summary | {"folder": str(out)}


def repeat_backtest(out: Path) -> dict[str, Any]:
    """Say in a line what a backtest of before has found, and where its files are; returns what it found."""
    found: dict[str, Any] = read_json(out / "backtest.json")
    period, own, other = found["period"], found["strategy"], found["baselines"]["buy_and_hold"]
    shown = [f"{word} {format_metric(name, own[name])}" for name, word in _REPEATED.items()]
    start, end = (str(period[name])[:10] for name in ("start", "end"))
    held = format_metric("total_return", other["total_return"])
    print(f"{period['split']} split, {start} to {end}: {', '.join(shown)} (buy and hold {held}); files in {out}")
    return found | {"folder": str(out)}


_REPEATED = {"total_return": "return", "sharpe": "Sharpe", "max_drawdown": "drawdown", "num_trades": "trades"}


def finish_in_store(config: RunConfig) -> None:
    """Bring what is new in a finished or interrupted run into its store, where it has one.

    Raises:
        WriteError: if the store does not take it; the same command tries again.
    """
    vault = run_vault(config)
    if vault is None:
        return
    try:
        vault.push_all()
    except OSError as error:
        raise WriteError(
            error.errno or errno.EIO,
            f"the store did not take the last files ({first_line(error)}): they are in {vault.folder}, and the same "
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


def last_line(error: BaseException) -> str:
    """The last line of what a worker process reported: the error itself, below its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
