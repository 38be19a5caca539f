"""Hyperparameter search: drawn by Optuna, run by Tune, carried on from its own record in the run folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import yaml
from ray.tune.schedulers import FIFOScheduler

from algos.scaling import ScalingSettings
from common.errors import InputError
from common.files import write_json, write_text
from experiments.builders.environments import Environment
from experiments.command_line import DONE, log_to, write_json_flag
from experiments.recovery.lock import lock_if_there, run_lock
from experiments.recovery.names import LOG_FILE, SEARCH_FILE
from experiments.remote.mirror import Mirror
from experiments.reporting.tables import rows_table, show
from experiments.runs.record import read_run_record
from experiments.runs.run import Run
from experiments.runs.summary import note_status, write_summary
from experiments.search.asha import RecordedASHA
from experiments.search.population import PopulationBasedTraining
from experiments.search.reconcile import last_result, reconcile
from experiments.search.record import SearchRecord, TrialRecord
from experiments.search.spaces import search_space, settings_of_training
from experiments.search.study import Study
from experiments.search.summary import SearchMonitor, best_trial, describe_search
from experiments.search.trials import RecordedSearch
from experiments.settings.fields import settings_of
from experiments.settings.groups import settings_of_algo
from experiments.settings.metric_names import BEST_SCORE, SEARCH_SCORE
from experiments.settings.old_names import drawn_name_of_today
from experiments.settings.run_config import RunConfig, SearchConfig
from experiments.tuning import session
from experiments.tuning.ending import conclude, ended_in_store, say_failed, say_interrupted
from experiments.tuning.opening import announce, open_run

BEST_FILE = "best_config.yaml"
TRIALS_FILE = "trials.json"
SHOWN_STATES = {"RUNNING": "unfinished", "COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed"}


def search(run: Run, environment: Environment) -> int:
    """Run the configured number of trials, save the best settings, and backtest the best trial; returns the exit code.

    Settings that the user has set by hand are not drawn.
    """
    with lock_if_there(run.folder):
        devices, room = open_run(run, environment, drawn=_names_drawn(run))
        print(room)
    with run_lock(run.folder):
        return ended_in_store(run.mirror, lambda: _search(run, environment, devices))


def _search(run: Run, environment: Environment, devices: ScalingSettings) -> int:
    """Record the search as it was asked for, and run it on the devices that are there today."""
    folder, config = run.folder.absolute(), run.config
    with log_to(folder / LOG_FILE):
        scaler = session.record_run(run, environment, devices=devices, drawn_names=_names_drawn(run))
        announce(run, environment)
        record, study, scheduler = _prepare(run, planned=read_run_record(folder).drawn_names or ())
        print(f"drawn: {', '.join(record.drawn_names)}")
        if record.trials:
            print(f"carrying on: {sum(t.has_ended for t in record.trials)} of {len(record.trials)} trials have ended")
        begun = {"status": "running", "algo": config.algo, "seed": config.seed, "target_episodes": config.episodes}
        write_summary(folder, begun | describe_search(record, num_trials=config.search.num_trials))
        with suppress(KeyboardInterrupt):  # before Tune listens for it, or a second time
            _fit(run, scaler, devices, record, study, scheduler)
        study.try_sync(record)
        rows = trial_rows(record)
        show(rows_table(rows, title="Trials"))
        if unsaved := _unsaved(record):
            note_status(folder, "failed")
            kept = "the same command trains what is missing again"
            return say_failed(f"the last checkpoint of trial {', '.join(unsaved)} could not be saved", kept=kept)
        if len(rows) < config.search.num_trials or not all(trial.has_ended for trial in record.trials):
            note_status(folder, "interrupted")
            return say_interrupted(folder)
        best = best_trial(record)
        if best is None:
            note_status(folder, "failed")
            return say_failed(f"no trial finished; details in {folder}/trial_*/error.txt")
        payload = _conclude(run, record, best, rows)
    write_json_flag(config.json, payload)
    return DONE


def _space(config: RunConfig, *, fixed: Collection[str] = ()) -> dict[str, Any]:
    """What a search with these settings draws; those that the user has fixed are left out."""
    own = settings_of_algo(config)
    return search_space(
        config.algo,
        fixed=fixed,
        network=getattr(own, "network", "mlp"),  # RLlib's own algorithms leave no choice
        td_lambda=getattr(own, "td_lambda", 0.0),
        is_population=config.search.scheduler == "pbt",
    )


def _names_drawn(run: Run) -> list[str]:
    """Dotted names of what the search draws: as it was begun, or all of the space that the user has not fixed."""
    begun = None if run.record is None else run.record.drawn_names
    return list(_space(run.config, fixed=run.by_hand) if begun is None else begun)


def _prepare(run: Run, *, planned: Collection[str]) -> tuple[SearchRecord, Study, Any]:
    """Bring the record, the study and the scheduler to where the search stands.

    Args:
        run: The search.
        planned: Dotted names that it was to draw when it was begun, for a record that is lost or not there yet.

    Raises:
        InputError: if a setting that the user sets by hand is drawn in this search.
    """
    folder, config, fixed, mirror = run.folder.absolute(), run.config, run.by_hand, run.mirror
    record = SearchRecord.read(folder)
    ended = reconcile(record, mirror=mirror)
    record.rename(partial(drawn_name_of_today, algo=config.algo, source=folder / SEARCH_FILE))
    space = _space(config)
    if not record.drawn_names:
        names = {name for trial in record.trials for name in trial.drawn} or planned
        record.drawn_names = [name for name in space if name in names]
    if in_vain := [name for name in record.drawn_names if name in fixed]:
        flags = ", ".join(settings_of(RunConfig)[name].flag for name in in_vain)
        raise InputError(
            f"{flags} cannot be set by hand in {folder}, where it is drawn: leave it out, or start another search with "
            "another --name"
        )
    claimed = dict.fromkeys([*record.drawn_names, *(name for trial in record.trials for name in trial.drawn)])
    if strange := [name for name in claimed if name not in space]:
        raise InputError(
            f"{folder / SEARCH_FILE} says that {', '.join(strange)} is drawn, which a search of {config.algo} does not "
            "draw: put it back from a copy, or start another search with another --name"
        )
    space = {name: space[name] for name in record.drawn_names}
    scheduler = _scheduler(config.search, record, space, mirror, episodes=config.episodes, seed=config.seed)
    for trial in ended if isinstance(scheduler, RecordedASHA) else ():
        scheduler.count_last(trial.trial_id, trial.result or {})
    record.save()
    study = Study(folder, space, seed=config.seed, num_trials=config.search.num_trials)
    study.sync(record)
    return record, study, scheduler


def _scheduler(
    s: SearchConfig, record: SearchRecord, space: Mapping[str, Any], mirror: Mirror | None, *, episodes: int, seed: int
) -> Any:
    if s.scheduler == "asha":
        return RecordedASHA(
            record,
            max_t=episodes,
            grace_period=min(s.grace_episodes, episodes),
            reduction_factor=s.reduction_factor,
        )
    if s.scheduler == "pbt":
        return PopulationBasedTraining(record, space, s, seed=seed, mirror=mirror)
    return FIFOScheduler()


def _fit(
    run: Run,
    scaler: Mapping[str, Any] | None,
    devices: ScalingSettings,
    record: SearchRecord,
    study: Study,
    scheduler: Any,
) -> None:
    config, num_trials = run.config, run.config.search.num_trials
    monitor = SearchMonitor(record, num_trials=num_trials, **session.followed(run))
    session.fit(
        run,
        scaler,
        devices=devices,
        monitor=monitor,
        metric=SEARCH_SCORE,
        mode="max",
        num_samples=num_trials,
        search_alg=RecordedSearch(record, study, config.search),
        scheduler=scheduler,
        trial_dirname_creator=session.trial_folder,
    )


def trial_rows(record: SearchRecord) -> list[dict[str, Any]]:
    """What each trial trained with and reached, best first; trials without a score come last."""
    rows = []
    for trial in record.trials:
        result = trial.result or {}
        row = {"trial": trial.trial_id, "state": SHOWN_STATES[trial.state], "episodes": result.get("episodes")}
        rows.append({**row, "score": result.get(BEST_SCORE), **trial.overrides})
    return sorted(rows, key=lambda row: -1e300 if row["score"] is None else row["score"], reverse=True)


def _unsaved(record: SearchRecord) -> list[str]:
    """Trials that have trained to their end, but whose last checkpoint is not there."""
    running = [trial.trial_id for trial in record.trials if not trial.has_ended]
    last = {trial_id: last_result(record.folder / f"trial_{trial_id}") or {} for trial_id in running}
    return [trial_id for trial_id, result in last.items() if result.get("done") and not result.get("is_stopped")]


def _conclude(run: Run, record: SearchRecord, best: TrialRecord, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Save the best settings and backtest the best trial."""
    folder, config, figures = record.folder, run.config, best.result or {}
    plain = settings_of_training(config, best.overrides)
    write_json(folder / TRIALS_FILE, rows)
    header = f"# Best of {len(rows)} trials by validation {config.search.objective}: {figures[BEST_SCORE]:.4f}\n"
    if any(exploit.trial_id == best.trial_id for exploit in record.exploits):
        header += f"# These are its last settings; they changed while it trained ({SEARCH_FILE} says when and how).\n"
    write_text(folder / BEST_FILE, header + yaml.safe_dump(plain, sort_keys=False))
    status = {"status": "complete", "algo": config.algo, "seed": config.seed}
    summary = write_summary(folder, status | describe_search(record, num_trials=config.search.num_trials))
    print(f"best settings: {folder / BEST_FILE} (use them with --config)")
    return {"summary": summary, "trials": rows, "best": plain, "backtest": conclude(run)}
