"""Tables for the terminal, and for pages of documentation."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

METRIC_COLUMNS = {
    "total_return": "return",
    "annual_return": "per year",
    "annual_volatility": "volatility",
    "sharpe": "Sharpe",
    "sharpe_se": "± s.e.",
    "sharpe_se_hac": "± s.e., HAC",
    "sortino": "Sortino",
    "calmar": "Calmar",
    "max_drawdown": "drawdown",
    "cvar_95": "CVaR 95%",
    "turnover": "turnover/yr",
    "total_costs": "costs",
    "win_rate": "win rate",
    "num_trades": "trades",
    "final_equity": "final equity",
    "liquidation_equity": "if closed",
    "unfilled_notional": "unfilled",
    "gross_exposure": "gross",
    "net_exposure": "net",
}
"""Every metric of a backtest, and the head of its column."""
BENCHMARK_COLUMNS = {
    "alpha": "alpha, a year",
    "beta": "beta",
    "tracking_error": "tracking error",
    "information_ratio": "information ratio",
    "up_capture": "up capture",
    "down_capture": "down capture",
}
"""Every figure against a benchmark."""

WIDTH_OF_A_PIPE = 160
"""Characters in a line where the output goes into a file or another program."""
LONG_TEXT = 28
"""Characters up to which words in a column of text are kept on one line."""

_PERCENT = frozenset(
    {"total_return", "annual_return", "annual_volatility", "max_drawdown", "cvar_95", "win_rate"}
    | (BENCHMARK_COLUMNS.keys() - {"beta", "information_ratio"})
)
_DOLLARS = frozenset({"total_costs", "final_equity", "liquidation_equity", "unfilled_notional"})


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
        return money(float(f"{value:.3g}")) if short else f"${value:,.0f}"
    if name == "turnover":
        return f"{value:.1f}x"
    if name == "num_trades":
        return f"{value:,.0f}"
    return f"{value:.2f}"


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Make a table of a Markdown page.

    Args:
        rows: At least one; the keys of the first are the heads of the columns.
    """
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def metrics_table(
    rows: Mapping[str, Mapping[str, float | None]],
    *,
    title: str,
    strategies: Sequence[str],
    names: Mapping[str, str] = METRIC_COLUMNS,
) -> FittedTable:
    """Make a table with one column for each series and one row for each metric.

    Args:
        rows: Series name -> its metrics.
        title: Printed above.
        strategies: Names of the series to stress.
        names: Metrics, in their order, and how they are called.
    """

    def columns(*, short: bool) -> list[Cells]:
        made = [Cells("", list(names.values()), is_text=True)]
        for series, metrics in rows.items():
            cells = [format_metric(name, metrics.get(name), short=short) for name in names]
            made.append(Cells(title_case(series), cells, style="bold cyan" if series in strategies else ""))
        return made

    return FittedTable(title, columns(short=False), columns(short=True))


def checks_table(rows: Sequence[tuple[str, bool, str]], *, title: str) -> Table:
    """Make a table of checks: name, verdict, and what was looked at or found."""
    table = _table(title)
    table.add_column("check", ratio=2)
    table.add_column("verdict", no_wrap=True, min_width=7)
    table.add_column("detail", ratio=3)
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


def rows_table(rows: Sequence[Mapping[str, object]], *, title: str) -> FittedTable:
    """Make a table of records: one row each, one column for each name in the first of them."""
    columns = []
    for name in rows[0] if rows else ():
        is_text = isinstance(rows[0][name], str)
        head = name if "." in name else title_case(name)  # a setting keeps its name
        columns.append(Cells(head, [_cell(row.get(name)) for row in rows], is_text=is_text))
    return FittedTable(title, columns, columns)


@dataclass(frozen=True)
class Cells:
    """One column.

    Attributes:
        head: Its head; may be broken between words.
        cells: A cell for each row.
        is_text: Words, to the left, which may be broken where they are long; numbers never are.
        style: Of head and cells.
    """

    head: str
    cells: Sequence[str]
    is_text: bool = False
    style: str = ""

    def lines(self, *, is_tall: bool) -> list[str]:
        """The head on one line, or a line for each word (of a setting's name: for each part)."""
        return re.split(r"(?<=[._]) ?| ", self.head) if is_tall else [self.head]

    def width(self, *, is_tall: bool) -> int:
        """Room below which a word or a number would be broken."""
        longest = max(map(cell_len, self.cells), default=0)
        if self.is_text and longest > LONG_TEXT:
            longest = min(LONG_TEXT, max(cell_len(word) for cell in self.cells for word in cell.split()))
        return max(longest, *map(cell_len, self.lines(is_tall=is_tall)))


@dataclass(frozen=True)
class FittedTable:
    """A table that fits whatever it is printed on: with taller heads, shorter cells, or in several parts.

    Attributes:
        title: Printed above.
        columns: As they should be.
        short: The same where there is little room; the first is repeated where the table comes in parts.
    """

    title: str
    columns: Sequence[Cells]
    short: Sequence[Cells]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose the first form that fits."""
        for columns, is_tall, gap in ((self.columns, False, 3), (self.columns, True, 3), (self.short, True, 2)):
            if _total_width(columns, is_tall=is_tall, gap=gap) <= options.max_width:
                yield self._made_of(columns, is_tall=is_tall, gap=gap)
                return
        first, left = self.short[0], list(self.short[1:])
        while left:
            count = len(left)
            while count > 1 and _total_width([first, *left[:count]], is_tall=True, gap=2) > options.max_width:
                count -= 1
            yield self._made_of([first, *left[:count]], is_tall=True, gap=2)
            left = left[count:]

    def _made_of(self, columns: Sequence[Cells], *, is_tall: bool, gap: int) -> Table:
        table = _table(self.title)
        table.padding = (0, 1, 0, gap - 2)
        for column in columns:
            is_long = column.is_text and max(map(cell_len, column.cells), default=0) > LONG_TEXT
            table.add_column(
                "\n".join(column.lines(is_tall=is_tall)),
                justify="left" if column.is_text else "right",
                style=column.style,
                header_style=column.style or "bold",
                min_width=column.width(is_tall=is_tall),
                no_wrap=not is_long,
                overflow="fold",
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*row)
        return table


def _total_width(columns: Sequence[Cells], *, is_tall: bool, gap: int) -> int:
    """Characters that a table needs, with a gap between two columns, and one character at each edge."""
    return sum(column.width(is_tall=is_tall) for column in columns) + gap * (len(columns) - 1) + 2


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
        console = Console(highlight=False, width=WIDTH_OF_A_PIPE)
    for item in renderables:
        console.print(
            item, soft_wrap=isinstance(item, str)
        )  # sentences are left to the terminal, which keeps paths whole


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
