"""Pictures of backtests."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num, num2date
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from common.files import whole_file
from envs.metrics import drawdowns, total_return
from experiments.reporting.tables import METRIC_COLUMNS, format_metric, money, title_case

if TYPE_CHECKING:
    from envs.backtest import BacktestResult

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.fontsize": 8,
    "legend.frameon": False,
}
STRATEGY_COLOURS = ("#0b5394", "#cc4125", "#38761d", "#741b47", "#b45f06")
BASELINE_COLOURS = ("#8a8a8a", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d6c400")
OTHER_COLOUR, DARKER_OTHER_COLOUR = "#bbbbbb", "#888888"
MOST_LEGEND_ROWS = 9
SAME_CURVE = 2e-3
"""Relative difference below which one line hides another."""


def plot_backtest(
    path: str | Path,
    strategies: Sequence[BacktestResult],
    baselines: Sequence[BacktestResult],
    *,
    title: str,
    subtitle: str = "",
) -> Path:
    """Draw a backtest as one PNG: equity against baselines, drawdown, weights, profit of each agent, costs.

    With several strategies the lower panels compare them instead: a table of metrics, and the costs of each.

    Args:
        path: File to write, whole.
        strategies: One model, or several to compare.
        baselines: Drawn thin, behind the strategies.
        title: At the top: what, and over which period.
        subtitle: Below it, on as many lines as it takes: capital and costs.

    Raises:
        WriteError: if the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 15.0 if len(strategies) == 1 else 13.0))
        figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.08, hspace=0.03)
        figure.suptitle(textwrap.fill(title, 90), x=0.01, ha="left", fontsize=15, fontweight="bold")
        if len(strategies) == 1:
            axes = figure.subplots(5, 1, height_ratios=(3.0, 1.4, 1.9, 1.7, 1.5), sharex=True)
            _draw_weights(axes[2], strategies[0])
            _draw_agents(axes[3], strategies[0])
            _draw_costs(axes[4], strategies)
        else:
            axes = figure.subplots(4, 1, height_ratios=(3.0, 1.4, 1.3, 1.7))
            _draw_costs(axes[2], strategies)
            _draw_metrics(axes[3], [*strategies, *baselines])
        _draw_equity(axes[0], strategies, baselines)
        _draw_drawdown(axes[1], strategies, baselines)
        above = {"xycoords": "axes fraction", "xytext": (0, 24), "textcoords": "offset points"}
        axes[0].annotate(textwrap.fill(subtitle, 140), (0, 1), va="bottom", **above)
        dates = strategies[0].dates
        dated = axes if len(strategies) == 1 else axes[:3]
        for axis in dated:
            if _is_often_closed(dates):
                axis.set_xscale("function", functions=_without_closed_hours(dates))
            locator = _OpenDates(minticks=5, maxticks=12)
            axis.xaxis.set_major_locator(locator)
            axis.xaxis.set_major_formatter(_DatesWithYear(locator))
            axis.set_xlim(dates[0], dates[-1])
            axis.tick_params(labelbottom=True)
        return save_figure(figure, Path(path))


def _is_often_closed(dates: NDArray[np.datetime64]) -> bool:
    """Whether an axis of time would for the most part show nights and weekends."""
    gaps = np.diff(dates)
    usual = np.median(gaps)
    return bool(usual < np.timedelta64(20, "h") and gaps.sum() > 1.5 * usual * len(gaps))


def _without_closed_hours(dates: NDArray[np.datetime64]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """From dates, as matplotlib counts them, to places on an axis on which all bars are equally wide, and back."""
    days, places = date2num(dates), np.arange(len(dates), dtype=float)
    return lambda day: np.interp(day, days, places), lambda place: np.interp(place, places, days)


class _OpenDates(AutoDateLocator):
    """Dates of ticks; of those that closed hours bring to one place, the last."""

    def __call__(self) -> Any:
        ticks = np.asarray(super().__call__(), dtype=float)
        axis: Any = self.axis
        to_places = axis.get_transform().transform
        places, (first, last) = to_places(ticks), to_places(np.sort(axis.get_view_interval()))
        return ticks[np.diff(places, append=np.inf) > 0.02 * (last - first)]


class _DatesWithYear(ConciseDateFormatter):
    """Short dates; the first that is shown names its year, which else stands far off in a corner."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        labels = list(super().format_ticks(values))
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        shown = next((i for i, value in enumerate(values) if low <= value <= high), None)
        if shown is not None and labels[shown]:
            year = str(num2date(values[shown]).year)
            if year not in labels[shown]:
                labels[shown] += f"\n{year}"
        return labels


def _draw_equity(axis: Axes, strategies: Sequence[BacktestResult], baselines: Sequence[BacktestResult]) -> None:
    drawn: list[tuple[BacktestResult, Any]] = []
    for results, colours, width, order in (
        (baselines, BASELINE_COLOURS, 1.1, 2),
        (strategies, STRATEGY_COLOURS, 2.2, 5),
    ):
        for result, colour in zip(results, cycle(colours), strict=False):
            style = _line_style(result, [other for other, _ in drawn])
            label = f"{title_case(result.name)} {total_return(result.equity):+.1%}"
            (line,) = axis.plot(result.dates, result.equity, color=colour, linestyle=style, label=label)
            line.set(linewidth=width, zorder=order)
            drawn.append((result, line))
    axis.axhline(strategies[0].equity[0], color="black", linewidth=0.6, alpha=0.5)
    lines = [line for _, line in sorted(drawn, key=lambda one: -one[0].equity[-1])]
    _finish(axis, "Equity", lines, [line.get_label() for line in lines], _in_dollars, legend="total return")


def _line_style(result: BacktestResult, drawn: Sequence[BacktestResult]) -> Any:
    """Solid; dashed over a curve that is there already and all but the same, so that both are seen."""
    same = any(
        result.equity.shape == other.equity.shape and np.allclose(result.equity, other.equity, rtol=SAME_CURVE)
        for other in drawn
    )
    return (0, (4, 4)) if same else "solid"


def _draw_drawdown(axis: Axes, strategies: Sequence[BacktestResult], baselines: Sequence[BacktestResult]) -> None:
    handles, labels = [], []
    for results, colours, width, order in (
        (strategies, STRATEGY_COLOURS, 1.4, 5),
        (baselines, BASELINE_COLOURS, 1.0, 2),
    ):
        for result, colour in zip(results, cycle(colours), strict=False):
            if results is baselines and result.name not in ("buy_and_hold", "equal_weight"):
                continue
            depth = drawdowns(result.equity)
            if results is strategies and len(strategies) == 1:
                axis.fill_between(result.dates, depth, 0, color=colour, alpha=0.25, linewidth=0)
            handles += axis.plot(result.dates, depth, color=colour, linewidth=width, zorder=order)
            labels.append(f"{title_case(result.name)} {depth.min():.1%}")
    axis.set_ylim(top=0)
    _finish(axis, "Drawdown", handles, labels, PercentFormatter(1.0, decimals=None), legend="deepest")


def _draw_weights(axis: Axes, result: BacktestResult) -> None:
    weights = _largest_columns(result.weights)
    greys = {"other long": OTHER_COLOUR, "other short": DARKER_OTHER_COLOUR}
    is_summed = len(weights.columns) < len(result.weights.columns)
    colours = [
        next((grey for start, grey in greys.items() if is_summed and name.startswith(start)), colour)
        for name, colour in zip(weights.columns, cycle(_palette()), strict=False)
    ]
    dates, values = result.dates[1:], weights.to_numpy()
    handles = axis.stackplot(dates, np.maximum(values, 0).T, colors=colours, linewidth=0, step="post")
    axis.stackplot(dates, np.minimum(values, 0).T, colors=colours, linewidth=0, step="post")
    axis.axhline(0, color="black", linewidth=0.7)
    title = "Weights (long above zero, short below), fraction of equity"
    _finish(axis, title, handles, list(weights.columns), PercentFormatter(1.0, decimals=0))


def _draw_agents(axis: Axes, result: BacktestResult) -> None:
    profit = result.agent_profit
    colours = dict(zip(profit.columns, cycle(_palette()), strict=False))
    last, dates = profit.iloc[-1].sort_values(ascending=False), result.dates[1:]
    handles = [axis.plot(dates, profit[agent], color=colours[agent], linewidth=1.4)[0] for agent in last.index]
    axis.axhline(0, color="black", linewidth=0.7)
    labels = [f"{agent} {money(value)}" for agent, value in last.items()]
    shown = slice(MOST_LEGEND_ROWS)
    _finish(axis, "Profit of each agent, after costs", handles[shown], labels[shown], _in_dollars)


def _draw_costs(axis: Axes, strategies: Sequence[BacktestResult]) -> None:
    """Of one strategy by kind, one above the other; of several their sums, as lines."""
    totals = [result.costs.drop(columns=["interest", "funding"], errors="ignore").cumsum() for result in strategies]
    handles: list[Any] = []
    if len(totals) == 1:
        (total,) = totals
        kinds = [name for name in total.columns if abs(total[name].iloc[-1]) > 0] or list(total.columns[:1])
        values, colours = total[kinds].clip(lower=0).to_numpy().T, _palette()[: len(kinds)]
        handles += axis.stackplot(strategies[0].dates[1:], values, colors=colours, linewidth=0, alpha=0.85)
        labels = [f"{name} {money(total[name].iloc[-1])}" for name in kinds]
        axis.set_ylim(bottom=0)
    else:
        sums = [total.sum(axis=1) for total in totals]
        for one, paid, colour in zip(strategies, sums, cycle(STRATEGY_COLOURS), strict=False):
            handles += axis.plot(one.dates[1:], paid, color=colour, linewidth=1.6)
        labels = [f"{title_case(one.name)} {money(s.iloc[-1])}" for one, s in zip(strategies, sums, strict=True)]
    _finish(axis, "Cumulative costs", handles, labels, _in_dollars)


def _draw_metrics(axis: Axes, results: Sequence[BacktestResult]) -> None:
    axis.axis("off")
    axis.set_title("Metrics")
    cells = [
        [format_metric(name, result.metrics.get(name), short=True) for name in METRIC_COLUMNS] for result in results
    ]
    table = axis.table(
        cellText=cells,
        rowLabels=[f"{title_case(result.name)} " for result in results],
        colLabels=[head.replace("/", "/ ").replace(" ", "\n") for head in METRIC_COLUMNS.values()],
        loc="upper left",
        bbox=Bbox.from_bounds(0.13, 0.0, 1.06, 0.95),
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for head in (table[0, column] for column in range(len(METRIC_COLUMNS))):
        head.set_height(2.5 * head.get_height())
        head.set_fontsize(8)


def _largest_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the columns that matter most and sum the others, so that a legend stays readable."""
    if frame.shape[1] <= MOST_LEGEND_ROWS:
        return frame
    order = frame.abs().mean().sort_values(ascending=False).index
    kept, rest = list(order[: MOST_LEGEND_ROWS - 1]), list(order[MOST_LEGEND_ROWS - 1 :])
    others = frame[rest]
    long, short = others.clip(lower=0).sum(axis=1), others.clip(upper=0).sum(axis=1)
    sums = {f"other long ({len(rest)})": long, "other short": short}
    return frame[kept].assign(**{name: total for name, total in sums.items() if (total != 0).any()})


def _palette() -> list[Any]:
    colours = [*mpl.colormaps["tab10"].colors, *mpl.colormaps["Set2"].colors]  # type: ignore[attr-defined]
    return [colour for colour in colours if max(colour) - min(colour) > 0.1]  # greys mean "other"


def _in_dollars(value: float, position: int | None) -> str:
    return money(value)


def _finish(
    axis: Axes, title: str, handles: Sequence[Any], labels: Sequence[str], form: Any, *, legend: str | None = None
) -> None:
    """Write title and numbers, and the legend to the right of the axes, where it covers no data."""
    axis.set_title(title)
    axis.yaxis.set_major_formatter(form)
    axis.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.005, 1.0), title=legend, alignment="left")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole.

    Raises:
        WriteError: if it cannot be written.
    """
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)  # a Figure without pyplot draws with Agg: no global state
    return path
