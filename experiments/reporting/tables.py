"""Tables for the terminal."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

METRIC_COLUMNS = {
    "total_return": "return",
    "annual_return": "per year",
    "annual_volatility": "volatility",
    "sharpe": "Sharpe",
    "sharpe_se": "± s.e.",
    "sortino": "Sortino",
    "calmar": "Calmar",
    "max_drawdown": "drawdown",
    "cvar_95": "CVaR 95%",
    "turnover": "turnover",
    "total_costs": "costs",
    "win_rate": "win rate",
    "num_trades": "trades",
    "final_equity": "final equity",
}
"""Every metric of a backtest, and the head of its column."""

_PERCENT = frozenset({"total_return", "annual_return", "annual_volatility", "max_drawdown", "cvar_95", "win_rate"})
_DOLLARS = frozenset({"total_costs", "final_equity"})


def money(value: float) -> str:
    """Write an amount of US dollars short: ``$10.2M``, ``-$350K``, ``$12``."""
    size, sign = abs(value), "-" if value < 0 else ""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if size >= unit * 0.9995:
            digits = f"{size / unit:.2f}".rstrip("0").rstrip(".")
            return f"{sign}${digits}{letter}"
    return f"{sign}${size:.0f}" if size >= 10 or size == 0 else f"{sign}${size:.2f}"


def title_case(name: str) -> str:
    """Write a series' name for people: ``buy_and_hold`` becomes ``buy and hold``."""
    return name.replace("_", " ")


def format_metric(name: str, value: float | None, *, short: bool = False) -> str:
    """Write a metric in its unit, money in full or short; a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return "-"
    if name in _PERCENT:
        return f"{value:.1%}" if name != "cvar_95" else f"{value:.2%}"
    if name in _DOLLARS:
        return money(value) if short else f"${value:,.0f}"
    if name == "num_trades":
        return f"{value:,.0f}"
    return f"{value:.2f}"


def metrics_table(rows: Mapping[str, Mapping[str, float | None]], *, title: str, strategies: Sequence[str]) -> Table:
    """Make a table with one column for each series and one row for each metric, which fits a terminal.

    Args:
        rows: Series name -> its metrics.
        title: Printed above.
        strategies: Names of the series to stress.
    """
    is_narrow = shutil.get_terminal_size((120, 40)).columns < 13 * (len(rows) + 1)
    table = _table(title)
    table.add_column("", no_wrap=True)
    for series in rows:
        style = "bold cyan" if series in strategies else ""
        table.add_column(
            title_case(series), justify="right", style=style, header_style=style or "bold", overflow="fold"
        )
    for name, head in METRIC_COLUMNS.items():
        table.add_row(head, *(format_metric(name, metrics.get(name), short=is_narrow) for metrics in rows.values()))
    return table


def checks_table(rows: Sequence[tuple[str, bool, str]], *, title: str) -> Table:
    """Make a table of checks: name, verdict, and what was looked at or found."""
    table = _table(title)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict")
    table.add_column("detail", overflow="fold")
    for name, passed, detail in rows:
        table.add_row(name, "[green]passed[/]" if passed else "[bold red]FAILED[/]", detail)
    return table


def pairs_table(rows: Mapping[str, object], *, title: str) -> Table:
    """Make a two-column table of names and values."""
    table = _table(title, show_header=False)
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def rows_table(rows: Sequence[Mapping[str, object]], *, title: str) -> Table:
    """Make a table of records: one row each, one column for each name in the first of them."""
    table = _table(title)
    for name in rows[0] if rows else ():
        is_text = isinstance(rows[0][name], str)
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def show(*renderables: object) -> None:
    """Print tables and text on stdout; into a file or a pipe at a fixed width, so that tables are not folded there."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for item in renderables:
        console.print(item)


def _table(title: str, *, show_header: bool = True) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=show_header,
    )
