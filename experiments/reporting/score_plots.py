"""Picture of a score: learning curves, and learned against optimal actions."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.reporting.plots import BASELINE_COLOURS, OTHER_COLOUR, STRATEGY_COLOURS, STYLE, save_figure
from experiments.scoring.results import Scored


def plot_score(path: str | Path, result: Scored, *, title: str, optimum: str, are_choices: bool) -> Path:
    """Draw what the seeds have learned.

    Args:
        path: PNG file.
        result: Of the seeds.
        title: Of the picture.
        optimum: What the best policy is called: optimum, or equilibrium.
        are_choices: Whether actions are choices: then equal ones are counted, not drawn over one another.

    Raises:
        WriteError: if the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        left, right = figure.subplots(1, 2)
        for i, one in enumerate(result.seeds):
            colour = STRATEGY_COLOURS[i % len(STRATEGY_COLOURS)]
            left.plot(one.steps, one.curve, color=colour, linewidth=1.2, label=f"seed {one.seed}")
        left.axhline(result.optimum, color="black", linewidth=1, linestyle="--", label=optimum)
        left.axhline(result.baseline, color=BASELINE_COLOURS[0], linewidth=1, linestyle=":", label="baseline")
        left.set(title="Objective of the greedy policy", xlabel="environment steps", ylabel="mean over agents")
        left.legend()
        low, high = np.inf, -np.inf
        for i, one in enumerate(result.seeds):
            best, chosen = (np.asarray(rows) for rows in one.shown)
            low, high = min(low, best.min(), chosen.min()), max(high, best.max(), chosen.max())
            colour = STRATEGY_COLOURS[i % len(STRATEGY_COLOURS)]
            if are_choices:
                points, counts = np.unique(np.column_stack([best[:, 0], chosen[:, 0]]), axis=0, return_counts=True)
                right.scatter(*points.T, s=20 + 300 * counts / counts.sum(), color=colour, alpha=0.4)
            else:
                for d in range(best.shape[1]):
                    right.scatter(best[:, d], chosen[:, d], s=6, color=colour, alpha=0.35, marker="o^sdv"[d % 5])
        right.plot([low, high], [low, high], color=OTHER_COLOUR, linewidth=1, zorder=0)
        right.set(title=f"Actions where the {optimum} leads", xlabel=optimum, ylabel="learned")
        return save_figure(figure, Path(path))
