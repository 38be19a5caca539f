"""What comes before training: checks, Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from algos.scaling import ScalingSettings
from experiments.builders.environments import Environment
from experiments.recovery.lock import LOCK_FILE
from experiments.recovery.names import RECORD_FILE
from experiments.runs.run import Run
from experiments.settings.groups import replicas
from experiments.settings.run_config import RunConfig
from experiments.tuning import session
from experiments.tuning.resume import set_aside


def is_checked_by_trainable(run: Run) -> bool:
    """Whether the process that trains checks what takes torch and RLlib to check, so that this one needs neither.

    That is so for a new run on the floor in one process, made of nothing that is there: what is refused leaves nothing.
    """
    config, scaling = run.config, run.config.scaling
    is_new = not (run.is_known or (run.folder / RECORD_FILE).exists()) and config.resume == "auto"
    has_source = any(source is not None for source in (config.load_model, config.branch_from, config.env))
    is_one_process = not (run.is_search or scaling.num_env_runners or scaling.num_learners)
    return is_one_process and is_new and not has_source


def open_run(run: Run, environment: Environment, *, drawn: Collection[str] = ()) -> tuple[ScalingSettings, str | None]:
    """Check what is asked for, start Ray, and move an earlier run aside where a new one is asked for.

    Args:
        run: The run.
        environment: What it trains in.
        drawn: Dotted names of the settings that a search draws for each trial.

    Returns:
        The scaling settings, with the devices that the run learns on; and what there is to say of the room on the disk,
        None where the process that trains says it.

    Raises:
        InputError: if settings, devices, weights, the folder or the room on the disk do not fit what is asked for.
    """
    config, room = run.config, None
    if not is_checked_by_trainable(run):
        from experiments.builders.algorithms import check_algorithm
        from experiments.tuning.disk_use import told_disk_use

        check_algorithm(config, environment)
        room = told_disk_use(config, environment, run.folder, drawn=drawn)
    session.start_ray(config.scaling, num_trials=config.search.max_concurrent if run.is_search else 1)
    devices = session.with_devices(config.scaling)
    if config.load_model is not None and not run.is_known:
        session.check_fits(config, environment)
    if config.resume == "never":
        set_aside(run)
    return devices, room


def remove_new(folder: Path, before: Collection[Path]) -> None:
    """Remove what a run folder holds that it did not hold before, and the folder where nothing but its lock is left."""
    for path in set(folder.iterdir()) - set(before):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    lock = folder / LOCK_FILE
    if list(folder.iterdir()) == [lock]:
        lock.unlink()
        with suppress(OSError):  # others may hold on to it, as where something is mounted there
            folder.rmdir()


def describe_run(run: Run, environment: Environment) -> dict[str, Any]:
    """What is about to be trained, and where, as plain JSON."""
    told = {"folder": str(run.folder.absolute()), "algo": run.config.algo, "target_episodes": run.config.episodes}
    return told | environment.facts()


def announce(run: Run, environment: Environment) -> None:
    """Say what is about to be trained, and where."""
    config = run.config
    begins = "searching" if run.is_search else "carrying on" if run.is_known else "starting"
    told = f"{config.search.num_trials} trials, by {config.search.objective}, of " if run.is_search else ""
    print(f"{begins} {run.folder}: {told}{config.algo}, {config.episodes} {config.clock}")
    for line in environment.lines():
        print(line)
    if config.preset == "dow" and config.data.path is None:
        print("--preset dow is meant for prices of your own: without --data.path FILE it runs on the built-in market")
    for line in _steps_of_the_clock(config):
        print(line)


def _steps_of_the_clock(config: RunConfig) -> list[str]:
    """Say once that replicas end together, where the target or the checkpoints do not fall on such an end."""
    if config.clock != "episodes" or config.env is not None:  # elsewhere episodes may be of any length
        return []
    together, every = replicas(config), config.checkpoint_interval
    due, last = (-(-count // together) * together for count in (every, config.episodes))
    parts = [f"checkpoints come every {due}, not {every}"] if due != every else []
    parts += [f"the run ends at {last} at the earliest, not at {config.episodes}"] if last != config.episodes else []
    return [f"{together} replicas end their episodes together: {'; '.join(parts)}"] if parts else []
