"""Run: what a command finds of the run that it means, made once after its words were read.

A command line is parsed (``settings.command``), the run is located, and then read: only reading brings anything from a
store to this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from algos.registry import groups
from common.errors import InputError
from common.store import absolute, first_line, is_remote
from experiments.recovery.names import RECORD_FILE
from experiments.remote.addresses import find_mirror, mirror_of, place_here, storage_of, working_folder
from experiments.remote.mirror import Mirror
from experiments.runs.folders import check_name, has_begun
from experiments.runs.models import find_newest_model, find_sound_model
from experiments.runs.record import RunRecord, find_run_folder, name_of_run, read_run_record
from experiments.settings.command import Command, read_command, settle
from experiments.settings.fields import value_of
from experiments.settings.layers import merge
from experiments.settings.run_config import PATHS, RunConfig, config_from_json, config_to_json, with_absolute_paths

_OF_THE_COMMAND = ("config", "resume", "trust", "skip_training", "json")
"""Settings that belong to one command and are not read back from a run folder."""
_NOT_OF_A_PARENT = (*_OF_THE_COMMAND, "name", "storage", "load_model", "branch_from", "search")
"""Settings that a branch has of its own: it is one run, be it of a trial of a search."""
_FROM_MODEL = ("algo", "runner", "data", "desk", "floor", *groups(), "scaling")
"""Settings that a new run takes over from the run whose weights it loads."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is kept.

    Attributes:
        storage: The folder of run folders, or an address in an object store.
        name: Of the run folder.
        folder: The run folder on this machine; for a run in a store, the folder that it is worked on in.
        mirror: What brings it into its store; None where it is kept in a folder.
    """

    storage: str
    name: str
    folder: Path
    mirror: Mirror | None

    def held(self) -> AbstractContextManager[None]:
        """Hold a run in a store while a block runs, so that no other machine writes to it."""
        return nullcontext() if self.mirror is None else self.mirror.lease()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as a command finds it.

    Attributes:
        config: Every setting; paths of prices and weights are absolute, for workers run elsewhere.
        by_hand: What the user set in this command, by dotted name.
        place: Where it is kept.
        record: Its ``config.json`` where the command carries it on; None where the command begins it. A run of which no
            checkpoint has come yet is begun anew, with whatever settings are now given; a search draws trials before
            that, and is carried on from its plan.
    """

    config: RunConfig
    by_hand: Mapping[str, Any]
    place: Place
    record: RunRecord | None

    @classmethod
    def of(cls, config: RunConfig, by_hand: Mapping[str, Any] = MappingProxyType({})) -> Run:
        """The run with these settings, as its folder stands now; nothing is brought there."""
        place = _place(config.storage, str(config.name))
        has_record = config.resume != "never" and (place.folder / RECORD_FILE).exists()
        is_known = has_record and (bool(config.search.num_trials) or has_begun(place.folder))
        record = read_run_record(place.folder) if is_known else None
        return cls(config=config, by_hand=by_hand, place=place, record=record)

    @property
    def folder(self) -> Path:
        """The run folder on this machine."""
        return self.place.folder

    @property
    def mirror(self) -> Mirror | None:
        """What brings the run into its store; None where it is kept in a folder."""
        return self.place.mirror

    @property
    def address(self) -> str | None:
        """Where it is kept, if that is in a store."""
        return None if self.mirror is None else self.mirror.address

    @property
    def is_known(self) -> bool:
        """Whether the command carries on with a run folder that exists, and not only begins in it."""
        return self.record is not None

    @property
    def is_search(self) -> bool:
        """Whether it has several trials."""
        return bool(self.config.search.num_trials)

    @property
    def is_automatic(self) -> bool:
        """Whether the command goes on from wherever the run stands, be it that ``--resume`` names the folder itself."""
        resume = self.config.resume
        if resume in ("auto", "never"):
            return resume == "auto"
        return place_here(resume) == self.folder.resolve()


def find_run(argv: Sequence[str], *, prog: str = "experiments/run.py") -> Run:
    """Parse a command line, and locate and read the run that it means.

    Raises:
        InputError: one line for the first mistake.
        SystemExit: code 0 after ``--help``.
    """
    command = read_command(argv, prog=prog)
    return read_run(command, locate(command))


def locate(command: Command) -> Place:
    """Say where the run lies that a command means; nothing is brought here.

    Raises:
        InputError: if its name cannot be one, or ``--resume`` names nothing.
    """
    if "name" in command.asked:
        check_name(command.asked["name"])
    resume = command.get("resume", "auto")
    if resume in ("auto", "never"):
        return _place(command.get("storage", RunConfig.storage), _name_of(command))
    if is_remote(resume):
        mirror, _ = find_mirror(resume)
        return _place(storage_of(mirror.address), mirror.folder.name)
    folder = find_run_folder(resume, may_be_gone=True)  # the same command again outlives what it has named
    return Place(storage=str(folder.parent), name=folder.name, folder=folder, mirror=None)


def read_run(command: Command, place: Place) -> Run:
    """Bring a run up to date from its store, and settle its settings.

    Raises:
        InputError: if the store does not answer, a record is damaged, or settings cannot be used.
    """
    if place.mirror is not None:
        try:
            place.mirror.pull()
        except OSError as error:
            raise InputError(f"--storage {place.storage} cannot be read: {first_line(error)}") from None
    of_run = {} if command.get("resume", "auto") == "never" else _layer_of_run(command, place)
    # A run that exists has taken over what it needs, and what it was made from may be gone.
    recorded = of_run or _layer_of_source(command)
    _check_code(command, recorded)
    below = merge(command.preset, of_run) if of_run else merge(recorded, command.preset)
    config, by_hand = settle(command, below=below, name=_name_of(command))
    config = with_absolute_paths(config)
    by_hand |= {name: value_of(config, name) for name in PATHS if name in by_hand}
    return Run.of(config, by_hand)


def _place(storage: str, name: str) -> Place:
    return Place(storage=storage, name=name, folder=working_folder(storage, name), mirror=mirror_of(storage, name))


def _name_of(command: Command) -> str:
    """Name of the run folder: as set, or made from preset and algorithm, or from the run that it comes from."""
    if name := command.get("name", ""):
        return name
    if source := command.asked.get("branch_from"):
        return f"branch-of-{name_of_run(source)}"
    if source := command.asked.get("load_model"):
        return f"from-{name_of_run(source)}"
    return f"{command.asked.get('preset') or 'default'}-{command.get('algo', RunConfig.algo)}"


def _layer_of_run(command: Command, place: Place) -> dict[str, Any]:
    """Settings of the run folder that the command carries on with, if there is one."""
    if not (place.folder / RECORD_FILE).exists():
        return {}
    recorded = config_to_json(read_run_config(place.folder))
    if not has_begun(place.folder) and _starts_from_other(command.asked, recorded):
        return {}
    kept = {name: value for name, value in recorded.items() if name not in _OF_THE_COMMAND}
    return kept | {"storage": place.storage, "name": place.name}


def _starts_from_other(asked: Mapping[str, str], recorded: Mapping[str, Any]) -> bool:
    """Whether a preset, weights or a parent are named that a run, which nothing has come of yet, was not given."""
    sources = [name for name in ("load_model", "branch_from") if name in asked]
    has_other = any(absolute(asked[name]) != recorded.get(name) for name in sources)
    return has_other or asked.get("preset", recorded["preset"]) != recorded["preset"]


def _check_code(command: Command, recorded: Mapping[str, Any]) -> None:
    """Refuse to run code because a record names it, which may be anybody's: any function that this Python can import.

    Raises:
        InputError: saying how it is named, or trusted.
    """
    found = {"env": [recorded.get("env")], "hooks": recorded.get("hooks", [])}
    for name, paths in found.items():
        code = [path for path in paths if path is not None and ":" in path]
        if code and name not in command.asked and command.get("trust", "False") != "True":
            words = f"--{name} {' '.join(code)}"
            raise InputError(f"the run's record names code: give {words} in this command too, or --trust to run it")


def _layer_of_source(command: Command) -> dict[str, Any]:
    """Settings that a new run takes over from the one that it branches off, or whose weights it loads."""
    layer: dict[str, Any] = {}
    if (parent := command.asked.get("branch_from")) is not None:
        recorded = config_to_json(find_newest_model(parent).config)
        layer = {name: value for name, value in recorded.items() if name not in _NOT_OF_A_PARENT}
    if (model := command.asked.get("load_model")) is not None:  # networks fit only desk and algorithm of their training
        trained = config_to_json(find_sound_model(model).config)
        layer = merge(layer, {name: trained[name] for name in _FROM_MODEL})
    return layer


def read_run_config(folder: str | Path) -> RunConfig:
    """Read the settings of a run folder.

    Raises:
        InputError: if ``config.json`` is missing, damaged, or does not fit this version.
    """
    record = read_run_record(folder)
    return config_from_json(record.config, where=str(record.folder / RECORD_FILE))
