"""Searches killed at a chosen instant, and whether they are the search that never was."""

import json
import shutil
from pathlib import Path
from random import Random

import optuna
from commands import MARKET, checkpoints, run_command, summary
from comparing import flat
from killing import BATCH, kill_once

from common.files import read_json
from common.manifests import find_damage
from experiments.recovery.names import RESULT_FILE, SEARCH_FILE, STATE_FILE
from experiments.search.study import STUDY_FILE

CLOCK = ["--checkpoint-interval", "16", "--evaluation-interval", "16", "--keep", "2", "--checkpoint-interval-s", "0"]
PPO = [*MARKET, *CLOCK, "--algo", "ppo", *BATCH, "--ppo.num-envs-per-env-runner", "8"]
QMIX = [*MARKET, *CLOCK, "--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64"]
ASHA = ["--search.grace-episodes", "16", "--search.reduction-factor", "2"]
PBT = ["--search.scheduler", "pbt", "--search.perturbation-interval", "24"]
SEARCHES = {
    "asha": [*PPO, "--episodes", "80", "--search.num-trials", "3", *ASHA],
    "pbt": [*PPO, "--episodes", "64", "--search.num-trials", "3", *PBT],
    "pbt-qmix": [*QMIX, "--episodes", "64", "--search.num-trials", "2", *PBT],
    "short": [*PPO, "--episodes", "32", "--search.num-trials", "2"],
    "none": [*PPO, "--episodes", "48", "--search.num-trials", "3", "--search.scheduler", "none"],
}
"""Short searches, one trial at a time, so that each has one outcome."""

RECORD = "experiments.search.record:SearchRecord.save"
SEARCH = "experiments.search.trials:RecordedSearch"
STUDY = "experiments.search.study:Study"
MONITOR = "experiments.tuning.monitor:RunMonitor"
LOGGER = "experiments.tuning.loggers:RecordLogger"
PHASES = {
    "before the first result": [
        "experiments.search.search:_prepare:before",
        "experiments.search.search:_prepare:after",
        "experiments.search.search:_fit:before",
        f"{STUDY}._write:before",
        "experiments.search.study:os.replace:before",
        f"{STUDY}.draw:before",
        "experiments.tuning.run_trainable:RunTrainable.__init__:after",
    ],
    "a draw": [
        "optuna.storages._rdb.storage:RDBStorage._set_trial_param:after",
        f"{STUDY}.draw:after",
        f"{RECORD}:before",
        f"{RECORD}:after",
        f"{SEARCH}._hand_over:after",
    ],
    "a snapshot of Tune's": [
        "ray.tune.execution.tune_controller:TuneController.save_to_dir:before",
        "ray.tune.execution.tune_controller:json.dump:before",
        "ray.tune.execution.tune_controller:TuneController.save_to_dir:after",
        "ray.tune.impl.tuner_internal:pickle.dumps:after",
    ],
    "a trial": [
        "experiments.tuning.run_trainable:RunTrainable.step:after",
        "experiments.recovery.checkpoints:seal:after",
        "experiments.recovery.checkpoints:TrialCheckpoints.publish:after",
        f"{LOGGER}.log_trial_result:before",
        f"{LOGGER}.log_trial_result:after",
        f"{MONITOR}.on_checkpoint:before",
        "experiments.runs.repair:copy_folder:after",
    ],
    "the scheduler": [
        "{scheduler}.on_trial_result:before",
        "{scheduler}.on_trial_result:after",
        "{scheduler}.choose_trial_to_run:after",
    ],
    "the end of a trial": [
        f"{SEARCH}.on_trial_complete:before",
        f"{STUDY}.try_sync:before",
        "optuna.storages._rdb.storage:RDBStorage.set_trial_state_values:before",
        f"{STUDY}.try_sync:after",
        f"{SEARCH}.on_trial_complete:after",
    ],
    "a comparison": [
        "experiments.search.population:PopulationBasedTraining._compare:before",
        "experiments.search.population:apply_exploits:before",
        "experiments.search.population:copy_checkpoint:before",
        "experiments.search.population:copy_checkpoint:after",
        "experiments.search.population:PopulationBasedTraining._compare:after",
    ],
    "carrying on": [
        "experiments.search.reconcile:reconcile:before",
        "experiments.search.reconcile:keep_best:after",
        f"{STUDY}.sync:after",
        "experiments.search.trials:tidy:after",
        f"{SEARCH}._hand_over:after",
    ],
    "the conclusion": [
        "experiments.search.search:_conclude:before",
        "experiments.search.search:write_text:before",
        "experiments.search.search:write_summary:after",
        "experiments.search.search:conclude:before",
    ],
    "any moment": [],
}
"""Where a search can be frozen; see ``killing.PHASES``."""
SCHEDULER = {
    "asha": "experiments.search.asha:RecordedASHA",
    "none": "ray.tune.schedulers.trial_scheduler:FIFOScheduler",
}
OFTEN = {"step": 12, "log_trial_result": 12, "on_trial_result": 12, "save": 10, "choose_trial_to_run": 60}
OFTEN |= {
    "save_to_dir": 60,
    "dump": 60,
    "_set_trial_param": 15,
    "publish": 8,
    "seal": 8,
    "on_checkpoint": 8,
    "dumps": 1,
}
ONCE = ("before the first result", "carrying on", "the conclusion", "a comparison")


def phases_of(name):
    return [phase for phase in PHASES if phase != "a comparison" or name.startswith("pbt")]


def freeze_at(phase: str, name: str, dice: Random) -> str | None:
    """Choose an instant in a phase of a search; None for one by the clock."""
    if not PHASES[phase]:
        return None
    scheduler = SCHEDULER.get(name, "experiments.search.population:PopulationBasedTraining")
    place = dice.choice(PHASES[phase]).format(scheduler=scheduler)
    most = 1 if phase in ONCE else OFTEN.get(place.split(":")[1].split(".")[-1], 3)
    return f"{place}:{dice.randint(1, most)}"


def study_rows(folder):
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / STUDY_FILE}")
    return [(t.number, t.state.name, t.params, t.values) for t in study.get_trials()]


def tune_ids(folder):
    """Ids of the trials in Tune's newest account of the search."""
    state = read_json(sorted(folder.glob("experiment_state-*.json"))[-1])
    return sorted(json.loads(trial)["trial_id"] for trial, _ in state["trial_data"])


def lines(trial):
    path = trial / RESULT_FILE
    return path.read_text().splitlines() if path.is_file() else []


def records(trial):
    return [flat(json.loads(line)) for line in lines(trial)]


def decided(folder):
    """What the record says, without times."""
    found = read_json(folder / SEARCH_FILE)
    keys = ("trial_id", "drawn", "overrides", "state")
    trials = [{key: trial[key] for key in keys} for trial in found["trials"]]
    rungs = sorted(found["rungs"], key=lambda rung: (rung["trial_id"], rung["milestone"]))
    return {"trials": trials, "rungs": rungs, "population": found["population"]}


def search_differences(run: Path, reference: Path) -> dict:
    """Where two searches differ."""
    pairs = {
        "trials.json": lambda f: read_json(f / "trials.json"),
        "study": study_rows,
        "best settings": lambda f: (f / "best_config.yaml").read_text(),
        "best trial": lambda f: {k: summary(f)[k] for k in ("best_checkpoint", "weights_sha256", "best_metric")},
        **{name: lambda f, name=name: decided(f)[name] for name in ("trials", "rungs", "population")},
    }
    found = {name: (of(run), of(reference)) for name, of in pairs.items() if of(run) != of(reference)}
    ids = sorted(row["trial"] for row in read_json(run / "trials.json"))
    if tune_ids(run) != ids or len(set(ids)) != len(ids):
        found["Tune's trials"] = (tune_ids(run), ids)
    for trial in sorted(reference.glob("trial_*")):
        mine, theirs = records(run / trial.name), records(trial)
        if mine != theirs:
            found[trial.name] = _first_difference(mine, theirs)
    if extra := {p.name for p in run.glob("*trial_*")} - {p.name for p in reference.glob("trial_*")}:
        found["folders"] = extra
    return found


def _first_difference(mine, theirs):
    for a, b in zip(mine, theirs, strict=False):
        if a != b:
            return {key: (a.get(key), b.get(key)) for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
    return len(mine), len(theirs)


def saved_lines(folder):
    """By trial, the lines of what its newest checkpoint holds: these are never done again."""
    found = {}
    for trial in folder.glob("trial_*"):
        published = sorted(trial.glob("checkpoint_*"))
        iteration = read_json(published[-1] / STATE_FILE)["iteration"] if published else 0
        found[trial.name] = [line for line in lines(trial) if _iteration(line) <= iteration]
    return found


def iterations_lost(folder):
    """Most iterations of one trial that were reported and that no checkpoint holds."""
    saved = saved_lines(folder)
    return max((len(lines(folder / name)) - len(kept) for name, kept in saved.items()), default=0)


def interval(trial):
    """Most iterations between two checkpoints of a trial that nothing happened to."""
    due = [i for i, record in enumerate(records(trial)) if record.get("/should_checkpoint") == "True"]
    return max((b - a for a, b in zip([-1, *due], due, strict=False)), default=1)


def _iteration(line):
    try:
        return json.loads(line)["training_iteration"]
    except ValueError:
        return 1 << 30


class SearchCampaign:
    """Searches that are killed now and then, each held against one of the same command that never was."""

    def __init__(self, folder: Path, *, seed: int = 0):
        self.folder, self.dice = folder, Random(seed)
        self._references: dict[str, Path] = {}
        self._count = 0

    def reference(self, name: str) -> Path:
        """The search that nothing happened to."""
        if name not in self._references:
            folder = self.folder / f"{name}-whole" / "search"
            folder.parent.mkdir()
            ended = run_command(folder, *SEARCHES[name])
            assert ended.returncode == 0, ended.stdout + ended.stderr
            self._references[name] = folder
        return self._references[name]

    def run(self, name: str, phases: list[str], *, before_the_end=None) -> list[str]:
        """Kill one search once in each phase, then let it end, and compare.

        Args:
            name: Of ``SEARCHES``.
            phases: Of ``PHASES``, or instants as ``freeze_at`` gives them.
            before_the_end: Called with the folder after the last kill.

        Returns:
            The instants at which it was killed.

        Raises:
            AssertionError: saying at which instants it was killed and what is wrong.
        """
        reference = self.reference(name)
        self._count += 1
        folder, words, kills = self.folder / f"{name}-{self._count}" / "search", SEARCHES[name], []
        folder.parent.mkdir()
        for phase in phases:
            at = freeze_at(phase, name, self.dice) if phase in PHASES else phase
            before = saved_lines(folder)
            if kill_once(folder, words, at, self.dice) == "ended":
                break
            kills.append(at)
            self._check_kept(folder, before, kills)
            allowed = max(interval(t) for t in reference.glob("trial_*"))
            assert iterations_lost(folder) <= allowed, (kills, "more than an interval is lost")
            for path in checkpoints(folder):
                assert not find_damage(path), (kills, path)
        if before_the_end is not None:
            before_the_end(folder)
        before = saved_lines(folder)
        ended = run_command(folder, *words)
        assert ended.returncode == 0, (kills, ended.stdout + ended.stderr)
        self._check_kept(folder, before, kills)
        found = search_differences(folder, reference)
        assert found == {}, (kills, found)
        shutil.rmtree(folder.parent)
        return kills

    @staticmethod
    def _check_kept(folder, before, kills):
        for name, kept in before.items():
            assert lines(folder / name)[: len(kept)] == kept, (kills, f"{name} did again what a checkpoint held")
