"""What comes before training: room on the disk, Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

from typing import Any

from algos.scaling import ScalingSettings
from experiments.builders.algorithms import replicas
from experiments.builders.environments import Environment
from experiments.runs.run import Run
from experiments.settings.run_config import RunConfig
from experiments.tuning import session
from experiments.tuning.disk_use import check_disk, predict_disk_use
from experiments.tuning.resume import set_aside

NOT_KNOWN = "checkpoints: the room that they will take is not known before the first"


def open_run(run: Run, environment: Environment) -> ScalingSettings:
    """Start Ray, check the weights that are to be loaded, and move an earlier run aside where a new one is asked for.

    Returns:
        The scaling settings, with the devices that the run learns on.

    Raises:
        InputError: if devices, weights, the folder or the room on the disk do not fit what is asked for.
    """
    config = run.config
    use = predict_disk_use(config, environment, run.folder)
    if use is not None:
        check_disk(config, use)
    session.start_ray(config.scaling, num_trials=config.search.max_concurrent if run.is_search else 1)
    devices = session.with_devices(config.scaling)
    if config.load_model is not None and not run.is_known:
        session.check_fits(config, environment)
    if config.resume == "never":
        set_aside(run)
    if run.is_search:
        print(use or NOT_KNOWN)
    return devices


def describe_run(run: Run, environment: Environment) -> dict[str, Any]:
    """What is about to be trained, and where, as plain JSON."""
    told = {"folder": str(run.folder.absolute()), "algo": run.config.algo, "target_episodes": run.config.episodes}
    return told | environment.facts()


def announce(run: Run, environment: Environment) -> None:
    """Say what is about to be trained, and where."""
    config = run.config
    begins = "carrying on" if run.is_known else "starting"
    print(f"{begins} {run.folder}: {config.algo}, {config.episodes} {config.clock}")
    for line in environment.lines():
        print(line)
    if config.preset == "dow" and config.data.path is None:
        print("--preset dow is meant for prices of your own: without --data.path FILE it runs on the built-in market")
    for line in _steps_of_the_clock(config):
        print(line)
    print(predict_disk_use(config, environment, run.folder) or NOT_KNOWN)


def _steps_of_the_clock(config: RunConfig) -> list[str]:
    """Say once that replicas end together, where the target or the checkpoints do not fall on such an end."""
    if config.clock != "episodes" or config.env is not None:  # elsewhere episodes may be of any length
        return []
    together, every = replicas(config), config.checkpoint_interval
    due, last = (-(-count // together) * together for count in (every, config.episodes))
    parts = [f"checkpoints come every {due}, not {every}"] if due != every else []
    parts += [f"the run ends at {last} at the earliest, not at {config.episodes}"] if last != config.episodes else []
    return [f"{together} replicas end their episodes together: {'; '.join(parts)}"] if parts else []
