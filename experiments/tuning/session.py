"""One training run from start to end: a Tuner that is started, or carried on where it stands."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from envs.errors import InputError
from envs.market import Market
from experiments.backtesting.agents import check_agents, describe_agents
from experiments.config import RunConfig, config_to_json, run_folder
from experiments.models import find_model
from experiments.provenance import collect_provenance
from experiments.run_record import FILE_NAME, read_run_record, write_run_record
from experiments.settings import settings_of
from experiments.tuning.monitor import RunMonitor, read_summary, write_summary

os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "0")  # else a kill in the first ten seconds loses the run's progress
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune would print a box of its own beside our progress
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")

CHANGEABLE = (
    "episodes",
    "checkpoint_interval",
    "evaluation_interval",
    "floor.capital",
    "storage",
    "name",
    "resume",
    "json",
    "config",
    "skip_training",
)
"""What may differ from the run folder's config when a run is carried on."""
LEAST_KEPT = 2
"""Tune can delete the checkpoint that its own state file still points at when it keeps only one."""


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        status: ``complete``, ``interrupted`` or ``failed``.
        error: What went wrong, where something did.
    """

    status: str
    error: BaseException | None = None


def check_changes(config: RunConfig, by_hand: dict[str, Any]) -> None:
    """Refuse to carry a run on with settings that would make it another run.

    Raises:
        InputError: listing what differs, and what to do instead.
    """
    folder = run_folder(config)
    recorded = read_run_record(folder).config
    differing = []
    for name, value in by_hand.items():
        old: Any = recorded
        for part in name.split("."):
            old = old[part] if isinstance(old, dict) and part in old else None
        new = list(value) if isinstance(value, tuple) else value
        if name not in CHANGEABLE and old != new:
            differing.append(f"{settings_of(RunConfig)[name].flag} was {old} and is now {new}")
    if differing:
        raise InputError(
            f"{folder} cannot be carried on with other settings: {'; '.join(differing)}. Leave them out, or start "
            f"another run from its weights: --load-model {folder} --name NEW"
        )


def start_ray(config: RunConfig) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a local one that is large enough for the run's processes."""
    address = os.environ.get("RAY_ADDRESS", "local")
    s = config.scaling
    if address != "local":
        ray.init(address=address, log_to_driver=False, logging_level="error")
        return
    trials = config.search.max_concurrent if config.search.num_trials else 1
    needed = trials * (1 + s.num_env_runners * s.num_cpus_per_env_runner + s.num_learners)
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        num_cpus=max(os.cpu_count() or 1, int(needed + 0.999)),
    )


def record_run(config: RunConfig, market: Market) -> dict[str, Any]:
    """Write ``config.json``; when a run is carried on, keep its first provenance and scaler and add the new start.

    Returns:
        The scaler, as JSON.
    """
    folder = run_folder(config)
    provenance = collect_provenance(data_fingerprint=market.bars.fingerprint)
    scaler: dict[str, Any] = dict(market.scaler.to_json())
    if (folder / FILE_NAME).exists():
        old = read_run_record(folder)
        if old.provenance.get("data_fingerprint") != market.bars.fingerprint:
            raise InputError(
                f"the prices have changed since {folder} was started (their fingerprint differs): restore the old "
                "file, or start a new run with another --name"
            )
        resumes = [*old.provenance.get("resumes", []), provenance]
        provenance = {**old.provenance, "resumes": resumes}
        scaler = dict(old.scaler or scaler)
    folder.mkdir(parents=True, exist_ok=True)
    write_run_record(
        folder,
        config=config_to_json(config),
        provenance=provenance,
        scaler=scaler,
        agents=describe_agents(market.mandates),
    )
    return scaler


def train(config: RunConfig, scaler: dict[str, Any]) -> Outcome:
    """Start or carry on the run's Tuner and wait for its end.

    Args:
        config: The settings; already written into the run folder.
        scaler: The feature scaler, as JSON.
    """
    from ray import tune
    from ray.tune.tune_config import ResumeConfig

    from experiments.tuning.trainables import trainable_class

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # how the run ended is ours to say, in one line
    folder = run_folder(config).absolute()
    trainable = trainable_class(config)
    write_summary(
        folder,
        {"status": "running", "algo": config.algo, "seed": config.seed, "target_episodes": config.episodes},
    )
    if tune.Tuner.can_restore(str(folder)):
        resume = ResumeConfig.ResumeType.RESUME
        tuner = tune.Tuner.restore(
            str(folder),
            trainable=trainable,
            _resume_config=ResumeConfig(finished=resume, unfinished=resume, errored=resume),
        )
    else:
        _refuse_lost_state(folder)
        monitor = RunMonitor(str(folder), algo=config.algo, seed=config.seed, metric_name=config.checkpoint_metric)
        tuner = tune.Tuner(
            trainable,
            param_space={"run": config_to_json(config), "scaler": scaler},
            tune_config=tune.TuneConfig(trial_dirname_creator=trial_folder, num_samples=1),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                checkpoint_config=tune.CheckpointConfig(
                    num_to_keep=max(config.keep, LEAST_KEPT), checkpoint_at_end=False
                ),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[monitor],
                verbose=0,
            ),
        )
    results = tuner.fit()
    return _outcome(results, folder, config)


def _outcome(results: Any, folder: Path, config: RunConfig) -> Outcome:
    if results.num_errors:
        write_summary(folder, {"status": "failed"})
        return Outcome("failed", results.errors[0])
    metrics = results[0].metrics or {} if len(results) else {}
    done = int(read_summary(folder).get("episodes") or 0)
    if not metrics.get("done") or done < config.episodes:
        write_summary(folder, {"status": "interrupted"})
        return Outcome("interrupted")
    write_summary(folder, {"status": "complete"})
    return Outcome("complete")


def _refuse_lost_state(folder: Path) -> None:
    """Never start anew over work that Tune has forgotten.

    Raises:
        InputError: if there are checkpoints but nothing that says how to carry on.
    """
    found = sorted(folder.glob("*/checkpoint_*"))
    if found:
        raise InputError(
            f"{folder} holds {len(found)} checkpoints, but its tuner.pkl is missing or damaged: start another run from "
            f"its weights with --load-model {found[-1]} --name NEW, or move the folder away"
        )


def is_complete(config: RunConfig) -> bool:
    """Whether the run folder already holds everything that is asked for."""
    summary = read_summary(run_folder(config))
    return summary.get("status") == "complete" and int(summary.get("episodes") or 0) >= config.episodes


def check_fits(market: Market, source: str) -> None:
    """Compare the agents of a trained model with the market's, before anything is started.

    Raises:
        InputError: saying what differs.
    """
    model = find_model(source)
    if model.record.agents is not None:
        check_agents(model.record.agents, describe_agents(market.mandates), model=model.name, prices=market.bars.source)


def trial_folder(trial: Any) -> str:
    """Name of a trial's folder in the run folder."""
    return f"trial_{trial.trial_id}"
