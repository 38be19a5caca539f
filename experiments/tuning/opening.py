"""What comes before training: Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from algos.scaling import ScalingSettings
from common.files import whole_file
from experiments.builders.environments import Environment
from experiments.recovery.names import RECORD_FILE, SUMMARY_FILE
from experiments.runs.run import Run
from experiments.settings.groups import replicas
from experiments.settings.run_config import RunConfig
from experiments.tuning import session
from experiments.tuning.resume import set_aside


def open_run(run: Run, environment: Environment) -> tuple[ScalingSettings, Path | None]:
    """Start Ray, check the weights that are to be loaded, and move an earlier run aside where a new one is asked for.

    Returns:
        The scaling settings, with the devices that the run learns on; and where an earlier run is now.

    Raises:
        InputError: if devices, weights or the folder do not fit what is asked for.
    """
    config = run.config
    session.start_ray(config.scaling, num_trials=config.search.max_concurrent if run.is_search else 1)
    devices = session.with_devices(config.scaling)
    if config.load_model is not None and not run.is_known:
        session.check_fits(config, environment)
    return devices, set_aside(run) if config.resume == "never" else None


class BeforeRun:
    """A run folder as it is before a command writes to it.

    Args:
        folder: The run folder, which need not be there.
        aside: Where an earlier run has been moved to.
    """

    def __init__(self, folder: Path, aside: Path | None = None) -> None:
        self._folder, self._aside = folder, aside
        paths = [folder / name for name in (RECORD_FILE, SUMMARY_FILE)]
        self._records = {path: path.read_bytes() for path in paths if path.is_file()}

    def put_back(self) -> None:
        """Undo what a command has written that has trained nothing."""
        if self._folder / RECORD_FILE in self._records:
            for path, content in self._records.items():
                with whole_file(path) as staged:
                    staged.write_bytes(content)
            return
        shutil.rmtree(self._folder)
        if self._aside is not None:
            self._aside.rename(self._folder)


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


def _steps_of_the_clock(config: RunConfig) -> list[str]:
    """Say once that replicas end together, where the target or the checkpoints do not fall on such an end."""
    if config.clock != "episodes" or config.env is not None:  # elsewhere episodes may be of any length
        return []
    together, every = replicas(config), config.checkpoint_interval
    due, last = (-(-count // together) * together for count in (every, config.episodes))
    parts = [f"checkpoints come every {due}, not {every}"] if due != every else []
    parts += [f"the run ends at {last} at the earliest, not at {config.episodes}"] if last != config.episodes else []
    return [f"{together} replicas end their episodes together: {'; '.join(parts)}"] if parts else []
