"""Names of what lies in a run folder beside Tune's and RLlib's own files; each stands here once.

The parts of ``experiments.recovery`` have names of their own.
"""

from __future__ import annotations

RECORD_FILE = "config.json"
"""In the run folder: settings and provenance (see ``experiments.runs.record``)."""
SUMMARY_FILE = "summary.json"
"""In the run folder: status, counters, latest and best checkpoint."""
SEARCH_FILE = "search.json"
"""In the run folder of a search: every trial, and what was decided about it; a search is carried on from it."""
LOG_FILE = "train.log"
"""In the run folder: what was printed."""
BEST_FOLDER = "best_checkpoint"
"""In a trial's folder, beside Tune's ``checkpoint_*``: a copy of the best one, which retention never touches."""
BRANCH_FOLDER = "branched_from"
"""In the folder of a run that branches off another: the checkpoint that it goes on from."""
META_FILE = "checkpoint_meta.json"
"""In a checkpoint: what a person and other programs read."""
STATE_FILE = "run_state.json"
"""In a checkpoint: what the trainable continues from."""
SAVE_ERROR_FILE = "save_error.txt"
"""In a trial's folder: why its last checkpoint could not be saved; gone when one has been saved since."""
UNSAVED = "could not save a checkpoint"
"""How a result's ``save_error`` begins where there is no checkpoint; else there is, and something after it failed."""
PARAMS_FILE = "params.json"
"""In a trial's folder: the plan that Tune has it train by, with what a search has drawn for it."""
RESULT_FILE, PROGRESS_FILE = "result.json", "progress.csv"
"""In a trial's folder: what each iteration reported."""
