"""Whether two runs are the same run: weights, figures of every iteration, best checkpoint."""

import json

from commands import meta, summary

from experiments.settings.metric_names import BEST_SCORE, SEARCH_SCORE, VALIDATION_METRICS

NOT_THE_RUN = {
    *("date", "timestamp", "pid", "hostname", "node_ip", "trial_id", "experiment_tag", "iterations_since_restore"),
    *("timesteps_since_restore", "timers", "perf", "fault_tolerance", "sample", "save_error"),
}
"""What says when, where and how fast an iteration was computed, and what became of its checkpoint."""
COMPARED = ("episodes", "env_steps", "agent_steps", "weights_sha256", "metrics", "best_metric", "latest_checkpoint")
"""Of the summary; the last two say which checkpoints there are."""
_OF_SAVES = {"is_best", BEST_SCORE, "done", "is_stopped"}
_OF_PLACES = {*_OF_SAVES, *VALIDATION_METRICS, "return", SEARCH_SCORE, "score", "is_evaluated", "should_checkpoint"}


def flat(value, name=""):
    """Leaves of a result, by path; what only says when and where is left out, as are all times and speeds."""
    if isinstance(value, dict):
        found = {}
        for key, part in value.items():
            counts = key.replace("lifetime", "").replace("timesteps", "")  # which are no times
            if key not in NOT_THE_RUN and not any(word in counts for word in ("time", "throughput", "duration")):
                found |= flat(part, f"{name}/{key}")
        return found
    return {name: repr(value)}


def records(folder):
    """What each iteration reported, in order."""
    path = folder / "trial_0" / "result.json"
    return [flat(json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def of_places(name):
    """Whether a figure depends on where a run evaluates and saves: one that was stopped does so once more."""
    return name.startswith("/evaluation/") or name.strip("/") in _OF_PLACES


def of_saves(name):
    """Whether a figure depends on which checkpoints could be saved."""
    return name.strip("/") in _OF_SAVES


def differences(run, reference, *, but=None):
    """Where two runs differ: names of metrics, with the first iteration in which each does.

    Args:
        run: Folder of one.
        reference: Folder of the other.
        but: Figures that may differ, by name: ``of_places`` or ``of_saves``. Then checkpoints may be others too; what
            was learned, and that each iteration stands once, is compared all the same.
    """
    found = {}
    mine, theirs = records(run), records(reference)
    if [r["/training_iteration"] for r in mine] != [r["/training_iteration"] for r in theirs]:
        found["iterations"] = (len(mine), len(theirs))
    for a, b in zip(mine, theirs, strict=False):
        for name in a.keys() | b.keys():
            if a.get(name) != b.get(name) and not (but is not None and but(name)):
                found.setdefault(name, (a["/training_iteration"], a.get(name), b.get(name)))
    for name in COMPARED if but is None else COMPARED[:-2]:
        if summary(run)[name] != summary(reference)[name]:
            found[f"summary {name}"] = (summary(run)[name], summary(reference)[name])
    if but is not None:
        return found
    best = [meta(folder / summary(folder)["best_checkpoint"]) | {"timestamp": None} for folder in (run, reference)]
    if best[0] != best[1]:
        found["best checkpoint"] = best
    return found
