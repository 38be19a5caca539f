"""Backtest trained models next to baselines: ``python experiments/backtest.py --model results/dow``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # before what takes seconds to import
from common.errors import InputError
from common.files import check_folder_writable
from common.store import absolute
from common.strict import STRICT
from envs.baseline_names import DEFAULT_BASELINES
from envs.settings import MOST_CAPITAL_USD, DataConfig
from experiments.backtesting.results_folders import results_folder
from experiments.command_line import check_json_flag, main, write_json_flag
from experiments.runs.folders import check_results_folder
from experiments.runs.models import find_models
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.command import ALIASES
from experiments.settings.fields import value_of
from experiments.settings.help import asks_for_help, print_help
from experiments.settings.layers import nested
from experiments.settings.run_config import PATHS


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BacktestConfig:
    """What can be set for a backtest; everything else comes from the models' runs."""

    model: tuple[str, ...] = ()
    """Run folder (its best checkpoint, else its latest) or checkpoint folder; several are compared on the same bars."""
    rules: str | None = None
    """Name of the model whose costs, fills and leverage all are tested under. None: each under its own, the baselines
    under the first's; what differs is said."""
    capital: float | None = Field(default=None, gt=0, le=MOST_CAPITAL_USD)
    """Capital of each account in US dollars. None: that of the run."""
    split: Literal["test", "validation", "train"] = "test"
    """Part of the history."""
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    """What the models are held against, by name, each one more pass through the split; module:function for a rule of
    your own, a function from envs.portfolio_rules.History to weights."""
    benchmark: str | None = None
    """Price file of one asset, asset or baseline that all series are compared with: alpha, beta, tracking error,
    information ratio, up and down capture."""
    out: str | None = None
    """Folder for the results. None: in the first model's run folder, backtest for the run's own test; else a name that
    says what differs, as in backtest-validation or comparison-with-dow2."""
    json: str | None = None
    """File for what is printed, as plain JSON."""
    data: DataConfig = field(default_factory=DataConfig)
    """Other prices for a trained model; what is not set here is as in its run."""


def run(argv: Sequence[str]) -> int:
    """Backtest what the command line names; print, and write the files.

    Raises:
        InputError: if a model, the prices or the output folder cannot be used.
    """
    if asks_for_help(argv):
        print_help(BacktestConfig, argv, prog="experiments/backtest.py", description=__doc__ or "", aliases=ALIASES)
        return 0
    flags = scan_flags(BacktestConfig, argv, aliases=ALIASES)
    config = parse_flags(BacktestConfig, flags, base={})
    if not config.model:
        raise InputError("--model is missing: name a run folder or a checkpoint, as in --model results/dow")
    check_json_flag(config.json)
    models = find_models(config.model)
    given = {name: value_of(config, name) for name in flags if name.startswith("data.")}
    given |= {name: absolute(given[name]) for name in PATHS if given.get(name) is not None}
    asked: dict[str, Any] = {
        "rules": config.rules,
        "capital": config.capital,
        "data": nested(given).get("data", {}),
        "split": config.split,
        "baselines": config.baselines,
        "benchmark": config.benchmark,
    }
    out = Path(config.out) if config.out is not None else results_folder(models, **asked)
    check_folder_writable(out, setting="--out")
    check_results_folder(out, setting="--out")

    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from algos.policy import load_policy
        from experiments.backtesting.compare import backtest_models, print_backtest, write_backtest

    backtest = backtest_models(models, load=load_policy, **asked)
    summary = write_backtest(backtest, out)
    print_backtest(backtest, out)
    write_json_flag(config.json, summary | {"folder": str(out.absolute())})
    return 0


if __name__ == "__main__":
    main(run)
