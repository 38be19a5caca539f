"""Checkpoints of earlier versions, which are pickles: read where somebody trusts who wrote them, and written anew."""

import importlib
import io
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from algos.exact import named_objects
from algos.file_names import OLD_STATE_FILE
from algos.network_files import describe, without_deprecations
from algos.snapshots import ALGORITHM, EXACT, checkpoint_files
from algos.states import pack
from common.errors import IncompatibleError

_OLD_EXACT_FILE, _OLD_MODULE_FILE = "exact.pkl", "module_state.pkl"
_OLD_MODULES = Path("learner_group", "learner", "rl_module")
_PARTS = {OLD_STATE_FILE, _OLD_EXACT_FILE, _OLD_MODULES.parts[0]}
"""What only an old checkpoint has; all else is as it was."""


def rewritten(checkpoint: Path, *, moved: Mapping[str, str]) -> dict[str, bytes | memoryview]:
    """Unpickle an old checkpoint, which runs whatever code it holds, and say it as checkpoints are now.

    Args:
        checkpoint: Folder of the old one.
        moved: Modules that have another name now, by their old one.

    Returns:
        Contents of the new files, by name.

    Raises:
        IncompatibleError: if it cannot be read.
    """
    try:
        return _rewritten(checkpoint, moved)
    except Exception as error:  # a pickle can raise anything
        raise IncompatibleError(f"{checkpoint} cannot be read ({type(error).__name__}: {error})") from error


def kept_files(checkpoint: Path) -> list[str]:
    """Files of an old checkpoint that stay as they are, by path in it."""
    files = (path.relative_to(checkpoint) for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return [path.as_posix() for path in files if path.parts[0] not in _PARTS]


def _rewritten(checkpoint: Path, moved: Mapping[str, str]) -> dict[str, bytes | memoryview]:
    def read(path: Path) -> Any:
        return _Unpickler(io.BytesIO(path.read_bytes()), moved).load()

    weights, modules = {}, {}
    for path in sorted((checkpoint / _OLD_MODULES).iterdir()):
        weights[path.name] = read(path / _OLD_MODULE_FILE)
        with without_deprecations():
            modules[path.name] = describe(RLModule.from_checkpoint(str(path)))
    exact = read(checkpoint / _OLD_EXACT_FILE)
    version, words, gauss = exact["random"]["python"]
    exact["random"]["python"] = (version, np.array(words), gauss)
    if "replay" in exact:
        exact["replay"]["episodes"] = [MultiAgentEpisode.from_state(state) for state in exact["replay"]["episodes"]]
    state = pack({ALGORITHM: read(checkpoint / OLD_STATE_FILE), EXACT: exact}, known=_known_objects(exact))
    return checkpoint_files(state, weights, json.dumps(modules).encode())


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, moved: Mapping[str, str]) -> None:
        super().__init__(file)
        self._moved = moved

    def find_class(self, module: str, name: str) -> Any:
        if module in self._moved:
            return getattr(importlib.import_module(self._moved[module]), name)
        return super().find_class(module, name)


def _known_objects(exact: Any) -> dict[str, Any]:
    """What ``algos.exact.known_objects`` tells of the algorithm, by the first episode of it; nothing without one."""
    for episode in _episodes(exact):
        return named_objects(episode.agent_to_module_mapping_fn, episode.observation_space, episode.action_space)
    return {}


def _episodes(value: Any) -> Iterator[MultiAgentEpisode]:
    if isinstance(value, MultiAgentEpisode):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _episodes(item)
