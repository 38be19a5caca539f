"""RecordLogger: what each iteration reported, written into the trial's own folder at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from experiments.recovery.names import PARAMS_FILE, PROGRESS_FILE, RESULT_FILE
from experiments.recovery.records import append, columns_of, table_rows, truncate_records
from experiments.settings.metric_names import DISK_USE, REFUSED
from experiments.tuning.ray_internals import SafeFallbackEncoder


class RecordLogger(LoggerCallback):
    """Writes ``result.json``, ``progress.csv`` and ``params.json`` where they stay.

    Tune's own loggers write into a temporary folder that is copied over now and then, so that a kill loses lines that
    belong to a checkpoint. Here a line is with the system before the checkpoint that it belongs to is asked for, which
    brings it to the disk itself (see ``TrialCheckpoints.publish``). Where the disk is full, training goes on, and the
    lines that are owed follow when there is room again.
    """

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}
        self._owed: dict[str, list[dict[str, Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Travel with a clean slate: the folder may be another one by then."""
        return {**self.__dict__, "_latest": {}, "_owed": {}}

    def log_trial_start(self, trial: Any) -> None:
        """Write what a search has drawn for the trial."""
        folder = Path(trial.path)
        text = json.dumps(trial.config, indent=2, cls=SafeFallbackEncoder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / PARAMS_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            print(f"could not write {folder / PARAMS_FILE} ({error}); training goes on", file=sys.stderr, flush=True)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Append one iteration; one that is reported again after a failure replaces what it was."""
        if result.get("is_repeated") or REFUSED in result:
            return
        result = {name: value for name, value in result.items() if name != DISK_USE}
        owed = [r for r in self._owed.pop(trial.trial_id, []) if r["training_iteration"] < result["training_iteration"]]
        try:
            self._write(trial, [*owed, result], is_mended=bool(owed))
        except OSError as error:
            print(f"could not write records ({error}); training goes on", file=sys.stderr, flush=True)
            self._owed[trial.trial_id] = [*owed, result]

    def _write(self, trial: Any, results: list[dict[str, Any]], *, is_mended: bool) -> None:
        folder, first = Path(trial.path), int(results[0]["training_iteration"])
        folder.mkdir(parents=True, exist_ok=True)
        if is_mended or first <= self._latest.get(trial.trial_id, first):  # or an older one is gone on from
            truncate_records(folder, first - 1)
        self._latest[trial.trial_id] = int(results[-1]["training_iteration"])
        for result in results:
            append(folder / RESULT_FILE, json.dumps(result, cls=SafeFallbackEncoder) + "\n")
            append(folder / PROGRESS_FILE, table_rows([result], columns_of(folder / PROGRESS_FILE)))
