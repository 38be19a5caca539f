"""How much room a run's checkpoints will need, told before it starts and compared with what is free."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from algos.registry import algorithm
from algos.replay_files import segment_steps
from common.errors import InputError
from common.strict import Choice
from experiments.builders.algorithms import algorithm_config
from experiments.builders.environments import Environment
from experiments.builders.memory_use import actions_width, network_bytes, outlined_networks, replayed_step_bytes
from experiments.recovery.checkpoints import PREFIX
from experiments.recovery.names import BEST_FOLDER
from experiments.settings.groups import is_on_team_path, replicas, settings_of_algo
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning.trainable_names import run_of

_FIXED_BYTES = 26_000
"""Counters and random states that RLlib and this program write into every checkpoint, whatever the networks are."""
_BYTES_PER_MODULE = 8_000
_BYTES_PER_TENSOR = 250
"""Names, shapes and places of tensors, those of their optimizer among them."""


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """Room that checkpoints need, in bytes.

    Attributes:
        each: One checkpoint at the end of the run, as its files say; segments of a replay buffer that it shares with
            other checkpoints included.
        total: All that are there at the end: the newest, those kept for the record, and the best; what they share is
            counted once.
        in_flight: What one more needs, which is written before the oldest is deleted.
        free: What the disk has; None where that is not known.
        used: What checkpoints of the run take already that are among those of its end, or make room for them.
    """

    each: int
    total: int
    in_flight: int
    free: int | None
    used: int

    @property
    def needed(self) -> int:
        """All that must be there at once."""
        return self.total + self.in_flight

    def __str__(self) -> str:
        """One line for the start of a run."""
        free = "" if self.free is None else f"; {size(self.free)} free"
        return f"checkpoints: about {size(self.each)} each, {size(self.total)} in all{free}"


def predict_disk_use(
    config: RunConfig, environment: Environment, folder: Path, *, drawn: Collection[str] = ()
) -> DiskUse | None:
    """Estimate the room from the networks themselves, their optimizers, the replay buffer and how many are kept.

    Args:
        config: The run's settings.
        environment: What it trains in.
        folder: The run folder.
        drawn: Dotted names of the settings that a search draws for each trial; the largest that it can draw counts.

    Returns:
        None where the lengths of episodes are not known, or the clock does not count them.
    """
    length, declared = environment.episode_len, algorithm(config.algo)
    if length is None or config.clock != "episodes":
        return None
    for leaf, drawn_from in declared.ranges.items():
        name = f"{declared.group}.{leaf}"
        if name not in drawn or declared.may_change(leaf):  # what may change is in no network and no buffer
            continue
        ends = drawn_from.values if isinstance(drawn_from, Choice) else (drawn_from.low, drawn_from.high)
        each = [run_of({"run": config_to_json(config), "overrides": {name: end}}) for end in ends]
        config = max(each, key=lambda one: _disk_use(one, environment, length, folder).needed)
    return _disk_use(config, environment, length, folder)


def _disk_use(config: RunConfig, environment: Environment, episode_len: int, folder: Path) -> DiskUse:
    """The room of a run, or of a search all of whose trials have these settings."""
    episodes = _planned_checkpoints(config)
    parts = _Parts(config, environment, episode_len, episodes)
    base = parts.base()
    trials = max(1, config.search.num_trials)
    kept = episodes[-config.keep :]
    if config.keep_every:
        kept = sorted({*kept, *episodes[:: config.keep_every]})
    replay, middle = parts.replay_bytes(kept), episodes[len(episodes) // 2]  # the best may be any of them
    with_best = parts.replay_bytes([*kept, middle])
    replay = (replay + with_best) // 2 if is_on_team_path(config) else with_best
    return DiskUse(
        each=base + parts.replay_bytes([episodes[-1]]),
        total=trials * (base * (len(kept) + 1) + replay),
        in_flight=base + parts.new_bytes(episodes[-1]),
        free=_free(folder),
        used=0 if config.resume == "never" else disk_bytes(*_counted(folder)),
    )


def check_disk(use: DiskUse, *, algo: str, storage: str) -> None:
    """Refuse a run whose checkpoints do not fit onto the disk.

    Raises:
        InputError: saying how much is missing, and which settings need less.
    """
    if use.free is None or use.needed - use.used <= use.free:
        return
    declared = algorithm(algo)
    buffer = f"--{declared.group}.replay-capacity, " if declared.has_replay else ""
    raise InputError(
        f"the checkpoints need about {size(use.needed)} in {storage}, which has {size(use.free)} free: lower "
        f"--keep, {buffer}or choose another --storage"
    )


def told_disk_use(config: RunConfig, environment: Environment, folder: Path, *, drawn: Collection[str] = ()) -> str:
    """Say in a line how much room the checkpoints will need, unless they do not fit.

    Args:
        config: The run's settings.
        environment: What it trains in.
        folder: The run folder.
        drawn: Dotted names of the settings that a search draws for each trial.

    Raises:
        InputError: if they do not fit, saying which settings need less.
    """
    use = predict_disk_use(config, environment, folder, drawn=drawn)
    if use is None:
        return "checkpoints: the room that they will take is not known before the first"
    check_disk(use, algo=config.algo, storage=config.storage)
    return str(use)


def disk_bytes(*folders: Path) -> int:
    """Bytes of all files in folders; one that has several names there is counted once."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sum({(s.st_dev, s.st_ino): s.st_size for path in files for s in [path.stat()]}.values())


def _counted(folder: Path) -> list[Path]:
    """The checkpoints of a run that retention deals with: what was set aside, and all else there, stays."""
    return [*folder.glob(f"trial_*/{PREFIX}*"), *folder.glob(f"trial_*/{BEST_FOLDER}")]


def size(num_bytes: float) -> str:
    """Write a number of bytes short: ``1.2 MB``, ``31 GB``."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.{0 if num_bytes >= 10 * unit else 1}f} {name}"
    return f"{num_bytes / 1e3:.0f} KB"


class _Parts:
    """What the checkpoints of a run are made of."""

    def __init__(self, config: RunConfig, environment: Environment, episode_len: int, planned: list[int]) -> None:
        self.config, self.algo = config, algorithm_config(config, environment)
        self.environment, self.episode_len, self.planned = environment, episode_len, planned
        self.declared, self.own = algorithm(config.algo), settings_of_algo(config)
        self.row = replayed_step_bytes(self.algo, config, environment)

    def base(self) -> int:
        """A checkpoint without its replay buffer."""
        found = _FIXED_BYTES
        for network in outlined_networks(self.algo, self.environment).values():
            num_tensors = len([*network.parameters(), *network.buffers()])
            found += network_bytes(network, self.own) + _BYTES_PER_MODULE + _BYTES_PER_TENSOR * num_tensors
        if self.config.scaling.num_env_runners:
            return found
        team = self.environment.team
        under_way = len(team.agent_ids) * (max(team.obs_dims) * 6 + 8 * actions_width(team) + 64)
        return found + replicas(self.config) * under_way

    def replay_bytes(self, episodes: list[int]) -> int:
        """Room of the replay buffers of the checkpoints of so many episodes, what they share counted once."""
        if not self.declared.has_replay:
            return 0
        if not is_on_team_path(self.config):
            return sum(map(self.new_bytes, episodes))
        stored: set[int] = set()
        for last in map(self._steps, episodes):
            oldest = max(0, last - self.own.replay_capacity)
            stored |= set(range(oldest // self._segment_steps, last // self._segment_steps))
        return sum(map(self.new_bytes, dict.fromkeys(episodes))) + sum(map(self._segment, stored)) * self.row

    def new_bytes(self, episodes: int) -> int:
        """Room of what a checkpoint shares with no other: the segment that is being filled, or the whole buffer."""
        if not self.declared.has_replay:
            return 0
        if is_on_team_path(self.config):
            capacity, steps = self.own.replay_capacity, self._steps(episodes)
            prioritised = getattr(self.algo, "replays_by_priority", False)
            priorities = 4 * min(capacity, steps) if prioritised else 0
            runners = max(1, self.config.scaling.num_env_runners)
            of_each = min(steps // runners % self._segment_steps, capacity // runners)
            return runners * of_each * self.row + priorities
        capacity = self.own.replay_capacity
        steps = min(capacity, episodes * self.episode_len)
        return steps * self.row

    def _segment(self, number: int) -> int:
        """Steps in a finished segment; those that were overwritten before a checkpoint first held it are not in it."""
        end = (number + 1) * self._segment_steps
        written_at = next((s for s in map(self._steps, self.planned) if s >= end), end)
        return max(0, end - max(end - self._segment_steps, written_at - self.own.replay_capacity))

    @property
    def _segment_steps(self) -> int:
        return segment_steps(self.own.replay_capacity)

    def _steps(self, episodes: int) -> int:
        """Joint steps after which so many episodes have ended; they are sampled in whole fragments of all replicas."""
        sampled = self.own.rollout_fragment_length * replicas(self.config)
        sampled *= max(1, self.config.scaling.num_env_runners)
        return -(-episodes * self.episode_len // sampled) * sampled


def _planned_checkpoints(config: RunConfig) -> list[int]:
    """Episodes after which a checkpoint is due, to the target; replicas end their episodes together."""
    together = replicas(config)
    every = -(-config.checkpoint_interval // together) * together
    last = -(-config.episodes // together) * together
    return [*range(every, last, every), last]


def _free(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free
