"""Checkpoints that are taken in memory at one instant, and written when there is time.

RLlib's ``save_to_path`` asks each part for its state and writes it, in some twenty files, while training waits. Here
all of it is packed at once; writing it needs neither the algorithm nor its process's attention. Networks lie
where RLlib puts them, so that ``RLModule.from_checkpoint(CHECKPOINT/learner_group/learner/rl_module/ID)`` reads them.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import cloudpickle
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
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.result import TRAINING_ITERATION

from algos.pickling import metrics_state, modules_state, optimizers_state, to_pickle
from algos.ray_internals import local_learner
from algos.replay_files import ReplaySnapshot
from common.disk import Written, fill_folder
from common.errors import IncompatibleError

ALGORITHM_FILE = "algorithm_state.pkl"
"""In a checkpoint: all that ``Algorithm.get_state`` tells, but for the networks' weights."""
MODULES_FOLDER = Path(COMPONENT_LEARNER_GROUP) / COMPONENT_LEARNER / COMPONENT_RL_MODULE
"""In a checkpoint: a folder for each network."""
MODULE_FILE = "module_state.pkl"
"""In a network's folder: its weights."""


@dataclass
class Snapshot:
    """What a checkpoint will hold; nothing that happens to the algorithm changes its files.

    Attributes:
        files: Contents by path in the checkpoint.
        weights: What every network's file holds, by module id and name; read it before training goes on, for it may be
            the learner's own memory.
        replay: The buffer, where there is one.
    """

    files: dict[str, bytes] = field(default_factory=dict)
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

    _module_descriptions: dict[str, dict[str, bytes]] | None = None

    def snapshot(self) -> Snapshot:
        """Take all that a checkpoint holds."""
        state = self._whole_state()
        weights = state[COMPONENT_LEARNER_GROUP][COMPONENT_LEARNER].pop(COMPONENT_RL_MODULE)
        files = {ALGORITHM_FILE: to_pickle(state)}
        for module_id, described in self._describe_modules().items():
            folder = (MODULES_FOLDER / module_id).as_posix()
            files |= {f"{folder}/{name}": content for name, content in described.items()}
            files[f"{folder}/{MODULE_FILE}"] = pickle.dumps(weights[module_id], protocol=5)
        return Snapshot(files, weights)

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

    def _describe_modules(self) -> dict[str, dict[str, bytes]]:
        """How RLlib would build each network anew; it stays the same, so learners are asked once."""
        if self._module_descriptions is None:
            found = self.learner_group.foreach_learner(_described_modules)
            self._module_descriptions = next(iter(found)).get()
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
        state = read_algorithm_state(folder)
        weights = {COMPONENT_RL_MODULE: read_module_states(folder)}
        self._set_runner_states(state)
        self.learner_group.set_state({COMPONENT_LEARNER: weights})  # alone: a learner refuses weights of a past number
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


def read_algorithm_state(checkpoint: Path) -> dict[str, Any]:
    """Read what a checkpoint holds beside the networks' weights.

    Raises:
        IncompatibleError: if it is missing or cannot be read.
    """
    state: dict[str, Any] = read_pickle(checkpoint / ALGORITHM_FILE)
    return state


def read_module_states(checkpoint: Path) -> dict[str, Any]:
    """Read the weights of every network in a checkpoint, by module id.

    Raises:
        IncompatibleError: if there are none, or one cannot be read.
    """
    folder = checkpoint / MODULES_FOLDER
    states = {path.parent.name: read_pickle(path) for path in sorted(folder.glob(f"*/{MODULE_FILE}"))}
    if not states:
        raise IncompatibleError(f"{checkpoint} holds no weights: {folder} is missing or empty")
    return states


def read_pickle(path: Path) -> Any:
    """Read a pickle of a checkpoint.

    Raises:
        IncompatibleError: if it is missing or cannot be read.
    """
    try:
        return pickle.loads(path.read_bytes())
    except Exception as error:  # a damaged pickle can raise anything
        raise IncompatibleError(f"{path} cannot be read ({type(error).__name__}: {error})") from error


def _described_modules(learner: Any) -> dict[str, dict[str, bytes]]:
    """RLlib's description of each network of a learner: its class and arguments, and which files hold what."""
    described = {}
    for module_id, wrapped in learner.module.items():
        module = wrapped.unwrapped()
        content = {"class": type(module), "ctor_args_and_kwargs": module.get_ctor_args_and_kwargs()}
        described[module_id] = {
            Checkpointable.CLASS_AND_CTOR_ARGS_FILE_NAME: cloudpickle.dumps(content),
            Checkpointable.METADATA_FILE_NAME: json.dumps(module.get_metadata()).encode(),
        }
    return described
