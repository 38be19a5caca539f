"""``docs/scores.md``: what all rows of the standing table have reached, whoever has run them, on whichever machine.

What is shown of a row lies beside the page, in ``docs/scores.json``, with a digest of the settings that it was run
with. So rows may be run one at a time, and what was found with other settings than those of now is not shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import plain, read_json, read_text, write_json, write_text
from experiments.reporting.tables import markdown_table
from experiments.scoring.settings import NUM_POINTS, asked_for, parse_score
from experiments.scoring.standing import SEEDS, STANDING, Row

ADVICE = "algorithms.md"
"""Page beside the other one that shows who did best where, between two marks."""
FROM, TO = "<!-- written by score.py --table, from here -->\n", "<!-- to here -->\n"
PAGE = Path(__file__).parents[2] / "docs" / "scores.md"
COLUMNS = ("problem", "by", "measure", "found", "95 %", "goal", "met", "steps", "s a seed")


def no_cells(row: Row) -> dict[str, str]:
    """What people see of a row that was not run."""
    goal = "-" if row.goal is None else row.goal.says()
    return dict.fromkeys(COLUMNS, "") | {"problem": row.problem, "by": row.algo, "found": "not run", "goal": goal}


def settings_digest(row: Row) -> str:
    """SHA-256 of all that a row asks for."""
    asked = plain(asked_for(parse_score(row.words)) | {"seeds": SEEDS})
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def publish(cells: Mapping[str, Mapping[str, str]], *, page: Path = PAGE) -> None:
    """Take in what rows have reached, and write the page of all rows.

    Args:
        cells: What is shown of each row that was run with the settings of now, by its slug.
        page: The page; the figures lie beside it under the same name.

    Raises:
        InputError: if the figures cannot be read, or the page beside it has lost its marks; nothing is written then.
    """
    figures = page.with_suffix(".json")
    digests = {row.slug: settings_digest(row) for row in STANDING}
    known = _read(figures) | {slug: {"settings": digests[slug], "cells": dict(c)} for slug, c in cells.items()}
    known = {slug: known[slug] for slug in digests if slug in known}
    shown = {slug: one["cells"] for slug, one in known.items() if one["settings"] == digests[slug]}
    advice = page.with_name(ADVICE)
    compared = with_comparison(read_text(advice), shown) if advice.is_file() else None
    write_json(figures, known)
    write_text(page, scores_page(shown))
    if compared is not None:
        write_text(advice, compared)


def _read(figures: Path) -> dict[str, Any]:
    if not figures.is_file():
        return {}
    try:
        known: dict[str, Any] = read_json(figures)
        is_ours = all(set(one) == {"settings", "cells"} for one in known.values())
    except (ValueError, AttributeError, TypeError):
        is_ours = False
    if not is_ours:
        raise InputError(f"{figures} is not what score.py --table has written: take it back from the repository")
    return known


def scores_page(cells: Mapping[str, Mapping[str, str]]) -> str:
    """The table as a page of documentation, with the command of every row.

    Args:
        cells: What is shown of each row that was run, by its slug; a row's goal is always that of now.
    """
    rows = [_with_goal_of_now(row, cells.get(row.slug)) for row in STANDING]
    return "\n".join(
        [
            _HEAD,
            markdown_table(rows),
            "",
            "## Commands",
            "",
            "Settings are those of `experiments/scoring/recipes.yaml`; each command shows the seeds one by one.",
            "",
            *(f"- {row.problem}, {row.algo}: `{row.command}`" + f" ({row.note})" * bool(row.note) for row in STANDING),
            "",
        ]
    )


def with_comparison(text: str, cells: Mapping[str, Mapping[str, str]]) -> str:
    """A page with the learners of each problem side by side, the best first, in place of what is between its marks.

    Args:
        text: The page.
        cells: What is shown of each row that was run, by its slug.

    Raises:
        InputError: if it lacks the marks.
    """
    before, mark, rest = text.partition(FROM)
    _, end, after = rest.partition(TO)
    if not mark or not end:
        raise InputError(f"docs/{ADVICE} has lost the line {FROM.strip()} or {TO.strip()}: take it back")
    rows = [(row, _with_goal_of_now(row, cells.get(row.slug))) for row in STANDING]
    by_problem: dict[str, list[tuple[Row, dict[str, str]]]] = {}
    for row, own in rows:
        if own["95 %"]:
            by_problem.setdefault(row.problem, []).append((row, own))
    shown = [_compared(problem, learners) for problem, learners in by_problem.items() if len(learners) > 1]
    table = markdown_table(shown) if shown else "No problem has been given to two learners yet."
    return f"{before}{FROM}\n{table}\n\n{TO}{after}"


def _compared(problem: str, learners: Sequence[tuple[Row, Mapping[str, str]]]) -> dict[str, str]:
    """A problem's learners in a row, the best first."""
    goal = learners[0][0].goal
    is_cost = goal is not None and goal.least is None
    ordered = sorted((own for _, own in learners), key=lambda own: float(own["found"]), reverse=not is_cost)
    told = [f"{own['by']} {own['found']} ({own['steps']} steps, {own['s a seed']} s)" for own in ordered]
    return {"problem": problem, "measure": ordered[0]["measure"], "learners, best first": "; ".join(told)}


def _with_goal_of_now(row: Row, cells: Mapping[str, str] | None) -> dict[str, str]:
    """A row's cells; where it was judged by another goal it counts as not run."""
    none = no_cells(row)
    return none if cells is None or cells["goal"] != none["goal"] else dict(cells)


_HEAD = f"""# Scores

How near learners come to the best policy where it is known. Written by `python experiments/score.py --table`, which
runs what has not been run yet; nothing here is typed by hand. Every figure is the mean of {SEEDS} seeds with Student's
95 % interval; policies are valued greedily, on episodes that no learner has seen. A goal is met when the end of the
interval that matters is on its side, or by so many seeds each. *Score* is 0 at the baseline and 1 at the optimum. Games
and equilibria score the last policy; with `--select best`, the one that did best at the {NUM_POINTS} evaluations on
the way is scored, on other episodes than those. *Part of the hand-written gain* is 0 at random and 1 at a policy
written by hand (`envs/benchmarks/handwritten.py`). Formulas and sources: `envs/optima/`.
"""
