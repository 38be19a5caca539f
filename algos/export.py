"""A checkpoint's networks as SafeTensors, one file for each agent, and a team rebuilt from them without any pickle.

``AGENT.safetensors`` holds the networks that an agent acts and learns by, ``AGENT.targets.safetensors`` their target
copies, ``AGENT.optimizers.safetensors`` what the optimizers remember of each weight (``WEIGHT/exp_avg``). Agents whose
names are no plain file names have others there, which ``networks.json`` tells. Agents that share a network have equal
files. Of a team's module each agent gets its slice, and what values all of them together, ``mixer`` or ``critic``, has
files of its own.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_OPTIMIZER
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from algos.file_names import checked_stems, file_stems
from algos.ray_internals import DEPRECATION_LOGGER
from algos.registry import Algorithm, algorithms, load
from algos.runner import TEAM_MODULE
from algos.snapshots import MODULES_FOLDER, read_algorithm_state, read_module_states
from algos.team_module import TeamModule
from algos.windows import WindowBox
from common.errors import IncompatibleError
from common.paths import path_in

NETWORKS_FILE = "networks.json"
"""In an exported folder: who the agents are, and how their networks are built."""
FORMAT = 1
MIXER, CRITIC = "mixer", "critic"
SHARED_PARTS = (MIXER, CRITIC)
"""What a team's module has beside its agents: QMIX's mixer, MAPPO's value function, MADDPG's critics."""
KINDS = {"networks": "", "targets": ".targets", "optimizers": ".optimizers"}
"""What is exported, and what a file of it has in its name after its owner."""
_TARGETS = ("_target_", "target_", "_old_")
_TEMPERATURE = "log_alpha"
"""SAC's and TQC's one weight that is in no network, and its place in a learner's state; its optimizer is ``alpha``."""

Files = dict[tuple[str, str], dict[str, Tensor]]
"""(owner, kind) -> name -> tensor."""


# -- from a checkpoint to files ----------------------------------------------------------------------------------------


def export_networks(
    checkpoint: Path, folder: Path, layout: Mapping[str, Any], *, headers: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Write the networks, targets and optimizers of a checkpoint, and what is needed to build them again.

    Args:
        checkpoint: Folder of a checkpoint.
        folder: Where the files go; an empty folder.
        layout: The checkpoint's ``team.json``.
        headers: For each agent and for each of ``shared_owners``: what stands in the header of its files, as text.

    Returns:
        The names of the files of each owner.

    Raises:
        IncompatibleError: if a part of the checkpoint is missing, or cannot be told apart.
        OSError: if something cannot be written.
    """
    files: Files = {}
    described, states = {}, read_module_states(checkpoint)
    shared = shared_owners(layout["agent_ids"])
    stems = file_stems(layout["agent_ids"], taken=SHARED_PARTS, endings=[end for end in KINDS.values() if end])
    stems |= {owner: part for part, owner in shared.items()}
    learner = read_algorithm_state(checkpoint)[COMPONENT_LEARNER_GROUP][COMPONENT_LEARNER]
    for module_id in dict.fromkeys(layout["modules"]):
        module = load_module(checkpoint, module_id)
        described[module_id] = _describe(module)
        owners = [a for a, m in zip(layout["agent_ids"], layout["modules"], strict=True) if m == module_id]
        weights = states[module_id]
        named = [("networks", name, torch.as_tensor(np.asarray(value))) for name, value in weights.items()]
        trained = [n for n, p in module.named_parameters() if p.requires_grad and not n.startswith(_TARGETS)]
        try:
            named += [
                ("optimizers", *item)
                for item in _optimizer_tensors(learner, module_id, trained, weights, _parts(module))
            ]
        except IncompatibleError as error:
            raise IncompatibleError(f"{checkpoint}: {error}") from None
        for kind, name, value in named:
            of_kind = "targets" if kind == "networks" and name.startswith(_TARGETS) else kind
            local = (
                name.removeprefix("_").removeprefix("target_").removeprefix("old_") if of_kind == "targets" else name
            )
            for owner, own_name, own in _divide(module, local, value, owners, shared):
                files.setdefault((owner, of_kind), {})[own_name] = own.contiguous()
    written: dict[str, list[str]] = {}
    for (owner, kind), tensors in files.items():
        name = f"{stems[owner]}{KINDS[kind]}.safetensors"
        header = {**headers[owner], "kind": kind, "tensors_sha256": tensors_sha256(tensors), "format": str(FORMAT)}
        (folder / name).write_bytes(save(tensors, metadata=header))
        written.setdefault(owner, []).append(name)
    content = {"format": FORMAT, "layout": dict(layout), "modules": described}
    if others := {owner: stem for owner, stem in stems.items() if stem != owner}:
        content["file_names"] = others
    (folder / NETWORKS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return written


def shared_owners(agent_ids: Sequence[str]) -> dict[str, str]:
    """Who each of ``SHARED_PARTS`` belongs to: its own name, with strokes after it where an agent is called so."""
    return {part: next(o for i in count() if (o := part + "_" * i) not in agent_ids) for part in SHARED_PARTS}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over sorted name, dtype, shape and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name].numpy())
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _divide(
    module: Any, name: str, value: Tensor, agents: list[str], shared: Mapping[str, str]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield who owns a tensor, by what name, and which part of it: every agent its own, or all the same."""
    if not isinstance(module, TeamModule):
        yield from ((agent, name, value) for agent in agents)
        return
    part, _, local = name.partition(".")
    if part != "agents":
        yield shared.get(part, shared[CRITIC]), local, value
        return
    is_own = value.dim() > 0 and _is_own(local.partition("/")[0], module)
    for n, agent in enumerate(agents):
        yield agent, local, value[n : n + 1] if is_own else value


def _is_own(name: str, module: Any) -> bool:
    """Whether each agent has its own slice of a weight, along the first axis."""
    return not module.settings.use_shared_networks or name.endswith("agent_offset")


def _optimizer_tensors(
    learner: Mapping[str, Any],
    module_id: str,
    trained: list[str],
    weights: Mapping[str, Any],
    parts: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, Tensor]]:
    """Yield what a network's optimizers remember, as ``WEIGHT/exp_avg``; a checkpoint counts weights, this names them.

    Raises:
        IncompatibleError: if the counts and shapes are not those of the weights.
    """
    for full_name, saved in learner[COMPONENT_OPTIMIZER].items():
        if saved["module_id"] != module_id:
            continue
        optimizer = full_name.removeprefix(f"{module_id}_")
        names = [n for start in parts.get(optimizer, ("",)) for n in trained if n.startswith(start)]
        if optimizer == "alpha":
            names, weights = [_TEMPERATURE], {**weights, _TEMPERATURE: learner[_TEMPERATURE][module_id]}
            yield _TEMPERATURE, torch.as_tensor(weights[_TEMPERATURE])
        state = saved["state"]
        index = [i for group in state["param_groups"] for i in group["params"]]
        if len(index) != len(names):
            raise IncompatibleError(f"optimizer {full_name} has {len(index)} weights, not {len(names)}")
        for i, name in zip(index, names, strict=True):
            for key, value in state["state"].get(i, {}).items():
                tensor = torch.as_tensor(np.asarray(value))
                if tensor.dim() and tensor.shape != np.shape(weights[name]):
                    raise IncompatibleError(f"optimizer {full_name} does not fit weight {name}")
                yield f"{name}/{key}", tensor


def load_module(checkpoint: Path, module_id: str) -> Any:
    """Load one network of a checkpoint, with its class and all.

    Raises:
        IncompatibleError: if it is missing.
    """
    path = path_in(checkpoint / MODULES_FOLDER, module_id, source=checkpoint)
    if not path.is_dir():
        raise IncompatibleError(f"{checkpoint} has no weights of network {module_id!r} ({path} is missing)")
    with without_deprecations():
        return RLModule.from_checkpoint(str(path))


# -- from files to a team ----------------------------------------------------------------------------------------------


def load_networks(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the networks of an exported folder and give them their weights; nothing is unpickled.

    Args:
        folder: What ``export_networks`` has filled.

    Returns:
        The modules by id, in evaluation mode; and the layout.

    Raises:
        IncompatibleError: if a file is missing, damaged, or of a format that this version cannot read.
    """
    path = folder / NETWORKS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, layout, described = content["format"], content["layout"], content["modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IncompatibleError(f"{path} cannot be read ({error})") from error
    if version != FORMAT:
        raise IncompatibleError(f"{path} has format {version!r}, but this version reads format {FORMAT}")
    stems = checked_stems(content.get("file_names", {}), source=path)
    modules = {}
    for module_id, description in described.items():
        owners = [a for a, m in zip(layout["agent_ids"], layout["modules"], strict=True) if m == module_id]
        module = _build(description, is_team=module_id == TEAM_MODULE)
        files = [f"{stems.get(owner, owner)}.safetensors" for owner in owners]
        weights = [read_tensors(path_in(folder, file, source=path)) for file in files]
        state = _join(module, weights)
        try:
            module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise IncompatibleError(f"{folder}: the weights do not fit network {module_id!r}: {error}") from error
        module.eval()
        modules[module_id] = module
    return modules, layout


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an exported file and compare them with its header.

    Raises:
        IncompatibleError: if the file is missing, damaged or changed.
    """
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise IncompatibleError(f"{path} cannot be read ({error})") from error
    if tensors_sha256(tensors) != header.get("tensors_sha256"):
        raise IncompatibleError(f"{path} has other weights than were exported (SHA-256 differs)")
    return tensors


def _join(module: Any, weights: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Undo ``_divide``."""
    if not isinstance(module, TeamModule):
        return weights[0]
    return {
        f"agents.{name}": torch.cat([w[name] for w in weights]) if _is_own(name, module) else value
        for name, value in weights[0].items()
    }


def _having(class_name: str) -> list[Algorithm]:
    """The algorithms that have networks of a class."""
    return [a for a in algorithms().values() if any(path.endswith(f":{class_name}") for path in a.modules)]


def _parts(module: Any) -> Mapping[str, tuple[str, ...]]:
    """For each optimizer of a network the beginnings of the names of its weights."""
    return next((declared.optimizers for declared in _having(type(module).__name__)), {})


def _describe(module: Any) -> dict[str, Any]:
    config = module.model_config
    return {
        "class": type(module).__name__,
        "observation_space": space_to_json(module.observation_space),
        "action_space": space_to_json(module.action_space),
        "model_config": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config),  # type: ignore[arg-type]
    }


def _build(description: Mapping[str, Any], *, is_team: bool) -> Any:
    name = description["class"]
    paths = [path for declared in _having(name) for path in declared.modules if path.endswith(f":{name}")]
    if not paths:
        raise IncompatibleError(f"networks of class {name!r} are not known to this version")
    spec = RLModuleSpec(
        module_class=load(paths[0]),
        observation_space=space_from_json(description["observation_space"]),
        action_space=space_from_json(description["action_space"]),
        inference_only=is_team,  # what values a team has a file of its own and is not needed for acting
        model_config=dict(description["model_config"]),
    )
    with without_deprecations():
        return spec.build()


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Keep RLlib's complaint about its own RLModule off the screen."""
    logger = logging.getLogger(DEPRECATION_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """Write down a Box, a Discrete or a Dict of them; infinite bounds become text.

    Raises:
        IncompatibleError: for another kind of space.
    """
    if isinstance(space, gym.spaces.Dict):
        return {"dict": [[name, space_to_json(part)] for name, part in space.spaces.items()]}
    if isinstance(space, gym.spaces.Discrete):
        return {"discrete": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        low, high = ([str(float(v)) for v in bound.flatten()] for bound in (space.low, space.high))
        low, high = (bound[:1] if len(set(bound)) == 1 else bound for bound in (low, high))
        box = {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
        return {"box": {**box, "window": list(space.window)} if isinstance(space, WindowBox) else box}
    raise IncompatibleError(f"a space of kind {type(space).__name__} cannot be exported")


def space_from_json(content: Mapping[str, Any]) -> gym.Space:
    """Build the space that ``space_to_json`` wrote down."""
    if "dict" in content:
        # An iterable of pairs keeps the agents' order; gymnasium would sort a plain dict by name.
        return gym.spaces.Dict([(name, space_from_json(part)) for name, part in content["dict"]])
    if "discrete" in content:
        return gym.spaces.Discrete(content["discrete"])
    box = content["box"]
    dtype, shape = np.dtype(box["dtype"]), tuple(box["shape"])
    low, high = (np.array([float(v) for v in box[key]], dtype) for key in ("low", "high"))
    low, high = (np.full(shape, v[0]) if len(v) == 1 else v.reshape(shape) for v in (low, high))
    plain = gym.spaces.Box(low, high, shape, dtype)  # type: ignore[arg-type]
    return WindowBox(plain, box["window"]) if "window" in box else plain
