"""A walk-forward as a table, a picture, JSON, and a page that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from common.files import write_json, write_parquet, write_text
from common.provenance import collect_provenance
from envs.bar_data import Bars
from envs.folds import Fold
from experiments.evaluation.results import FIGURES, Course
from experiments.reporting.plots import BASELINE_COLOURS, STRATEGY_COLOURS, STYLE, save_figure
from experiments.reporting.tables import format_metric, markdown_table, rows_table, show, title_case
from experiments.settings.run_config import RunConfig, config_to_json

SURE = {
    "mean": ("mean > best", "confidence that the mean return is above the best baseline's (stationary bootstrap)"),
    "ratio": ("sharpe > best", "confidence that the Sharpe ratio is above the best baseline's (Ledoit, Wolf 2008)"),
    "all": ("unbeaten p", "p-value of no baseline having a larger mean return (Hansen 2005): small, and one is better"),
    "deflated": ("deflated", "probability that the Sharpe ratio is above what luck among a search's trials would show"),
}
"""Columns that say how sure a seed's figures are, and what they mean (docs/metrics.md)."""
RESULTS_FILE, PICTURE_FILE, PAGE_FILE = "evaluation.json", "evaluation.png", "evaluation.md"
EQUITY_FILE = "equity.parquet"
"""Growth of one dollar of each seed and baseline: ``date``, ``series``, ``equity``."""


class Walk(NamedTuple):
    """A finished walk-forward.

    Attributes:
        config: Settings of its runs.
        folds: Its tests.
        bars: The prices.
        found: What it has come to, as ``evaluated`` says it.
        courses: Of each baseline, and of each seed by its number.
    """

    config: RunConfig
    folds: Sequence[Fold]
    bars: Bars
    found: Mapping[str, Any]
    courses: Mapping[str, Course]

    @property
    def title(self) -> str:
        """Learner and prices."""
        return f"{self.config.algo} on {Path(self.bars.source).name}"

    @property
    def last_day(self) -> str:
        """Of the last test."""
        return str(self.bars.dates[-1])[:10]

    def rows(self) -> list[dict[str, str]]:
        """One row for each seed, for their mean with its 95 % interval, and for each baseline."""
        found, algo, together = self.found, self.config.algo, self.found["seeds_together"]
        ends = {end: {name: one[end] for name, one in found["intervals"].items()} for end in ("mean", "low", "high")}
        return [
            *(_row(f"{algo}, seed {i}", own, **self._sure_of(i)) for i, own in found["seeds"].items()),
            _row(f"{algo}, mean", ends["mean"], mean=together["mean_confidence"], ratio=together["sharpe_confidence"]),
            _row("... 95 % low", ends["low"]),
            _row("... 95 % high", ends["high"]),
            *(_row(title_case(name), own) for name, own in found["baselines"].items()),
        ]

    def _sure_of(self, seed: str) -> dict[str, float]:
        """How sure a seed's figures are, by the name of a column."""
        tests, deflated = self.found["paired_tests"][seed], self.found["deflated_sharpe"].get(seed)
        best = tests["against"][self.found["best_baseline"]]
        sure = {"mean": best["mean_confidence"], "ratio": best["sharpe_confidence"], "all": tests["not_beaten_p"]}
        return sure if deflated is None else sure | {"deflated": deflated}


def _row(name: str, own: Mapping[str, float], **sure: float) -> dict[str, str]:
    cells = {"series": name} | {title_case(figure): format_metric(figure, own[figure]) for figure in FIGURES}
    return cells | {title: f"{sure[key]:.2f}" if key in sure else "-" for key, (title, _) in SURE.items()}


def print_evaluation(walk: Walk, folder: Path) -> None:
    """Print the table, and how to read it."""
    found, first = walk.found, walk.folds[0].test_start[:10]
    show(rows_table(walk.rows(), title=f"{len(walk.folds)} tests in a row, {first} to {walk.last_day}, out of sample"))
    print(f"best baseline by its Sharpe ratio: {title_case(found['best_baseline'])}")
    for title, meaning in SURE.values():
        print(f"{title}: {meaning}")
    if found["deflated_sharpe"]:
        print(
            f"hurdle: {found['hurdle']:.2f}, what the best of {found['num_trials']} useless models of a fold would show"
        )
    print(f"picture: {folder / PICTURE_FILE}; figures: {folder / RESULTS_FILE}")


def write_evaluation(walk: Walk, folder: Path, *, command: str) -> dict[str, Any]:
    """Write figures, curves, picture and page into the folder; returns what the file of figures holds.

    Args:
        walk: What was found.
        folder: The folder of the walk.
        command: What the user gave, for the page.

    Raises:
        WriteError: if they cannot be written.
    """
    record = {
        "config": config_to_json(walk.config),
        "provenance": collect_provenance(data_fingerprint=walk.bars.fingerprint),
        "data": {"source": walk.bars.source, "periods_per_year": walk.bars.periods_per_year},
        "folds": [vars(fold) for fold in walk.folds],
        **walk.found,
    }
    tables = {name: pd.DataFrame({"date": own.dates, "equity": own.equity[1:]}) for name, own in walk.courses.items()}
    equity = pd.concat(tables, names=["series", None]).reset_index("series")
    write_parquet(folder / EQUITY_FILE, equity[["date", "series", "equity"]])
    write_json(folder / RESULTS_FILE, record)
    write_text(folder / PAGE_FILE, evaluation_page(walk, command))
    plot_evaluation(folder / PICTURE_FILE, walk)
    return record


def evaluation_page(walk: Walk, command: str) -> str:
    """The walk as a section of a Markdown page: command, tests, table, and how to read it."""
    found, tests = walk.found, ", ".join(fold.test_start[:10] for fold in walk.folds)
    lines = [
        f"## {walk.title}",
        "",
        f"`{command}`",
        "",
        f"{len(walk.folds)} tests in a row, from {tests}, the last to {walk.last_day}; {len(found['seeds'])} seeds of "
        f"{walk.config.episodes} episodes for each. Best baseline by its Sharpe ratio: "
        f"{title_case(found['best_baseline'])}.",
        "",
        markdown_table(walk.rows()),
    ]
    if found["deflated_sharpe"]:
        lines += [
            "",
            f"Deflated against {found['hurdle']:.2f}, the best of {found['num_trials']} useless models of a fold.",
        ]
    return "\n".join([*lines, ""])


def plot_evaluation(path: Path, walk: Walk) -> Path:
    """Draw growth of one dollar through all tests, and Sharpe ratios with their standard errors.

    Raises:
        WriteError: if the file cannot be written.
    """
    seeds, baselines = walk.found["seeds"], walk.found["baselines"]
    lines = [(n, title_case(n), colour, 1.0) for n, colour in zip(baselines, cycle(BASELINE_COLOURS), strict=False)]
    lines += [(n, f"seed {n}", colour, 1.4) for n, colour in zip(seeds, cycle(STRATEGY_COLOURS), strict=False)]
    bars = [(f"seed {seed}", own, STRATEGY_COLOURS[0]) for seed, own in seeds.items()]
    bars += [(title_case(name), own, BASELINE_COLOURS[0]) for name, own in baselines.items() if name != "cash"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.8), layout="constrained")
        figure.suptitle(f"{walk.title}: out of sample", x=0.01, ha="left", fontweight="bold")
        left, right = figure.subplots(1, 2, width_ratios=[2, 1])
        for name, label, colour, width in lines:
            course = walk.courses[name]
            left.plot(course.dates, course.equity[1:], color=colour, linewidth=width, label=label)
        for fold in walk.folds:
            left.axvline(date2num(np.datetime64(fold.test_start)), color="black", linewidth=0.5, linestyle=":")
        left.set(title="Growth of one dollar (dotted: a new fold, trained on all before)", ylabel="US dollars")
        left.legend(ncols=2)
        for i, (_, own, colour) in enumerate(bars):
            right.errorbar(own["sharpe"], -i, xerr=1.96 * own["sharpe_se"], fmt="o", color=colour, capsize=3)
        right.set_yticks([-i for i in range(len(bars))], [name for name, _, _ in bars])
        right.axvline(0.0, color="black", linewidth=0.8)
        right.set(title="Sharpe ratio a year, 95 %")
        return save_figure(figure, path)
