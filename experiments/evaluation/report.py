"""A walk-forward as a table, a picture, JSON, and a page that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from common.files import write_json, write_text
from common.provenance import collect_provenance
from envs.bar_data import Bars
from experiments.evaluation.folds import Fold
from experiments.evaluation.results import FIGURES, Evaluation, as_json
from experiments.reporting.plots import BASELINE_COLOURS, STRATEGY_COLOURS, STYLE, save_figure
from experiments.reporting.tables import format_metric, markdown_table, rows_table, show, title_case
from experiments.settings.run_config import RunConfig, config_to_json

RESULTS_FILE, PICTURE_FILE, PAGE_FILE = "evaluation.json", "evaluation.png", "evaluation.md"


def evaluation_rows(found: Evaluation, *, algo: str) -> list[dict[str, str]]:
    """One row for each seed, for their mean with its 95 % interval, and for each baseline."""
    rows = [
        _row(f"{algo}, seed {seed}", own, found.probability[seed], found.deflated.get(seed))
        for seed, own in found.of_seeds.items()
    ]
    means = {name: one.mean for name, one in found.intervals.items()}
    rows.append(_row(f"{algo}, mean", means, _mean(found.probability), _mean(found.deflated)))
    ends = {end: {name: getattr(one, end) for name, one in found.intervals.items()} for end in ("low", "high")}
    rows += [_row(f"... 95 % {end}", of_end) for end, of_end in ends.items()]
    return rows + [_row(title_case(name), own) for name, own in found.of_baselines.items()]


def _row(name: str, own: dict[str, float], probability: float | None = None, deflated: float | None = None) -> Any:
    cells = {"series": name} | {title_case(figure): format_metric(figure, own[figure]) for figure in FIGURES}
    return cells | {"P(beats best)": _share(probability), "deflated": _share(deflated)}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _mean(values: dict[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


def print_evaluation(found: Evaluation, folder: Path, *, config: RunConfig, folds: Sequence[Fold], bars: Bars) -> None:
    """Print the table, and how to read it."""
    last = str(bars.dates[-1])[:10]
    title = f"{len(folds)} tests in a row, {folds[0].test_start[:10]} to {last}, out of sample"
    show(rows_table(evaluation_rows(found, algo=config.algo), title=title))
    print(f"best baseline by its Sharpe ratio: {title_case(found.best_baseline)}")
    print("P(beats best): probability that the true Sharpe ratio exceeds that baseline's (Bailey, Lopez de Prado 2012)")
    if found.deflated:
        print(f"deflated: against {found.hurdle:.2f}, what the best of {found.num_trials} useless trials would show")
    print(f"picture: {folder / PICTURE_FILE}; figures: {folder / RESULTS_FILE}")


def write_evaluation(
    found: Evaluation, folder: Path, *, config: RunConfig, folds: Sequence[Fold], bars: Bars, command: str
) -> dict[str, Any]:
    """Write figures, picture and page into the folder; returns what the file of figures holds.

    Args:
        found: What the walk has come to.
        folder: The folder of the walk.
        config: Settings of its runs.
        folds: Its tests.
        bars: The prices.
        command: What the user gave, for the page.

    Raises:
        WriteError: if they cannot be written.
    """
    record = {
        "config": config_to_json(config),
        "provenance": collect_provenance(data_fingerprint=bars.fingerprint),
        "data": {"source": bars.source, "periods_per_year": bars.periods_per_year},
        "folds": [vars(fold) for fold in folds],
        **as_json(found),
    }
    write_json(folder / RESULTS_FILE, record)
    write_text(folder / PAGE_FILE, evaluation_page(found, config=config, folds=folds, bars=bars, command=command))
    plot_evaluation(folder / PICTURE_FILE, found, folds=folds, title=f"{config.algo} on {Path(bars.source).name}")
    return record


def evaluation_page(found: Evaluation, *, config: RunConfig, folds: Sequence[Fold], bars: Bars, command: str) -> str:
    """The walk as a section of a Markdown page: command, tests, table, and how to read it."""
    tests = ", ".join(f"{fold.test_start[:10]}" for fold in folds)
    lines = [
        f"## {config.algo} on {Path(bars.source).name}",
        "",
        f"`{command}`",
        "",
        f"{len(folds)} tests in a row, from {tests}, the last to {str(bars.dates[-1])[:10]}; "
        f"{len(found.of_seeds)} seeds of {config.episodes} episodes for each. Best baseline by its Sharpe ratio: "
        f"{title_case(found.best_baseline)}.",
        "",
        markdown_table(evaluation_rows(found, algo=config.algo)),
    ]
    if found.deflated:
        lines += ["", f"Deflated against {found.hurdle:.2f}, the best of {found.num_trials} useless trials."]
    return "\n".join([*lines, ""])


def plot_evaluation(path: Path, found: Evaluation, *, folds: Sequence[Fold], title: str) -> Path:
    """Draw growth of one dollar through all tests, and Sharpe ratios with their standard errors.

    Raises:
        WriteError: if the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.8), layout="constrained")
        figure.suptitle(f"{title}: out of sample", x=0.01, ha="left", fontweight="bold")
        left, right = figure.subplots(1, 2, width_ratios=[2, 1])
        shown = list(found.of_baselines)
        for i, name in enumerate(shown):
            course = found.baselines[name]
            colour = BASELINE_COLOURS[i % len(BASELINE_COLOURS)]
            left.plot(course.dates, course.equity[1:], color=colour, linewidth=1, label=title_case(name))
        for i, (seed, course) in enumerate(found.seeds.items()):
            colour = STRATEGY_COLOURS[i % len(STRATEGY_COLOURS)]
            left.plot(course.dates, course.equity[1:], color=colour, linewidth=1.4, label=f"seed {seed}")
        for fold in folds:
            left.axvline(date2num(np.datetime64(fold.test_start)), color="black", linewidth=0.5, linestyle=":")
        left.set(title="Growth of one dollar (dotted: a new fold, trained on all before)", ylabel="US dollars")
        left.legend(ncols=2)
        bars = {f"seed {seed}": own for seed, own in found.of_seeds.items()} | {
            title_case(name): own for name, own in found.of_baselines.items() if name != "cash"
        }
        for i, (name, own) in enumerate(bars.items()):
            colour = STRATEGY_COLOURS[0] if name.startswith("seed ") else BASELINE_COLOURS[0]
            right.errorbar(own["sharpe"], -i, xerr=1.96 * own["sharpe_se"], fmt="o", color=colour, capsize=3)
        right.set_yticks([-i for i in range(len(bars))], list(bars))
        right.axvline(0.0, color="black", linewidth=0.8)
        right.set(title="Sharpe ratio a year, 95 %")
        return save_figure(figure, path)
