"""Where a run folder stands: what may change, whether it is complete, and from which checkpoint it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from experiments.recovery.checkpoints import TrialCheckpoints, checkpoint_number
from experiments.recovery.manifests import find_damage
from experiments.recovery.names import RECORD_FILE
from experiments.recovery.tune_files import mend_tune_files, planned_scaling
from experiments.remote.addresses import place_here
from experiments.remote.lease import LEASE_FILE
from experiments.remote.mirror import Mirror
from experiments.runs.folders import has_begun, lost_checkpoints, none_is_whole
from experiments.runs.models import find_model
from experiments.runs.record import read_run_record
from experiments.runs.repair import brought_back, newest_whole, restore_best
from experiments.search.record import SearchRecord
from experiments.settings.fields import settings_of
from experiments.settings.run_config import RunConfig, config_to_json, run_folder, run_mirror
from experiments.tuning.monitor import read_summary, sound_summary

_OF_THE_COMMAND = ("storage", "name", "resume", "json", "config", "skip_training")
_DEVICES = ("scaling.num_gpus_per_learner", "scaling.num_gpus_per_env_runner", "scaling.floor_device")
CHANGEABLE_IN_SEARCH = (*_OF_THE_COMMAND, *_DEVICES)
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


def is_known(config: RunConfig) -> bool:
    """Whether the command carries on with a run folder that exists, and not only begins in it.

    A run of which no checkpoint has come yet is started anew, with whatever settings are now given. A search draws
    trials before that, and is carried on from its plan.
    """
    folder = run_folder(config)
    if config.resume == "never" or not (folder / RECORD_FILE).exists():
        return False
    return bool(config.search.num_trials) or has_begun(folder)


def is_automatic(config: RunConfig) -> bool:
    """Whether the command goes on from wherever the run stands, be it that ``--resume`` names the run folder itself."""
    if config.resume in ("auto", "never"):
        return config.resume == "auto"
    return place_here(config.resume) == run_folder(config).resolve()


def is_complete(config: RunConfig) -> bool:
    """Whether the run folder already holds everything that is asked for."""
    folder = run_folder(config)
    summary = _readable_summary(folder)
    if summary.get("status") != "complete":
        return False
    if config.search.num_trials:
        return SearchRecord.num_begun(folder) >= config.search.num_trials
    return int(summary.get("episodes") or 0) >= config.episodes


def _readable_summary(folder: Path) -> dict[str, Any]:
    """What the summary says; nothing where it is damaged: whoever then holds the run writes it anew."""
    try:
        return read_summary(folder)
    except InputError:
        return {}


def check_changes(config: RunConfig, by_hand: dict[str, Any]) -> None:
    """Refuse to carry a run on with settings that would make it another run.

    Args:
        config: The settings.
        by_hand: Those of them that the user set in this command, by dotted name.

    Raises:
        InputError: listing what differs, and what to do instead.
    """
    folder = run_folder(config)
    recorded = read_run_record(folder).config
    changeable: tuple[str, ...] = CHANGEABLE_IN_SEARCH if config.search.num_trials else CHANGEABLE
    if config.search.num_trials and recorded.get("search", {}).get("num_trials"):
        _check_num_trials(config, was=recorded["search"]["num_trials"])
        changeable += ("search.num_trials",)
    if differing := [line for name, line in _differing(recorded, by_hand).items() if name not in changeable]:
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


def check_of_use(config: RunConfig, by_hand: Mapping[str, Any]) -> None:
    """Refuse, where nothing is left to train, changes that only more training could use.

    Raises:
        InputError: listing them.
    """
    folder = run_folder(config)
    changes = _differing(read_run_record(folder).config, by_hand)
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


def _check_num_trials(config: RunConfig, *, was: int) -> None:
    """Refuse a number of trials that a search which has begun cannot come to.

    Args:
        config: The settings.
        was: The number of before.

    Raises:
        InputError: if more trials have begun, or it is a population, whose members are compared from their start.
    """
    folder, asked = run_folder(config), config.search.num_trials
    begun = SearchRecord.num_begun(folder)
    if asked == was or not begun:
        return
    if config.search.scheduler == "pbt":
        raise InputError(
            f"{folder} is a population of {was}, which newcomers cannot join and nobody can leave: leave out "
            f"--search.num-trials {asked}, or start another search with another --name"
        )
    if asked < begun:
        raise InputError(
            f"--search.num-trials is {asked}, but {begun} trials of {folder} have begun: ask for {begun} or more, or "
            "start another search with another --name"
        )


def nothing_to_resume(config: RunConfig) -> InputError:
    """What to say where ``--resume`` names something, but the run folder holds nothing that could go on."""
    folder = run_folder(config)
    if is_automatic(config):
        return InputError(f"{folder} has no checkpoint yet: leave --resume out to start it")
    return InputError(f"--resume is {config.resume}, but {folder} is no run folder: {_start_from(config)}")


def _start_from(config: RunConfig) -> str:
    """Say how a new run is made of the checkpoint that ``--resume`` names: from its weights, or from all of it."""
    asked = f"{config.resume} --name NEW"
    return f"start a new run from its weights: --load-model {asked}, or on from where it stood: --branch-from {asked}"


def named_checkpoint(config: RunConfig) -> dict[str, str] | None:
    """Check the checkpoint that ``--resume PATH`` names.

    The same command again, after whatever has ended it, goes on from what has followed the checkpoint since.

    Returns:
        What ``config.json`` records of it; None where none was named, PATH is the run folder itself, or the run has
        gone back to it already and is not complete.

    Raises:
        InputError: if it is no checkpoint, damaged, of another run, or of a search.
    """
    if config.resume == "never" or is_automatic(config):
        return None
    folder = run_folder(config).absolute()
    before = read_run_record(folder).resume_from
    place = place_here(config.resume)
    is_again = before is not None and (folder / before["checkpoint"]).resolve() == place
    if is_again and _readable_summary(folder).get("status") != "complete":
        print(f"{config.resume} was gone back to before: carrying on from what has followed it")
        return None
    model = find_model(config.resume)
    if model.record.folder != folder:
        raise InputError(
            f"--resume names a checkpoint of {model.record.folder}, but the run is {folder}: leave --name and "
            f"--storage out to carry that run on, or {_start_from(config)}"
        )
    if config.search.num_trials:
        raise InputError(f"{folder} is a search, which is carried on as a whole: leave --resume out")
    if model.which != "named":
        raise InputError(f"--resume {config.resume} is not a checkpoint: name the run folder, or a checkpoint in it")
    if damage := find_damage(model.checkpoint):
        raise InputError(f"{model.checkpoint} is damaged, {damage[0]}: name another checkpoint")
    return {"checkpoint": str(model.checkpoint.relative_to(folder)), "asked_at": datetime.now(UTC).isoformat()}


def can_restore(config: RunConfig) -> bool:
    """Whether Tune's own files are sound and of this run, so that it can be restored from them; else it is begun anew.

    Tune's files say nothing that our own do not: damaged and stale ones are set aside, and a run has copies of them.
    The trainable carries on from its newest whole checkpoint either way.
    """
    folder = run_folder(config)
    if not has_begun(folder):
        return False  # whatever plan is there may be of other settings
    is_mended = mend_tune_files(
        folder,
        lambda line: print(f"{line}; the run carries on from its own records"),
        settings={**monitored(config), "max_failures": config.max_failures},
        resume_from=read_run_record(folder).resume_from,
    )
    # Tune reserves processors and devices by its old plan, and would wait for ever for those that are gone.
    planned = planned_scaling(folder)
    return is_mended and bool(planned) and planned.items() <= config_to_json(config)["scaling"].items()


def monitored(config: RunConfig) -> dict[str, Any]:
    """What the callback that follows a run or a search is told of it: its store too, where it has one."""
    mirror = run_mirror(config)
    return {"algo": config.algo, "seed": config.seed, "address": mirror.address if mirror is not None else None}


def check_checkpoints(folder: Path, *, is_named: bool = False, mirror: Mirror | None = None) -> list[str]:
    """Verify a run's checkpoints before anything else happens; damaged ones are set aside.

    Of a run that is kept in a store, what is damaged or gone here is brought back from there, where it is whole.

    Args:
        folder: The run folder.
        is_named: Whether the user has named a whole checkpoint to go on from, so that the others may all be gone.
        mirror: Where the run is kept, if not in the folder alone.

    Returns:
        One line for each that was set aside or brought back.

    Raises:
        InputError: if there are checkpoints, but none of them is whole, or there were some, and all of them are gone;
            or the store does not answer.
    """
    reports: list[str] = []
    latest = sound_summary(folder).get("latest_checkpoint")
    trials = sorted(folder.glob("trial_*"))
    if latest is not None and not any(TrialCheckpoints(trial).published() for trial in trials):
        trials = sorted({*trials, (folder / latest).parent})  # which may be gone with all that was in it
    if latest is not None and (gone := _is_gone(folder / latest)):
        reports.append(gone)
    for trial in trials:
        newest_whole(trial, reports.append, mirror=mirror)
        named = TrialCheckpoints(trial).gone_back_to(1)
        if mirror is not None and named is not None and find_damage(named):
            brought_back(named, reports.append, mirror)
        if not is_named and (wrong := none_is_whole(trial, reports) or lost_checkpoints(trial)) is not None:
            raise InputError(wrong)
        restore_best(trial, reports.append, mirror=mirror)
    return reports


def _is_gone(checkpoint: Path) -> str:
    """What to say of a newest checkpoint of which not even a damaged folder is left; empty where it is there."""
    checkpoints, number = TrialCheckpoints(checkpoint.parent), checkpoint_number(checkpoint.name)
    known = [
        checkpoint_number(path.name)
        for path in (*checkpoints.published(), *checkpoints.damaged(), *checkpoints.overtaken())
    ]
    if not checkpoints.published() or number <= max(known):
        return ""
    return f"{checkpoint.name} is gone: the newest that is left is {checkpoints.published()[-1].name}"


def set_aside(config: RunConfig) -> None:
    """Move an existing run folder out of the way; nothing is ever overwritten.

    Raises:
        InputError: if it cannot be moved, or the weights that are to be loaded lie in it.
    """
    folder, mirror = run_folder(config), run_mirror(config)
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
