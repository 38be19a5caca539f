"""One training run from start to end: a Tuner that is started, or carried on where it stands."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from algos.scaling import ScalingSettings
from common.errors import InputError
from common.files import WriteError
from common.provenance import collect_provenance
from experiments.builders.environments import Environment
from experiments.recovery.checkpoints import TrialCheckpoints, read_meta
from experiments.recovery.names import LOG_FILE
from experiments.recovery.signals import stop_on_signal
from experiments.recovery.tune_files import planned_for
from experiments.runs.models import Model, find_model, find_sound_model
from experiments.runs.record import write_run_record
from experiments.runs.run import Run
from experiments.runs.summary import note_status, read_summary, why_unsaved, write_summary
from experiments.settings.metric_names import REFUSED, clock_of
from experiments.settings.run_config import RunConfig, config_from_json, config_to_json
from experiments.tuning.branching import adopt
from experiments.tuning.cluster import join_cluster
from experiments.tuning.local_ray import start_local_ray
from experiments.tuning.loggers import RecordLogger
from experiments.tuning.monitor import RunMonitor
from experiments.tuning.processes import watched_processes
from experiments.tuning.ray_folder import keep_session
from experiments.tuning.ray_internals import local_node
from experiments.tuning.tune_state import unwritable_tune_state_is_borne

if TYPE_CHECKING:
    from ray import tune


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        status: ``complete``, ``interrupted``, ``failed`` or, where nothing was trained at all, ``refused``.
        error: What went wrong, where something did.
    """

    status: str
    error: BaseException | None = None


def start_ray(s: ScalingSettings, *, num_trials: int = 1) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a local one that is large enough for the run's processes.

    A session that is already open, as in a notebook, is used as it is.

    Args:
        s: What the run's processes are.
        num_trials: Trials that run at the same time.

    Raises:
        InputError: if the cluster cannot be joined, as without its token.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    if address != "local":
        join_cluster(address)
        return
    needed = num_trials * (1 + s.num_env_runners * s.num_cpus_per_env_runner + s.num_learners)
    # Ray gives its workers the lowest priority but one, and anything else on the machine brings a run to a standstill;
    # here it has the priority of its command, which ``nice`` lowers.
    os.environ.setdefault("RAY_worker_niceness", "0")
    for prestart in ("RAY_prestart_worker_first_driver", "RAY_enable_worker_prestart"):
        os.environ.setdefault(prestart, "0")  # workers that nobody has asked for cost the start of a run its time
    start_local_ray(
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        num_cpus=max(os.cpu_count() or 1, int(needed + 0.999)),
    )


def with_devices(s: ScalingSettings) -> ScalingSettings:
    """Say once where this session learns, so that whoever rebuilds its algorithm in it says the same.

    Raises:
        InputError: if more GPUs are asked for than a local machine has; a cluster may still start nodes.
    """
    num_learners = max(1, s.num_learners)
    found = float(ray.cluster_resources().get("GPU", 0.0))
    gpus = s.num_gpus_per_learner
    if gpus is None:
        gpus = 1.0 if found >= num_learners else 0.0
    wanted = gpus * num_learners + s.num_gpus_per_env_runner * s.num_env_runners
    if os.environ.get("RAY_ADDRESS", "local") == "local":
        if wanted > found:
            raise InputError(
                f"the settings ask for {wanted:g} GPUs, but this machine has {found:g}: lower scaling.num_gpus_*"
            )
        if s.floor_device == "cuda" and not found:
            raise InputError("--scaling.floor-device is cuda, but this machine has no GPU: leave it out")
    return replace(s, num_gpus_per_learner=gpus)


def record_run(
    run: Run,
    environment: Environment,
    *,
    devices: ScalingSettings,
    resume_from: Mapping[str, str] | None = None,
    parent: Model | None = None,
    drawn_names: Sequence[str] | None = None,
) -> Mapping[str, Any] | None:
    """Write ``config.json``; when a run is carried on, keep its first provenance and scaler and add the new start.

    A run from given weights keeps the scaler that they were trained with: by another one they would see other numbers.

    Args:
        run: The run.
        environment: What it trains in.
        devices: Where it learns in this session.
        resume_from: The checkpoint that the user named, from ``named_checkpoint``.
        parent: The checkpoint that a new branch goes on from, from ``check_branch``; it is taken into the folder.
        drawn_names: Of a search, the settings that it is to draw; one that is carried on draws what it was begun with.

    Returns:
        The scaler, as JSON; None where the environment has none.

    Raises:
        InputError: if the prices are no longer those that the run was started with.
    """
    folder, config, branch_of = run.folder, run.config, None
    provenance = collect_provenance(data_fingerprint=environment.fingerprint)
    provenance["num_gpus_per_learner"] = devices.num_gpus_per_learner
    scaler: Mapping[str, Any] | None = environment.scaler
    if (old := run.record) is not None:
        resume_from = resume_from or old.resume_from
        if old.provenance.get("data_fingerprint") != environment.fingerprint:
            raise InputError(
                f"the prices, or the costs of single assets, have changed since {folder} was started (their "
                "fingerprint differs): restore the old file, or start a new run with another --name"
            )
        _tell_env_runners(config_from_json(old.config).scaling.num_env_runners, config.scaling.num_env_runners)
        resumes = [*old.provenance.get("resumes", []), provenance]
        before = resumes[-2] if len(resumes) > 1 else old.provenance
        _tell_devices(before.get("num_gpus_per_learner"), devices.num_gpus_per_learner)
        provenance = {**old.provenance, "resumes": resumes}
        scaler, branch_of = old.scaler or scaler, old.branch_of
        drawn_names = drawn_names if old.drawn_names is None else old.drawn_names
    elif parent is not None:
        scaler = parent.record.scaler or scaler
        branch_of = adopt(folder, parent)
    elif config.load_model is not None:
        model = find_model(config.load_model)
        if model.record.scaler is not None and dict(model.record.scaler) != scaler:
            scaler = model.record.scaler
            print(f"features are scaled as {model.name} learned to see them, not anew on these prices")
    folder.mkdir(parents=True, exist_ok=True)
    write_run_record(
        folder,
        config=config_to_json(config),
        provenance=provenance,
        scaler=scaler,
        agents=environment.agents,
        resume_from=resume_from,
        branch_of=branch_of,
        drawn_names=drawn_names,
    )
    return scaler


def _tell_env_runners(before: int, now: int) -> None:
    """Say what another number of env runners means for a run that is carried on."""
    if before != now:
        print(f"--scaling.num-env-runners was {before} and is now {now}: episodes under way begin anew")


def _tell_devices(before: float | None, now: float | None) -> None:
    """Say that a run that is carried on learns elsewhere than in the session before."""
    if before is not None and before != now:
        print(f"each learner had {before:g} GPUs in the session before, and has {now or 0:g} in this one")


def train(
    run: Run, scaler: Mapping[str, Any] | None, *, devices: ScalingSettings, is_to_check: bool = False
) -> Outcome:
    """Train a run by a new Tuner, which goes on from the newest whole checkpoint, and wait for its end.

    Args:
        run: The run.
        scaler: The feature scaler, as JSON.
        devices: Where it learns in this session.
        is_to_check: See ``fit``.
    """
    folder = run.folder.absolute()
    write_summary(
        folder,
        {"status": "running", "algo": run.config.algo, "seed": run.config.seed, "target_episodes": run.config.episodes},
    )
    plan = planned_for(config_to_json(run.config), run.address)
    monitor = RunMonitor(**followed(run), plan=plan)
    try:
        results = fit(
            run,
            scaler,
            devices=devices,
            monitor=monitor,
            is_to_check=is_to_check,
            trial_dirname_creator=single_trial_folder,
        )
    except KeyboardInterrupt:  # before Tune listens for it, or a second time
        note_status(folder, "interrupted")
        return Outcome("interrupted")
    return _outcome(results, folder, target=run.config.episodes, unit=run.config.clock)


def followed(run: Run) -> dict[str, Any]:
    """What whoever follows a run or a search is told of it."""
    return {"algo": run.config.algo, "seed": run.config.seed, "address": run.address, "unit": run.config.clock}


def fit(
    run: Run,
    scaler: Mapping[str, Any] | None,
    *,
    devices: ScalingSettings,
    monitor: RunMonitor,
    is_to_check: bool = False,
    **planned: Any,
) -> tune.ResultGrid:
    """Have Tune train what a run or a search still has to, by a new plan: our own records say where each trial stands.

    Args:
        run: The run.
        scaler: The feature scaler, as JSON.
        devices: Where it learns in this session.
        monitor: What follows it.
        is_to_check: Whether the process that trains is to refuse what this one has not checked.
        planned: Of ``tune.TuneConfig``.

    Raises:
        KeyboardInterrupt: if it is interrupted before Tune listens, or a second time.
    """
    from ray import tune

    from experiments.tuning.trainables import trainable_class

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # how the run ended is ours to say, in one line
    folder, config = run.folder.absolute(), replace(run.config, scaling=devices)
    tuner = tune.Tuner(
        trainable_class(config),
        param_space={"run": config_to_json(config), "scaler": scaler, "is_to_check": is_to_check},
        tune_config=tune.TuneConfig(**planned),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            # The trainable keeps its newest checkpoints itself (TrialCheckpoints): Tune could delete the one that
            # its own state file still points at.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=config.max_failures),
            callbacks=[monitor, RecordLogger()],
            verbose=0,
        ),
    )
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1" if config.checkpoint_on_signal else "0"
    with (
        stop_on_signal(folder, listens=config.checkpoint_on_signal),
        unwritable_tune_state_is_borne(),
        watched_processes(config.hang_timeout_s, folder / LOG_FILE),
    ):
        try:
            results = tuner.fit()
        except Exception:
            note_status(folder, "failed")
            _keep_logs()
            raise
    if results.num_errors:
        _keep_logs()
    return results


def _keep_logs() -> None:
    """Leave what a local Ray has written of a failure; of a cluster, whoever has started it does."""
    if os.environ.get("RAY_ADDRESS", "local") == "local" and (node := local_node()) is not None:
        keep_session(Path(node.get_session_dir_path()))


def _outcome(results: Any, folder: Path, *, target: int, unit: str) -> Outcome:
    if results.num_errors:
        note_status(folder, "failed")
        return Outcome("failed", results.errors[0])
    metrics = results[0].metrics or {} if len(results) else {}
    if REFUSED in metrics:
        return Outcome("refused", InputError(metrics[REFUSED]))
    if "fatal" in metrics:
        note_status(folder, "failed")
        if metrics.get("is_input_error"):
            return Outcome("failed", InputError(metrics["fatal"].partition(": ")[2]))
        return Outcome("failed", RuntimeError(metrics["fatal"]))
    done = clock_of(read_summary(folder))
    if metrics.get("done") and (reason := why_unsaved(Path(results[0].path), clock_of(metrics))) is not None:
        note_status(folder, "failed")
        published = TrialCheckpoints(Path(results[0].path)).published()
        done = clock_of(read_meta(published[-1])) if published else 0  # the summary may not have been written either
        kept = f"{folder} keeps {done} of {target} {unit}, and the same command trains the others again"
        return Outcome("failed", WriteError(errno.EIO, f"the last checkpoint could not be saved ({reason}): {kept}"))
    if not metrics.get("done") or metrics.get("is_stopped") or done < target:
        note_status(folder, "interrupted")
        return Outcome("interrupted")
    write_summary(folder, {"status": "complete"})
    return Outcome("complete")


def check_fits(config: RunConfig, environment: Environment) -> None:
    """Load the weights that a new run is to start from once, before anything is written.

    Raises:
        InputError: if the trained agents are not the market's, saying what differs.
        IncompatibleError: if the networks differ, saying which.
    """
    from experiments.tuning.run_trainable import algorithm_class
    from experiments.tuning.weights import load_weights

    assert config.load_model is not None
    model = find_sound_model(config.load_model)
    if model.record.agents is not None:
        environment.check_agents(model.record.agents, model.name)
    alone = {"scaling.num_env_runners": 0, "scaling.num_learners": 0, "scaling.num_gpus_per_learner": 0.0}
    given = {"run": config_to_json(config), "scaler": environment.scaler, "overrides": alone}
    algorithm = algorithm_class(config)(given)
    try:
        load_weights(algorithm, str(model.checkpoint))
    finally:
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)


def single_trial_folder(trial: Any) -> str:
    """Name of the one trial's folder: always the same, so that a run carries on even where Tune has lost its plan."""
    return "trial_0"


def trial_folder(trial: Any) -> str:
    """Name of a trial's folder in the run folder."""
    return f"trial_{trial.trial_id}"
