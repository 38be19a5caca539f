"""Whether two runs are the same run: weights, figures of every iteration, best checkpoint."""

import json

from commands import meta, summary

NOT_THE_RUN = {
    *("date", "timestamp", "pid", "hostname", "node_ip", "trial_id", "iterations_since_restore", "time_since_restore"),
    *("time_this_iter_s", "time_total_s", "time_waited_s", "timers", "perf", "fault_tolerance", "sample"),
}
"""What says when, where and how fast an iteration was computed, and not what came of it."""
COMPARED = ("episodes", "env_steps", "agent_steps", "weights_sha256", "best_metric", "metrics", "latest_checkpoint")
"""Of the summary."""


def flat(value, name=""):
    """Leaves of a result, by path; what only says when and where is left out, as are all times and speeds."""
    if isinstance(value, dict):
        found = {}
        for key, part in value.items():
            if key not in NOT_THE_RUN and "time" not in key and "throughput" not in key and "duration" not in key:
                found |= flat(part, f"{name}/{key}")
        return found
    return {name: repr(value)}


def records(folder):
    """What each iteration reported, in order."""
    path = folder / "trial_0" / "result.json"
    return [flat(json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def differences(run, reference, *, has_stopped=False):
    """Where two runs differ: names of metrics, with the first iteration in which each does.

    Args:
        run: Folder of one.
        reference: Folder of the other.
        has_stopped: The run was stopped in good order on its way, which gave it one checkpoint more: numbers and times
            of checkpoints are not compared, only what was learned and reported.
    """
    found = {}
    mine, theirs = records(run), records(reference)
    if [r["/training_iteration"] for r in mine] != [r["/training_iteration"] for r in theirs]:
        found["iterations"] = (len(mine), len(theirs))
    for a, b in zip(mine, theirs, strict=False):
        for name in a.keys() | b.keys():
            if a.get(name) != b.get(name):
                found.setdefault(name, (a["/training_iteration"], a.get(name), b.get(name)))
    if has_stopped:
        keys = ("episodes", "env_steps", "agent_steps", "weights_sha256")
        return {k: (summary(run)[k], summary(reference)[k]) for k in keys if summary(run)[k] != summary(reference)[k]}
    for name in COMPARED:
        if summary(run)[name] != summary(reference)[name]:
            found[f"summary {name}"] = (summary(run)[name], summary(reference)[name])
    best = [meta(folder / summary(folder)["best_checkpoint"]) | {"timestamp": None} for folder in (run, reference)]
    if best[0] != best[1]:
        found["best checkpoint"] = best
    return found
