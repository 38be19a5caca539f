"""A search without Ray: trials that are arithmetic, in the order in which Tune calls, killed at a counted instant."""

import json
import math
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.copies import copy_folder
from experiments.recovery.signals import STOP_FILE, ask_to_stop
from experiments.remote.addresses import mirror_of
from experiments.remote.mirror import Mirror
from experiments.search import population, reconcile, search, study
from experiments.search import record as search_record
from experiments.search import trials as recorded_search
from experiments.search.asha import RecordedASHA
from experiments.search.population import PopulationBasedTraining
from experiments.search.record import SearchRecord
from experiments.search.spaces import search_space
from experiments.search.study import Study
from experiments.search.trials import RecordedSearch
from experiments.tuning.loggers import RecordLogger

_WHOLE = search_space("ppo", fixed=(), network="mlp")
SPACE = {name: _WHOLE[name] for name in ("ppo.lr", "ppo.clip_param")}
TARGET, STEP, EVERY = 64, 8, 16
"""Episodes of a trial, of an iteration, and between checkpoints."""


class Killed(BaseException):
    """Nothing of ours catches it, as nothing catches SIGKILL."""


class Clock:
    """Counts instants, and kills at one of them."""

    def __init__(self, kill_at=math.inf):
        self.now, self.kill_at = 0, kill_at

    def tick(self):
        self.now += 1
        if self.now == self.kill_at:
            raise Killed

    def around(self, function):
        def call(*args, **kwargs):
            self.tick()
            result = function(*args, **kwargs)
            self.tick()
            return result

        return call


INSTANTS = (
    (SearchRecord, "save"),
    (Study, "draw"),
    (Study, "sync"),
    (Study, "_write"),
    (study.os, "replace"),
    (TrialCheckpoints, "publish"),
    (RecordLogger, "log_trial_result"),
    (RecordedASHA, "on_trial_result"),
    (RecordedASHA, "on_trial_complete"),
    (RecordedSearch, "on_trial_complete"),
    (population, "copy_checkpoint"),
    (Mirror, "push_files"),
    (Mirror, "push_checkpoint"),
    (reconcile, "keep_best"),
    (reconcile, "restore_best"),
)


@contextmanager
def killing(clock):
    """Make every place in ``INSTANTS`` two instants of the clock."""
    with mock.patch.multiple(recorded_search.RecordedSearch, _hand_over=_hand_over):
        patches = [mock.patch.object(owner, name, clock.around(getattr(owner, name))) for owner, name in INSTANTS]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def _hand_over(self, known):
    self._handed.add(known.trial_id)
    status = ("ERROR" if known.state == "FAIL" else "TERMINATED") if known.has_ended else "PENDING"
    status = "PAUSED" if status == "PENDING" and self._is_population else status
    return Trial(self._record.folder, known, status)


class Trial:
    """What Tune and a trainable are to a trial."""

    mirror = None
    """Where the search is kept, if not in its folder alone."""
    leave_at = None
    """Which of all evaluations is left."""
    num_evaluations = 0

    def __init__(self, run, known, status):
        self.trial_id, self.status, self.config = known.trial_id, status, {"overrides": dict(known.overrides)}
        self.folder = run / known.folder_name
        self.path = str(self.folder)
        self.checkpoints = TrialCheckpoints(self.folder)

    def is_finished(self):
        return self.status in ("ERROR", "TERMINATED")

    def set_config(self, config):
        self.config = config

    def start(self, logger):
        logger.log_trial_start(self)
        newest = self.checkpoints.newest_whole()
        state = json.loads((newest / "run_state.json").read_text()) if newest else {}
        self.iteration, self.best = state.get("iteration", 0), state.get("best")
        self.weights = state.get("hooks", {}).get("weights", 0.0)
        self.owes = state.get("owes_evaluation", False)
        self.episodes = json.loads((newest / "checkpoint_meta.json").read_text())["episode"] if newest else 0
        self.status = "RUNNING"

    def train(self):
        """One iteration: the weights move by the step size, the score is a function of both.

        An evaluation that is owed comes first; with the one that ``leave_at`` counts the search is asked to stop.
        """
        overrides = self.config["overrides"]
        self.iteration += 1
        owed, self.owes = self.owes, False
        if not owed:
            self.weights += overrides.get("ppo.lr", 1e-3) * 100 + overrides["ppo.clip_param"]
            self.episodes += STEP
        episodes = self.episodes
        score = math.sin(37 * self.weights)
        is_due = owed or episodes % EVERY == 0 or episodes >= TARGET
        if is_due and self.leave_at is not None:
            Trial.num_evaluations += 1
            self.owes = self.leave_at == Trial.num_evaluations
        if self.owes:
            ask_to_stop(self.folder.parent, "SIGTERM")
            score = math.nan
        self.is_best = is_due and not self.owes and (self.best is None or score > self.best)
        self.best = score if self.is_best else self.best
        return {
            "trial_id": self.trial_id,
            "training_iteration": self.iteration,
            "episodes": episodes,
            "clock": episodes,
            "target_episodes": TARGET,
            "search_score": score,
            "best_score": self.best,
            "done": episodes >= TARGET or self.owes,
            "is_stopped": self.owes,
            "config": self.config,
            **({"should_checkpoint": True} if is_due else {}),
        }

    def save(self, result):
        def write(folder):
            meta = {"episode": result["episodes"], "is_best": self.is_best}
            state = {"iteration": self.iteration, "best": self.best, "time_total_s": 0.0, "owes_evaluation": self.owes}
            state["hooks"] = {"weights": self.weights}
            state["last_metrics"] = {"search_score": result["search_score"]}
            (folder / "checkpoint_meta.json").write_text(json.dumps(meta))
            (folder / "run_state.json").write_text(json.dumps(state))

        path = self.checkpoints.publish(write)
        if self.is_best:
            copy_folder(path, self.folder / "best_checkpoint")
        for checkpoint in (path, self.folder / "best_checkpoint") if self.mirror is not None else ():
            self.mirror.push_files()
            self.mirror.push_checkpoint(checkpoint)
        self.checkpoints.prune(2)


def settings(scheduler, num_trials, storage):
    found = SimpleNamespace(scheduler=scheduler, num_trials=num_trials, max_concurrent=1, grace_episodes=16)
    found.__dict__.update(reduction_factor=2, perturbation_interval=16, quantile_fraction=0.4, resample_probability=0.3)
    own = {"algo": "ppo", "ppo": SimpleNamespace(network="mlp"), "storage": storage, "name": "search"}
    return SimpleNamespace(search=found, episodes=TARGET, seed=7, **own)


def rehearse(folder, scheduler, *, num_trials=3, clock=None, planned=tuple(SPACE), storage="results", leave_at=None):
    """Run a search from where its folder stands to its end, or to the evaluation that is left.

    Raises:
        Killed: when the clock says so.
    """
    (folder / STOP_FILE).unlink(missing_ok=True)
    Trial.leave_at, Trial.num_evaluations = leave_at, 0
    config, mirror = settings(scheduler, num_trials, storage), mirror_of(storage, "search")
    run = SimpleNamespace(folder=folder, config=config, by_hand={}, mirror=mirror)
    with killing(clock or Clock()), mock.patch.object(Trial, "mirror", mirror):
        with mock.patch.object(search, "search_space", return_value=SPACE):
            record, drawn, chosen = search._prepare(run, planned=planned)
        if type(chosen) is FIFOScheduler:
            chosen = SimpleNamespace(
                on_trial_add=lambda *_: None,
                on_trial_result=lambda *_: TrialScheduler.CONTINUE,
                on_trial_complete=lambda *_: None,
            )
        algorithm, logger, trials = RecordedSearch(record, drawn, config.search), RecordLogger(), []
        runner = SimpleNamespace(
            get_trials=lambda: trials, _set_trial_status=lambda t, status: vars(t).update(status=status)
        )
        while not (algorithm.is_finished() and all(trial.is_finished() for trial in trials)):
            while (trial := algorithm.next_trial()) is not None:
                trials.append(trial)
                chosen.on_trial_add(runner, trial)
            if isinstance(chosen, PopulationBasedTraining):
                trial = chosen.choose_trial_to_run(runner)
            else:
                trial = next((t for t in trials if t.status == "PENDING"), None)
            if trial is not None:
                _train(trial, algorithm, chosen, runner, logger)
        drawn.sync(record)
    assert len({trial.trial_id for trial in trials}) == len(trials)
    assert (len(trials) == num_trials and all(t.has_ended for t in record.trials)) or (folder / STOP_FILE).exists()


def _train(trial, algorithm, scheduler, runner, logger):
    """What Tune does with a trial until it ends or waits."""
    trial.start(logger)
    while True:
        result = trial.train()
        action = TrialScheduler.STOP if result["done"] else scheduler.on_trial_result(runner, trial, result)
        if action == TrialScheduler.STOP:
            result["done"] = True
        else:
            algorithm.on_trial_result(trial.trial_id, result)
        logger.log_trial_result(0, trial, result)
        if result.get("should_checkpoint") or action == TrialScheduler.PAUSE:
            trial.save(result)
        if action == TrialScheduler.PAUSE:
            trial.status = "PAUSED"
            return
        if action == TrialScheduler.STOP:
            scheduler.on_trial_complete(runner, trial, result)
            algorithm.on_trial_complete(trial.trial_id, result)
            trial.status = "TERMINATED"
            return


def decisions(folder):
    """What a search has decided and found, however many iterations and checkpoints it took.

    An evaluation that was left makes one of each more.
    """
    record, rows, lines, _ = outcome(folder)
    for trial in record["trials"]:
        trial["result"].pop("training_iteration")
    for exploit in record["population"]["exploits"]:
        exploit.pop("source_checkpoint"), exploit.pop("checkpoint")
    results = {name: [json.loads(line) for line in text.splitlines()] for name, text in lines.items()}
    told = {
        name: [(one["episodes"], one["search_score"]) for one in found if not one["is_stopped"]]
        for name, found in results.items()
    }
    return record, rows, told


def outcome(folder):
    """All that a search leaves behind, without times."""
    record = json.loads((folder / search_record.SEARCH_FILE).read_text())
    for trial in record["trials"]:
        trial.pop("started"), trial.pop("ended")
    record["rungs"].sort(key=lambda rung: (rung["trial_id"], rung["milestone"]))
    stored = study.optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / study.STUDY_FILE}")
    rows = [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in stored.get_trials()]
    stored._storage.remove_session()
    lines = {p.parent.name: p.read_text() for p in sorted(folder.glob("trial_*/result.json"))}
    best = {p.parent.name: (p / "run_state.json").read_text() for p in sorted(folder.glob("trial_*/best_checkpoint"))}
    return record, rows, lines, best
