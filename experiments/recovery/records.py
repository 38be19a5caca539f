"""Records of iterations: after a resume each stands once, and none that was lost with its process."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from experiments.reporting.files import write_text

RESULT_FILE, PROGRESS_FILE = "result.json", "progress.csv"


def truncate_records(trial: Path, last_iteration: int) -> int:
    """Drop what Tune's loggers wrote after an iteration, and repetitions before it, in a trial's folder.

    Args:
        trial: The trial's folder.
        last_iteration: The iteration that a run carries on after.

    Returns:
        Lines dropped from ``result.json``.

    Raises:
        WriteError: if the disk is full; what was there stays.
    """
    dropped = 0
    results = trial / RESULT_FILE
    if results.is_file():
        kept: dict[int, str] = {}
        lines = results.read_text(encoding="utf-8").splitlines()
        for line in lines:
            iteration = _iteration(line)
            if iteration is not None and iteration <= last_iteration:
                kept[iteration] = line
        dropped = len(lines) - len(kept)
        write_text(results, "".join(f"{kept[i]}\n" for i in sorted(kept)))
    progress = trial / PROGRESS_FILE
    if progress.is_file():
        write_text(progress, _truncated_table(progress.read_text(encoding="utf-8"), last_iteration))
    return dropped


def _truncated_table(text: str, last_iteration: int) -> str:
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or "training_iteration" not in rows[0]:
        return text
    column = rows[0].index("training_iteration")
    kept: dict[int, list[str]] = {}
    for row in rows[1:]:
        if len(row) == len(rows[0]) and row[column].isdigit() and int(row[column]) <= last_iteration:
            kept[int(row[column])] = row
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([rows[0], *(kept[i] for i in sorted(kept))])
    return out.getvalue()


def _iteration(line: str) -> int | None:
    try:
        return int(json.loads(line)["training_iteration"])
    except (ValueError, KeyError, TypeError):
        return None  # a line that a kill has cut
