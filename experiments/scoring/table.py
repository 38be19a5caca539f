"""The standing table: its rows run, shown, and written for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import check_folder_writable
from experiments.reporting.tables import rows_table, show
from experiments.scoring.page import PAGE, no_cells, publish
from experiments.scoring.plots import PICTURE_FILE, plot_table
from experiments.scoring.settings import OF_TABLE, ScoreConfig, parse_score
from experiments.scoring.standing import SEEDS, STANDING, Row, judge
from experiments.scoring.training import finished_record, score_learner
from experiments.settings.arguments import scan_flags
from experiments.settings.fields import settings_of


def run_table(config: ScoreConfig, argv: Sequence[str]) -> dict[str, Any]:
    """Run the rows of the standing table that have not been run with these settings, and write what all have reached.

    Raises:
        InputError: if a flag is given that a row says itself, or no row is meant.
    """
    flags = scan_flags(ScoreConfig, argv)
    if idle := [name for name in flags if name not in OF_TABLE]:
        raise InputError(f"{settings_of(ScoreConfig)[idle[0]].flag} has no effect with --table: each row has its own")
    rows = [row for row in STANDING if config.only.lower() in f"{row.problem} {row.algo}".lower()]
    if not rows:
        raise InputError(f"--only {config.only} is in no row: try one of {', '.join(r.problem for r in STANDING)}")
    base = Path(config.out or "results/scores")
    check_folder_writable(base, setting="--out")
    for i, row in enumerate(rows):
        asked = _asked(row, config)
        if finished_record(asked, base / row.slug) is not None:
            print(f"row {i + 1} of {len(rows)}: {row.problem}, {row.algo}: done before", flush=True)
            continue
        print(f"row {i + 1} of {len(rows)}: {row.problem}, {row.algo}", flush=True)
        score_learner(asked, base / row.slug)
    found = {row.slug: finished_record(_asked(row, config), base / row.slug) for row in STANDING}
    cells = [table_cells(row, found[row.slug]) for row in rows]
    show(rows_table(cells, title=f"Standing table, {config.seeds} seeds"))
    if config.out is None and (config.seeds, config.seed) == (SEEDS, 0):
        publish({row.slug: table_cells(row, one) for row in STANDING if (one := found[row.slug]) is not None})
        print(f"wrote {PAGE}")
    picture = plot_table(base / PICTURE_FILE, [(row, found[row.slug]) for row in rows])
    print(f"picture: {picture}; figures: {base}")
    return {"rows": cells}


def _asked(row: Row, config: ScoreConfig) -> ScoreConfig:
    """What a row asks for, with the seeds of the table."""
    return parse_score([*row.words, *(f"--{name}={getattr(config, name)}" for name in ("seeds", "seed", "jobs"))])


def table_cells(row: Row, record: Mapping[str, Any] | None) -> dict[str, str]:
    """A row for people."""
    if record is None:
        return no_cells(row)
    found = judge(row, record)
    met = "" if found.is_met is None else "yes" if found.is_met else "no"
    return no_cells(row) | {
        "measure": found.measure,
        "found": f"{found.found.mean:.4f}",
        "95 %": f"{found.found.low:.4f} to {found.found.high:.4f}",
        "met": met if found.met is None else f"{met}, {found.met} of {len(record['seeds'])}",
        "steps": f"{record['steps']:,}",
        "s a seed": f"{record['seconds_a_seed']:.0f}" if "seconds_a_seed" in record else "",
    }
