"""Hyperparameter search: Optuna through Tune, stopped early by ASHA, remembered in a study in the run folder."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from envs.market import Market
from experiments.cli import DONE, log_to, write_json_flag
from experiments.config import RunConfig, config_to_json, run_folder
from experiments.layers import nested
from experiments.recovery.lock import run_lock
from experiments.reporting.files import read_json, write_json, write_text
from experiments.reporting.tables import rows_table, show
from experiments.run_files import BEST_FOLDER, LOG_FILE, META_FILE
from experiments.tuning import session
from experiments.tuning.ending import backtest_run, say_failed, say_interrupted
from experiments.tuning.loggers import RecordLogger
from experiments.tuning.monitor import SHOWN, RunMonitor, write_summary
from experiments.tuning.opening import open_run
from experiments.tuning.resume import can_restore
from experiments.tuning.spaces import search_space

STUDY_FILE = "optuna.db"
BEST_FILE = "best_config.yaml"
TRIALS_FILE = "trials.json"
METRIC = "search_score"
"""What every result reports, and by which trials are stopped early and settings drawn."""
BEST = "best_score"
"""What the best checkpoint of a trial reached: the trial that is kept is judged by the checkpoint that is kept."""


def search(config: RunConfig, market: Market, *, fixed: Collection[str]) -> int:
    """Run the configured number of trials, save the best settings, and backtest the best trial.

    Args:
        config: The settings that every trial shares.
        market: What they make.
        fixed: Dotted names of settings that the user has set by hand; they are not drawn.

    Returns:
        Exit code.
    """
    folder = run_folder(config)
    space = search_space(config.algo, fixed=fixed, network=config.qmix.network)
    config = open_run(config, market)
    with run_lock(folder), log_to(folder / LOG_FILE):
        scaler = session.record_run(config, market)
        print(f"searching {folder}: {config.search.num_trials} trials of {config.algo}, by {config.search.objective}")
        print(f"drawn: {', '.join(space)}")
        write_summary(folder, {"status": "running", "algo": config.algo, "seed": config.seed})
        try:
            results = _fit(config, scaler, space)
        except KeyboardInterrupt:  # before Tune listens for it, or a second time
            results = []
        rows = trial_rows(results)
        show(rows_table(rows, title="Trials"))
        finished = [
            r
            for r in results
            if r.metrics and r.metrics.get(BEST) is not None and (Path(r.path) / BEST_FOLDER).is_dir()
        ]
        is_whole = len(rows) >= config.search.num_trials and all(r.error or r.metrics.get("done") for r in results)
        if not is_whole:
            write_summary(folder, {"status": "interrupted"})
            return say_interrupted(folder)
        if not finished:
            write_summary(folder, {"status": "failed"})
            return say_failed(f"no trial finished; details in {folder}/trial_*/error.txt")
        payload = _conclude(config, folder, finished, rows)
    write_json_flag(config.json, payload)
    return DONE


def _fit(config: RunConfig, scaler: dict[str, Any], space: dict[str, Any]) -> Any:
    from ray import tune
    from ray.tune.tune_config import ResumeConfig

    from experiments.tuning.trainables import trainable_class

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    folder = run_folder(config).absolute()
    trainable = trainable_class(config)
    if can_restore(config):
        resume = ResumeConfig.ResumeType
        plan = ResumeConfig(finished=resume.SKIP, unfinished=resume.RESUME, errored=resume.RESUME)
        return tune.Tuner.restore(str(folder), trainable=trainable, _resume_config=plan).fit()
    tuner = tune.Tuner(
        trainable,
        param_space={"run": config_to_json(config), "scaler": scaler, "overrides": space},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=config.search.num_trials,
            max_concurrent_trials=config.search.max_concurrent,
            search_alg=_searcher(config, folder),
            scheduler=_scheduler(config),
            trial_dirname_creator=session.trial_folder,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[RunMonitor(algo=config.algo, seed=config.seed, is_search=True), RecordLogger()],
            verbose=0,
        ),
    )
    return tuner.fit()


def _searcher(config: RunConfig, folder: Path) -> Any:
    import optuna
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY_FILE}")
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=max(4, config.search.num_trials // 4))
    searcher = OptunaSearch(metric=METRIC, mode="max", sampler=sampler, storage=storage, study_name=folder.name)
    return ConcurrencyLimiter(searcher, max_concurrent=config.search.max_concurrent)


def _scheduler(config: RunConfig) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if not config.search.use_asha:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="episodes",
        max_t=config.episodes,
        grace_period=min(config.search.grace_episodes, config.episodes),
        reduction_factor=config.search.reduction_factor,
    )


def trial_rows(results: Any) -> list[dict[str, Any]]:
    """What each trial drew and reached, best first; trials that failed come last."""
    rows = []
    for result in results:
        metrics = result.metrics or {}
        state = "failed" if result.error else "done" if metrics.get("done") else "unfinished"
        drawn = dict((result.config or {}).get("overrides", {}))
        rows.append(
            {
                "trial": metrics.get("trial_id") or Path(result.path).name,
                "state": state,
                "episodes": metrics.get("episodes"),
                "score": metrics.get(BEST),
                **drawn,
            }
        )
    return sorted(rows, key=lambda row: -1e300 if row["score"] is None else row["score"], reverse=True)


def _conclude(config: RunConfig, folder: Path, finished: list[Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Save the best settings and backtest the best trial."""
    best = max(finished, key=lambda result: float(result.metrics[BEST]))
    drawn = dict(best.config["overrides"])
    plain = {"algo": config.algo, **nested(drawn)}
    _close_orphans(folder)
    write_json(folder / TRIALS_FILE, rows)
    header = f"# Best of {len(rows)} trials by validation {config.search.objective}: {best.metrics[BEST]:.4f}\n"
    write_text(folder / BEST_FILE, header + yaml.safe_dump(plain, sort_keys=False))
    checkpoint = Path(best.path) / BEST_FOLDER
    meta = read_json(checkpoint / META_FILE)
    relative = str(checkpoint.relative_to(folder.absolute()))
    summary = write_summary(
        folder,
        {
            "status": "complete",
            "algo": config.algo,
            "seed": config.seed,
            "target_episodes": config.episodes,
            "episodes": int(best.metrics["episodes"]),
            "env_steps": int(best.metrics["total_steps"]),
            "agent_steps": int(best.metrics["agent_steps"]),
            "latest_checkpoint": relative,
            "best_checkpoint": relative,
            "best_metric": {"name": meta["metric_name"], "value": meta["metric_value"]},
            "weights_sha256": meta["weights_sha256"],
            "metrics": {name: best.metrics[name] for name in SHOWN if name in best.metrics},
        },
    )
    print(f"best settings: {folder / BEST_FILE} (use them with --config)")
    return {"summary": summary, "trials": rows, "best": plain, "backtest": backtest_run(str(folder))}


def _close_orphans(folder: Path) -> None:
    """Mark as failed what a kill has left in the study as running; Tune has drawn those trials anew."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY_FILE}")
    study = optuna.load_study(study_name=folder.name, storage=storage)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
