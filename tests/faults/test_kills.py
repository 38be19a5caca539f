"""Runs that are killed again and again end as the run that never was, bit for bit."""

import json
import random
import time

import pytest
from commands import MARKET, Started, checkpoints, meta, run_command, summary

from experiments.recovery.manifests import find_damage
from experiments.recovery.shelf import CheckpointShelf

CLOCK = ["--checkpoint-interval", "16", "--evaluation-interval", "16", "--keep", "2"]
TEAM = ["--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64"]
BATCH = ["--ppo.train-batch-size-per-learner", "256", "--ppo.minibatch-size", "128", "--ppo.num-epochs", "1"]
RUNS = {
    "qmix": ["--algo", "qmix", *TEAM, "--episodes", "320"],
    "vdn": ["--algo", "vdn", *TEAM, "--episodes", "320"],
    "ppo": ["--algo", "ppo", *BATCH, "--ppo.num-envs-per-env-runner", "8", "--episodes", "640"],
    "ppo-rllib": ["--algo", "ppo", "--runner", "rllib", *BATCH, "--episodes", "160"],
    "dqn": ["--algo", "dqn", "--dqn.learning-starts", "64", "--episodes", "80"],
}
NOT_THE_RUN = {
    *("date", "timestamp", "pid", "hostname", "node_ip", "trial_id", "iterations_since_restore", "time_since_restore"),
    *("time_this_iter_s", "time_total_s", "timers", "perf", "fault_tolerance", "sample"),
}
"""What says when, where and how fast an iteration was computed, and not what came of it."""
COMPARED = ("episodes", "env_steps", "agent_steps", "weights_sha256", "best_metric", "metrics", "latest_checkpoint")
"""Of the summary."""
NUM_KILLS = 3
PATIENCE_S = 150


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
    lines = (folder / "trial_0" / "result.json").read_text().splitlines()
    return [flat(json.loads(line)) for line in lines]


def differences(run, reference):
    """Where two runs differ: names of metrics, with the first iteration in which each does."""
    found = {}
    mine, theirs = records(run), records(reference)
    if [r["/training_iteration"] for r in mine] != [r["/training_iteration"] for r in theirs]:
        found["iterations"] = (len(mine), len(theirs))
    for a, b in zip(mine, theirs, strict=False):
        for name in a.keys() | b.keys():
            if a.get(name) != b.get(name):
                found.setdefault(name, (a["/training_iteration"], a.get(name), b.get(name)))
    for name in COMPARED:
        if summary(run)[name] != summary(reference)[name]:
            found[f"summary {name}"] = (summary(run)[name], summary(reference)[name])
    best = [meta(folder / summary(folder)["best_checkpoint"]) | {"timestamp": None} for folder in (run, reference)]
    if best[0] != best[1]:
        found["best checkpoint"] = best
    return found


def episodes_of(folder):
    newest = CheckpointShelf(folder / "trial_0").published()
    return meta(newest[-1])["episode"] if newest else 0


def kill_somewhere(folder, words, dice, *, during):
    """Start the command and kill it with all its processes; True if it came to its end before."""
    with Started(folder, *words) as started:
        deadline = time.monotonic() + PATIENCE_S
        if during == "start":
            deadline = time.monotonic() + 1 + 9 * dice.random()
        first = episodes_of(folder)
        while started.process.poll() is None and time.monotonic() < deadline:
            if during == "save" and list(folder.glob("trial_0/.publishing-*")):
                break
            if during == "training" and episodes_of(folder) >= first + 32:
                time.sleep(0.3 * dice.random())
                break
            time.sleep(0.001 if during == "save" else 0.05)
        if started.process.poll() is not None:
            assert started.process.returncode == 0, started.out.read_text()
            return True
        started.kill()
    for path in checkpoints(folder):
        assert find_damage(path) == [], "a kill must not leave a checkpoint that is not whole"
    return False


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Runs that nothing happened to, by algorithm."""
    done = {}

    def of(name):
        if name not in done:
            done[name] = tmp_path_factory.mktemp("references") / name
            ended = run_command(done[name], *MARKET, *CLOCK, *RUNS[name])
            assert ended.returncode == 0, ended.stderr
        return done[name]

    return of


def run_with_kills(folder, words, dice, phases):
    for phase in phases:
        if kill_somewhere(folder, words, dice, during=phase):
            break
    ended = run_command(folder, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_one_kill_changes_nothing(reference, tmp_path):
    folder = tmp_path / "killed"
    words = [*MARKET, *CLOCK, *RUNS["qmix"]]
    run_with_kills(folder, words, random.Random(0), ["training"])
    assert differences(folder, reference("qmix")) == {}


@pytest.mark.faults
@pytest.mark.parametrize("name", RUNS)
def test_kills_at_any_instant_change_nothing(reference, tmp_path, name):
    folder = tmp_path / "killed"
    dice = random.Random(name)
    phases = ["training", *dice.choices(["start", "training", "save"], k=NUM_KILLS - 1)]
    run_with_kills(folder, [*MARKET, *CLOCK, *RUNS[name]], dice, phases)
    assert differences(folder, reference(name)) == {}
