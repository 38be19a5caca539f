"""Records of iterations: after a resume each stands once, and none that was lost with its process."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.files import json_object, write_text
from experiments.recovery.checkpoints import DAMAGED_PREFIX, free_name
from experiments.recovery.names import PROGRESS_FILE, RESULT_FILE, SAVE_ERROR_FILE, UNSAVED


def truncate_records(trial: Path, last_iteration: int) -> None:
    """Drop what Tune's loggers wrote after an iteration, and repetitions before it, in a trial's folder.

    What was lost of the table is made up for from ``result.json``; one whose header is damaged is set aside.

    Args:
        trial: The trial's folder.
        last_iteration: The iteration that a run carries on after.

    Raises:
        WriteError: if the disk is full; what was there stays.
    """
    results = trial / RESULT_FILE
    kept: dict[int, str] = {}
    if results.is_file():
        for line in results.read_bytes().splitlines():
            record = read_line(line)
            if record is not None and record["training_iteration"] <= last_iteration:
                kept[record["training_iteration"]] = line.decode()
        write_text(results, "".join(f"{kept[i]}\n" for i in sorted(kept)))
    progress = trial / PROGRESS_FILE
    if progress.is_file():
        content = progress.read_bytes()
        lines = content.splitlines(keepends=True)  # a quote that is damage must not take in the rest
        rows = [_row(line) for line in lines if line.endswith(b"\n")]
        if _has_header(rows, is_all=not kept):
            write_text(progress, _truncated_table(rows, kept, last_iteration))
            return
        anew = table_rows([json.loads(kept[i]) for i in sorted(kept)])
        if not anew.encode().startswith(content):  # as it is where a kill has cut the first row
            shutil.copyfile(progress, free_name(progress, prefix=DAMAGED_PREFIX))
        write_text(progress, anew)


def append(path: Path, text: str) -> None:
    """Add whole lines to the end of a file, which is made where it is missing."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def table_rows(results: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows of ``progress.csv``.

    Args:
        results: What iterations reported.
        columns: Those of the table that the rows are appended to; None where it is new: they are those of the first
            row, and a header comes before it.
    """
    rows = [dict(_flat({name: value for name, value in result.items() if name != "config"})) for result in results]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0] if rows else ()), extrasaction="ignore", lineterminator="\n")
    if rows and columns is None:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def columns_of(table: Path) -> list[str] | None:
    """The names in the first row of ``progress.csv``; None where there is none yet."""
    if not table.is_file():
        return None
    with table.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), None)


def saved_after(trial: Path) -> int | None:
    """The newest iteration whose checkpoint was there, by the records alone; None where none can be told of.

    Work after a due checkpoint is reported when that is there, or could not be saved, which that report says, and a
    file beside it. So the last line tells of none: a kill may have come between it and its checkpoint.
    """
    results = trial / RESULT_FILE
    if (trial / SAVE_ERROR_FILE).exists() or not results.is_file():
        return None
    records = [record for line in results.read_bytes().splitlines() if (record := read_line(line)) is not None]
    due = [(record, following) for record, following in pairwise(records) if record.get("should_checkpoint")]
    return max((record["training_iteration"] for record, following in due if _says_so(record, following)), default=None)


def _says_so(record: Mapping[str, Any], following: Mapping[str, Any]) -> bool:
    """Whether the next line tells that the checkpoint after an iteration is there; a line between may be lost."""
    is_next = following["training_iteration"] == record["training_iteration"] + 1
    return is_next and not str(following.get("save_error", "")).startswith(UNSAVED)


def read_line(line: bytes) -> dict[str, Any] | None:
    """What a line of ``result.json`` says; None for one that a kill has cut, or that has changed on the disk."""
    record = json_object(line)
    return record if isinstance(record.get("training_iteration"), int) else None


def _has_header(rows: list[list[str]], *, is_all: bool) -> bool:
    """Whether the first row of a table names the columns of one below it, or, where it is all there is, of none."""
    if not rows or "training_iteration" not in rows[0]:
        return False
    return is_all or any(len(row) == len(rows[0]) for row in rows[1:])


def _truncated_table(rows: list[list[str]], results: Mapping[int, str], last_iteration: int) -> str:
    """The rows to an iteration; what was lost of the table is made up for from the lines of ``result.json``."""
    columns, column = rows[0], rows[0].index("training_iteration")
    kept: dict[int, list[str]] = {}
    for row in rows[1:]:
        if len(row) == len(columns) and row[column].isdigit() and int(row[column]) <= last_iteration:
            kept[int(row[column])] = row
    for i in results.keys() - kept.keys():
        kept[i] = next(csv.reader([table_rows([json.loads(results[i])], columns)]))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([columns, *(kept[i] for i in sorted(kept))])
    return out.getvalue()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a result, named as Tune names them in its tables."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _row(line: bytes) -> list[str]:
    """The cells of a line of ``progress.csv``; none where it cannot be read."""
    try:
        return next(csv.reader([line.decode()]))
    except (UnicodeDecodeError, csv.Error):
        return []
