"""Checkpoints that are taken in memory at one instant, and written when there is time.

RLlib's ``save_to_path`` asks each part for its state and writes it, in some twenty files, while training waits. Here
all of it is packed at once, as arrays and JSON; writing it needs neither the algorithm nor its process's attention.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_EVAL_ENV_RUNNER,
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_METRICS_LOGGER,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
)
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.result import TRAINING_ITERATION
from safetensors import SafetensorError
from safetensors.numpy import load_file

from algos import exact
from algos.network_files import build, describe
from algos.quick_states import metrics_state, modules_state, optimizers_state
from algos.ray_internals import local_learner
from algos.replay_files import ReplaySnapshot
from algos.states import pack, unpack
from algos.tensor_files import safetensors_file
from common.disk import Written, fill_folder
from common.errors import IncompatibleError, told
from common.files import json_object

ALGORITHM, EXACT = "algorithm", "exact"
"""Keys of a checkpoint's state: all that ``Algorithm.get_state`` tells but for weights, and what RLlib leaves out."""
WEIGHTS_FILE = "weights.safetensors"
"""In a checkpoint: weights of every network, as ``MODULE/WEIGHT``."""
MODULES_FILE = "modules.json"
"""In a checkpoint: how each network is built again, by module id."""


@dataclass
class Snapshot:
    """What a checkpoint will hold; nothing that happens to the algorithm changes its files.

    Attributes:
        files: Contents by path in the checkpoint.
        weights: What every network's file holds, by module id and name; read it before training goes on, for it may be
            the learner's own memory.
        replay: The buffer, where there is one.
    """

    files: dict[str, bytes | memoryview] = field(default_factory=dict)
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)
    replay: ReplaySnapshot | None = None

    def contents(self) -> dict[str, Sequence[bytes | memoryview]]:
        """New files, by path in the checkpoint, in parts that follow one another."""
        contents: dict[str, Sequence[bytes | memoryview]] = {name: [content] for name, content in self.files.items()}
        return contents | (self.replay.contents() if self.replay is not None else {})

    def links(self) -> dict[str, str]:
        """Where files lie that an earlier checkpoint holds already, by path in this one."""
        return self.replay.links() if self.replay is not None else {}

    def release(self) -> None:
        """All is read, whoever still holds this: the buffer may change what its parts lie in."""
        if self.replay is not None:
            self.replay.loans.clear()

    def write(self, folder: Path) -> dict[str, Written]:
        """Write all of it into an empty folder.

        Returns:
            What the files should hold, which are on the disk itself; by path in the folder.

        Raises:
            OSError: if something cannot be written.
        """
        written = fill_folder(folder, self.contents(), self.links())
        self.release()
        return written


class SnapshotAlgorithm(Algorithm):
    """A mixin before an Algorithm: ``snapshot`` takes a checkpoint, ``save_checkpoint`` also writes it at once."""

    _module_descriptions: bytes | None = None

    def snapshot(self) -> Snapshot:
        """Take all that a checkpoint holds.

        Raises:
            UnsavableError: if an environment's state is no data.
        """
        state = self._whole_state()
        weights = state[COMPONENT_LEARNER_GROUP][COMPONENT_LEARNER].pop(COMPONENT_RL_MODULE)
        packed = pack({ALGORITHM: state, EXACT: exact.capture(self)}, known=exact.known_objects(self))
        return Snapshot(checkpoint_files(packed, weights, self._describe_modules()), weights)

    def _whole_state(self) -> dict[str, Any]:
        """What ``get_state`` tells, in half the time: parts of a learner that is in this process are asked directly."""
        learner = local_learner(self.learner_group)
        if learner is None:
            return dict(self.get_state())
        state: dict[str, Any] = self._runner_states()
        apart = [COMPONENT_METRICS_LOGGER, COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE]
        of_learner = learner.get_state(not_components=apart)
        of_learner |= {
            COMPONENT_RL_MODULE: modules_state(learner),
            COMPONENT_METRICS_LOGGER: metrics_state(learner.metrics),
            COMPONENT_OPTIMIZER: optimizers_state(learner),
        }
        state[COMPONENT_LEARNER_GROUP] = {COMPONENT_LEARNER: of_learner}
        state[COMPONENT_METRICS_LOGGER] = metrics_state(self.metrics)
        state[TRAINING_ITERATION] = self.training_iteration
        return state

    def _runner_states(self) -> dict[str, Any]:
        """What the main process has of runners, but for networks (see ``_set_runner_states``)."""
        found: dict[str, Any] = {}
        if self.env_runner is not None:
            found[COMPONENT_ENV_RUNNER] = self.env_runner.get_state(not_components=[COMPONENT_RL_MODULE])
        else:
            found[COMPONENT_ENV_TO_MODULE_CONNECTOR] = self.env_to_module_connector.get_state()
            found[COMPONENT_MODULE_TO_ENV_CONNECTOR] = self.module_to_env_connector.get_state()
        if self.eval_env_runner is not None:
            found[COMPONENT_EVAL_ENV_RUNNER] = self.eval_env_runner.get_state(not_components=[COMPONENT_RL_MODULE])
        return found

    def _describe_modules(self) -> bytes:
        """How each network is built again; it stays the same, so learners are asked once."""
        if self._module_descriptions is None:
            found = next(iter(self.learner_group.foreach_learner(_described_modules))).get()
            self._module_descriptions = json.dumps(found).encode()
        return self._module_descriptions

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a snapshot of now into a folder.

        Raises:
            OSError: if something cannot be written.
        """
        self.snapshot().write(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Take over what a snapshot's folder holds, and send it to runners.

        Raises:
            IncompatibleError: if a part of it is missing or cannot be read.
        """
        folder = Path(checkpoint_dir)
        state, weights = unpack(folder, known=exact.known_objects(self)), read_module_states(folder)
        try:
            self._set_whole_state(state[ALGORITHM], weights)
            exact.put_back(self, state[EXACT])
        except Exception as error:  # of a state that is of something else
            raise IncompatibleError(
                f"{folder} holds the state of something else than this run ({told(error)})"
            ) from error

    def _set_whole_state(self, state: dict[str, Any], weights: dict[str, dict[str, np.ndarray]]) -> None:
        """Take over what ``_whole_state`` told."""
        self._set_runner_states(state)
        weights_alone = {COMPONENT_LEARNER: {COMPONENT_RL_MODULE: weights}}
        self.learner_group.set_state(weights_alone)  # a learner refuses weights of a past number
        self.learner_group.set_state(state[COMPONENT_LEARNER_GROUP])
        self.metrics.set_state(state[COMPONENT_METRICS_LOGGER])
        self._iteration = state[TRAINING_ITERATION]
        for group in (self.env_runner_group, self.eval_env_runner_group):
            if group is not None:
                group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
        if self.env_runner_group.num_remote_env_runners():
            self.env_runner_group.sync_env_runner_states(
                config=self.config,
                from_worker=self.env_runner,
                env_steps_sampled=self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0),
                env_to_module=self.env_to_module_connector,
                module_to_env=self.module_to_env_connector,
            )

    def _set_runner_states(self, state: dict[str, Any]) -> None:
        """Give what the main process has of runners what is theirs: runners, or where they are remote, connectors."""
        of_runner = state.get(COMPONENT_ENV_RUNNER, {})
        if self.env_runner is not None and of_runner:
            self.env_runner.set_state(of_runner)
        connectors = {
            COMPONENT_ENV_TO_MODULE_CONNECTOR: self.env_to_module_connector,
            COMPONENT_MODULE_TO_ENV_CONNECTOR: self.module_to_env_connector,
        }
        for name, connector in connectors.items():
            found = state.get(name, of_runner.get(name))
            if self.env_runner is None and connector is not None and found is not None:
                connector.set_state(found)
        if self.eval_env_runner is not None and COMPONENT_EVAL_ENV_RUNNER in state:
            self.eval_env_runner.set_state(state[COMPONENT_EVAL_ENV_RUNNER])


def checkpoint_files(
    packed: Mapping[str, bytes | memoryview], weights: Mapping[str, Mapping[str, Any]], described: bytes
) -> dict[str, bytes | memoryview]:
    """Contents of the files that every checkpoint has, by name.

    Args:
        packed: Its state, from ``algos.states.pack``.
        weights: Arrays, by module id and name.
        described: How each network is built again, as JSON.
    """
    tensors = {
        _weight_name(module_id, name): [np.asarray(value)]
        for module_id, named in weights.items()
        for name, value in named.items()
    }
    return {**packed, MODULES_FILE: described, WEIGHTS_FILE: safetensors_file(tensors)}


def read_module_states(checkpoint: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the weights of every network in a checkpoint, by module id and name.

    Raises:
        IncompatibleError: if they are missing or cannot be read.
    """
    return _by_module(checkpoint, _read_descriptions(checkpoint))


def load_modules(checkpoint: Path) -> dict[str, Any]:
    """Build every network of a checkpoint, with its weights and in evaluation mode; copies for learning are left out.

    Raises:
        IncompatibleError: if one is missing, cannot be built, or has other weights.
    """
    described, modules = _read_descriptions(checkpoint), {}
    for module_id, weights in _by_module(checkpoint, described).items():
        size = sum(value.size for value in weights.values())
        try:
            tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
            modules[module_id] = build(described[module_id], partial(_unchanged, tensors), most_weights=size)
        except (IncompatibleError, TypeError) as error:  # torch has not all of NumPy's types
            raise IncompatibleError(f"{checkpoint}: network {module_id!r}: {error}") from error
    return modules


def _unchanged(tensors: dict[str, torch.Tensor], outline: Any) -> dict[str, torch.Tensor]:
    return tensors


def _read_descriptions(checkpoint: Path) -> dict[str, Any]:
    try:
        return json_object((checkpoint / MODULES_FILE).read_bytes())
    except OSError as error:
        raise IncompatibleError(f"{checkpoint} holds no weights: {MODULES_FILE} cannot be read ({error})") from error


def _by_module(checkpoint: Path, module_ids: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    path = checkpoint / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:  # NumPy has not all of its types
        raise IncompatibleError(f"{path} cannot be read ({error})") from error
    states = {}
    for module_id in module_ids:
        start = _weight_name(module_id, "")
        states[module_id] = {name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)}
    if not states or not all(states.values()) or sum(map(len, states.values())) != len(tensors):
        raise IncompatibleError(f"{path} does not hold the weights of the networks in {MODULES_FILE}")
    return states


def _weight_name(module_id: str, name: str) -> str:
    """Name of a weight among those of all networks; an id may hold any character."""
    return f"{quote(module_id, safe=' ')}/{name}"


def _described_modules(learner: Any) -> dict[str, dict[str, Any]]:
    """How each network of a learner is built again."""
    return {module_id: describe(wrapped.unwrapped()) for module_id, wrapped in learner.module.items()}
