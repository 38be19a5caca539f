"""Cross-validation as a table, a picture, JSON, and a page that can be read."""

from __future__ import annotations

from collections.abc import Mapping
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
from envs.folds import CrossValidation
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
    """A finished cross-validation.

    Attributes:
        config: Settings of its runs.
        parts: Its folds, tests and paths.
        bars: The prices.
        found: What it has come to, as ``evaluated`` says it.
        courses: Of each baseline, and of each seed or its paths by ``series_name``.
    """

    config: RunConfig
    parts: CrossValidation
    bars: Bars
    found: Mapping[str, Any]
    courses: Mapping[str, Course]

    @property
    def title(self) -> str:
        """Learner and prices."""
        return f"{self.config.algo} on {Path(self.bars.source).name}"

    @property
    def num_paths(self) -> int:
        """Of each seed."""
        return len(self.parts.paths)

    @property
    def tests(self) -> str:
        """The tests in words."""
        starts, last_day = self.parts.starts, str(self.bars.dates[-1])[:10]
        folds = f", {len(self.parts.folds)} folds joined to {self.num_paths} paths" if self.num_paths > 1 else ""
        return f"{len(starts)} tests in a row, {starts[0][:10]} to {last_day}, out of sample{folds}"

    @property
    def spread(self) -> str:
        """How the Sharpe ratios of the paths are distributed, in words; nothing where a seed has one path alone."""
        of, count = self.found["sharpe_of_paths"], len(self.found["seeds"])
        if of is None:
            return ""
        return (
            f"Sharpe ratio of {count} paths: median {of['median']:.2f}, half of them {of['q25']:.2f} "
            f"to {of['q75']:.2f}, all {of['min']:.2f} to {of['max']:.2f}, standard deviation {of['std']:.2f}; "
            f"{of['below_zero']:.0%} below 0, {of['below_best_baseline']:.0%} below "
            f"{title_case(self.found['best_baseline'])}"
        )

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
    found = walk.found
    show(rows_table(walk.rows(), title=walk.tests))
    if walk.spread:
        print(walk.spread)
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
        "folds": [{"number": fold.number, "tests": fold.tests, **fold.data} for fold in walk.parts.folds],
        "paths": [[walk.parts.folds[i].number for i in path] for path in walk.parts.paths],
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
    """The section of a Markdown page: command, tests, table, and how to read it."""
    found, starts = walk.found, ", ".join(start[:10] for start in walk.parts.starts)
    lines = [
        f"## {walk.title}",
        "",
        f"`{command}`",
        "",
        f"{walk.tests}; they begin on {starts}. {len(found['seeds']) // walk.num_paths} seeds of "
        f"{walk.config.episodes} episodes for each fold. Best baseline by its Sharpe ratio: "
        f"{title_case(found['best_baseline'])}.",
        "",
        markdown_table(walk.rows()),
    ]
    if walk.spread:
        lines += ["", f"{walk.spread}."]
    if found["deflated_sharpe"]:
        lines += [
            "",
            f"Deflated against {found['hurdle']:.2f}, the best of {found['num_trials']} useless models of a fold.",
        ]
    return "\n".join([*lines, ""])


def plot_evaluation(path: Path, walk: Walk) -> Path:
    """Draw growth of one dollar through all tests, and Sharpe ratios with their standard errors, or of all paths.

    Raises:
        WriteError: if the file cannot be written.
    """
    found, baselines = walk.found["seeds"], walk.found["baselines"]
    seeds = list(dict.fromkeys(name.partition(",")[0] for name in found))
    lines: list[tuple[str, str | None, str, float]] = [
        (name, title_case(name), colour, 1.0) for name, colour in zip(baselines, cycle(BASELINE_COLOURS), strict=False)
    ]
    for seed, colour in zip(seeds, cycle(STRATEGY_COLOURS), strict=False):
        own = [name for name in found if name.partition(",")[0] == seed]
        lines += [(name, f"seed {seed}" if name == own[0] else None, colour, 1.4 / len(own) ** 0.5) for name in own]
    points = [(f"seed {name.partition(',')[0]}", own, STRATEGY_COLOURS[0]) for name, own in found.items()]
    points += [(title_case(name), own, BASELINE_COLOURS[0]) for name, own in baselines.items() if name != "cash"]
    rows = list(dict.fromkeys(label for label, _, _ in points))
    is_spread = walk.num_paths > 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.8), layout="constrained")
        figure.suptitle(f"{walk.title}: out of sample", x=0.01, ha="left", fontweight="bold")
        left, right = figure.subplots(1, 2, width_ratios=[2, 1])
        for name, label, colour, width in lines:
            course = walk.courses[name]
            left.plot(course.dates, course.equity[1:], color=colour, linewidth=width, label=label)
        for start in walk.parts.starts:
            left.axvline(date2num(np.datetime64(start)), color="black", linewidth=0.5, linestyle=":")
        dotted = "another model of the path" if is_spread else "a new fold, trained on all before"
        left.set(title=f"Growth of one dollar (dotted: {dotted})", ylabel="US dollars")
        left.legend(ncols=2)
        for label, own, colour in points:
            error = None if is_spread else 1.96 * own["sharpe_se"]
            marks = {"fmt": "o", "color": colour, "capsize": 3, "alpha": 0.6 if is_spread else 1.0}
            right.errorbar(own["sharpe"], -rows.index(label), xerr=error, **marks)
        right.set_yticks([-i for i in range(len(rows))], rows)
        right.axvline(0.0, color="black", linewidth=0.8)
        right.set(title="Sharpe ratio a year, of each path" if is_spread else "Sharpe ratio a year, 95 %")
        return save_figure(figure, path)
