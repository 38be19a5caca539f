"""Picture of a score: learning curves, and learned against optimal actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.plots import BASELINE_COLOURS, OTHER_COLOUR, STRATEGY_COLOURS, STYLE, save_figure
from experiments.scoring.results import Learned, best_of
from experiments.scoring.standing import Row, judge

PICTURE_FILE = "score.png"


def plot_score(
    path: str | Path, seeds: Sequence[Learned], record: Mapping[str, Any], *, title: str, are_choices: bool
) -> Path:
    """Draw what the seeds have learned; their actions too, where the best ones are known.

    Args:
        path: PNG file.
        seeds: What each has learned.
        record: What they have reached together.
        title: Of the picture.
        are_choices: Whether actions are choices: then equal ones are counted, not drawn over one another.

    Raises:
        WriteError: if the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        shown = [one for one in seeds if one.shown is not None]
        axes = figure.subplots(1, 2 if shown else 1, squeeze=False)[0]
        _draw_curves(axes[0], seeds, record)
        if shown:
            _draw_actions(axes[1], shown, record["best_is"], are_choices)
        return save_figure(figure, Path(path))


def _draw_curves(axis: Axes, seeds: Sequence[Learned], record: Mapping[str, Any]) -> None:
    for i, one in enumerate(seeds):
        colour = STRATEGY_COLOURS[i % len(STRATEGY_COLOURS)]
        axis.plot(one.steps, one.curve, color=colour, linewidth=1.2, label=f"seed {one.seed}")
    if (best := best_of(record)) is not None:
        axis.axhline(best, color="black", linewidth=1, linestyle="--", label=record["best_is"])
    axis.axhline(record["baseline"], color=BASELINE_COLOURS[0], linewidth=1, linestyle=":", label="baseline")
    axis.set(title="Objective of the greedy policy", xlabel="environment steps", ylabel="mean over agents")
    axis.legend()


def _draw_actions(axis: Axes, seeds: Sequence[Learned], optimum: str, are_choices: bool) -> None:
    low, high = np.inf, -np.inf
    for i, one in enumerate(seeds):
        assert one.shown is not None
        best, chosen = (np.asarray(rows) for rows in one.shown)
        low, high = min(low, best.min(), chosen.min()), max(high, best.max(), chosen.max())
        colour = STRATEGY_COLOURS[i % len(STRATEGY_COLOURS)]
        if are_choices:
            points, counts = np.unique(np.column_stack([best[:, 0], chosen[:, 0]]), axis=0, return_counts=True)
            axis.scatter(points[:, 0], points[:, 1], s=20 + 300 * counts / counts.sum(), color=colour, alpha=0.4)
        else:
            for d in range(best.shape[1]):
                axis.scatter(best[:, d], chosen[:, d], s=6, color=colour, alpha=0.35, marker="o^sdv"[d % 5])
    axis.plot([low, high], [low, high], color=OTHER_COLOUR, linewidth=1, zorder=0)
    axis.set(title=f"Actions where the {optimum} leads", xlabel=optimum, ylabel="learned")


def plot_table(path: str | Path, rows: Sequence[tuple[Row, Mapping[str, Any] | None]]) -> Path:
    """Draw what each row of the standing table has reached, on the scale of its goal: 0 is the goal's own end.

    Args:
        path: PNG file.
        rows: Rows with their records; those without a record or a goal are left out.

    Raises:
        WriteError: if the file cannot be written.
    """
    shown = [(row, judge(row, record)) for row, record in rows if record is not None and row.goal is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.28 * len(shown)), layout="constrained")
        axis = figure.subplots()
        for i, (row, found) in enumerate(shown):
            assert row.goal is not None
            end = row.goal.least if row.goal.least is not None else row.goal.most
            assert end is not None
            side = 1.0 if row.goal.least is not None else -1.0
            middle, low, high = (
                side * (v - end) / abs(end) for v in (found.found.mean, found.found.low, found.found.high)
            )
            colour = STRATEGY_COLOURS[0] if found.is_met else STRATEGY_COLOURS[1]
            axis.errorbar(
                middle, -i, xerr=[[abs(middle - low)], [abs(high - middle)]], fmt="o", color=colour, capsize=3
            )
        axis.axvline(0.0, color=OTHER_COLOUR, linewidth=1)
        axis.set_yticks([-i for i in range(len(shown))], [f"{row.problem}, {row.algo}" for row, _ in shown])
        axis.set(title="Distance from the goal", xlabel="relative to the goal; right of the line is better")
        return save_figure(figure, Path(path))
