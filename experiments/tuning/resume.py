"""Where a run folder stands: what may change, whether it is complete, and from which checkpoint it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.manifests import find_damage
from experiments.remote.addresses import place_here
from experiments.remote.lease import LEASE_FILE
from experiments.runs.folders import num_trials_begun
from experiments.runs.models import find_model
from experiments.runs.run import Run
from experiments.runs.summary import read_summary
from experiments.settings.fields import settings_of
from experiments.settings.metric_names import clock_of
from experiments.settings.run_config import RunConfig, SearchConfig

_OF_THE_COMMAND = ("storage", "name", "resume", "json", "config", "trust", "skip_training")
_DEVICES = ("scaling.num_gpus_per_learner", "scaling.num_gpus_per_env_runner", "scaling.floor_device")
CHANGEABLE_IN_SEARCH = (*_OF_THE_COMMAND, *_DEVICES, "hooks", "hang_timeout_s")
"""What may differ from the run folder's config when a search is carried on; so may its number of trials."""
CHANGEABLE = (
    *CHANGEABLE_IN_SEARCH,
    "episodes",
    "checkpoint_interval",
    "checkpoint_interval_s",
    "evaluation_interval",
    "keep",
    "keep_every",
    "floor.capital",
    "scaling.num_env_runners",
)
"""What may differ when a run is carried on."""
_OF_USE_TO_ALL = (*_OF_THE_COMMAND, "episodes")
"""What a command that finds everything done can use all the same."""


def is_complete(run: Run) -> bool:
    """Whether the run folder already holds everything that is asked for."""
    summary = _readable_summary(run.folder)
    if summary.get("status") != "complete":
        return False
    if run.is_search:
        return num_trials_begun(run.folder) >= run.config.search.num_trials
    return clock_of(summary) >= run.config.episodes


def _readable_summary(folder: Path) -> dict[str, Any]:
    """What the summary says; nothing where it is damaged: whoever then holds the run writes it anew."""
    try:
        return read_summary(folder)
    except InputError:
        return {}


def check_changes(run: Run) -> None:
    """Refuse to carry a run on with settings that would make it another run.

    Raises:
        InputError: listing what differs, and what to do instead.
    """
    assert run.record is not None
    folder, recorded = run.folder, run.record.config
    changeable: tuple[str, ...] = CHANGEABLE_IN_SEARCH if run.is_search else CHANGEABLE
    if run.is_search and recorded.get("search", {}).get("num_trials"):
        _check_num_trials(folder, run.config.search, was=recorded["search"]["num_trials"])
        changeable += ("search.num_trials",)
    if differing := [line for name, line in _differing(recorded, run.by_hand).items() if name not in changeable]:
        is_search = bool(recorded.get("search", {}).get("num_trials"))
        branch = f"--branch-from {folder} --name NEW goes on exactly, where only the learning differs; "
        raise InputError(
            f"{folder} cannot be carried on with other settings: {'; '.join(differing)}. Leave them out, or start "
            f"another {'search: with another --name, or a run' if is_search else 'run'}: {'' if is_search else branch}"
            f"--load-model {folder} --name NEW starts from its weights"
        )


def _differing(recorded: Mapping[str, Any], by_hand: Mapping[str, Any]) -> dict[str, str]:
    """What the user sets by hand otherwise than it was: by dotted name, what was and what is."""
    found = {}
    for name, value in by_hand.items():
        old: Any = recorded
        for part in name.split("."):
            old = old[part] if isinstance(old, dict) and part in old else None
        new = list(value) if isinstance(value, tuple) else value
        if old != new:
            found[name] = f"{settings_of(RunConfig)[name].flag} was {old} and is now {new}"
    return found


def check_of_use(run: Run) -> None:
    """Refuse, where nothing is left to train, changes that only more training could use.

    Raises:
        InputError: listing them.
    """
    assert run.record is not None
    folder, config = run.folder, run.config
    changes = _differing(run.record.config, run.by_hand)
    useless = [line for name, line in changes.items() if name in CHANGEABLE and name not in _OF_USE_TO_ALL]
    if not useless:
        return
    backtest = f"experiments/backtest.py --model {folder} --capital {config.floor.capital:g}"
    others = {
        "floor.capital": f"backtest with it: {backtest}",
        "keep": f"delete old checkpoints: experiments/checkpoints.py prune {folder} --keep {config.keep}",
    }
    ways = ["raise --episodes as well", *(way for name, way in others.items() if name in changes)]
    raise InputError(f"training already complete, so {'; '.join(useless)} has no effect: {', or '.join(ways)}")


def _check_num_trials(folder: Path, search: SearchConfig, *, was: int) -> None:
    """Refuse a number of trials that a search which has begun cannot come to.

    Args:
        folder: Its run folder.
        search: What is asked for.
        was: The number of before.

    Raises:
        InputError: if more trials have begun, or it is a population, whose members are compared from their start.
    """
    asked = search.num_trials
    begun = num_trials_begun(folder)
    if asked == was or not begun:
        return
    if search.scheduler == "pbt":
        raise InputError(
            f"{folder} is a population of {was}, which newcomers cannot join and nobody can leave: leave out "
            f"--search.num-trials {asked}, or start another search with another --name"
        )
    if asked < begun:
        raise InputError(
            f"--search.num-trials is {asked}, but {begun} trials of {folder} have begun: ask for {begun} or more, or "
            "start another search with another --name"
        )


def nothing_to_resume(run: Run) -> InputError:
    """What to say where ``--resume`` names something, but the run folder holds nothing that could go on."""
    if run.is_automatic:
        return InputError(f"{run.folder} has no checkpoint yet: leave --resume out to start it")
    resume = run.config.resume
    return InputError(f"--resume is {resume}, but {run.folder} is no run folder: {_start_from(resume)}")


def _start_from(resume: str) -> str:
    """Say how a new run is made of the checkpoint that ``--resume`` names: from its weights, or from all of it."""
    asked = f"{resume} --name NEW"
    return f"start a new run from its weights: --load-model {asked}, or on from where it stood: --branch-from {asked}"


def named_checkpoint(run: Run) -> dict[str, str] | None:
    """Check the checkpoint that ``--resume PATH`` names.

    The same command again, after whatever has ended it, goes on from what has followed the checkpoint since.

    Returns:
        What ``config.json`` records of it; None where none was named, PATH is the run folder itself, or the run has
        gone back to it already and is not complete.

    Raises:
        InputError: if it is no checkpoint, damaged, of another run, or of a search.
    """
    resume = run.config.resume
    if resume == "never" or run.is_automatic:
        return None
    assert run.record is not None
    folder, before = run.folder.absolute(), run.record.resume_from
    place = place_here(resume)
    is_again = before is not None and (folder / before["checkpoint"]).resolve() == place
    if is_again and _readable_summary(folder).get("status") != "complete":
        print(f"{resume} was gone back to before: carrying on from what has followed it")
        return None
    model = find_model(resume)
    if model.record.folder != folder:
        raise InputError(
            f"--resume names a checkpoint of {model.record.folder}, but the run is {folder}: leave --name and "
            f"--storage out to carry that run on, or {_start_from(resume)}"
        )
    if run.is_search:
        raise InputError(f"{folder} is a search, which is carried on as a whole: leave --resume out")
    if model.which != "named":
        raise InputError(f"--resume {resume} is not a checkpoint: name the run folder, or a checkpoint in it")
    if damage := find_damage(model.checkpoint):
        raise InputError(f"{model.checkpoint} is damaged, {damage[0]}: name another checkpoint")
    return {"checkpoint": str(model.checkpoint.relative_to(folder)), "asked_at": datetime.now(UTC).isoformat()}


def set_aside(run: Run) -> None:
    """Move an existing run folder out of the way; nothing is ever overwritten.

    Raises:
        InputError: if it cannot be moved, or the weights that are to be loaded lie in it.
    """
    folder, mirror, config = run.folder, run.mirror, run.config
    if mirror is not None and mirror.store.names() - {LEASE_FILE}:
        raise InputError(f"{mirror.address} exists, and a store cannot move it aside: choose another --name")
    if not folder.exists():
        return
    for flag, source in (("--load-model", config.load_model), ("--branch-from", config.branch_from)):
        if source is not None and folder.absolute() in (Path(source), *Path(source).parents):
            raise InputError(
                f"{flag} lies in {folder}, which --resume never moves aside: choose another --name for the new run"
            )
    old = folder.with_name(f"{folder.name}.old-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        os.rename(folder, old)
    except OSError as error:
        raise InputError(
            f"cannot move {folder} aside to start anew ({error.strerror}): choose another --name"
        ) from None
    print(f"moved the earlier run aside: {old}")
